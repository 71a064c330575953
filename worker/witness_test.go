package worker

// The kernel asked for real sockets.

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/terminator"
)

// sqlSession is a session of a client at 127.0.0.1, as the server's table has it.
func sqlSession(t *testing.T) (client net.Conn, s *watchdog.Session) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if client, err = net.Dial("tcp4", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	raw, err := server.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s = &watchdog.Session{Local: netip.MustParseAddrPort(server.LocalAddr().String()),
		Remote: netip.MustParseAddrPort(server.RemoteAddr().String()), Heard: heartbeat.Mono(testkit.Monotonic())}
	if err := raw.Control(func(fd uintptr) { s.Cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE) }); err != nil {
		t.Fatal(err)
	}
	return client, s
}

// TestKernelEvidence: a conmgr is silent while a session of its host has traffic: the verdict falls
// timeout after the last of that.
func TestKernelEvidence(t *testing.T) {
	l := start(t, 4)
	l.host.kernel.Store(true)
	client, s := sqlSession(t)
	l.host.sessions = append(l.host.sessions, s)
	l.listening()
	l.host.wake() // the setting
	const interval, timeout = 20 * time.Millisecond, 400 * time.Millisecond
	c := l.dial()
	c.greet(helloOf(1, 0, interval, timeout))
	begin := testkit.Monotonic()
	var last time.Duration
	for last-begin < 3*timeout {
		last = testkit.Monotonic()
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(interval) // a pace
	}
	if s := l.slotOf(1, "known", func(s fakeSlot) bool { return true }); s.State != watchdog.Connected || s.Suspended < 2 {
		t.Errorf("state %d, suspended %d times", s.State, s.Suspended)
	}
	l.logged("heartbeat is timed out, but its host is heard of: conmgr host=127.0.0.1")
	slot := l.slotOf(1, "ending", inState(watchdog.Ending))
	if fell := testkit.Monotonic() - last; fell < timeout-20*time.Millisecond {
		t.Errorf("the verdict fell %v after the last traffic", fell)
	}
	if slot.Cause != terminator.Silence || slot.CutOff < terminator.Time(begin+2*timeout) {
		t.Errorf("cause %d, cut-off %v", slot.Cause, time.Duration(slot.CutOff)-begin)
	}
}

// owners have a label each, and what was left to them: 4 and 5.
func owners(first, second heartbeat.ID) func(heartbeat.ID) heartbeat.ID {
	return func(label heartbeat.ID) (owner heartbeat.ID) {
		switch label {
		case first, heartbeat.ID{4}:
			return first
		case second, heartbeat.ID{5}:
			return second
		}
		return owner
	}
}

// TestWitnessMeans: only sessions by which the host in question is known are asked for.
func TestWitnessMeans(t *testing.T) {
	w, err := newWitness()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	_, s := sqlSession(t)
	now := heartbeat.Mono(testkit.Monotonic())
	label, other := heartbeat.ID{1}, heartbeat.ID{2}
	home, away := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	asked := func(cutOff terminator.Time, places ...netip.Addr) (q watchdog.Sessions) {
		q = watchdog.Sessions{Label: label, CutOff: cutOff, Owner: owners(label, other)}
		for _, a := range places {
			q.Places = append(q.Places, watchdog.Place{Addr: a, CutOff: cutOff})
		}
		return q
	}
	for _, c := range []struct {
		name  string
		label heartbeat.ID // of the session
		q     watchdog.Sessions
		heard bool
	}{
		{"its label", label, asked(terminator.Time(now)), true},
		{"its label, from elsewhere", label, asked(terminator.Time(now), away), true},
		{"a label that was left to it, from elsewhere", heartbeat.ID{4}, asked(terminator.Time(now), away), true},
		{"another label", other, asked(terminator.Time(now), home), false},
		{"a label that was left to another one", heartbeat.ID{5}, asked(terminator.Time(now), home), false},
		{"a label that nobody has", heartbeat.ID{3}, asked(terminator.Time(now), home), true},
		{"no label", heartbeat.ID{}, asked(terminator.Time(now), home), true},
		{"no label, elsewhere", heartbeat.ID{}, asked(terminator.Time(now), away), false},
		{"no label, with a second conmgr", heartbeat.ID{}, asked(terminator.Time(now)), false},
		{"after the cut-off", label, asked(terminator.Time(s.Heard) - 1), false},
		{"no label, after the cut-off", heartbeat.ID{}, asked(terminator.Time(s.Heard)-1, home), false},
	} {
		h := newFakeHost()
		row := *s
		row.Label = c.label
		h.sessions = []*watchdog.Session{&row}
		if c.q.Mean(&row) != c.heard {
			t.Errorf("%s: meant %v", c.name, !c.heard)
		}
		w.byLabel = nil
		if got := w.heard(now, h, &c.q); (got != 0) != c.heard || got > now {
			t.Errorf("%s: %d", c.name, got)
		}
	}
	link := &watchdog.Session{Remote: netip.MustParseAddrPort("[fe80::1]:5"), Cookie: 1, Device: 7}
	for zone, meant := range map[string]bool{"fe80::1%7": true, "fe80::1%8": false} {
		if q := asked(terminator.Time(now), netip.MustParseAddr(zone)); q.Mean(link) != meant {
			t.Errorf("by a link-local address, of %s: meant %v", zone, !meant)
		}
	}
	if got := (*witness)(nil).heard(now, newFakeHost(), &watchdog.Sessions{Label: label}); got != 0 {
		t.Error("no netlink, and something was heard")
	}
}
