package watch

// One TCP connection to a watchdog: its buffer and its deadlines. Used by the instance's goroutine
// alone; fill blocks until its deadline.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// errTimer: the deadline of fill has come.
var errTimer = errors.New("timer")

type link struct {
	conn *net.TCPConn
	raw  rawControl
	ctx  context.Context
	now  clock.Clock
	stop func() bool // of the context's hook
	buf  [4 * heartbeat.MaxFrame]byte
	n    int // bytes in buf
	used int // bytes of the frame that next returned last
	eof  error
	// watched is closed when the goroutine that waits for something to read has ended; nil: there
	// is none.
	watched chan struct{}
}

type rawControl interface {
	Control(f func(fd uintptr)) error
	Read(f func(fd uintptr) (done bool)) error
}

func newLink(ctx context.Context, conn *net.TCPConn, now clock.Clock, timeout time.Duration) (*link, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	conn.SetNoDelay(true)
	netio.ForHeartbeats(conn, heartbeat.UserTimeout(timeout))
	l := &link{conn: conn, raw: raw, ctx: ctx, now: now}
	l.stop = context.AfterFunc(ctx, func() { conn.SetReadDeadline(netio.LongPast) })
	return l, nil
}

// local is the address of this host; invalid if it is not known.
func (l *link) local() netip.Addr {
	if a, ok := l.conn.LocalAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// next returns the next whole frame of the buffer; it is valid until the next call of a method.
func (l *link) next() (f heartbeat.Frame, ok bool, err error) {
	if l.used > 0 {
		l.n = copy(l.buf[:], l.buf[l.used:l.n])
		l.used = 0
	}
	f, size, err := heartbeat.Next(l.buf[:l.n])
	l.used = size
	return f, size > 0 && err == nil, err
}

// fill waits for more bytes until due. The error is errTimer, the context's, or why the connection
// has ended.
func (l *link) fill(due heartbeat.Mono) error {
	if l.eof != nil {
		return l.eof
	}
	l.unwatch()
	l.conn.SetReadDeadline(time.Now().Add(due.Sub(l.now())))
	if err := l.ctx.Err(); err != nil { // after the deadline is set, so that the context's hook comes last
		return err
	}
	n, err := l.conn.Read(l.buf[l.n:])
	l.n += n
	switch {
	case n > 0:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		if err := l.ctx.Err(); err != nil {
			return err
		}
		return errTimer
	}
	l.eof = err
	return err
}

// fillNow takes what the kernel holds, without waiting. (Read does not once its deadline has
// passed.) It tells whether there was anything.
func (l *link) fillNow() bool {
	if l.eof != nil || l.n == len(l.buf) {
		return false
	}
	var n int
	err := io.EOF
	if cerr := l.raw.Control(func(fd uintptr) {
		for {
			n, _, err = unix.Recvfrom(int(fd), l.buf[l.n:], unix.MSG_DONTWAIT)
			if err != unix.EINTR {
				return
			}
		}
	}); cerr != nil {
		err = cerr
	}
	switch {
	case err == unix.EAGAIN:
		return false
	case err != nil:
		l.eof = err
		return false
	case n == 0:
		l.eof = io.EOF
		return false
	}
	l.n += n
	return true
}

// watch makes a goroutine wait until something can be read, or the connection has ended, and then
// tell: once, and again only after that.
func (l *link) watch(g *group.Group, tell func()) {
	if l.watched != nil {
		select {
		case <-l.watched:
		default:
			return
		}
	}
	done := make(chan struct{})
	l.watched = done
	l.conn.SetReadDeadline(time.Time{})
	g.Go("reader", func() {
		defer close(done)
		var buf [1]byte
		_ = l.raw.Read(func(fd uintptr) bool {
			_, _, err := unix.Recvfrom(int(fd), buf[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return err != unix.EAGAIN && err != unix.EINTR
		})
		tell()
	})
}

// unwatch ends that.
func (l *link) unwatch() {
	if l.watched != nil {
		l.conn.SetReadDeadline(netio.LongPast)
		<-l.watched
		l.watched = nil
	}
}

// unacked tells whether the peer's kernel has not acknowledged all that was sent.
func (l *link) unacked() bool {
	n := 0
	_ = l.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
	return n > 0
}

// roundTrip is the shortest time that the peer's kernel took to acknowledge something; 0: the kernel
// does not tell. When all that has come is WELCOME, no acknowledgement was put off yet.
func (l *link) roundTrip() (rtt time.Duration) {
	_ = l.raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			rtt = time.Duration(info.Min_rtt) * time.Microsecond
		}
	})
	return rtt
}

// write sends a frame without waiting. (Write would fail if this process was stopped between its
// deadline and itself.) A send buffer that is full of frames of a few bytes belongs to a connection
// that has been dead for long: the frame is left out.
func (l *link) write(b []byte) error {
	var n int
	var err error
	if cerr := l.raw.Control(func(fd uintptr) {
		for {
			n, err = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return
			}
		}
	}); cerr != nil {
		return cerr
	}
	if err == unix.EAGAIN {
		return nil
	}
	if err == nil && n < len(b) {
		return io.ErrShortWrite
	}
	return err
}

// reset ends the connection so that nothing of what was sent arrives any more.
func (l *link) reset() {
	l.stop()
	l.unwatch()
	l.conn.SetLinger(0)
	l.conn.Close()
}

// close ends the connection. What has come in is read first: otherwise the kernel would send an
// RST, which overtakes a GOODBYE.
func (l *link) close() {
	l.stop()
	l.unwatch()
	l.conn.CloseWrite()
	for l.n, l.used = 0, 0; l.fillNow(); l.n = 0 {
	}
	l.conn.Close()
}
