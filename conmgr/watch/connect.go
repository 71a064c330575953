package watch

// The connection of an instance: dialled, written to and closed by the instance's goroutine, as it is
// told. A goroutine of its own waits for what is dialled.

import (
	"context"
	"net"
	"net/netip"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/heartbeat/instance"
)

// dialer is a connection that is being dialled.
type dialer struct {
	cancel func()
	result chan dialResult
}

type dialResult struct {
	conn *net.TCPConn
	err  error
}

// results is where the result comes; without a dialer, never.
func (d *dialer) results() <-chan dialResult {
	if d == nil {
		return nil
	}
	return d.result
}

// dial begins a connection.
func (in *Instance) dial(from netip.Addr, to netip.AddrPort) {
	in.events.Emit(event.Connecting{Instance: in.id, To: to})
	ctx, cancel := context.WithCancel(in.ctx)
	d := &dialer{cancel: cancel, result: make(chan dialResult, 1)}
	in.dialer = d
	in.group.Go("dialer", func() {
		c, err := in.net.Dial(ctx, from, to)
		if err == nil && ctx.Err() != nil { // nobody waits any more
			c.Close()
			c, err = nil, ctx.Err()
		}
		d.result <- dialResult{c, err}
	})
}

// dialled takes in what has come of it.
func (in *Instance) dialled(r dialResult) {
	in.dialer.cancel()
	in.dialer = nil
	err := r.err
	if err == nil {
		if in.link, err = newLink(in.ctx, r.conn, in.now, in.conf.HeartbeatTimeout); err != nil {
			r.conn.Close()
		}
	}
	if err != nil {
		in.step(instance.Event{Kind: instance.DialFailed, Cause: netio.Text(err)})
		return
	}
	in.step(instance.Event{Kind: instance.Dialled, Local: in.link.local()})
}

// hangUp gives up what is dialled, or closes the connection.
func (in *Instance) hangUp() {
	if d := in.dialer; d != nil {
		d.cancel()
		if r := <-d.result; r.err == nil { // the dialer ends at once, its context being over
			r.conn.Close()
		}
		in.dialer = nil
	}
	if in.link != nil {
		in.link.close()
		in.link = nil
	}
}

// send writes a frame.
func (in *Instance) send(b []byte) {
	if err := in.link.write(b); err != nil {
		in.queue = append(in.queue, instance.Event{Kind: instance.Unsent, Cause: netio.Text(err)})
	}
}
