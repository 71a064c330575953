package instance

// Name resolution, beside the heartbeats: it never decides whether an instance is reached. The
// addresses that the name had last are used when a look-up fails or is late; look-ups go on until
// one succeeds, and its answer is followed.

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// patience is how long an attempt waits for a look-up if it knows addresses already.
const patience = 250 * time.Millisecond

// Family says of which kind of address a look-up could not tell: then it is half an answer.
type Family uint8

const (
	Neither Family = iota
	IPv4
	IPv6
)

func (f Family) has(a netip.Addr) bool { return f != Neither && a.Is4() == (f == IPv4) }

// names is what is known of an instance's name.
type names struct {
	addrs   []netip.Addr   // that the name had last; never changed
	pending bool           // a look-up is under way, or its answer was not looked at
	answer  *Event         // to it
	waited  bool           // an attempt has waited for the pending one: no other does
	fresh   bool           // addrs are the answer to the last look-up
	last    heartbeat.Mono // when one was last begun
	err     error
}

// resolve gets the addresses to try. Without any that are known it waits as long as the attempt
// may take.
func (in *Instance) resolve(now heartbeat.Mono) {
	n := &in.names
	in.startLookup(now)
	switch {
	case n.answer != nil:
		in.looked()
		in.tryNames(now)
	case len(n.addrs) == 0:
		in.phase, in.until = resolving, in.attempt.limit
	case n.waited:
		in.notResolved(now)
	default:
		in.phase = resolving
		in.until = now.Add(min(patience, in.attempt.limit.Sub(now)/4))
	}
}

// startLookup begins a look-up, unless one is under way.
func (in *Instance) startLookup(now heartbeat.Mono) {
	n := &in.names
	if n.pending {
		return
	}
	n.pending, n.waited, n.last = true, false, now
	in.act(Action{Kind: Resolve})
}

// resolved: a look-up has ended. While an attempt is under way without it, it waits for the next.
func (in *Instance) resolved(now heartbeat.Mono, e Event) {
	in.names.answer = &e
	if in.phase == resolving {
		in.looked()
		in.tryNames(now)
	}
}

// notResolved: the look-up is late.
func (in *Instance) notResolved(now heartbeat.Mono) {
	n := &in.names
	n.waited, n.fresh = true, false
	n.err = fmt.Errorf("could not resolve host name %q in time: %w", in.cfg.Host, ErrTimeout)
	in.tryNames(now)
}

// tryNames goes on with the addresses that are known.
func (in *Instance) tryNames(now heartbeat.Mono) {
	n := &in.names
	if len(n.addrs) == 0 {
		in.failed(now, n.err)
		return
	}
	if !n.fresh {
		in.act(Action{Kind: FellBack, Err: n.err})
	}
	in.tryAll(now, n.addrs)
}

// looked takes in the answer to the pending look-up. Of half an answer, the other half is what was
// known of it; where that is nothing, there is nothing to wait for either.
func (in *Instance) looked() {
	n := &in.names
	e := n.answer
	n.pending, n.answer, n.fresh, n.err = false, nil, false, nil
	switch {
	case e.Missing != Neither:
		known := slices.DeleteFunc(slices.Clone(n.addrs), func(a netip.Addr) bool { return !e.Missing.has(a) })
		n.addrs = append(slices.Clone(e.Addrs), known...)
		if n.fresh = len(known) == 0; !n.fresh {
			n.err = fmt.Errorf("could not resolve host name %q completely: %s", in.cfg.Host, e.Cause)
		}
	case e.Cause != "":
		n.err = fmt.Errorf("could not resolve host name %q: %s", in.cfg.Host, e.Cause)
	case len(e.Addrs) == 0:
		n.err = fmt.Errorf("could not resolve host name %q: it has no address", in.cfg.Host)
	default:
		n.addrs, n.fresh = e.Addrs, true
	}
}

// moved goes on with look-ups while a connection stands that was made without a fresh answer. It
// tells whether the name has other addresses now, and so the connection is not to the instance that
// the name means.
func (in *Instance) moved(now heartbeat.Mono) bool {
	n := &in.names
	if n.fresh || in.cfg.HostAddr.IsValid() {
		return false
	}
	if n.answer != nil {
		in.looked()
	}
	switch {
	case n.fresh:
		return !slices.Contains(n.addrs, in.peer)
	case now.Sub(n.last) >= in.cfg.ConnectInterval:
		in.startLookup(now)
	}
	return false
}
