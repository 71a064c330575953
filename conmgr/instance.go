package conmgr

// The heartbeats of one instance. One goroutine an instance owns its heartbeat.Monitor and its connection; it blocks only where it wakes for
// the monitor's deadline, so that neither name resolution nor a connection attempt delays a verdict.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

type instance struct {
	index int
	cfg   *InstanceConfig
	conf  *Config
	mon   *heartbeat.Monitor
	net   network
	now   clock
	log   *Logger
	board *board
	group *group

	goodbye  *atomic.Bool    // at the end, say GOODBYE
	hostAddr netip.Addr      // to which the connection is or was last established
	addrs    []netip.Addr    // all addresses of the name, at that time
	detail   string          // last error
	before   string          // attributes last told to the log
	repeats  map[string]Mono // connect failures, and when each was logged
	pause    time.Duration   // until the next attempt
	retried  Mono            // when an attempt was last made at once
}

// Mono is heartbeat.Mono.
type Mono = heartbeat.Mono

// repeatAfter is how often a connect failure that goes on is logged again.
const repeatAfter = time.Minute

// firstPause follows the attempt that is made at once when a connection has broken; it is doubled up to heartbeat_connect_interval.
const firstPause = 50 * time.Millisecond

var errConnectTimeout = errors.New("no answer")

// refusedError is a REFUSED of the watchdog.
type refusedError struct{ heartbeat.Refused }

func (e *refusedError) Error() string { return e.Text }

func (in *instance) String() string {
	return fmt.Sprintf("instance %d (host %q, port %d)", in.cfg.Number, in.cfg.Name(), in.cfg.Port)
}

// run connects, exchanges heartbeats and judges until ctx ends.
func (in *instance) run(ctx context.Context) {
	in.repeats = map[string]Mono{}
	in.before = "unknown"
	in.publish(nil)
	in.pause = in.conf.ConnectInterval
	for ctx.Err() == nil {
		again := in.attempt(ctx)
		if now := in.now(); again && (in.retried == 0 || now.Sub(in.retried) >= in.conf.ConnectInterval) {
			in.pause, in.retried = 0, now // once an interval: a watchdog that accepts and closes again and again is not flooded
		}
		if in.pause > 0 {
			await[struct{}](ctx, in, nil, in.now().Add(in.pause))
		}
		in.pause = min(max(2*in.pause, firstPause), in.conf.ConnectInterval)
	}
}

// await waits for a value, until a time at most, and judges meanwhile. ok is false when none came.
func await[T any](ctx context.Context, in *instance, ch <-chan T, until Mono) (v T, ok bool) {
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
func (in *instance) tick(due Mono) {
	now := in.now()
	in.mon.Late(now.Sub(due))
	if loss := in.mon.Judge(now); loss != nil {
		in.log.Log(WARNING, "heartbeat is timed out: %s", in)
		in.lost(loss)
	}
}

// attempt tries all addresses once, and stays while a connection is established. again: that one has broken, so try again at once.
func (in *instance) attempt(ctx context.Context) (again bool) {
	limit := in.now().Add(in.conf.ConnectTimeout)
	addrs, err := in.resolve(ctx, limit)
	if err != nil {
		in.failed(ctx, err)
		return false
	}
	var errs []error
	addrs = preferring(addrs, in.hostAddr)
	for i, a := range addrs {
		start := in.now()
		share := limit.Sub(start) / time.Duration(len(addrs)-i)
		if share <= 0 {
			break
		}
		l, loss, err := in.connect(ctx, a, start.Add(share))
		switch {
		case err == nil:
			in.established(a, addrs, loss)
			return in.serve(l)
		case errors.Is(err, heartbeat.ErrStaleWelcome):
			return true
		case ctx.Err() != nil:
			return false
		}
		errs = append(errs, fmt.Errorf("%s: %w", net.JoinHostPort(a.String(), fmt.Sprint(in.cfg.WatchdogPort)), err))
	}
	in.failed(ctx, errors.Join(errs...))
	return false
}

// serve exchanges heartbeats until the connection ends. now: connect again at once.
func (in *instance) serve(l *link) (now bool) {
	defer l.close()
	var scratch [heartbeat.HeaderSize + 16]byte
	for {
		if again, done := in.frames(l); done {
			return again
		}
		if b, due := in.mon.Beat(in.now(), scratch[:0]); due {
			if err := l.write(b); err != nil {
				return in.closed("could not send a heartbeat: " + netText(err))
			}
		}
		wake, _ := in.mon.Wake()
		err := l.fill(wake)
		if err == errTimer {
			heard := false
			for l.fillNow() {
				heard = true
				if again, done := in.frames(l); done {
					return again
				}
			}
			if heard {
				continue // not silent, however late this timer was
			}
			in.tick(wake)
			if in.mon.State() == heartbeat.Lost {
				l.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeGivenUp, Text: "no heartbeat"}.Append(nil))
				return true
			}
			continue
		}
		if err != nil {
			if l.ctx.Err() != nil {
				if in.goodbye.Load() {
					l.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds, Text: "conmgr is shutting down"}.Append(nil))
				}
				return false
			}
			if errors.Is(err, io.EOF) {
				return in.closed("remote node closes heartbeat connection")
			}
			return in.closed(netText(err))
		}
	}
}

// frames takes in the frames of the buffer. done: the connection is over; again: connect again at once.
func (in *instance) frames(l *link) (again, done bool) {
	for {
		f, ok, err := l.next()
		if err != nil {
			return in.closed(err.Error()), true
		}
		if !ok {
			return false, false
		}
		if f.Type == heartbeat.TypeRefused {
			if r, err := heartbeat.ParseRefused(f.Payload); err == nil {
				return in.closed("watchdog ends the heartbeat connection: " + r.Text), true
			}
		}
		changed, loss, err := in.mon.Frame(in.now(), f)
		if err != nil {
			return in.closed(err.Error()), true
		}
		in.received()
		switch {
		case loss != nil:
			in.log.Log(WARNING, "remote node shuts down heartbeat connection: %s", in)
			in.lost(loss)
			l.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeGivenUp, Text: loss.String()}.Append(nil))
			return false, true
		case f.Type == heartbeat.TypeGoodbye:
			g, _ := heartbeat.ParseGoodbye(f.Payload) // Frame has parsed it
			return in.closed("remote node ends heartbeat connection: " + g.Text), true
		case changed:
			in.attributesChanged()
			in.publish(nil)
		}
	}
}

// established: the watchdog has welcomed us at this address.
func (in *instance) established(a netip.Addr, all []netip.Addr, loss *heartbeat.Loss) {
	clear(in.repeats)
	if loss != nil { // another server than the one that the applications know
		in.log.Log(WARNING, "%s is lost: %s", in, loss)
		in.publish(loss)
	}
	in.hostAddr, in.addrs, in.detail = a, all, ""
	in.received()
	in.log.Log(LOG, "heartbeat connection is established: %s, address %s", in, a)
	in.attributesChanged()
	in.publish(nil)
}

func (in *instance) attributesChanged() {
	a, _ := in.mon.Attributes()
	now := a.String()
	if a.Has(heartbeat.ShuttingDown) {
		now += ",shutting-down"
	}
	if now != in.before {
		in.log.Log(LOG, "attribute of the instance(host='%s', port=%d) is changed from '%s' to '%s'", in.cfg.Name(), in.cfg.Port, in.before, now)
		in.before = now
	}
}

func (in *instance) received() {
	if t, ok := in.mon.LastReceived(); ok {
		in.board.received(in.index, t)
	}
}

// closed: the connection broke. That is no verdict.
func (in *instance) closed(why string) (again bool) {
	in.mon.Closed()
	in.detail = why
	in.log.Log(LOG, "heartbeat connection is closed: %s: %s", in, why)
	in.publish(nil)
	return true
}

func (in *instance) lost(loss *heartbeat.Loss) {
	in.detail = loss.String()
	in.log.Log(WARNING, "%s is lost: %s", in, loss)
	in.publish(loss)
}

// failed: an attempt to connect came to nothing.
func (in *instance) failed(ctx context.Context, err error) {
	if ctx.Err() != nil || err == nil {
		return
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	event := "could not establish heartbeat connection: " + in.String() + ": " + text
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		text = "heartbeat connect is refused: " + refused.Text
		event = "heartbeat connect is refused: " + in.String() + ": " + refused.Text
	case errors.Is(err, errConnectTimeout):
		event = "heartbeat connect is timed out: " + in.String() + ": " + text
		text = "heartbeat connect is timed out: " + text
	}
	now := in.now()
	if last, again := in.repeats[event]; !again || now.Sub(last) >= repeatAfter {
		if len(in.repeats) >= 16 {
			clear(in.repeats)
		}
		in.repeats[event] = now
		in.log.Log(WARNING, "%s", event)
	}
	if text != in.detail && in.mon.State() != heartbeat.Lost || in.detail == "" {
		in.detail = text
		in.publish(nil)
	}
}

// publish tells the board what the instance is now.
func (in *instance) publish(loss *heartbeat.Loss) {
	s := status{State: in.mon.State(), Generation: in.mon.Generation(), SystemIdentifier: in.mon.SystemIdentifier(), HostAddr: in.hostAddr, Addrs: in.addrs, Detail: in.detail}
	s.Attributes, s.Known = in.mon.Attributes()
	in.board.post(in.index, s, loss)
}
