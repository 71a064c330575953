package watch

// The heartbeats of one instance. One goroutine an instance owns its instance.Instance, which
// decides, and its connection; it blocks only where it wakes for the next deadline, so that neither
// name resolution nor a connection attempt delays a verdict.

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/instance"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// Instance is one server to watch.
type Instance struct {
	index   int
	cfg     *conf.Instance
	conf    *conf.Config
	end     *instance.Instance
	mon     instance.View // of end
	net     netio.Network
	now     clock.Clock
	events  *event.Hub
	id      event.Instance
	label   string // of the conmgr that the server knows by this entry
	board   *bind.Board
	group   *group.Group
	servers *serverMap
	// measured takes in each round trip of BEATs, and does not block; nil: nobody asks.
	measured func(*conf.Instance, time.Duration)
	ending   *atomic.Int32 // how this process ends: Ending
	next     *atomic.Pointer[conf.Config]
	who      entry

	ctx   context.Context     // of run
	inbox chan instance.Event // from goroutines that this one has started
	queue []instance.Event    // that actions have led to
	ready chan struct{}       // something was dialled, or can be read
	// what is dialled, and what stands, in that order. More than one, while one is in doubt.
	sockets []*socket

	questions  context.Context // to the SQL port of a stopping server; nil: none are asked
	endStop    func()          // ends them
	state      heartbeat.State // as it was when what is told came about
	detail     string          // last error
	lossText   string          // why the instance was lost, until it is established again
	before     string          // attributes last told to the log
	told       int             // index of the instance that the log has named as the same server, -1: none
	rtt        time.Duration   // of the connection that was established last; 0: not known
	otherPort  uint16          // the postmaster's port, as last complained of
	key        *proof.Key      // as it was read last; nil: none
	keyToldAt  clock.Mono      // when it was last told that it cannot be read
	fellBackAt clock.Mono      // when it was last told that known addresses are used
}

// Surroundings are what all instances of a conmgr share.
type Surroundings struct {
	Board  *bind.Board
	Events *event.Hub
	Group  *group.Group
	Net    netio.Network
	Now    clock.Clock
	Ending *atomic.Int32 // how this process ends, if it does: an Ending
	// Next is the configuration of the process that comes back, if it is known then.
	Next *atomic.Pointer[conf.Config]
	Who  *Identity    // of this conmgr
	Boot heartbeat.ID // of this run of the machine
	// Measured takes in each round trip of BEATs, and does not block; nil: nobody asks.
	Measured func(*conf.Instance, time.Duration)
	Recheck  time.Duration // least time after which a duplicate looks where its address leads; 0: duplicateCheck
}

// Ending is how this process ends.
type Ending int32

const (
	Silently Ending = iota // the connections are closed
	Goodbye                // for good
	Returns                // it will be back
)

// New makes all instances, each with a heartbeat id of its own.
func New(c *conf.Config, o Surroundings) (all []*Instance) {
	if o.Recheck == 0 {
		o.Recheck = duplicateCheck
	}
	servers := newServerMap(len(c.Instances))
	for i := range c.Instances {
		cfg := &c.Instances[i]
		who, grace := o.Who.entry(cfg), c.ApplicationGrace
		if slices.ContainsFunc(c.Instances[:i], func(o conf.Instance) bool { return o.Name() == cfg.Name() && o.Port == cfg.Port }) {
			who = o.Who.second(cfg)
		}
		if who.at < 0 { // no next process takes over
			grace = 0
		}
		end := instance.New(instance.Config{Index: i, Host: cfg.Host, HostAddr: cfg.HostAddr,
			WatchdogPort: uint16(cfg.WatchdogPort), SQLPort: uint16(cfg.Port),
			ID: who.id, Boot: o.Boot,
			Interval: c.HeartbeatInterval, Timeout: c.HeartbeatTimeout,
			ConnectInterval: c.ConnectInterval, ConnectTimeout: c.ConnectTimeout, DuplicateCheck: o.Recheck,
			Random: rand.Float64, Key: c.Key, Nonce: nonce,
			Spare: who.spare, Incarnation: who.incarnation, Generation: who.generation, Grace: grace, OnlyReport: !c.NotifyLoss})
		all = append(all, &Instance{index: i, cfg: cfg, conf: c, end: end, mon: end.View(), net: o.Net, now: o.Now,
			events: o.Events, id: event.Of(cfg), label: heartbeat.LabelID(who.id).String(), board: o.Board, group: o.Group,
			servers: servers, measured: o.Measured, ending: o.Ending, next: o.Next, who: who, told: -1, before: "unknown", inbox: make(chan instance.Event, 8),
			ready: make(chan struct{}, 1), key: c.Key})
	}
	o.Who.begin()
	return all
}

// repeatAfter is how often it is told again that a name cannot be resolved.
const repeatAfter = time.Minute

func (in *Instance) String() string { return in.id.String() }

// Run connects, exchanges heartbeats and judges until ctx ends.
func (in *Instance) Run(ctx context.Context) {
	in.ctx = ctx
	in.publish(nil)
	for ctx.Err() == nil {
		switch {
		case in.takeIn():
		case len(in.sockets) == 1 && in.sockets[0].link != nil:
			in.read(in.sockets[0])
		default:
			in.wait()
		}
	}
	how := Ending(in.ending.Load())
	left := how == Returns && in.isLeft()
	in.step(instance.Event{Kind: instance.Stop, Goodbye: how == Goodbye, Returns: how == Returns && !left, Unneeded: left})
}

// isLeft tells whether the process that comes back does not monitor this server any more: it must
// not wait for it, and then end the sessions of this host.
func (in *Instance) isLeft() bool {
	if in.next == nil || in.next.Load() == nil {
		return false
	}
	if in.conf.IsOther(in.next.Load().Key) { // the server would refuse it this one's place
		return true
	}
	return !slices.ContainsFunc(in.next.Load().Instances, func(o conf.Instance) bool {
		return o.Name() == in.cfg.Name() && o.Port == in.cfg.Port
	})
}

// step takes in an event, and does what is to be done then.
func (in *Instance) step(e instance.Event) {
	in.queue = append(in.queue[:0], e)
	for i := 0; i < len(in.queue); i++ {
		actions := in.end.Step(in.now(), in.queue[i])
		if n := len(actions); n == 0 || actions[n-1].Kind != instance.Claim { // else it may be a duplicate
			in.received()
		}
		for j := range actions {
			in.act(&actions[j])
		}
	}
}

// act does what is to be done. What comes of it at once is queued.
func (in *Instance) act(a *instance.Action) {
	switch a.Kind {
	case instance.Resolve:
		in.lookUp()
	case instance.Dial:
		in.dial(a)
	case instance.HangUp:
		in.hangUp(a.Conn, a.Reset)
	case instance.Send:
		in.send(a.Conn, a.Data)
	case instance.Probe:
		in.probe(a.Conn)
	case instance.ReadKey:
		in.readKey()
	case instance.Claim:
		h := in.servers.claim(in.index, a.Server, a.Local, in.now())
		h.Number = in.conf.Instances[h.Index].Number
		in.queue = append(in.queue, instance.Event{Kind: instance.Claimed, Holder: h})
	case instance.Release:
		in.servers.release(in.index)
	case instance.Ask:
		in.ask(a.To, a.Question)
	case instance.AskNoMore:
		in.endStop()
		in.questions = nil
	default:
		in.tell(a)
	}
}

// takeIn takes in one thing that has come from goroutines. Without waiting: it tells whether there
// was one.
func (in *Instance) takeIn() bool {
	select {
	case e := <-in.inbox:
		in.step(e)
	case <-in.servers.wake[in.index]:
		in.step(instance.Event{Kind: instance.Freed})
	default:
		return in.takeDialled()
	}
	return true
}

// wakeUp ends wait.
func (in *Instance) wakeUp() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// wait waits for anything, while there is no connection, or more than one, or one that is dialled.
func (in *Instance) wait() {
	timer := time.NewTimer(in.end.Wake().Sub(in.now()))
	defer timer.Stop()
	for _, s := range in.sockets {
		if s.link != nil {
			s.link.watch(in.group, in.wakeUp)
		}
	}
	select {
	case e := <-in.inbox:
		in.step(e)
	case <-in.servers.wake[in.index]:
		in.step(instance.Event{Kind: instance.Freed})
	case <-in.ready:
		if !in.takeDialled() {
			in.readAll()
		}
	case <-timer.C:
		if !in.readAll() {
			in.due()
		}
	case <-in.ctx.Done():
	}
}

// readAll takes in all that the kernel holds. It tells whether that was anything.
func (in *Instance) readAll() (any bool) {
	for _, s := range slices.Clone(in.sockets) {
		for s.link != nil && in.socket(s.conn) == s && in.ctx.Err() == nil {
			if s.link.fillNow(); !in.taken(s) {
				break
			}
			any = true
		}
	}
	return any
}

// taken takes in what has been read: a frame, or the end. false: there is none.
func (in *Instance) taken(s *socket) bool {
	f, ok, err := s.link.next()
	switch {
	case err != nil:
		in.step(instance.Event{Kind: instance.Broken, Conn: s.conn, Cause: err.Error()})
	case ok:
		in.step(instance.Event{Kind: instance.Frame, Conn: s.conn, Frame: f})
	case s.link.eof != nil:
		in.ended(s, s.link.eof)
	default:
		return false
	}
	return true
}

func (in *Instance) ended(s *socket, err error) {
	e := instance.Event{Kind: instance.Broken, Conn: s.conn, Cause: netio.Text(err)}
	if errors.Is(err, io.EOF) {
		e = instance.Event{Kind: instance.Ended, Conn: s.conn}
	}
	in.step(e)
}

// read takes in a frame, or waits for more of the only connection.
func (in *Instance) read(s *socket) {
	if in.taken(s) {
		return
	}
	switch err := s.link.fill(in.end.Wake()); {
	case err == nil || in.ctx.Err() != nil:
	case err == errTimer:
		if !s.link.fillNow() { // else it is not silent, however late this timer was
			in.due()
		}
	default:
		in.ended(s, err)
	}
}

// due is called when a timer has fired, and the kernel holds nothing more. What has come in goes
// first.
func (in *Instance) due() {
	for in.takeIn() {
	}
	if in.now() >= in.end.Wake() {
		in.step(instance.Event{Kind: instance.Due})
	}
}
