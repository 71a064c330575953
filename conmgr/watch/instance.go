package watch

// The heartbeats of one instance. One goroutine an instance owns its heartbeat.Monitor and its
// connection; it blocks only where it wakes for the monitor's deadline, so that neither name
// resolution nor a connection attempt delays a verdict.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Instance is one server to watch.
type Instance struct {
	index   int
	cfg     *conf.Instance
	conf    *conf.Config
	mon     *heartbeat.Monitor
	net     netio.Network
	now     clock.Clock
	events  *event.Hub
	id      event.Instance
	board   *bind.Board
	group   *group.Group
	servers *serverMap
	goodbye *atomic.Bool // at the end, say GOODBYE

	ctx      context.Context // of run
	lookup   lookup
	hostAddr netip.Addr   // to which the connection is or was last established
	local    netip.Addr   // from which
	addrs    []netip.Addr // all addresses of the name, at that time
	attempts heartbeat.Attempts

	endStop     func()         // while the server is stopping: ends the questions to its SQL port
	stopReplies chan stopReply // and their answers
	detail      string         // last error
	lossText    string         // why the instance was lost, until it is established again
	before      string         // attributes last told to the log
	servedBy    int            // index of the instance that serves the server: this one, unless it is a duplicate
	told        int            // index of the instance that the log has named for that, -1: none
	otherPort   uint16         // the postmaster's port, as last complained of
}

// Surroundings are what all instances of a conmgr share.
type Surroundings struct {
	Board   *bind.Board
	Events  *event.Hub
	Group   *group.Group
	Net     netio.Network
	Now     clock.Clock
	Goodbye *atomic.Bool  // at the end, say GOODBYE
	Process heartbeat.ID  // of this conmgr
	Boot    heartbeat.ID  // of this run of the machine
	Recheck time.Duration // least time after which a duplicate looks where its address leads; 0: duplicateCheck
}

// New makes the monitors of all instances, each with a heartbeat id of its own.
func New(c *conf.Config, o Surroundings) (all []*Instance) {
	if o.Recheck == 0 {
		o.Recheck = duplicateCheck
	}
	servers := newServerMap(len(c.Instances))
	for i := range c.Instances {
		cfg := &c.Instances[i]
		in := &Instance{index: i, cfg: cfg, conf: c, net: o.Net, now: o.Now, events: o.Events, id: event.Of(cfg), board: o.Board,
			group: o.Group, servers: servers,
			goodbye: o.Goodbye, servedBy: i, told: -1, before: "unknown",
			attempts: heartbeat.Attempts{Interval: c.ConnectInterval, Timeout: c.ConnectTimeout,
				DuplicateCheck: o.Recheck},
			mon: heartbeat.NewMonitor(heartbeat.InstanceID(o.Process, cfg.Number), c.HeartbeatInterval,
				c.HeartbeatTimeout)}
		in.mon.SetBoot(o.Boot)
		all = append(all, in)
	}
	return all
}

var errConnectTimeout = errors.New("no answer")

// refusedError is a REFUSED of the watchdog.
type refusedError struct{ heartbeat.Refused }

func (e *refusedError) Error() string { return e.Text }

func (in *Instance) String() string { return in.id.String() }

// outcome of an attempt.
type outcome = heartbeat.Outcome

const (
	unreached = heartbeat.Unreached
	severed   = heartbeat.Severed
	atOnce    = heartbeat.AtOnce
)

// Run connects, exchanges heartbeats and judges until ctx ends.
func (in *Instance) Run(ctx context.Context) {
	in.ctx = ctx
	in.publish(nil)
	defer in.unwatchStop()
	for ctx.Err() == nil {
		select {
		case <-in.servers.wake[in.index]: // of before this attempt
		default:
		}
		in.rest(in.attempt(ctx))
	}
}

// rest waits until the next attempt is due.
func (in *Instance) rest(o outcome) {
	pause := in.pauseAfter(o)
	if pause <= 0 || in.ctx.Err() != nil {
		return
	}
	var wake <-chan struct{}
	if in.mon.State() == heartbeat.Duplicate {
		wake = in.servers.wake[in.index]
	}
	await(in.ctx, in, wake, in.now().Add(pause))
}

// pauseAfter is the time until the next attempt.
func (in *Instance) pauseAfter(o outcome) time.Duration {
	return in.attempts.Pause(in.now(), in.mon, o)
}

// attemptLimit is the end of an attempt that begins now.
func (in *Instance) attemptLimit() clock.Mono { return in.attempts.Limit(in.now(), in.mon) }

// await waits for a value, until a time at most, and judges meanwhile. ok is false when none came.
func await[T any](ctx context.Context, in *Instance, ch <-chan T, until clock.Mono) (v T, ok bool) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due := until
		if wake, armed := in.mon.Wake(); armed {
			due = min(due, wake)
		}
		timer.Reset(due.Sub(in.now()))
		select {
		case v = <-ch:
			return v, true
		case r := <-in.stopReplies:
			in.stopAnswered(r)
			continue
		case <-ctx.Done():
			return v, false
		case <-timer.C:
		}
		in.tick(due)
		if in.now() >= until {
			select {
			case v = <-ch:
				return v, true
			default:
				return v, false
			}
		}
	}
}

// tick is called when a timer that was due has fired, after what had come in was read.
func (in *Instance) tick(due clock.Mono) {
	for range len(in.stopReplies) {
		in.stopAnswered(<-in.stopReplies)
	}
	now := in.now()
	in.mon.Late(now.Sub(due))
	if loss := in.mon.Judge(now); loss != nil {
		in.events.Emit(event.TimedOut{Instance: in.id})
		in.lost(loss)
	}
}

// attempt tries all addresses once, and stays while a connection is established.
func (in *Instance) attempt(ctx context.Context) outcome {
	limit := in.attemptLimit()
	addrs, err := in.resolve(ctx, limit)
	if err != nil {
		in.failed(ctx, err)
		return unreached
	}
	var errs []error
	try := in.candidates(addrs)
	for i, a := range try {
		start := in.now()
		share := limit.Sub(start) / time.Duration(len(try)-i)
		if share <= 0 {
			break
		}
		l, loss, err := in.connect(ctx, a, start.Add(share))
		switch {
		case err == nil:
			return in.welcomed(l, a, addrs, loss)
		case errors.Is(err, heartbeat.ErrStaleWelcome):
			return atOnce
		case ctx.Err() != nil:
			return unreached
		}
		errs = append(errs, fmt.Errorf("%s: %w", net.JoinHostPort(a.String(), fmt.Sprint(in.cfg.WatchdogPort)), err))
	}
	in.failed(ctx, errors.Join(errs...))
	return unreached
}

// resuming tells whether an attempt is to go on with the connection that has broken. The watchdog
// knows a conmgr by its address: by another one it would be another host, which cannot resume, and
// whose sessions are not those that there are.
func (in *Instance) resuming() bool {
	_, armed := in.mon.Armed()
	return armed && in.mon.State() == heartbeat.Connecting
}

// candidates are the addresses to try, the one of the last connection first. As long as the
// deadline runs it is the only one, if the name has it still: the way to another one may begin at
// another address of this host (IPv6 instead of IPv4).
func (in *Instance) candidates(addrs []netip.Addr) []netip.Addr {
	try := preferring(addrs, in.hostAddr)
	if in.resuming() && try[0] == in.hostAddr {
		return try[:1]
	}
	return try
}

// source is the address of this host from which an address is to be tried; invalid: any. The kernel
// may have a new favourite.
func (in *Instance) source(to netip.Addr) netip.Addr {
	if in.resuming() && to == in.hostAddr {
		return in.local
	}
	return netip.Addr{}
}

// welcomed: the watchdog at an address has answered.
func (in *Instance) welcomed(l *link, a netip.Addr, all []netip.Addr, loss *heartbeat.Loss) outcome {
	in.unwatchStop()
	in.hostAddr, in.addrs, in.local = a, all, l.local()
	if !in.share(l, loss) {
		return severed
	}
	in.established(loss)
	return in.serve(l)
}

// serve exchanges heartbeats until the connection ends.
func (in *Instance) serve(l *link) outcome {
	defer l.close()
	var scratch [heartbeat.HeaderSize + 16]byte
	for {
		if in.frames(l) {
			return severed
		}
		if in.followName() {
			in.closed("its name has other addresses now")
			return atOnce
		}
		if in.leftAlone() {
			in.closed("the entry that served for it does not any more")
			return atOnce
		}
		if b, due := in.mon.Beat(in.now(), scratch[:0]); due {
			if err := l.write(b); err != nil {
				in.closed("could not send a heartbeat: " + netio.Text(err))
				return severed
			}
		}
		wake, _ := in.mon.Wake()
		switch err := l.fill(wake); {
		case err == nil:
		case err == errTimer:
			heard := false
			for l.fillNow() {
				heard = true
				if in.frames(l) {
					return severed
				}
			}
			if heard {
				continue // not silent, however late this timer was
			}
			in.tick(wake)
			if in.mon.State() == heartbeat.Lost {
				l.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeGivenUp, Text: "no heartbeat"}.Append(nil))
				return atOnce
			}
		case l.ctx.Err() != nil:
			if in.goodbye.Load() {
				l.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds,
					Text: "conmgr is shutting down"}.Append(nil))
			}
			return severed
		case errors.Is(err, io.EOF):
			in.closed("remote node closes heartbeat connection")
			return severed
		default:
			in.closed(netio.Text(err))
			return severed
		}
	}
}

// frames takes in the frames of the buffer. done: the connection is over.
func (in *Instance) frames(l *link) (done bool) {
	for {
		f, ok, err := l.next()
		if err != nil {
			in.closed(err.Error())
			return true
		}
		if !ok {
			return false
		}
		if f.Type == heartbeat.TypeRefused {
			if r, err := heartbeat.ParseRefused(f.Payload); err == nil {
				in.closed("watchdog ends the heartbeat connection: " + r.Text)
				return true
			}
		}
		changed, err := in.mon.Frame(in.now(), f)
		if err != nil {
			in.closed(err.Error())
			return true
		}
		in.received()
		switch {
		case f.Type == heartbeat.TypeGoodbye && in.mon.State() == heartbeat.Stopping:
			in.stopping()
			return true
		case f.Type == heartbeat.TypeGoodbye:
			g, _ := heartbeat.ParseGoodbye(f.Payload) // Frame has parsed it
			in.closed("remote node ends heartbeat connection: " + g.Text)
			return true
		case changed:
			in.attributesChanged()
			in.publish(nil)
		}
	}
}
