package scripted

// The instances. A set of them is what one conmgr.conf has: a board with its console. Where a test
// sets instances that are not configured, another set takes the new connections, as if conmgr had
// been started again with another conmgr.conf and had kept those that it has.

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/console"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Instance is an entry of conmgr.conf, and what its heartbeats say.
type Instance struct {
	Number     int
	Host       string
	HostAddr   string
	Port       int
	Attributes heartbeat.Attributes
	Client     string // label of sessions with it
}

// Primary and Standby are what heartbeats say. Without a timeline, conmgr can tell neither of two
// primaries to be superseded, and offers both; a test that means it says timelines.
var (
	Primary = heartbeat.Attributes{}
	Standby = heartbeat.Attributes{Flags: heartbeat.InRecovery}
)

// Silence is how long a lost instance was not heard of, and Reason what is said of that.
const (
	Silence = 2003 * time.Millisecond
	Reason  = "no heartbeat for 2003 ms"
)

// systemIdentifier of all instances.
const systemIdentifier = 7

type set struct {
	conf     *conf.Config
	board    *bind.Board
	registry *bind.Registry
	console  *console.Service
	stop     chan struct{}
}

// end stops the board.
func (s *set) end() { close(s.stop) }

// configure makes the set that serves from now on.
func (c *Conmgr) configure(instances []Instance) error {
	var text strings.Builder
	for _, in := range instances {
		fmt.Fprintf(&text, "backend_host%d = '%s'\nbackend_hostaddr%[1]d = '%[3]s'\nbackend_port%[1]d = %[4]d\n",
			in.Number, in.Host, in.HostAddr, in.Port)
	}
	if len(instances) == 0 { // conmgr.conf has one
		text.WriteString("backend_host0 = unreachable.test\n")
	}
	text.WriteString(c.conf)
	cfg, diags := conf.Parse("conmgr.conf", []byte(text.String()))
	if cfg == nil {
		return fmt.Errorf("%v", diags)
	}
	current := conf.NewCurrent(cfg)
	s := &set{conf: cfg, registry: bind.NewRegistry(len(cfg.Instances), c.most), stop: make(chan struct{})}
	s.registry.Random = func() uint64 { return 0 } // of as many connections, the first
	s.registry.Group, s.registry.MaxWaiting = c.group, cfg.MaxWaiting
	events := &event.Hub{}
	events.Subscribe(c.take)
	s.board = bind.NewBoard(current, events, s.registry, nil, route.Known{SystemIdentifier: systemIdentifier})
	door := listen.New(current, events, c.group, s.registry)
	o := console.Options{}
	if c.reload != nil {
		o.Reload = c.reloaded
	}
	s.console = console.New(current, s.board, door, &bind.Trace{Events: events}, clock.Monotonic, o)
	c.group.Go("board", func() { s.board.Run(s.stop) })
	if c.smart {
		s.registry.Refuse()
	}
	if c.ending {
		s.registry.EndEverything(nil)
	}
	c.sets = append(c.sets, s)
	s.set(instances)
	return nil
}

// index of an instance; -1: not configured, or otherwise.
func (s *set) index(in Instance) int {
	return slices.IndexFunc(s.conf.Instances, func(c conf.Instance) bool {
		return c.Number == in.Number && c.Host == in.Host && c.HostAddr.String() == in.HostAddr && c.Port == in.Port
	})
}

// Set says which instances are there, and what they are. Others are not heard of any more, without
// being lost.
func (c *Conmgr) Set(instances ...Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sets[len(c.sets)-1]
	for _, in := range instances {
		if s.index(in) < 0 {
			if err := c.configure(instances); err != nil {
				panic(err) // the test's own mistake
			}
			return
		}
	}
	s.set(instances)
}

// set posts what instances are now, and returns when it is in the table.
func (s *set) set(instances []Instance) {
	entries := s.board.Table.Load().Entries
	posted := make([]bind.Status, len(entries))
	for i := range entries {
		posted[i] = entries[i].Status
		if posted[i].State == heartbeat.Established {
			posted[i].State = heartbeat.Connecting
		}
	}
	for _, in := range instances {
		i := s.index(in)
		posted[i] = bind.Status{State: heartbeat.Established, Generation: entries[i].Generation, Known: true,
			Attributes: in.Attributes, SystemIdentifier: systemIdentifier, PostmasterStart: int64(in.Number + 1),
			HostAddr: netip.MustParseAddr(in.HostAddr), Client: in.Client}
	}
	for i := range posted {
		s.board.Post(i, posted[i], nil)
	}
	s.settle(func(t *bind.Table) bool {
		for i := range posted {
			e := &t.Entries[i]
			if e.State != posted[i].State || e.Attributes != posted[i].Attributes || e.Known != posted[i].Known ||
				e.Client != posted[i].Client {
				return false
			}
		}
		return true
	})
}

// settle waits for a table, and until its losses were told: that precedes the next table, which is
// asked for.
func (s *set) settle(ok func(*bind.Table) bool) {
	t := s.await(ok)
	s.board.Post(0, t.Entries[0].Status, nil)
	s.await(func(next *bind.Table) bool { return next != t })
}

// await waits for a table.
func (s *set) await(ok func(*bind.Table) bool) *bind.Table {
	for limit := time.Now().Add(patience); ; runtime.Gosched() {
		if t := s.board.Table.Load(); ok(t) {
			return t
		}
		if time.Now().After(limit) {
			panic("the board of a scripted conmgr makes no table")
		}
	}
}

// Lose declares an instance lost, for its silence, and returns how many applications were told.
func (c *Conmgr) Lose(number int) int {
	return c.LoseBy(number, heartbeat.Loss{Reason: heartbeat.LossSilence, Silence: Silence})
}

// LoseBy is Lose for another reason.
func (c *Conmgr) LoseBy(number int, loss heartbeat.Loss) (told int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sets {
		for i := range s.conf.Instances {
			if s.conf.Instances[i].Number != number {
				continue
			}
			for _, a := range s.registry.Applications() {
				if a.Instance == i {
					told++
				}
			}
			status, losses := s.board.Table.Load().Entries[i].Status, s.board.Table.Load().Entries[i].Losses
			status.State, status.Detail = heartbeat.Lost, loss.String()
			status.Generation++
			s.board.Post(i, status, &loss)
			s.settle(func(t *bind.Table) bool { return t.Entries[i].Losses > losses })
		}
	}
	return told
}

// Drain says that a server drains its instance, or does not any more.
func (c *Conmgr) Drain(number int, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sets {
		for i := range s.conf.Instances {
			if s.conf.Instances[i].Number != number {
				continue
			}
			status := s.board.Table.Load().Entries[i].Status
			status.Attributes.Flags &^= heartbeat.Draining
			if on {
				status.Attributes.Flags |= heartbeat.Draining
			}
			s.board.Post(i, status, nil)
			s.settle(func(t *bind.Table) bool { return t.Entries[i].Attributes == status.Attributes })
		}
	}
}
