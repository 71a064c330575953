package test

// What whoever reaches the heartbeat port can do without being a conmgr, or as one with settings of
// his own: neither take the protection of hosts away nor turn it into harm. Real servers and
// conmgrs in namespaces; the peers are raw connections of the test.

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// dialFrom opens a connection to the heartbeat port; it is closed with the test.
func (w *world) dialFrom(host *testnet.Host) net.Conn {
	w.Helper()
	addr := fmt.Sprintf("%s:%d", w.db.Addr4, w.primary.WatchdogPort)
	conn := w.dialListening(func() (net.Conn, error) {
		return host.Dialer().DialContext(context.Background(), "tcp", addr)
	})
	w.Cleanup(func() { conn.Close() })
	return conn
}

// hello says HELLO, and returns the type of the answer.
func (w *world) hello(conn net.Conn, h heartbeat.Hello) heartbeat.Type {
	w.Helper()
	h.MinVersion, h.MaxVersion = 1, 1
	_, _ = conn.Write(h.Append(nil))
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, heartbeat.HeaderSize)
	if _, err := conn.Read(head); err != nil {
		w.Fatalf("answer to a HELLO: %v", err)
	}
	return heartbeat.Type(head[2])
}

// TestLongTimeoutDoesNotProtect: another process of the client host has said HELLO with the longest
// heartbeat_timeout that the server allows. The host dies, and its sessions end as its conmgr has
// promised.
func TestLongTimeoutDoesNotProtect(t *testing.T) {
	for name, closes := range map[string]bool{"mute": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			client := w.net.Host("client")
			w.conmgr(client, "300ms", "900ms")
			s := w.session(client, "BEGIN")
			conn := w.dialFrom(client)
			if a := w.hello(conn, heartbeat.Hello{ID: heartbeat.ID{1}, Interval: heartbeat.MaxInterval,
				Timeout: heartbeat.MaxInterval}); a != heartbeat.TypeRefused {
				t.Errorf("the longest timeout of all: %s", a)
			}
			conn = w.dialFrom(client)
			if a := w.hello(conn, heartbeat.Hello{ID: heartbeat.ID{1}, Interval: time.Hour,
				Timeout: time.Hour}); a != heartbeat.TypeWelcome {
				t.Fatalf("an hour: %s", a)
			}
			if closes {
				since := w.primary.LogSize()
				conn.Close()
				w.primary.WaitLog(since, `remote node closes heartbeat connection`, patience)
			}
			cut := w.net.Isolate(client)
			w.waitGone(s.pid, 5*time.Second, "the session of the dead host")
			cut.Heal()
		})
	}
}

// TestShortTimeoutEndsNothing: another process of the client host says HELLO with the shortest
// heartbeat_timeout, and falls silent, or says goodbye; and somebody tries a conmgr with quick
// heartbeats there, and stops it. The host's own conmgr was there before: its sessions stay.
func TestShortTimeoutEndsNothing(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "1s", "3s")
	s, since := w.session(client, "BEGIN"), w.primary.LogSize()
	for i, last := range [][]byte{nil, heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds}.Append(nil),
		heartbeat.Goodbye{Code: heartbeat.GoodbyeGivenUp}.Append(nil)} {
		conn := w.dialFrom(client)
		if a := w.hello(conn, heartbeat.Hello{ID: heartbeat.ID{1, byte(i)}, Interval: heartbeat.MinInterval,
			Timeout: heartbeat.MinInterval}); a != heartbeat.TypeWelcome {
			t.Fatalf("%s", a)
		}
		_, _ = conn.Write(last)
		w.primary.WaitLog(since, `no session of .* is terminated`, patience)
		since = w.primary.LogSize()
	}
	quick := cmtest.Start(t, client, cmtest.Config{Interval: "100ms", Timeout: "300ms", Port: 27600,
		Clusters: []*pgtest.Cluster{w.primary}})
	quick.WaitInstance(0, "state", "established")
	quick.Signal(syscall.SIGTERM)
	w.primary.WaitLog(since, `no session of .* is terminated`, patience)
	before := w.received()
	eventually(t, "more than a timeout of heartbeats", func() (bool, string) { return w.received() > before+4, "" })
	w.noLog(0, `terminated connections`)
	w.alive(s, "the session")
	cm.Signal(syscall.SIGTERM)
	w.waitGone(s.pid, patience, "the session, with its host's own conmgr")
}

// TestMuteConnections: more of them than may be, from the client host's own address. Its conmgr's
// connection is reset: it is back in time.
func TestMuteConnections(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "300ms", "1500ms")
	s := w.session(client, "BEGIN")
	for range 300 {
		w.dialFrom(client)
	}
	mark, since := cm.Mark(), w.primary.LogSize()
	port := w.primary.Value("SELECT conmgr_port FROM pgx_stat_watchdog")
	var n uint16
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	local := testnet.AddrPort(&net.TCPAddr{IP: client.Addr4.AsSlice(), Port: int(n)})
	remote := testnet.AddrPort(&net.TCPAddr{IP: w.db.Addr4.AsSlice(), Port: w.primary.WatchdogPort})
	w.net.ForgeRST(remote, local)
	eventually(t, "the conmgr is back", func() (bool, string) {
		got := w.primary.Value("SELECT coalesce(max(resumed_count), 0) FROM pgx_stat_watchdog")
		return got != "0", got
	})
	before := w.received()
	eventually(t, "more than a timeout of heartbeats", func() (bool, string) { return w.received() > before+6, "" })
	if l, ok := cm.Find(mark, `is lost`); ok {
		t.Errorf("conmgr: %s", l.Text)
	}
	w.noLog(since, `terminated connections`)
	w.alive(s, "the session")
}

// TestResetIsNoClose: terminate_on_close is off, and each heartbeat is answered with a reset, as by
// a firewall for a host that is dead.
func TestResetIsNoClose(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.terminate_on_close", "off"))
	client := w.net.Host("client")
	cm := w.conmgr(client, "300ms", "900ms")
	s := w.session(client, "BEGIN")
	fault := w.net.Reset(client, w.db, pgtest.WatchdogPort)
	w.waitGone(s.pid, patience, "the session of a host that a firewall resets")
	fault.Heal()
	cm.WaitInstance(0, "state", "established")
	// And a process that ends is none: that is what the setting promises.
	s = w.session(client, "BEGIN")
	since := w.primary.LogSize()
	cm.Signal(9)
	w.primary.WaitLog(since, `closed its heartbeat connection and did not resume`, patience)
	w.alive(s, "the session of a host whose conmgr was killed")
}

// TestOneAddressTakesAllSlots: one process says HELLO with ever new ids. A conmgr of another host
// is served.
func TestOneAddressTakesAllSlots(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.max_heartbeat_connections", "20"))
	stranger := w.net.Host("stranger")
	refused := 0
	for i := range 40 {
		h := heartbeat.Hello{ID: heartbeat.ID{1, byte(i)}, Boot: heartbeat.ID{byte(i)}, Interval: time.Hour,
			Timeout: time.Hour}
		if w.hello(w.dialFrom(stranger), h) == heartbeat.TypeRefused {
			refused++
		}
	}
	if refused != 21 { // 19 were served: one place is kept
		t.Errorf("%d of 40 were refused", refused)
	}
	for i := range 4 {
		w.conmgr(w.net.Host(fmt.Sprint("client", i)), "300ms", "900ms")
	}
	w.primary.WaitLog(0, `has to make room for one of`, patience)
}

// TestPeersCannotFillTheLog: a loop of connects with garbage, and one of HELLO and goodbye.
func TestPeersCannotFillTheLog(t *testing.T) {
	w := newWorld(t)
	stranger := w.net.Host("stranger")
	client := w.net.Host("client")
	since := w.primary.LogSize()
	for i := range 1000 {
		conn := w.dialFrom(stranger)
		if i%2 == 0 {
			_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		} else {
			w.hello(conn, heartbeat.Hello{ID: heartbeat.ID{1, byte(i), byte(i >> 8)}, Interval: time.Second,
				Timeout: time.Second})
			_, _ = conn.Write(heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds}.Append(nil))
		}
		conn.Close()
	}
	w.primary.WaitLog(since, `messages about heartbeat connections were left out of the log`, 20*time.Second)
	log := w.primary.Log()[since:]
	if n := strings.Count(log, "\n"); n > 300 {
		t.Errorf("%d lines in the log", n)
	}
	// Who says less is heard.
	since = w.primary.LogSize()
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "900ms",
		Clusters: []*pgtest.Cluster{w.primary}})
	cm.WaitInstance(0, "state", "established")
	w.primary.WaitLog(since, `heartbeat connection is established: conmgr host=`+client.Addr4.String(), patience)
}
