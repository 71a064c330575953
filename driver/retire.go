package driver

// A connection that a pool keeps, when its instance is drained: it is closed between transactions,
// by the pool when that gets it back, or at once if it is idle. Run by the pool's goroutines, the
// watch's, and that of a timer; blocks on nothing.

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/driver/internal/keepalive"
)

// Pooled is what a pool tells of a connection that it keeps, so that no drain ends one that is in
// use. It is in use until the first Keep.
type Pooled struct {
	conn  *Conn
	close func()

	mu    sync.Mutex
	state usage
	turn  uint64 // counts the times of idleness
}

type usage uint8

const (
	inUse usage = iota
	idle
	retired
)

// settled is how long a connection is idle before a drain closes it: longer than a pool takes to
// hand it on to somebody who waits for it.
const settled = 100 * time.Millisecond

// errRetired is for who uses a connection nevertheless. It is safe to retry: nothing was sent.
var errRetired = &retiredError{errors.New(
	"the connection was closed while it was idle")}

type retiredError struct{ error }

func (*retiredError) SafeToRetry() bool { return true }

// Pool is called by an adapter for a connection that a pool will keep. closes ends it, when it is
// drained while it is idle.
func (c *Conn) Pool(closes func()) *Pooled {
	p := &Pooled{conn: c, close: closes}
	c.pooled.Store(p)
	return p
}

// Keep is called when the pool gets the connection back, between transactions. False: it should be
// closed instead, as its instance is lost or drained.
func (p *Pooled) Keep() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == retired || p.conn.watch != nil && p.conn.watch.lostError() != nil || p.retires() {
		return false
	}
	p.state = idle
	p.turn++
	return true
}

// Take is called when somebody is to get the connection, by a pool that has others. False: it is
// closed, by the server, too, or is to be, as its instance is drained.
func (p *Pooled) Take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == idle && (p.retires() || keepalive.Ended(p.conn.Conn)) {
		p.state = retired
	}
	if p.state == retired {
		return false
	}
	p.state = inUse
	return true
}

// Use is called when somebody uses the connection, which is an error if it was ended while it was
// idle, by a drain or the server: nothing is sent then. One
// that is to be retired, and was given out nevertheless, is good for a transaction more.
func (p *Pooled) Use() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == idle && keepalive.Ended(p.conn.Conn) {
		p.state = retired
	}
	if p.state == retired {
		return &net.OpError{Op: "write", Net: "tcp", Addr: p.conn.Conn.RemoteAddr(), Err: errRetired}
	}
	p.state = inUse
	return nil
}

func (p *Pooled) retires() bool { return p.conn.watch != nil && p.conn.watch.retires() }

// drained is called by the watch's goroutine. One that is idle now, and stays so, is closed.
func (p *Pooled) drained() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if turn := p.turn; p.state == idle {
		time.AfterFunc(settled, func() { p.retire(turn) })
	}
}

func (p *Pooled) retire(turn uint64) {
	p.mu.Lock()
	is := p.state == idle && p.turn == turn && p.retires()
	if is {
		p.state = retired
	}
	p.mu.Unlock()
	if is {
		p.close()
	}
}
