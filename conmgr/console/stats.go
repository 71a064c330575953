package console

// What SHOW STATS tells: counters that hang on conmgr's events. Take is called by whoever emits, and
// rows by the sessions; neither blocks.

import (
	"slices"
	"strconv"
	"sync"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
)

// statistic is what is counted.
type statistic uint8

const (
	statConnections statistic = iota
	statRefused
	statNoTarget
	statWaited
	statTargets // from here on for each instance
	statRelayed
	statEstablished
	statLosses
	statTold
	statWouldTell
	statistics
)

// names of the statistics. Append only: people find them by their names.
var statNames = [statistics]string{"connections", "refused", "no_target", "waited", "targets", "relayed", "established",
	"losses", "told", "would_have_told"}

// Stats counts.
type Stats struct {
	numbers []int          // of the instances, in order
	hosts   map[int]string // of these

	mu     sync.Mutex
	counts map[statistic]map[int]uint64 // by the number of the instance; -1: of none
}

// NewStats counts from now on; it is to be subscribed.
func NewStats(c *conf.Config) *Stats {
	s := &Stats{counts: map[statistic]map[int]uint64{}, hosts: map[int]string{}}
	for i := range c.Instances {
		s.numbers = append(s.numbers, c.Instances[i].Number)
		s.hosts[c.Instances[i].Number] = c.Instances[i].Name()
	}
	for i := range statistics {
		s.counts[i] = map[int]uint64{}
	}
	return s
}

// Take counts an event.
func (s *Stats) Take(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := func(i statistic, instance int, n int) { s.counts[i][instance] += uint64(n) }
	switch e := e.(type) {
	case event.Accepted:
		of(statConnections, -1, 1)
	case event.Overfull, event.OverShare, event.Foreign, event.NoPlace, event.Rejected:
		of(statRefused, -1, 1)
	case event.Waits:
		of(statWaited, -1, 1)
	case event.Bound:
		switch {
		case !e.Found:
			of(statNoTarget, -1, 1)
		case e.Relay:
			of(statRelayed, e.To.Number, 1)
		default:
			of(statTargets, e.To.Number, 1)
		}
	case event.Established:
		of(statEstablished, e.Number, 1)
	case event.Lost:
		of(statLosses, e.Number, 1)
	case event.ApplicationsTold:
		of(statTold, e.Number, e.N)
	case event.WouldHaveTold:
		of(statWouldTell, e.Number, e.Applications+e.Relayed)
	}
}

// rows are those of SHOW STATS: all statistics, and all instances.
func (s *Stats) rows() (rows [][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range statistics {
		if i < statTargets {
			rows = append(rows, []string{statNames[i], null, strconv.FormatUint(s.counts[i][-1], 10)})
			continue
		}
		for _, n := range s.numbers {
			rows = append(rows, []string{statNames[i], strconv.Itoa(n), strconv.FormatUint(s.counts[i][n], 10)})
		}
	}
	return rows
}

// Leave is what was counted, for the process that goes on.
func (s *Stats) Leave() (all []handover.Count) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, counts := range s.counts {
		for instance, n := range counts {
			all = append(all, handover.Count{Name: statNames[i], Instance: instance, Host: s.hosts[instance], N: float64(n)})
		}
	}
	return all
}

// Restore goes on with what the process before has counted. Of an instance that has another number or
// host now, it begins anew.
func (s *Stats) Restore(all []handover.Count) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range all {
		i := slices.Index(statNames[:], c.Name)
		if i >= 0 && c.Host == s.hosts[c.Instance] && c.N > 0 {
			s.counts[statistic(i)][c.Instance] += uint64(c.N)
		}
	}
}
