package watch

// Name resolution, beside the heartbeats: it never decides whether an instance is reached. The
// addresses that the name had last are used when a look-up fails or is late; look-ups go on until
// one succeeds, and its answer is followed. A look-up runs in a goroutine of its own, which blocks
// until its context ends at most; all else is the instance's.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
)

// repeatAfter is how often it is told again that a name cannot be resolved.
const repeatAfter = time.Minute

// lookupPatience is how long an attempt waits for a look-up if it knows addresses already.
const lookupPatience = 250 * time.Millisecond

// lookup is the state of an instance's name.
type lookup struct {
	addrs   []netip.Addr // that the name had last; never changed
	pending chan result[[]netip.Addr]
	waited  bool       // an attempt has waited for the pending one: no other does
	fresh   bool       // addrs are the answer to the last look-up
	last    clock.Mono // when one was last begun
	told    clock.Mono // when it was last told that known addresses are used
	err     error
}

// resolve returns the addresses to try. Without any that are known it waits until limit; the error
// says that there are none.
func (in *Instance) resolve(ctx context.Context, limit clock.Mono) ([]netip.Addr, error) {
	if in.cfg.HostAddr.IsValid() {
		return []netip.Addr{in.cfg.HostAddr}, nil
	}
	lk := &in.lookup
	in.startLookup(ctx)
	until := limit
	if len(lk.addrs) > 0 {
		until = in.now().Add(min(lookupPatience, limit.Sub(in.now())/4))
		if lk.waited {
			until = in.now()
		}
	}
	r, ok := await(ctx, in, lk.pending, until)
	switch {
	case ok:
		in.looked(r)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		lk.waited, lk.fresh = true, false
		lk.err = fmt.Errorf("could not resolve host name %q in time: %w", in.cfg.Host, errConnectTimeout)
	}
	if len(lk.addrs) == 0 {
		return nil, lk.err
	}
	if !lk.fresh {
		in.failedLookup()
	}
	return lk.addrs, nil
}

// startLookup begins a look-up, unless one is under way. It gives up after
// heartbeat_connect_timeout.
func (in *Instance) startLookup(ctx context.Context) {
	if in.lookup.pending != nil {
		return
	}
	ch := make(chan result[[]netip.Addr], 1)
	in.lookup.pending, in.lookup.waited, in.lookup.last = ch, false, in.now()
	in.group.Go("resolver", func() {
		ctx, cancel := context.WithTimeout(ctx, in.conf.ConnectTimeout)
		defer cancel()
		addrs, err := in.net.Resolve(ctx, in.cfg.Host)
		ch <- result[[]netip.Addr]{addrs, err}
	})
}

// looked takes in the result of the pending look-up. Of half an answer, the other half is what was
// known of it; where that is nothing, there is nothing to wait for either.
func (in *Instance) looked(r result[[]netip.Addr]) {
	lk := &in.lookup
	lk.pending, lk.fresh, lk.err = nil, false, nil
	var half *netio.HalfAnswer
	if errors.As(r.err, &half) {
		known := slices.DeleteFunc(slices.Clone(lk.addrs), func(a netip.Addr) bool { return !half.Missing(a) })
		lk.addrs = append(slices.Clone(r.value), known...)
		if lk.fresh = len(known) == 0; !lk.fresh {
			lk.err = fmt.Errorf("could not resolve host name %q completely: %s", in.cfg.Host, netio.Text(r.err))
		}
		return
	}
	switch {
	case r.err != nil:
		lk.err = fmt.Errorf("could not resolve host name %q: %s", in.cfg.Host, netio.Text(r.err))
	case len(r.value) == 0:
		lk.err = fmt.Errorf("could not resolve host name %q: it has no address", in.cfg.Host)
	default:
		lk.addrs, lk.fresh = r.value, true
	}
}

// followName goes on with look-ups while a connection stands that was made without a fresh answer.
// moved: the name has other addresses now, and so the connection is not to the instance that the
// name means.
func (in *Instance) followName() (moved bool) {
	lk := &in.lookup
	if lk.fresh || in.cfg.HostAddr.IsValid() {
		return false
	}
	select {
	case r := <-lk.pending:
		in.looked(r)
	default:
	}
	switch {
	case lk.fresh:
		return !slices.Contains(lk.addrs, in.hostAddr)
	case lk.pending == nil && in.now().Sub(lk.last) >= in.conf.ConnectInterval:
		in.startLookup(in.ctx)
	}
	return false
}

// failedLookup tells, not more than once a minute, that known addresses are used.
func (in *Instance) failedLookup() {
	lk, now := &in.lookup, in.now()
	if lk.told != 0 && now.Sub(lk.told) < repeatAfter {
		return
	}
	lk.told = now
	in.events.Emit(event.LookupFailed{Instance: in.id, Err: lk.err})
}
