package driver

// A conmgr connection that is bound to an instance. It is silent until the instance is lost. One
// goroutine a Watch: it blocks in a read, until the loss or Close; whatever has to end with the
// instance is ended by it.

import (
	"net"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// Watch tells the loss of the instance that [Ask] named. It is safe for concurrent use. It must be
// closed.
type Watch struct {
	target Target
	lost   chan struct{} // closed on loss, after err is set
	done   chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	peer   *peer
	closed bool
	err    *LostError
	ends   map[*func()]struct{} // called on loss
}

func newWatch(p *peer, t *Target) *Watch {
	w := &Watch{target: *t, peer: p, lost: make(chan struct{}), done: make(chan struct{}), ends: map[*func()]struct{}{}}
	go w.run()
	return w
}

// Lost is closed when the instance is lost.
func (w *Watch) Lost() <-chan struct{} { return w.lost }

// Err is a [*LostError] after the loss, and nil before.
func (w *Watch) Err() error {
	if e := w.lostError(); e != nil {
		return e
	}
	return nil
}

// Close ends the watch: conmgr no longer counts this connection. It returns when the goroutine has
// ended, and so must not be called by a function that the loss calls.
func (w *Watch) Close() error {
	w.mu.Lock()
	first := !w.closed
	w.closed = true
	w.mu.Unlock()
	if first {
		// A word of farewell is a courtesy: it must not wait for a conmgr that does not read.
		w.peer.conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		w.peer.Terminate()
		w.peer.conn.Close()
	}
	<-w.done
	return nil
}

func (w *Watch) run() {
	defer close(w.done)
	e := w.wait()
	w.peer.conn.Close()
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.err = e
	ends := w.ends
	w.ends = nil
	w.mu.Unlock()
	close(w.lost)
	for end := range ends {
		(*end)()
	}
}

// wait blocks until conmgr says FATAL, or closes.
func (w *Watch) wait() *LostError {
	for {
		kind, body, err := w.peer.receive()
		if err != nil {
			e := w.newError("08006")
			e.Reason = "the Connection Manager that watches " + e.instance() + " has gone away without a message"
			return e
		}
		if kind != 'E' {
			continue // a notice, or what a later version says
		}
		m, err := pgwire.ParseError(body)
		if err != nil || m.Severity != "FATAL" {
			continue
		}
		e := w.newError(m.Code)
		e.Reason = m.Message
		if m.Detail != "" {
			e.Reason += " (" + m.Detail + ")"
		}
		return e
	}
}

func (w *Watch) newError(sqlState string) *LostError {
	t := w.target
	return &LostError{Instance: t.Instance, Host: t.Host, HostAddr: t.HostAddr, Port: t.Port, SQLState: sqlState,
		Since: time.Now()}
}

func (w *Watch) lostError() *LostError {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// bind has end called, once, on loss, from the watch's goroutine. After release it is not called,
// but may still be running. If the instance is already lost, it returns the loss.
func (w *Watch) bind(end func()) (release func(), lost *LostError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if w.ends == nil || w.closed {
		e := w.newError("08003")
		e.Reason = "the watch of " + e.instance() + " is closed"
		return nil, e
	}
	w.ends[&end] = struct{}{}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.ends, &end)
	}, nil
}

// shutdown wakes whoever is blocked on the connection. What the kernel has already received can
// still be read: the answer to a COMMIT that came just before the verdict is an answer. Nothing is
// sent any more: the reset at Close frees the kernel's buffers.
func shutdown(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		nc.Close()
		return
	}
	tcp.SetLinger(0)
	if err := tcp.CloseRead(); err != nil {
		tcp.Close() // no longer connected
		return
	}
	tcp.CloseWrite()
}
