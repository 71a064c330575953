package watch

// The connections of an instance: dialled, written to and closed by the instance's goroutine, as it
// is told. Goroutines of their own wait for what is dialled.

import (
	"context"
	"net"
	"slices"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/heartbeat/instance"
)

// socket is a connection that is dialled, or that stands.
type socket struct {
	conn   instance.Conn
	dialer *dialer // nil: it stands
	link   *link   // nil: it does not yet
}

// dialer is a connection that is being dialled.
type dialer struct {
	cancel func()
	result chan dialResult
}

type dialResult struct {
	conn *net.TCPConn
	err  error
}

// dial begins a connection.
func (in *Instance) dial(a *instance.Action) {
	if !a.Beside {
		in.events.Emit(event.Connecting{Instance: in.id, To: a.To})
	}
	ctx, cancel := context.WithCancel(in.ctx)
	d := &dialer{cancel: cancel, result: make(chan dialResult, 1)}
	in.sockets = append(in.sockets, &socket{conn: a.Conn, dialer: d})
	from, to := a.From, a.To
	in.group.Go("dialer", func() {
		c, err := in.net.Dial(ctx, from, to)
		if err == nil && ctx.Err() != nil { // nobody waits any more
			c.Close()
			c, err = nil, ctx.Err()
		}
		d.result <- dialResult{c, err}
		in.wakeUp()
	})
}

// takeDialled takes in what has come of one that is dialled. ok is false if nothing has.
func (in *Instance) takeDialled() (ok bool) {
	for _, s := range in.sockets {
		if s.dialer == nil {
			continue
		}
		select {
		case r := <-s.dialer.result:
			in.dialled(s, r)
			return true
		default:
		}
	}
	return false
}

// dialled takes in what has come of it.
func (in *Instance) dialled(s *socket, r dialResult) {
	s.dialer.cancel()
	s.dialer = nil
	err := r.err
	if err == nil {
		if s.link, err = newLink(in.ctx, r.conn, in.now, in.conf.HeartbeatTimeout); err != nil {
			r.conn.Close()
		}
	}
	if err != nil {
		in.forget(s)
		in.step(instance.Event{Kind: instance.DialFailed, Conn: s.conn, Cause: netio.Text(err)})
		return
	}
	in.step(instance.Event{Kind: instance.Dialled, Conn: s.conn, Local: s.link.local()})
}

// socket is the connection of that name, nil if it is over.
func (in *Instance) socket(c instance.Conn) *socket {
	if i := slices.IndexFunc(in.sockets, func(s *socket) bool { return s.conn == c }); i >= 0 {
		return in.sockets[i]
	}
	return nil
}

func (in *Instance) forget(s *socket) {
	in.sockets = slices.DeleteFunc(in.sockets, func(o *socket) bool { return o == s })
}

// hangUp gives up what is dialled, or closes what stands.
func (in *Instance) hangUp(c instance.Conn, reset bool) {
	s := in.socket(c)
	in.forget(s)
	if d := s.dialer; d != nil {
		d.cancel()
		if r := <-d.result; r.err == nil { // the dialer ends at once, its context being over
			r.conn.Close()
		}
	}
	switch {
	case s.link == nil:
	case reset:
		s.link.reset()
	default:
		s.link.close()
	}
}

// send writes a frame. That it could not be is told when the actions that it stands among are done.
func (in *Instance) send(c instance.Conn, b []byte) {
	if err := in.socket(c).link.write(b); err != nil {
		in.queue = append(in.queue, instance.Event{Kind: instance.Unsent, Conn: c, Cause: netio.Text(err)})
	}
}

// probe asks the kernel what of all that was sent is not acknowledged.
func (in *Instance) probe(c instance.Conn) {
	in.queue = append(in.queue, instance.Event{Kind: instance.Probed, Conn: c, Unacked: in.socket(c).link.unacked()})
}
