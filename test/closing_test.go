package test

// Connections and processes that end audibly: RST, FIN, and conmgr's own end in all its forms.

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// heartbeatEnds are the two ends of the only heartbeat connection, when there is one: conmgr's and
// the watchdog's.
func (w *world) heartbeatEnds() (conmgr, watchdog netip.AddrPort) {
	w.Helper()
	var row []string
	eventually(w, "a heartbeat connection", func() (bool, string) {
		rows := w.primary.Query("SELECT host(conmgr_addr), conmgr_port FROM pgx_stat_watchdog")
		if len(rows) == 1 {
			row = rows[0]
		}
		return len(rows) == 1, fmt.Sprint(rows)
	})
	port, err := strconv.ParseUint(row[1], 10, 16)
	if err != nil {
		w.Fatalf("conmgr_port %s: %v", row[1], err)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(row[0]), uint16(port)),
		netip.AddrPortFrom(w.db.Addr4, pgtest.WatchdogPort)
}

// TestBrokenConnections: a heartbeat connection that is reset or closed by somebody in between is
// resumed, and no application notices.
func TestBrokenConnections(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "1s", "5s")
	s := w.session(client, "BEGIN")
	bound := cm.Bind("primary")
	for _, c := range []struct {
		name   string
		breaks func(conmgr, watchdog netip.AddrPort)
	}{
		{"RST to conmgr", func(c, s netip.AddrPort) { w.net.ForgeRST(s, c) }},
		{"RST to the server", func(c, s netip.AddrPort) { w.net.ForgeRST(c, s) }},
		{"FIN to conmgr", func(c, s netip.AddrPort) { w.net.ForgeFIN(s, c) }},
		{"FIN to the server", func(c, s netip.AddrPort) { w.net.ForgeFIN(c, s) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			mark, since := cm.Mark(), w.primary.LogSize()
			before := w.primary.Value("SELECT resumed_count FROM pgx_stat_watchdog")
			c.breaks(w.heartbeatEnds())
			eventually(t, "the connection is resumed", func() (bool, string) {
				var n string
				_ = w.admin.QueryRow("SELECT resumed_count FROM pgx_stat_watchdog WHERE resumed_count > $1",
					before).Scan(&n)
				return n != "", cm.Log()
			})
			if l, ok := cm.Find(mark, `is lost`); ok {
				t.Errorf("conmgr: %s", l.Text)
			}
			w.noLog(since, `terminated connections`)
			w.alive(s, "the session")
		})
	}
	if err := bound.Wait(10 * time.Millisecond); err != nil {
		t.Errorf("the application was told: %v", err)
	}
}

// TestConmgrEnds: each way in which conmgr can end, with watchdog.terminate_on_close on and off.
func TestConmgrEnds(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name     string
		signal   syscall.Signal
		status   int    // of conmgr, -1: ended by the signal
		logged   string // by the server
		whenOff  bool   // the sessions end although terminate_on_close is off
		silently bool   // conmgr does not end at all
	}{
		{name: "smart", signal: syscall.SIGINT, logged: `remote node shuts down heartbeat connection`},
		{name: "fast", signal: syscall.SIGTERM, logged: `remote node shuts down heartbeat connection`},
		{name: "immediate", signal: syscall.SIGQUIT, logged: `remote node closes heartbeat connection`},
		{name: "killed", signal: syscall.SIGKILL, status: -1, logged: `remote node closes heartbeat connection`},
		{name: "frozen", signal: syscall.SIGSTOP, logged: `heartbeat is timed out`, whenOff: true, silently: true},
	} {
		for _, on := range []bool{true, false} {
			t.Run(c.name+", terminate_on_close "+strconv.FormatBool(on), func(t *testing.T) {
				w := w.in(t)
				w.primary.Configure("watchdog.terminate_on_close", strconv.FormatBool(on))
				w.primary.Reload()
				host := w.net.Host("client_" + c.name + "_" + strconv.FormatBool(on))
				cm := w.conmgr(host, "300ms", "900ms")
				s := w.session(host, "BEGIN")
				since := w.primary.LogSize()
				cm.Signal(c.signal)
				if !c.silently {
					if status := cm.Wait(patience); status != c.status {
						t.Errorf("exit status %d, want %d", status, c.status)
					}
				}
				w.primary.WaitLog(since, c.logged, patience)
				// Its kernel answers with a reset if it has not read the last BEAT: that is a
				// silence.
				abrupt := c.status == -1 || c.signal == syscall.SIGQUIT
				reset := abrupt && strings.Contains(w.primary.Log()[since:], "Connection reset by peer")
				if on || c.whenOff || reset {
					w.waitGone(s.pid, patience, "the session")
					w.primary.WaitLog(since, `terminator: terminated connections: ipaddress="`+host.Addr4.String()+`", count=1`, patience)
					return
				}
				if abrupt {
					w.primary.WaitLog(since, `did not resume`, patience)
				} else {
					w.primary.WaitLog(since, `no session of .* is terminated`, patience)
				}
				w.alive(s, "the session of a conmgr that has ended")
				w.noLog(since, `terminated connections`)
			})
		}
	}
}

// TestFrozenConmgr: a conmgr that was stopped for longer than the timeout declares no silence when
// it wakes. The server has declared it dead, and ended its sessions: that is what its applications
// are told, once.
func TestFrozenConmgr(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "300ms", "900ms")
	for round := 0; round < 3; round++ {
		mark := cm.Mark()
		bound := cm.Bind("primary")
		s := w.session(client, "BEGIN")
		cm.Signal(syscall.SIGSTOP)
		w.waitGone(s.pid, patience, "the session of the frozen host")
		time.Sleep(2 * time.Second) // how long it is frozen: more than twice the timeout
		later := w.session(client)
		cm.Signal(syscall.SIGCONT)
		w.waitView(1)
		cm.WaitInstance(0, "state", "established")
		cm.WaitLog(mark, `is lost: the server has forgotten this Connection Manager`, patience)
		if l, ok := cm.Find(mark, `is lost: no heartbeat`); ok {
			t.Fatalf("conmgr: %s", l.Text)
		}
		if err := bound.Wait(patience); err == nil || !contains(err.Error(), "57P01", "has forgotten") {
			t.Errorf("the application was told: %v", err)
		}
		w.alive(later, "a session that started after the verdict")
		bound.Close()
	}
}

// TestConmgrRestarts: a new conmgr on a host whose old one was killed proves that the host is
// alive, and keeps the old one's sessions.
func TestConmgrRestarts(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "500ms", "4s")
	s := w.session(client, "BEGIN")
	since := w.primary.LogSize()
	cm.Signal(syscall.SIGKILL)
	cm.Wait(patience)
	w.conmgr(client, "500ms", "4s")
	w.primary.WaitLog(since, `is replaced by another one of its host`, patience)
	before := w.received()
	eventually(t, "more than a timeout of heartbeats", func() (bool, string) { return w.received() > before+10, "" })
	w.noLog(since, `terminated connections`)
	w.alive(s, "the session")
}

// TestTwoConmgrs: the heartbeat of one conmgr proves that the host of another one is alive; when
// both are dead, its sessions end.
func TestTwoConmgrs(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	start := func(port int) *cmtest.Conmgr {
		c := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "900ms",
			Clusters: []*pgtest.Cluster{w.primary}, Port: port})
		c.WaitInstance(0, "state", "established")
		return c
	}
	first, second := start(27546), start(27547)
	s := w.session(client, "BEGIN")
	since := w.primary.LogSize()
	first.Signal(syscall.SIGSTOP)
	w.primary.WaitLog(since, `heartbeat is timed out`, patience)
	w.primary.WaitLog(since, `no session of .* is terminated`, patience)
	w.alive(s, "the session, while a second conmgr of its host is alive")
	second.Signal(syscall.SIGSTOP)
	w.waitGone(s.pid, patience, "the session of a host with two dead conmgrs")
	first.Signal(syscall.SIGCONT)
	second.Signal(syscall.SIGCONT)

	// The host dies with both of them connected.
	w.waitView(2)
	s = w.session(client, "BEGIN")
	cut := w.net.Isolate(client)
	w.waitGone(s.pid, patience, "the session of a dead host with two conmgrs")
	cut.Heal()
}

// TestResetByFirewall: every packet of the heartbeat connection is answered with a RST for a while,
// within the timeout.
func TestResetByFirewall(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "300ms", "6s")
	s := w.session(client, "BEGIN")
	mark, since := cm.Mark(), w.primary.LogSize()
	fault := w.net.Reset(client, w.db, pgtest.WatchdogPort)
	cm.WaitLog(mark, `heartbeat connection is closed`, patience)
	cm.WaitLog(mark, `could not establish`, patience)
	fault.Heal()
	cm.WaitInstance(0, "state", "established")
	if l, ok := cm.Find(mark, `is lost`); ok {
		t.Errorf("conmgr: %s", l.Text)
	}
	w.noLog(since, `terminated connections`)
	w.alive(s, "the session")
}

// TestResumesFromTheSameAddress: the client host has got another address meanwhile, which its
// kernel prefers: heartbeats that are resumed come from the one that the watchdog knows.
func TestResumesFromTheSameAddress(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "500ms", "2s")
	bound, s, mark := cm.Bind("primary"), w.session(client, "BEGIN"), cm.Mark()
	w.net.Assign(testnet.Floating(1), client)
	w.net.Prefer(testnet.Floating(1), client)
	if err := syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cm.WaitLog(mark, "heartbeat connection is established", patience)
	if err := bound.Wait(time.Millisecond); err != nil {
		t.Errorf("the application was told: %v", err)
	}
	w.alive(s, "another address")
	if _, ok := cm.Find(mark, "is lost"); ok {
		t.Error("the instance was lost")
	}
	if addr := w.primary.Value("SELECT host(conmgr_addr) FROM pgx_stat_watchdog"); addr != client.Addr4.String() {
		t.Errorf("the heartbeats come from %s", addr)
	}
}
