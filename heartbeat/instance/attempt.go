package instance

// One attempt to reach the watchdog: the addresses of the instance one by one, each with a
// connection, HELLO and WELCOME; and the pause that follows.

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// attempt is the one that is under way.
type attempt struct {
	limit  heartbeat.Mono
	all    []netip.Addr // of the name
	left   []netip.Addr // that have not been tried
	line   *line        // to that which is tried
	errors []error      // of those that were
}

// try begins an attempt.
func (in *Instance) try(now heartbeat.Mono) {
	in.freed = false
	in.attempt = attempt{limit: in.attempts.Limit(now, in.mon)}
	if in.cfg.HostAddr.IsValid() {
		in.tryAll(now, []netip.Addr{in.cfg.HostAddr})
		return
	}
	in.resolve(now)
}

// tryAll tries addresses.
func (in *Instance) tryAll(now heartbeat.Mono, addrs []netip.Addr) {
	in.attempt.all, in.attempt.left = addrs, in.candidates(addrs)
	in.dial(now)
}

// resuming tells whether an attempt is to go on with the connection that has broken. A watchdog of
// 1.0 knows a conmgr by its id and address: by another one it would be another host, which cannot
// resume, and whose sessions are not those that there are.
func (in *Instance) resuming() bool {
	_, armed := in.mon.Armed()
	return armed && in.mon.State() == heartbeat.Connecting
}

// candidates are the addresses to try, the one of the last connection first. As long as the
// deadline runs it is the only one, if the name has it still: the way to another one may begin at
// another address of this host (IPv6 instead of IPv4).
func (in *Instance) candidates(addrs []netip.Addr) []netip.Addr {
	i := slices.Index(addrs, in.peer)
	switch {
	case i >= 0 && in.resuming():
		return addrs[i : i+1]
	case i > 0:
		return append([]netip.Addr{in.peer}, slices.Delete(slices.Clone(addrs), i, i+1)...)
	}
	return addrs
}

// source is the address of this host from which an address is to be tried; invalid: any. The kernel
// may have a new favourite.
func (in *Instance) source(to netip.Addr) netip.Addr {
	if in.resuming() && to == in.peer {
		return in.local
	}
	return netip.Addr{}
}

// dial tries the next address. Each has its share of the time that is left.
func (in *Instance) dial(now heartbeat.Mono) {
	a := &in.attempt
	share := time.Duration(0)
	if len(a.left) > 0 {
		share = a.limit.Sub(now) / time.Duration(len(a.left))
	}
	if share <= 0 {
		in.failed(now, errors.Join(a.errors...))
		return
	}
	to := a.left[0]
	a.left = a.left[1:]
	in.phase, in.until = dialling, now.Add(share)
	a.line = in.dialLine(to, in.source(to), false)
}

// attempted takes in what has come of it. A connection that stands is opened with HELLO.
func (in *Instance) attempted(now heartbeat.Mono, l *line, e Event) {
	switch e.Kind {
	case Dialled:
		if in.phase == dialling {
			in.phase = greeting
			in.greet(now, l, e.Local)
		}
	case DialFailed:
		in.unreached(now, causeError(e.Cause))
	case Frame:
		if in.phase == greeting {
			if err := in.greeted(now, l, e.Frame); err != nil {
				in.giveUp(now, err)
			}
		}
	case Ended:
		in.giveUp(now, causeError("the connection was closed before the watchdog's answer"))
	default:
		in.giveUp(now, causeError(e.Cause))
	}
}

// giveUp: nothing will come of what is under way to an address.
func (in *Instance) giveUp(now heartbeat.Mono, err error) {
	in.abandon(in.attempt.line)
	in.unreached(now, err)
}

// unreached: nothing has come of an address.
func (in *Instance) unreached(now heartbeat.Mono, err error) {
	a := &in.attempt
	a.errors = append(a.errors, fmt.Errorf("%s: %w", netip.AddrPortFrom(a.line.to, in.cfg.WatchdogPort), err))
	a.line = nil
	in.dial(now)
}

// failed: nothing has come of the attempt.
func (in *Instance) failed(now heartbeat.Mono, err error) {
	if err != nil {
		in.mon.Closed()
		in.act(Action{Kind: Failed, Err: err})
	}
	in.rest(now, heartbeat.Unreached)
}

// rest waits until the next attempt is due.
func (in *Instance) rest(now heartbeat.Mono, o heartbeat.Outcome) {
	pause := in.attempts.Pause(now, in.mon, o)
	in.phase, in.until = resting, now.Add(pause)
	if pause <= 0 || in.freed && in.mon.State() == heartbeat.Duplicate {
		in.try(now)
	}
}

// taken takes in that another process has our id, and lives: its directory is a copy of ours, or
// ours of its. There is another one, once. kept: we were welcomed by that id before this was found,
// and nothing has ended.
func (in *Instance) taken(r heartbeat.Refused, kept bool) bool {
	if r.Code != heartbeat.RefusedTaken || in.cfg.Spare == (heartbeat.ID{}) {
		return false
	}
	in.cfg.ID, in.cfg.Spare = in.cfg.Spare, heartbeat.ID{}
	in.mon.Rename(in.cfg.ID, kept)
	in.act(Action{Kind: Renamed})
	return true
}

// greeted takes in the answer to HELLO.
func (in *Instance) greeted(now heartbeat.Mono, l *line, f heartbeat.Frame) error {
	f, asked, err := in.prove(now, l, f)
	if asked || err != nil {
		return err
	}
	switch f.Type {
	case heartbeat.TypeWelcome:
		w, err := heartbeat.ParseWelcome(f.Payload)
		if err != nil {
			return err
		}
		in.addrs = in.attempt.all
		in.welcomed(now, l, w)
		return nil
	case heartbeat.TypeRefused:
		r, err := heartbeat.ParseRefused(f.Payload)
		if err != nil {
			return err
		}
		if in.taken(r, false) {
			in.hangUp(l)
			in.attempt.line = nil
			in.rest(now, heartbeat.AtOnce)
			return nil
		}
		return &RefusedError{r}
	}
	return fmt.Errorf("watchdog sent %s instead of WELCOME", f.Type)
}
