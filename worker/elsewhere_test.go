package worker

// Where it listens is set anew while it runs.

import (
	"net"
	"strconv"
	"testing"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// TestListenElsewhere: a new port, other addresses, and ones that are in the way of each other. Who is
// connected stays so, and nothing is given up for a port that cannot be had.
func TestListenElsewhere(t *testing.T) {
	l := start(t, 4, listenOn("*")).listening()
	r := l.conmgr(1)
	first, second, serial := l.port, freePort(t), uint32(0)
	set := func(list string, port int) {
		serial++
		l.host.access.Store(&Access{Serial: serial, ListenAddresses: list, Port: port})
		l.host.wake()
	}
	says := func(want string) {
		t.Helper()
		testkit.Eventually(t, patience, "it says of listening: "+want, func() (bool, string) {
			l.host.wake()
			return l.host.said("listening") == want, l.host.said("listening") + "\n" + l.host.log()
		})
	}
	accepts := func(ip string, port int, want bool) {
		t.Helper()
		conn, err := net.Dial("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
		if err == nil {
			conn.Close()
		}
		if (err == nil) != want {
			t.Errorf("a connection to %s, port %d: %v", ip, port, err)
		}
	}

	set("127.0.0.1", first) // in the way of which 0.0.0.0 stands
	says("1false")
	accepts("127.0.0.1", first, true)
	accepts("127.0.0.2", first, false)

	taken, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(second)))
	if err != nil {
		t.Fatal(err)
	}
	set("127.0.0.1", second)
	l.logged("Is another server already using watchdog.port " + strconv.Itoa(second))
	says("1true")
	accepts("127.0.0.1", first, true) // that of before
	taken.Close()
	l.pass(listenRetry)
	says("1false")
	accepts("127.0.0.1", second, true)
	accepts("127.0.0.1", first, false)

	set("127.0.0.1, 127.0.0.2", second)
	says("2false")
	accepts("127.0.0.2", second, true)
	set("", second)
	says("0false")
	accepts("127.0.0.1", second, false)

	l.end(StopServer) // r is there, and told
	r.expect(heartbeat.TypeGoodbye)
	r.ended()
}
