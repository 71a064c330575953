package relay

// The client's end of a relayed connection while the instance is waited for. A client that gives up
// and leaves ends the attempt at once; it is not counted any more, and nothing is delivered later.
// Each watch has a goroutine, which blocks on the client's socket until it is stopped.

import (
	"errors"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

// LookAgain is how long after the end of a client's direction it is asked whether the client is
// there: nothing tells of that.
const LookAgain = 100 * time.Millisecond

// watch calls onEnd when the client has ended. half: the end of its direction alone is none, as it
// may wait for an answer still. The caller must not read from the client until it has called stop,
// which also ends the client's deadline.
func (c *relayed) watch(half bool, onEnd func()) (stop func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return func() {}
	}
	c.relays.group.Go("relay client", func() {
		defer close(done)
		var end clientEnd
		raw.Read(func(fd uintptr) bool { // returns when it is true, and at the deadline
			end = endOf(int(fd))
			return end != clientOpen
		})
		for half && end == clientFinished {
			t := time.NewTimer(LookAgain)
			select {
			case <-stopped:
				t.Stop()
				return
			case <-t.C:
			}
			if raw.Control(func(fd uintptr) { end = endOf(int(fd)) }) != nil {
				return
			}
			if end == clientFinished && closedBy(c.conn) {
				end = clientGone
			}
		}
		if end != clientOpen {
			onEnd()
		}
	})
	return func() {
		close(stopped)
		c.conn.SetReadDeadline(netio.LongPast)
		<-done
	}
}

// clientEnd says what has come from a client beside its bytes.
type clientEnd uint8

const (
	clientOpen     clientEnd = iota
	clientFinished           // the end of its direction
	clientGone               // a reset
)

func endOf(fd int) clientEnd {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if _, err := unix.Poll(p, 0); err != nil {
		return clientOpen
	}
	switch {
	case p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
		return clientGone
	case p[0].Revents&unix.POLLRDHUP != 0:
		return clientFinished
	}
	return clientOpen
}

// closedBy tells whether a client of this host that has ended its direction has closed its socket:
// it does not wait for an answer.
func closedBy(conn syscall.Conn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	closed := false
	raw.Control(func(fd uintptr) {
		gone, known := peerGone(int(fd))
		closed = gone && known
	})
	return closed
}

// peerGone tells whether a process still holds the socket at the other end; known is false if that
// is on another host.
func peerGone(fd int) (gone, known bool) {
	own, err := unix.Getsockname(fd)
	if err != nil {
		return false, false
	}
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return true, err == unix.ENOTCONN
	}
	_, err = listen.OwnerOfPeer(addrPort(own), addrPort(peer))
	return err == sockowner.ErrGone, !errors.Is(err, sockowner.ErrUnknown)
}

// look is to see whether the client of a flow that has ended its direction is still there.
type look struct {
	flow *flow
	wait time.Duration // since the last one
}

// lookMost is the longest time between two looks.
const lookMost = 10 * time.Second

func (l *loop) lookLater(k look) {
	time.AfterFunc(k.wait, func() { l.post(func() { l.looks = append(l.looks, k) }) })
}

// look closes a flow whose client has closed its socket, as the kernel closes that of a direct
// connection: what the client has said is with the instance, which may hang. Of a client elsewhere
// it is not known: it has left if the session had not begun; else the kernel's probes tell.
func (l *loop) look(k look) {
	f := k.flow
	if f.closed {
		return
	}
	gone, known := peerGone(f.client.fd)
	switch {
	case gone && known && !f.client.blocked(), !known && !f.heard:
		l.close(f, false)
	case known:
		l.lookLater(look{f, min(2*k.wait, lookMost)})
	default: // its kernel keeps a closed socket for a minute, and answers with a reset then
		unix.SetsockoptInt(f.client.fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60)
		unix.SetsockoptInt(f.client.fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 10)
	}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}
