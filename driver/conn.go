package driver

// An SQL connection that ends when its instance is lost. Used by the real driver's goroutines; the
// Watch's goroutine shuts it down, and has the kernel look after it while conmgr is away.

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/pgwatchdog/watchdog/driver/internal/keepalive"
)

// Conn is an SQL connection to a [Target]. On loss, blocked and later Reads and Writes return a
// [*net.OpError] with a [*LostError] in it. (The OpError is for drivers such as lib/pq, which know
// a broken connection by that type.)
type Conn struct {
	net.Conn
	target Target
	watch  *Watch // nil: a server of the connection string
	owner  bool   // Close closes the watch, too

	release    func()
	closing    sync.Once
	unanswered atomic.Bool // something was sent since the last answer
	pooled     atomic.Pointer[Pooled]
}

var _ net.Conn = (*Conn)(nil)

// newConn binds nc to the watch. If the instance is lost by now, nc is closed.
func newConn(nc net.Conn, t Target, w *Watch, owner bool) (*Conn, error) {
	c := &Conn{Conn: nc, target: t, watch: w, owner: owner, release: func() {}}
	if w == nil {
		return c, nil
	}
	release, lost := w.bind(&bound{lost: func() { shutdown(nc) }, drained: c.drained, away: keepalive.Guard(nc)})
	if lost != nil {
		nc.Close()
		return nil, c.opError("dial", lost, true)
	}
	c.release = release
	return c, nil
}

// Target is where the connection goes.
func (c *Conn) Target() Target { return c.target }

// Watch is nil for a server of the connection string.
func (c *Conn) Watch() *Watch { return c.watch }

func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.unanswered.Store(false)
		return n, nil // an error comes again
	}
	if err != nil && c.watch != nil {
		if lost := c.watch.lostError(); lost != nil {
			err = c.opError("read", lost, false)
		}
	}
	return n, err
}

func (c *Conn) Write(b []byte) (int, error) {
	if c.watch == nil {
		return c.Conn.Write(b)
	}
	if lost := c.watch.lostError(); lost != nil {
		return 0, c.opError("write", lost, !c.unanswered.Load())
	}
	before := c.unanswered.Swap(true)
	n, err := c.Conn.Write(b)
	if err != nil {
		if lost := c.watch.lostError(); lost != nil {
			err = c.opError("write", lost, n == 0 && !before)
		}
	}
	return n, err
}

// Close ends the connection and its watch.
func (c *Conn) Close() error {
	var err error
	c.closing.Do(func() {
		c.release()
		err = c.Conn.Close()
		if c.watch != nil && c.owner {
			if c.watch.lostError() != nil {
				err = nil // it was shut down: that the close finds it so is no news
			}
			c.watch.Close()
		}
	})
	return err
}

// drained tells the pool's part of the connection, if a pool has it.
func (c *Conn) drained() {
	if p := c.pooled.Load(); p != nil {
		p.drained()
	}
}

// Again makes another connection to the same instance, for a cancel request. It, too, ends with the
// instance: nobody waits for a host that is known to be lost.
func (c *Conn) Again(ctx context.Context) (net.Conn, error) {
	nc, err := dialWatched(ctx, c.Conn.RemoteAddr().Network(), c.Conn.RemoteAddr().String(), c.watch)
	if err != nil {
		return nil, err
	}
	again, err := newConn(nc, c.target, c.watch, false)
	if err != nil {
		return nil, err
	}
	return again, nil
}

func (c *Conn) opError(op string, lost *LostError, nothingSent bool) error {
	e := *lost
	e.nothingSent = nothingSent
	return &net.OpError{Op: op, Net: "tcp", Addr: c.Conn.RemoteAddr(), Err: &e}
}

// dialWatched dials, and stops when the watch is lost.
func dialWatched(ctx context.Context, network, address string, w *Watch) (net.Conn, error) {
	var dialer net.Dialer
	if w == nil {
		return dialer.DialContext(ctx, network, address)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release, lost := w.bind(&bound{lost: cancel})
	if lost == nil {
		defer release()
		nc, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			return nc, nil
		}
		if lost = w.lostError(); lost == nil {
			return nil, err
		}
	}
	e := *lost
	e.nothingSent = true
	return nil, &net.OpError{Op: "dial", Net: network, Err: &e}
}
