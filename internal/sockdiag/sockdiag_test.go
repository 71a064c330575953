//go:build linux

package sockdiag

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// ends are those of a connection, as its server has it, and its server's socket.
func ends(t *testing.T, network, address string) (id ID, client, server net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("no %s: %v", network, err)
	}
	t.Cleanup(func() { l.Close() })
	if client, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	port := func(a net.Addr) netip.AddrPort {
		p := a.(*net.TCPAddr).AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return ID{Local: port(server.LocalAddr()), Remote: port(server.RemoteAddr()), Cookie: cookie(t, server)}, client, server
}

func cookie(t *testing.T, c net.Conn) (v uint64) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { v, failed = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return v
}

// TestHeard: when the server's end was last heard from, in both families; and nothing else is taken
// for it.
func TestHeard(t *testing.T) {
	fd, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		t.Run(network, func(t *testing.T) {
			id, client, server := ends(t, network, address)
			s, err := Heard(fd, id)
			if err != nil || s.Cookie != id.Cookie || s.State != 1 {
				t.Fatalf("%+v, %v; want %+v", s, err, id)
			}
			silent := func() (d time.Duration) {
				s, err := Heard(fd, id)
				if err != nil {
					t.Fatal(err)
				}
				return s.Silent
			}
			const while = 200 * time.Millisecond
			heardBy := func(what string, end net.Conn) {
				t.Helper()
				testkit.Eventually(t, 10*time.Second, "silence", func() (bool, string) { d := silent(); return d >= while, d.String() })
				begin := testkit.Monotonic()
				if _, err := end.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, 10*time.Second, what, func() (bool, string) { // since begin, give or take the kernel's ticks
					d := silent()
					return d < testkit.Monotonic()-begin+while/2, d.String()
				})
			}
			heardBy("data are heard", client)
			heardBy("an acknowledgement is heard", server)

			other := id
			other.Cookie++
			if s, err := Heard(fd, other); err == nil {
				t.Errorf("another cookie: %+v", s)
			}
			other = id
			other.Remote = netip.AddrPortFrom(id.Remote.Addr(), 1)
			other.Cookie = AnyCookie
			if s, err := Heard(fd, other); err != syscall.ENOENT { // it would be the listener
				t.Errorf("no such connection: %+v, %v", s, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Request(ByFamily, 0, syscall.AF_INET, 0, AllStates, nil))
	f.Add(append(Request(ByFamily, 0, syscall.AF_INET6, 2, AllStates, make([]byte, IDSize)), make([]byte, 90)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Parse(b); err == nil && s.Silent < -1 {
			t.Error(s.Silent)
		}
	})
}
