package web

// Connections: there are so many, and one that nothing is asked on makes room for the next one, so
// that neither idle clients nor half a request keep a health check out. Run by the goroutines that
// accept, and by those of net/http; its lock is held for a moment.

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/event"
)

// listener is an open port. Its connections are counted.
type listener struct {
	net.Listener
	server   *Server
	instance int // number of the one that is asked about, of a health_port; -1: of http_port
}

// conn is one of a listener's.
type conn struct {
	net.Conn
	of *listener

	works bool      // a request of it is being answered; guarded by the lock of conns
	since time.Time // it has nothing to do; so is this
}

// conns are those of all ports.
type conns struct {
	mu   sync.Mutex
	all  map[*conn]struct{}
	gone chan struct{} // closed with the last one; nil: nobody waits for that
}

// Accept closes what is too much: the one that has had nothing to do for longest, or, if there is
// none, the new one.
func (l *listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		giveUpSoon(accepted)
		c := &conn{Conn: accepted, of: l, since: time.Now()}
		closed := l.server.conns.add(c)
		if closed != nil {
			_ = closed.Conn.Close()
			l.server.Events.Emit(event.HTTPOverfull{Peer: closed.RemoteAddr().String(), Max: MostConnections})
		}
		if closed != c {
			return c, nil
		}
	}
}

// giveUpSoon has the kernel end a connection whose peer takes nothing, or is gone without a word:
// what waits to be sent does not hold it for longer.
func giveUpSoon(c net.Conn) {
	if raw, err := c.(*net.TCPConn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(answerTime.Milliseconds()))
		})
	}
}

// add returns the one that is too much, nil: there is room.
func (s *conns) add(c *conn) (closed *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*conn]struct{}{}
	}
	if len(s.all) >= MostConnections {
		closed = c
		for other := range s.all {
			if !other.works && other.since.Before(closed.since) {
				closed = other
			}
		}
	}
	if closed != c {
		delete(s.all, closed)
		s.all[c] = struct{}{}
	}
	return closed
}

// works tells that a request is being answered until the returned function is called.
func (s *conns) works(c *conn) (end func()) {
	set := func(works bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.works, c.since = works, time.Now()
	}
	set(true)
	return func() { set(false) }
}

// Close takes it away.
func (c *conn) Close() error {
	s := &c.of.server.conns
	s.mu.Lock()
	delete(s.all, c)
	s.tellNone()
	s.mu.Unlock()
	return c.Conn.Close()
}

// none is closed when there is none.
func (s *conns) none() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := make(chan struct{})
	s.gone = gone
	s.tellNone()
	return gone
}

// tellNone is called with the lock held.
func (s *conns) tellNone() {
	if len(s.all) == 0 && s.gone != nil {
		close(s.gone)
		s.gone = nil
	}
}
