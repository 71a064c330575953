package driver

// A conmgr connection that is bound to an instance. It is silent until the instance is lost, but for
// notices: that the instance is drained, or that conmgr ends and will be back. One goroutine a
// Watch: it blocks in a read, until the loss or Close, and while conmgr is away in asking for it
// again; whatever has to end with the instance is ended by it.

import (
	"context"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// Watch tells the loss of the instance that [Ask] named. It is safe for concurrent use. It must be
// closed.
type Watch struct {
	asker     Asker // asks again when conmgr was away
	attribute Attribute
	lost      chan struct{} // closed on loss, after err is set
	done      chan struct{} // closed when the goroutine has ended
	ctx       context.Context
	cancel    context.CancelFunc // by Close

	mu       sync.Mutex
	target   Target
	peer     *peer
	closed   bool
	err      *LostError
	draining chan struct{} // closed: retire
	awayFor  time.Duration // conmgr is away, and this is the grace; 0: it is not
	bound    map[*bound]struct{}
}

// bound is what has to do with the instance. Each function may be nil, and is called from the
// watch's goroutine, or that of bind.
type bound struct {
	lost    func() // once
	drained func() // retire; each time that it is said
	// conmgr is away, or is back: 0. Under the watch's lock, so that what is said last is so
	away func(grace time.Duration)
}

func newWatch(a *Asker, p *peer, attribute Attribute, t *Target) *Watch {
	w := &Watch{asker: *a, attribute: attribute, target: *t, peer: p, lost: make(chan struct{}),
		done: make(chan struct{}), draining: make(chan struct{}), bound: map[*bound]struct{}{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	go w.run()
	return w
}

// Lost is closed when the instance is lost.
func (w *Watch) Lost() <-chan struct{} { return w.lost }

// Draining is closed when the instance is drained: use the SQL connection up to the end of its
// transaction, and get another one. It is no loss, and nothing is ended. Where the drain is undone
// later, another call gives a channel that is open.
func (w *Watch) Draining() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.draining
}

// retires tells whether Draining is closed.
func (w *Watch) retires() bool {
	select {
	case <-w.Draining():
		return true
	default:
		return false
	}
}

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
	first, p := !w.closed, w.peer
	w.closed = true
	w.mu.Unlock()
	if first {
		// A word of farewell is a courtesy: it must not wait for a conmgr that does not read.
		p.conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		p.Terminate()
		p.conn.Close()
		w.cancel()
	}
	<-w.done
	return nil
}

func (w *Watch) run() {
	defer close(w.done)
	defer w.cancel()
	for {
		e, away := w.wait()
		w.peer.conn.Close()
		if away.granted > 0 {
			if e = w.resume(away, e); e == nil {
				continue
			}
		}
		w.lose(e)
		return
	}
}

// lose ends what has to end with the instance, unless nobody watches any more.
func (w *Watch) lose(e *LostError) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.err = e
	all := w.bound
	w.bound = nil
	w.mu.Unlock()
	close(w.lost)
	for b := range all {
		if b.lost != nil {
			b.lost()
		}
	}
}

// wait blocks until conmgr says FATAL, or closes. Where conmgr may come back, it is no loss until
// then.
func (w *Watch) wait() (e *LostError, away absence) {
	p := w.peer // which only this goroutine changes
	for {
		kind, body, err := p.receive()
		if err != nil {
			e := w.newError("08006")
			e.Reason = "the Connection Manager that watches " + e.instance() + " has gone away without a message"
			if away.granted == 0 && p.grace > 0 && isBroken(err) {
				away = absenceFrom(time.Now(), p.grace)
			}
			return e, w.resumable(away)
		}
		switch kind {
		case 'S':
			if name, value, err := pgwire.ParameterStatus(body); err == nil && name == cm.NoticeParameter {
				away = w.notice(value, away)
			}
		case 'E':
			m, err := pgwire.ParseError(body)
			if err != nil || m.Severity != "FATAL" {
				continue // what a later version says
			}
			if !strings.HasPrefix(m.Message, ownEnd) {
				away = absence{}
			}
			return w.told(conmgrError(m)), w.resumable(away)
		}
	}
}

// ownEnd begins what conmgr says at its own end; of an instance that is lost, it says its number.
const ownEnd = "the Connection Manager "

// notice returns for how long conmgr may be away from now on.
func (w *Watch) notice(value string, away absence) absence {
	word, rest, _ := strings.Cut(value, " ")
	switch word {
	case cm.NoticeDraining, cm.NoticeRole:
		w.drain()
	case cm.NoticeServing:
		w.mu.Lock()
		select {
		case <-w.draining:
			w.draining = make(chan struct{})
		default:
		}
		w.mu.Unlock()
	case cm.NoticeAway:
		if grace, err := milliseconds(rest); err == nil {
			return absenceFrom(time.Now(), grace)
		}
	}
	return away
}

func (w *Watch) drain() {
	w.mu.Lock()
	select {
	case <-w.draining:
	default:
		close(w.draining)
	}
	all := slices.Collect(maps.Keys(w.bound))
	w.mu.Unlock()
	for _, b := range all {
		if b.drained != nil {
			b.drained()
		}
	}
}

// told is the loss that conmgr has told.
func (w *Watch) told(m *ConmgrError) *LostError {
	e := w.newError(m.SQLState)
	e.Reason = m.Message
	if m.Detail != "" {
		e.Reason += " (" + m.Detail + ")"
	}
	return e
}

func (w *Watch) newError(sqlState string) *LostError {
	w.mu.Lock()
	t := w.target
	w.mu.Unlock()
	return &LostError{Instance: t.Instance, Host: t.Host, HostAddr: t.HostAddr, Port: t.Port, SQLState: sqlState,
		Since: time.Now()}
}

func (w *Watch) lostError() *LostError {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// bind has b's functions called. After release none is called any more, but one may still be
// running. If the instance is already lost, it returns the loss.
func (w *Watch) bind(b *bound) (release func(), lost *LostError) {
	w.mu.Lock()
	if w.err != nil {
		defer w.mu.Unlock()
		return nil, w.err
	}
	if w.bound == nil || w.closed {
		w.mu.Unlock()
		e := w.newError("08003")
		e.Reason = "the watch of " + e.instance() + " is closed"
		return nil, e
	}
	w.bound[b] = struct{}{}
	if w.awayFor > 0 && b.away != nil {
		b.away(w.awayFor)
	}
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.bound, b)
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
