package bind

// The routing table: an immutable snapshot of all instances, with the verdicts of package route.
// Any goroutine reads it, without a lock.

import (
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Status is what an instance's goroutine tells of it.
type Status struct {
	State            heartbeat.State
	Generation       uint64
	Known            bool // the following four are
	Attributes       heartbeat.Attributes
	SystemIdentifier uint64
	PostmasterStart  int64
	Succeeds         route.Succession
	Lag              heartbeat.Lag // of a standby
	RTT              time.Duration // to its watchdog; 0: not known
	KnownSince       uint64        // names the server's memory of this conmgr; 0: not told
	HostAddr         netip.Addr    // of the last established connection
	Addrs            []netip.Addr  // all that the name had then; never changed
	Client           string        // what sessions with it are labelled with; empty: they are not
	Detail           string        // last error
}

// Entry is an instance in the table.
type Entry struct {
	Status
	Config  *conf.Instance
	Drained bool   // by cm_ctl drain
	Losses  uint64 // times that it was declared lost, for whatever reason: bindings made before the last one are void
}

// Address is where to connect to: the very one that heartbeats prove alive.
func (e *Entry) Address() netip.Addr {
	if e.HostAddr.IsValid() {
		return e.HostAddr
	}
	return e.Config.HostAddr
}

// Established tells whether heartbeats prove, by way of this entry, that the server is there.
func (s *Status) Established() bool { return s.State == heartbeat.Established }

// Connected tells whether heartbeats prove that the server is there, by way of this entry or of
// another one.
func (e *Entry) Connected() bool { return e.Established() || e.State == heartbeat.Duplicate }

// IsPrimary tells whether it was a primary when it was last heard of.
func (e *Entry) IsPrimary() bool { return e.Known && !e.Attributes.Has(heartbeat.InRecovery) }

// Role is what the instance is; nobody knows that of a lost one.
func (e *Entry) Role() string {
	if !e.Known || e.State == heartbeat.Lost || e.State == heartbeat.Stopped {
		return "unknown"
	}
	return e.Attributes.Role()
}

// facts are what the choice depends on.
func (e *Entry) facts() route.Instance {
	return route.Instance{Number: e.Config.Number, Host: e.Config.Name(), Address: e.Address(), Port: e.Config.Port,
		State: e.State, Detail: e.Detail,
		Told: e.Known, Attributes: e.Attributes, SystemIdentifier: e.SystemIdentifier,
		PostmasterStart: e.PostmasterStart, Succeeds: e.Succeeds, Drained: e.Drained, Lag: e.Lag, RTT: e.RTT,
		Generation: e.Generation, KnownSince: e.KnownSince, Losses: e.Losses, Addresses: e.Addrs}
}

// Request is what an application asks for.
type Request = route.Request

// Load is what the choice among several depends on.
type Load = route.Load

// Choice is how an instance was chosen.
type Choice = route.Choice

// Table is never changed once it is published.
type Table struct {
	*route.Table
	Entries []Entry // ordered by instance number
}

// Presence is what is there, for those who wait for it.
func (t *Table) Presence() event.Presence {
	p := event.Presence{Primary: -1, Instances: len(t.Entries)}
	for i := range t.Entries {
		if t.Entries[i].Connected() {
			p.Established++
		}
	}
	if t.Primary >= 0 {
		p.Primary = t.Entries[t.Primary].Config.Number
	}
	return p
}

func factsOf(entries []Entry) []route.Instance {
	facts := make([]route.Instance, len(entries))
	for i := range entries {
		facts[i] = entries[i].facts()
	}
	return facts
}

func newTable(entries []Entry, known route.Known, settled bool, rules route.Rules, now time.Time) *Table {
	return &Table{route.Decide(known, factsOf(entries), settled, rules, now), entries}
}

// IndexOf finds an instance by its number; -1: it is not configured.
func (t *Table) IndexOf(number int) int {
	return slices.IndexFunc(t.Entries, func(e Entry) bool { return e.Config.Number == number })
}

// LeftOut are instances that whoever asks has failed to reach, as they were then.
type LeftOut []struct {
	number int
	was    Entry
}

// LeaveOut are instances of these numbers, as this table has them.
func (t *Table) LeaveOut(numbers []int) (l LeftOut) {
	for i := range t.Entries {
		for _, n := range numbers {
			if e := t.Entries[i]; e.Config.Number == n {
				l = append(l, struct {
					number int
					was    Entry
				}{n, e})
			}
		}
	}
	return l
}

// In are the numbers of those that are left out of another table: who waits gets an instance that
// has been lost, restarted or reached again since.
func (l LeftOut) In(t *Table) (numbers []int) {
	for i := range t.Entries {
		e := &t.Entries[i]
		for _, x := range l {
			if x.number == e.Config.Number && e.Losses == x.was.Losses && e.PostmasterStart == x.was.PostmasterStart &&
				(x.was.Established() || !e.Established()) {
				numbers = append(numbers, x.number)
			}
		}
	}
	return numbers
}
