package worker

// Listening: the forms of watchdog.listen_addresses, and a port that somebody else has.

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func TestResolve(t *testing.T) {
	v4, v6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	lo := netip.MustParseAddr("127.0.0.1")
	for _, c := range []struct {
		list string
		want []netip.Addr
		errs int
	}{
		{"", nil, 0},
		{" , ,", nil, 0},
		{"*", []netip.Addr{v6, v4}, 0},
		{"0.0.0.0", []netip.Addr{v4}, 0},
		{"::", []netip.Addr{v6}, 0},
		{"*, 127.0.0.1", []netip.Addr{v6, v4, lo}, 0},
		{"127.0.0.1, 127.0.0.2 ,127.0.0.1", []netip.Addr{lo, netip.MustParseAddr("127.0.0.2")}, 0},
		{"::ffff:127.0.0.1,127.0.0.1", []netip.Addr{lo}, 0},
		{`"127.0.0.1"`, []netip.Addr{lo}, 0},
		{"fe80::1%1", []netip.Addr{netip.MustParseAddr("fe80::1%1")}, 0},
		{"-no name-, 127.0.0.1", []netip.Addr{lo}, 1},
	} {
		got, errs := resolve(context.Background(), c.list)
		if !slices.Equal(got, c.want) || len(errs) != c.errs {
			t.Errorf("%q: %v, %v; want %v, %d errors", c.list, got, errs, c.want, c.errs)
		}
	}
	got, errs := resolve(context.Background(), "localhost")
	if len(errs) != 0 || !slices.ContainsFunc(got, netip.Addr.IsLoopback) {
		t.Errorf("localhost: %v, %v", got, errs)
	}
	_, errs = resolve(context.Background(), "-no name-")
	if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(),
		`could not translate host name "-no name-" of watchdog.listen_addresses to address: `) {
		t.Errorf("errors %v", errs)
	}
}

func TestPortInUse(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	port := other.Addr().(*net.TCPAddr).Port
	l := start(t, 4, onPort(port))
	const complaint = "WARNING|could not listen for heartbeat connections on host=127.0.0.1 port="
	l.logged(complaint)
	l.logged("address already in use||Is another server already using watchdog.port ")
	testkit.Eventually(t, patience, "three more attempts", func() (bool, string) { // told once
		l.pass(listenRetry)
		return l.spawns.Load() > 4, l.host.log()
	})
	other.Close()
	testkit.Eventually(t, patience, "an attempt that succeeds", func() (bool, string) {
		l.pass(listenRetry)
		return l.host.count("listening") > 0, l.host.log()
	})
	l.listening()
	passed := time.Duration(l.ahead.Load())
	if n, most := l.host.count(complaint), 1+int(passed/repeatLog); n > most {
		t.Errorf("%d complaints within %v, want at most %d", n, passed, most)
	}
	l.conmgr(1)
}

func TestListenForms(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		l := start(t, 1, listenOn(""))
		l.logged("WARNING|no heartbeat connections are accepted|watchdog.listen_addresses names no address of this machine.")
	})
	t.Run("a list", func(t *testing.T) {
		l := start(t, 1, listenOn("127.0.0.1,127.0.0.3"))
		l.logged("listening for heartbeat connections on host=127.0.0.1 ")
		l.logged("listening for heartbeat connections on host=127.0.0.3 ")
		l.conmgr(1)
	})
	t.Run("everything", func(t *testing.T) {
		l := start(t, 2, listenOn("*"))
		l.logged("listening for heartbeat connections on host=0.0.0.0 ")
		l.conmgr(1)
		if fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0); err == nil {
			unix.Close(fd)
			if c, err := net.Dial("tcp", net.JoinHostPort("::1", strconv.Itoa(l.port))); err == nil {
				r := &remote{t: t, conn: c.(*net.TCPConn)}
				r.greet(helloOf(2, 0, 1e9, 1e9))
				if s := l.slotOf(2, "connected by IPv6", inState(watchdog.Connected)); s.Addr().String() != "::1" {
					t.Errorf("address %s", s.Addr())
				}
				c.Close()
			} else if l.host.count("host=:: ") != 0 {
				t.Errorf("it listens on IPv6, but: %v", err)
			}
		}
	})
	t.Run("one bad name of two", func(t *testing.T) {
		l := start(t, 1, listenOn("-no name-,127.0.0.1"))
		l.logged(`WARNING|could not translate host name "-no name-"`)
		l.conmgr(1)
	})
	t.Run("an address of another machine", func(t *testing.T) {
		l := start(t, 1, listenOn("192.0.2.1,127.0.0.1"))
		l.logged("could not listen for heartbeat connections on host=192.0.2.1")
		l.conmgr(1)
	})
}

// TestAddressForms: what the kernel tells of a peer names its host: IPv4-mapped addresses as IPv4,
// link-local ones with their zone.
func TestAddressForms(t *testing.T) {
	for text, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"fe80::1%1": "fe80::1%1", "fe80::1%2": "fe80::1%2", "2001:db8::1": "2001:db8::1"} {
		got := fromSockaddr(rawsys.Sockaddr(netip.MustParseAddr(text), 4711))
		if got != netip.AddrPortFrom(netip.MustParseAddr(want), 4711) {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestAllMayWait: as many connections may wait to be accepted as the system allows: all conmgrs come
// at once when a worker is started again.
func TestAllMayWait(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := listen(netip.MustParseAddr("127.0.0.1"), freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || int(info.Sacked) != min(most, waiting) { // of a listening socket: its backlog
		t.Errorf("%d may wait, %v; the system allows %d", info.Sacked, err, most)
	}
}
