package listen

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/internal/leak"
)

// Tests of ports, and of who may use relay ports.

func configOf(t *testing.T, text string) *conf.Config {
	t.Helper()
	c, diags := conf.Parse("conmgr.conf", []byte(text))
	if c == nil {
		t.Fatalf("unexpected errors: %v", diags)
	}
	return c
}

type addressedConn struct {
	net.Conn
	own, peer string
	closed    bool
}

func (a *addressedConn) Close() error { a.closed = true; return nil }
func (a *addressedConn) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.own))
}
func (a *addressedConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.peer))
}

func TestRelayFromElsewhere(t *testing.T) {
	var told []string
	events := &event.Hub{}
	events.Subscribe(func(e event.Event) { told = append(told, e.Text()) })
	s := &Door{Conf: conf.NewCurrent(configOf(t, "backend_host0 = a\nrelay_allowed_networks = '192.0.2.0/24, 2001:db8::/32'")),
		Events: events}
	for _, x := range []struct {
		own, peer string
		want      bool
	}{
		{"127.0.0.1:5", "127.0.0.1:1000", true},
		{"[::1]:5", "[::1]:1000", true},
		{"127.0.0.1:5", "127.8.8.8:1000", true},
		{"[::ffff:127.0.0.1]:5", "[::ffff:127.0.0.1]:1000", true},
		{"198.51.100.1:5", "192.0.2.7:1000", true},
		{"198.51.100.1:5", "[::ffff:192.0.2.7]:1000", true},
		{"198.51.100.1:5", "198.51.100.2:1000", false},
		{"198.51.100.1:5", "198.51.100.1:1", false}, // this host's address, but no process of this host
		{"[2001:db8:1::1]:5", "[2001:db8:2::1]:1000", true},
		{"[fe80::1]:5", "[fe80::2%eth0]:1000", false},
		{"[2001:db9::1]:5", "[2001:db9::2]:1000", false},
	} {
		conn := &addressedConn{own: x.own, peer: x.peer}
		of := SeatOf(conn)
		if got := s.MayRelay(conn, &of); got != x.want || conn.closed == x.want {
			t.Errorf("%s to %s: %v, closed %v", x.peer, x.own, got, conn.closed)
		}
	}
	if len(told) != 4 || !strings.HasPrefix(told[0],
		"closed a connection to a relay port: 198.51.100.2:1000: it is not from this host") {
		t.Errorf("told: %q", told)
	}
}

func TestListen(t *testing.T) {
	leak.Check(t)
	c := configOf(t, "backend_host0 = a\nlisten_addresses = '127.0.0.1, 127.0.0.2, 127.0.0.1'")
	c.Port, c.SocketDirs = 0, nil
	s := New(conf.NewCurrent(c), nil, nil, nil)
	if err := s.Listen(context.Background(), nil, nil); err != nil || len(s.listeners) != 2 {
		t.Fatalf("%d listeners, %v", len(s.listeners), err)
	}
	taken := s.listeners[0].Addr().(*net.TCPAddr).Port
	defer s.Close()
	c.Port = taken
	if err := New(conf.NewCurrent(c), nil, nil, nil).Listen(context.Background(), nil, nil); err == nil ||
		err.Error() != fmt.Sprintf("could not listen on 127.0.0.1:%d: address already in use", taken) {
		t.Errorf("got %v", err)
	}
	c.Port, c.ListenAddresses = 0, []string{"192.0.2.77"}
	if err := New(conf.NewCurrent(c), nil, nil, nil).Listen(context.Background(), nil, nil); err == nil ||
		!strings.Contains(err.Error(), "could not listen on 192.0.2.77:0: cannot assign requested address") {
		t.Errorf("got %v", err)
	}
}
