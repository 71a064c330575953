package watch

// One attempt to reach the watchdog at one address: TCP connection, HELLO, WELCOME. Run by the
// instance's goroutine, which goes on judging while it waits.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// connect dials one address and greets the watchdog.
func (in *Instance) connect(ctx context.Context, a netip.Addr, limit clock.Mono) (*link, *heartbeat.Loss, error) {
	in.events.Emit(event.Connecting{Instance: in.id, To: netip.AddrPortFrom(a, uint16(in.cfg.WatchdogPort))})
	dctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch := make(chan result[*net.TCPConn], 1)
	from := in.source(a)
	in.group.Go("dialer", func() {
		c, err := in.net.Dial(dctx, from, netip.AddrPortFrom(a, uint16(in.cfg.WatchdogPort)))
		if err == nil && dctx.Err() != nil { // nobody waits any more
			c.Close()
			c, err = nil, dctx.Err()
		}
		ch <- result[*net.TCPConn]{c, err}
	})
	r, ok := await(ctx, in, ch, limit)
	if !ok {
		cancel()
		if r = <-ch; r.err == nil { // the dialer ends at once, its context being over
			r.value.Close()
		}
		return nil, nil, errConnectTimeout
	}
	if r.err != nil {
		return nil, nil, errors.New(netio.Text(r.err))
	}
	l, err := newLink(ctx, r.value, in.now, in.conf.HeartbeatTimeout)
	if err != nil {
		r.value.Close()
		return nil, nil, err
	}
	loss, err := in.greet(l, limit)
	if err != nil {
		l.close()
		return nil, nil, err
	}
	return l, loss, nil
}

// greet sends HELLO and waits for WELCOME.
func (in *Instance) greet(l *link, limit clock.Mono) (*heartbeat.Loss, error) {
	if err := l.write(in.mon.Hello().Append(nil)); err != nil {
		return nil, errors.New(netio.Text(err))
	}
	for {
		f, ok, err := l.next()
		if err != nil {
			return nil, err
		}
		if ok {
			switch f.Type {
			case heartbeat.TypeWelcome:
				w, err := heartbeat.ParseWelcome(f.Payload)
				if err != nil {
					return nil, err
				}
				return in.mon.Welcome(in.now(), w)
			case heartbeat.TypeRefused:
				r, err := heartbeat.ParseRefused(f.Payload)
				if err != nil {
					return nil, err
				}
				return nil, &refusedError{r}
			default:
				return nil, fmt.Errorf("watchdog sent %s instead of WELCOME", f.Type)
			}
		}
		due := limit
		if wake, armed := in.mon.Wake(); armed {
			due = min(due, wake)
		}
		switch err := l.fill(due); {
		case err == errTimer:
			if l.fillNow() {
				continue
			}
			in.tick(due)
			if in.now() >= limit {
				return nil, errConnectTimeout
			}
		case errors.Is(err, io.EOF):
			return nil, errors.New("the connection was closed before the watchdog's answer")
		case err != nil:
			return nil, errors.New(netio.Text(err))
		}
	}
}

// result of an operation that runs in a goroutine of its own.
type result[T any] struct {
	value T
	err   error
}

// preferring puts the address that worked last time first.
func preferring(addrs []netip.Addr, last netip.Addr) []netip.Addr {
	if i := slices.Index(addrs, last); i > 0 {
		addrs = append([]netip.Addr{last}, slices.Delete(slices.Clone(addrs), i, i+1)...)
	}
	return addrs
}
