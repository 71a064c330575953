package watch

// Name resolution. A look-up runs in a goroutine of its own, which blocks until its context ends at
// most.

import (
	"context"
	"errors"

	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/heartbeat/instance"
)

// lookUp begins a look-up. It gives up after heartbeat_connect_timeout.
func (in *Instance) lookUp() {
	in.group.Go("resolver", func() {
		ctx, cancel := context.WithTimeout(in.ctx, in.conf.ConnectTimeout)
		defer cancel()
		e := instance.Event{Kind: instance.Resolved}
		var err error
		if e.Addrs, err = in.net.Resolve(ctx, in.cfg.Host); err != nil {
			e.Cause = netio.Text(err)
		}
		var half *netio.HalfAnswer
		if errors.As(err, &half) {
			e.Missing = instance.IPv6
			if half.Missing4 {
				e.Missing = instance.IPv4
			}
		}
		in.post(in.ctx, e)
	})
}

// post leaves an event for the instance's goroutine, unless it is of no interest any more. Called
// by others.
func (in *Instance) post(ctx context.Context, e instance.Event) {
	select {
	case in.inbox <- e:
	case <-ctx.Done():
	}
}
