package worker

// One connection to the heartbeat port: its descriptor, and what its socket did not take yet. Called
// by the reactor's goroutine only; blocks on nothing.

import (
	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

type conn struct {
	fd       int    // -1: closed
	index    int32  // in Reactor.conns; the core's name for it
	finished bool   // what comes in counts no more
	out      []byte // what the socket did not take yet
}

func (r *Reactor) insert(c *conn) {
	if n := len(r.unused); n > 0 {
		c.index = r.unused[n-1]
		r.unused = r.unused[:n-1]
		r.conns[c.index] = c
		return
	}
	c.index = int32(len(r.conns))
	r.conns = append(r.conns, c)
	r.serials = append(r.serials, 0)
}

// drop closes a connection and forgets it. The core is told of separately.
func (r *Reactor) drop(c *conn) {
	unix.Close(c.fd) // leaves epoll by this, too
	c.fd = -1
	r.conns[c.index] = nil
	r.serials[c.index]++
	r.unused = append(r.unused, c.index)
}

// read takes in what the socket has.
func (r *Reactor) read(now watchdog.Now, c *conn) {
	for i := 0; i < drainPerVisit && c.fd >= 0; i++ {
		n, err := rawsys.Recv(c.fd, r.scratch[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil:
			how := watchdog.Broken
			if err == unix.ECONNRESET || err == unix.EPIPE {
				how = watchdog.Reset
			}
			r.ended(now, c, how, err.Error())
			return
		case n == 0:
			r.ended(now, c, watchdog.Finished, "the connection was closed")
			return
		}
		if !c.finished {
			r.step(now, watchdog.Event{Kind: watchdog.Bytes, Conn: watchdog.Conn(c.index), Data: r.scratch[:n]})
		}
		if n < scratchSize {
			return
		}
	}
}

// ended tells that a connection is gone.
func (r *Reactor) ended(now watchdog.Now, c *conn, how watchdog.Close, cause string) {
	r.drop(c)
	r.step(now, watchdog.Event{Kind: watchdog.Ended, Conn: watchdog.Conn(c.index), How: how, Cause: cause})
}

// finish ends our side of a connection so that the peer can still read what was sent: a close with
// unread input would reset it.
func (r *Reactor) finish(c *conn) {
	_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	c.finished = true
}

// drain reads what has come in, some of it: unread input would turn the close into a reset.
func (r *Reactor) drain(c *conn) {
	for range drainPerVisit {
		if n, err := unix.Read(c.fd, r.scratch[:]); n <= 0 || err != nil {
			return
		}
	}
}

// send never blocks. What the socket does not take now goes out later, and the core is told to wait.
func (r *Reactor) send(c *conn, b []byte) {
	if len(c.out) > 0 { // not into the middle of a frame
		c.out = append(c.out, b...)
		return
	}
	n, err := rawsys.Send(c.fd, b)
	if err == unix.EAGAIN || err == unix.EINTR {
		n, err = 0, nil
	}
	if err != nil {
		return // reading will tell the same, after what is still to be read
	}
	if n < len(b) {
		c.out = append(c.out, b[n:]...)
		r.wantWrite(c, true)
		r.blocked = append(r.blocked, watchdog.Conn(c.index))
	}
}

// flush sends what had to wait.
func (r *Reactor) flush(now watchdog.Now, c *conn) {
	out := c.out
	c.out = nil
	r.wantWrite(c, false)
	if len(out) > 0 {
		r.send(c, out)
	}
	if len(c.out) == 0 {
		r.step(now, watchdog.Event{Kind: watchdog.Writable, Conn: watchdog.Conn(c.index)})
	}
	r.blocked = r.blocked[:0] // as the core knows
}

func (r *Reactor) wantWrite(c *conn, on bool) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.index, Pad: r.serials[c.index]}
	if on {
		ev.Events |= unix.EPOLLOUT
	}
	_ = unix.EpollCtl(r.waiter.epfd, unix.EPOLL_CTL_MOD, c.fd, &ev)
}
