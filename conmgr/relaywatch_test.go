package conmgr

// Tests of clients that give up while the instance is hung: one that accepts and is mute, one that
// does not accept, and a flow's turns.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/relay"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// soon is well below every limit of time that would end a connection otherwise.
const soon = 5 * time.Second

func (r *rig) waitCount(n int, what string) {
	r.t.Helper()
	eventually(r.t, what, func() bool { return r.count() == n })
}

// mute: an instance whose kernel accepts and which says nothing.
func TestRelayClientLeavesMuteInstance(t *testing.T) {
	for _, first := range [][]byte{pgwire.StartupPacket(pgwire.SSLRequestCode), pgwire.StartupPacket(pgwire.GSSEncRequestCode), pgwire.StartupPacket(3<<16, "user", "x"),
		{0x16, 3, 1, 0, 1, 0}} {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%x, reset %v", first[:6], reset), func(t *testing.T) {
				b := newBackend(t, 0)
				r := static(t, "relay_port_primary = 1\nmax_connections = 20\n"+b.conf(0), primary)
				for range 2 { // there is room for the same number again
					var clients []*net.TCPConn
					for range 20 {
						c := r.relay(0)
						c.Write(first)
						expect(t, b.next(), first)
						clients = append(clients, c)
					}
					if n := r.count(); n != 20 {
						t.Fatalf("%d connections", n)
					}
					begin := time.Now()
					for _, c := range clients {
						if reset {
							c.SetLinger(0)
						}
						c.Close()
					}
					r.waitCount(0, "nobody is counted any more")
					if d := time.Since(begin); d > soon {
						t.Errorf("it took %v", d)
					}
				}
			})
		}
	}
}

// fullBackend listens and its queue is full: the kernel drops what comes, and who connects waits
// for ever.
func fullBackend(t *testing.T) (port int, fd int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port = sa.(*unix.SockaddrInet4).Port
	failed := 0
	for range 100 {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 200*time.Millisecond)
		if err == nil {
			failed = 0
			t.Cleanup(func() { c.Close() })
		} else if failed++; failed == 2 { // one may have been this process, standing still
			return port, fd
		}
	}
	t.Fatal("the queue does not fill")
	return 0, 0
}

// acceptAll returns the first bytes of each connection that comes to a listener within a second.
func acceptAll(t *testing.T, fd int) (first [][]byte) {
	t.Helper()
	limit := unix.NsecToTimeval(time.Second.Nanoseconds())
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	for {
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			return first
		}
		unix.SetsockoptTimeval(c, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
		buf := make([]byte, 100)
		n, _ := unix.Read(c, buf)
		first = append(first, buf[:max(n, 0)])
		unix.Close(c)
	}
}

func TestRelayClientLeavesFullInstance(t *testing.T) {
	port, fd := fullBackend(t)
	r := static(t, fmt.Sprintf("relay_port_primary = 1\nbackend_port0 = %d\n", port), primary)
	s := &watcher{Seat: bind.Seat{Bound: -1, Relay: true}, told: func() {}} // a session, to which a cancel request may go
	r.d.registry.Add(s)
	defer r.d.registry.Remove(s)
	r.d.registry.Bind(s, "primary", r.d.board.Table.Load, func(*bind.Table, bind.Load) int { return 0 })
	request := pgwire.StartupPacket(pgwire.CancelRequestCode, "1234567")
	for _, first := range [][]byte{pgwire.StartupPacket(3<<16, "user", "x"), request} {
		c := r.relay(0)
		c.Write(first)
		eventually(t, "conmgr dials", func() bool { return r.count() == 2 })
		c.Close()
		begin := time.Now()
		r.waitCount(1, "it is not counted any more")
		if d := time.Since(begin); d > soon {
			t.Errorf("%x: it took %v", first[:8], d)
		}
	}
	for _, got := range acceptAll(t, fd) { // the instance is well again
		if len(got) > 0 {
			t.Errorf("was delivered later: %x", got)
		}
	}
}

// A cancel request of a client that has ended its direction and waits is delivered; if the client
// has closed, nobody waits for the instance.
func TestRelayCancelHalfClose(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\n"+b.conf(0), primary)
	r.through(0, b)
	request := pgwire.StartupPacket(pgwire.CancelRequestCode, "1234567")

	c := r.relay(0)
	c.Write(request)
	c.CloseWrite()
	server := b.next()
	expect(t, server, request)
	c.SetReadDeadline(time.Now().Add(5 * relay.LookAgain)) // some looks
	var ne net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("a client that waits: %v", err)
	}
	server.Close()
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	r.waitCount(1, "it is done")

	for _, reset := range []bool{false, true} {
		c = r.relay(0)
		c.Write(request)
		server = b.next()
		expect(t, server, request)
		if reset {
			c.SetLinger(0)
		}
		c.Close()
		r.waitCount(1, "it is given up")
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the instance's end: %v", err)
		}
	}
}

// The client of a session closes, and the instance hangs: the session does not count, and all that
// it has said is with the instance.
func TestRelayClientLeavesHungSession(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\n"+b.conf(0), primary)
	client, server := r.through(0, b)
	server.Write([]byte("hello"))
	expect(t, client, []byte("hello"))
	last := bytes.Repeat([]byte("last words "), 1000)
	client.Write(last)
	client.Close()
	r.waitCount(0, "it is not counted any more")
	if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, last) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
