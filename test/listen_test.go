package test

// The heartbeat port: where it listens, who is let in, and what strangers cost.

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// reaches tells whether a heartbeat port accepts connections from a host.
func reaches(from *testnet.Host, address string) (bool, error) {
	conn, err := from.Dialer().DialTimeout("tcp", net.JoinHostPort(address, "27545"), 5*time.Second)
	if err != nil {
		return false, err
	}
	conn.Close()
	return true, nil
}

// TestListening: what watchdog.listen_addresses and watchdog.port make of a server, and a port that
// is taken.
func TestListening(t *testing.T) {
	net := testnet.New(t)
	db, client := net.Host("db"), net.Host("client")
	taken, err := db.Listen("tcp4", "0.0.0.0:27545")
	if err != nil {
		t.Fatal(err)
	}
	c := pgtest.New(t, pgtest.Watchdog(), pgtest.Host(db))
	t.Run("port is taken", func(t *testing.T) {
		c.WaitLog(0, `WARNING:  could not listen for heartbeat connections on host=0.0.0.0 port=27545: address already in use`, patience)
		c.WaitLog(0, `HINT:  Is another server already using watchdog.port 27545\?`, patience)
		if v := c.Value("SELECT 1"); v != "1" {
			t.Errorf("SELECT 1: %s", v)
		}
		taken.Close()
		c.WaitLog(0, `listening for heartbeat connections on host=0.0.0.0 port=27545`, patience)
		if ok, err := reaches(client, db.Addr4.String()); !ok {
			t.Errorf("after the port was freed: %v", err)
		}
	})
	for _, set := range []struct {
		name, addresses string
		log             string
		open, closed    []string
		from            *testnet.Host
	}{
		{"none", "", `WARNING:  no heartbeat connections are accepted`, nil,
			[]string{"127.0.0.1", "::1", db.Addr4.String()}, db},
		{"one", db.Addr4.String(), `listening for heartbeat connections on host=` + db.Addr4.String(),
			[]string{db.Addr4.String()},
			[]string{"127.0.0.1", db.Addr6.String()}, db},
		{"both families", "0.0.0.0, ::", `listening for heartbeat connections on host=0.0.0.0`,
			[]string{db.Addr4.String(), db.Addr6.String()}, nil, client},
		{"a bad name", "127.0.0.1, no.such.host.invalid",
			`WARNING:  could not translate host name "no.such.host.invalid" of watchdog.listen_addresses`,
			[]string{"127.0.0.1"}, []string{db.Addr4.String()}, db},
	} {
		t.Run(set.name, func(t *testing.T) {
			since := c.LogSize()
			c.Configure("watchdog.listen_addresses", set.addresses)
			c.Restart()
			for _, a := range set.open { // long before a resolver gives up
				testkit.Eventually(t, 2*time.Second, a+" is open", func() (bool, string) {
					ok, err := reaches(set.from, a)
					return ok, errText(err)
				})
			}
			c.WaitLog(since, set.log, patience)
			for _, a := range set.closed {
				if ok, err := reaches(set.from, a); ok || !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s: %v, %v; want a refusal", a, ok, err)
				}
			}
			if c.WorkerPid(workerTitle) == 0 {
				t.Errorf("there is no worker")
			}
			if set.name == "a bad name" && contains(c.Log()[since:], "Is another server already using") {
				t.Errorf("the hint is about the port, and not about the name")
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestHeartbeatSlots: one conmgr too many is refused with a reason; the one that is there is not
// touched, and its place is free after its end.
func TestHeartbeatSlots(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.max_heartbeat_connections", "1"))
	one, two := w.net.Host("one"), w.net.Host("two")
	first := w.conmgr(one, "500ms", "1500ms")
	s := w.session(one, "BEGIN")
	mark := first.Mark()
	second := cmtest.Start(t, two, cmtest.Config{Interval: "500ms", Timeout: "1500ms",
		Clusters: []*pgtest.Cluster{w.primary}})
	second.WaitLog(0, `heartbeat connect is refused: instance 0 .*watchdog.max_heartbeat_connections`, patience)
	w.primary.WaitLog(0, `WARNING:  could not accept heartbeat connection from host=`+two.Addr4.String(), patience)
	w.primary.WaitLog(0, `HINT:  Raise watchdog.max_heartbeat_connections`, patience)
	other := w.session(two, "BEGIN")
	before := w.received()
	eventually(t, "the first conmgr's heartbeats go on", func() (bool, string) { return w.received() > before+3, "" })
	if l, ok := first.Find(mark, `lost|closed`); ok {
		t.Errorf("the first conmgr: %s", l.Text)
	}
	w.alive(s, "a session of the first host")
	first.Signal(syscall.SIGTERM)
	second.WaitInstance(0, "state", "established")
	if addr := w.primary.Value("SELECT host(conmgr_addr) FROM pgx_stat_watchdog"); addr != two.Addr4.String() {
		t.Errorf("conmgr_addr is %s, want %s", addr, two.Addr4)
	}
	w.waitGone(s.pid, patience, "the session of the conmgr that has ended")
	w.alive(other, "a session of the refused host")
}

// TestStrangers: whoever talks to the heartbeat port without being a conmgr is told why it is
// refused, in bounded time, and costs nobody anything.
func TestStrangers(t *testing.T) {
	w := newWorld(t)
	client, stranger := w.net.Host("client"), w.net.Host("stranger")
	cm := w.conmgr(client, "500ms", "1500ms")
	sessions := []*session{w.session(client, "BEGIN"), w.session(stranger, "BEGIN")}
	hello := heartbeat.Hello{MinVersion: 1, MaxVersion: 1, Interval: time.Second, Timeout: 2 * time.Second}.Append(nil)
	future := heartbeat.Hello{MinVersion: 90, MaxVersion: 99, Interval: time.Second,
		Timeout: 2 * time.Second}.Append(nil)
	huge := append([]byte{0xff, 0xff, 1, 0}, make([]byte, 1000)...)
	mark, since := cm.Mark(), w.primary.LogSize()
	var wg sync.WaitGroup
	for name, c := range map[string]struct {
		bytes []byte
		code  heartbeat.RefusedCode
		slow  bool // refused for its slowness only
	}{
		"silence":         {nil, heartbeat.RefusedTooSlow, true},
		"half a HELLO":    {hello[:len(hello)/2], heartbeat.RefusedTooSlow, true},
		"garbage":         {[]byte("\x00\x40\x01\x00garbage, garbage, garbage"), heartbeat.RefusedMalformed, false},
		"a huge frame":    {huge, heartbeat.RefusedMalformed, false},
		"another version": {future, heartbeat.RefusedVersion, false},
		"HTTP":            {[]byte("GET / HTTP/1.1\r\nHost: db\r\n\r\n"), heartbeat.RefusedMalformed, false},
		"TLS":             {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), heartbeat.RefusedMalformed, false},
		"PostgreSQL":      {[]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"), heartbeat.RefusedMalformed, false},
	} {
		conn, err := stranger.Dialer().DialContext(context.Background(), "tcp",
			net.JoinHostPort(w.db.Addr4.String(), "27545"))
		if err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer conn.Close()
			start := testnet.Monotonic()
			_, _ = conn.Write(c.bytes)
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			answer, err := io.ReadAll(conn)
			d := testnet.Monotonic() - start
			if err != nil || len(answer) < heartbeat.HeaderSize+4 || answer[2] != byte(heartbeat.TypeRefused) {
				t.Errorf("%s: answer %q, %v", name, answer, err)
				return
			}
			if code := binary.BigEndian.Uint16(answer[4:]); code != uint16(c.code) {
				t.Errorf("%s: refused with code %d, want %d: %s", name, code, c.code, answer[8:])
			}
			if limit := 2 * time.Second; !c.slow && d > limit || c.slow &&
				(d < 4*time.Second || d > 5*time.Second+limit) {
				t.Errorf("%s: refused after %v", name, d)
			}
		}()
	}
	wg.Wait()
	for _, s := range sessions {
		w.alive(s, "a session")
	}
	if l, ok := cm.Find(mark, `lost|closed`); ok {
		t.Errorf("conmgr: %s", l.Text)
	}
	w.noLog(since, `terminated connections|exited with exit code`)
	w.waitView(1)
}
