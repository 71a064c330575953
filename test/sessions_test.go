package test

// Whose sessions are ended, and that no state of a session keeps it alive.

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// TestSessionStates: every state that a session can be in when its host dies.
func TestSessionStates(t *testing.T) {
	w := newWorld(t)
	client, other := w.net.Host("client"), w.net.Host("other")
	w.primary.Exec("CREATE TABLE t (a int, filler text)")
	w.primary.Exec("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
	w.primary.Exec("CREATE TABLE locked (a int)")
	holder := w.session(other, "BEGIN", "LOCK TABLE locked") // a healthy session that others wait for
	w.conmgr(client, "500ms", "2s")

	pids := map[string]int{
		"idle":                w.session(client).pid,
		"idle in transaction": w.session(client, "BEGIN", "INSERT INTO t VALUES (0)").pid,
	}
	run := func(what, statement, wait string) {
		s := w.session(client)
		s.start(statement)
		pids[what] = s.pid
		w.waitEvent(s.pid, wait)
	}
	run("running in SQL", "DO $$ BEGIN LOOP END LOOP; END $$", "active")
	run("sleeping", "SELECT pg_sleep(600)", "PgSleep")
	run("waiting for a lock", "SELECT * FROM locked", "relation")
	reader := func(what, statement string) { // reads nothing of what it asked for
		pids[what] = w.stuckReader(client, statement)
	}
	reader("blocked in writing to the client", "SELECT * FROM t")
	reader("blocked in COPY TO", "COPY t TO STDOUT")
	pids["waiting in COPY FROM"] = w.raw(client, "COPY t (a) FROM STDIN", "ClientRead")
	pids["walsender"] = w.walsender(client)

	cut := w.net.Isolate(client)
	for what, pid := range pids {
		w.waitGone(pid, patience, what)
	}
	w.waitSessions(client, 0, patience)
	w.alive(holder, "the session of another host")
	cut.Heal()
}

// waitEvent waits until a backend is in a state or waits for an event.
func (w *world) waitEvent(pid int, event string) {
	w.Helper()
	eventually(w, fmt.Sprintf("backend %d is at %s", pid, event), func() (bool, string) {
		var state, wait string
		err := w.admin.QueryRow("SELECT coalesce(state, ''), coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = $1", pid).Scan(&state, &wait)
		return err == nil && (state == event && wait == "" || wait == event), fmt.Sprint(state, " ", wait, " ", err)
	})
}

// frontend opens a raw connection from a host and completes its startup.
func (w *world) frontend(from *testnet.Host, extra map[string]string) (net.Conn, *pgproto3.Frontend, int) {
	w.Helper()
	conn, err := from.Dialer().DialContext(context.Background(), "tcp",
		fmt.Sprintf("%s:%d", w.db.Addr4, w.primary.Port))
	if err != nil {
		w.Fatalf("%v", err)
	}
	w.Cleanup(func() { conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	fe := pgproto3.NewFrontend(pgproto3.NewChunkReader(conn), conn)
	params := map[string]string{"user": "postgres", "database": "postgres"}
	for k, v := range extra {
		params[k] = v
	}
	if err := fe.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters: params}); err != nil {
		w.Fatalf("%v", err)
	}
	pid := 0
	for {
		m, err := fe.Receive()
		if err != nil {
			w.Fatalf("startup: %v", err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			w.Fatalf("startup: %s", m.Message)
		case *pgproto3.BackendKeyData:
			pid = int(m.ProcessID)
		case *pgproto3.ReadyForQuery:
			return conn, fe, pid
		}
	}
}

// raw sends a query and reads nothing.
func (w *world) raw(from *testnet.Host, query, event string) int {
	w.Helper()
	_, fe, pid := w.frontend(from, nil)
	if err := fe.Send(&pgproto3.Query{String: query}); err != nil {
		w.Fatalf("%v", err)
	}
	w.waitEvent(pid, event)
	return pid
}

func (w *world) stuckReader(from *testnet.Host, query string) int {
	w.Helper()
	return w.raw(from, query, "ClientWrite")
}

func (w *world) walsender(from *testnet.Host) int {
	w.Helper()
	_, fe, pid := w.frontend(from, map[string]string{"replication": "true"})
	if err := fe.Send(&pgproto3.Query{String: "START_REPLICATION 0/1000000"}); err != nil {
		w.Fatalf("%v", err)
	}
	eventually(w, "the walsender streams", func() (bool, string) {
		var n int
		_ = w.admin.QueryRow("SELECT count(*) FROM pg_stat_replication WHERE pid = $1", pid).Scan(&n)
		return n == 1, ""
	})
	return pid
}

// TestSurvivors: who must not be touched when a host dies.
func TestSurvivors(t *testing.T) {
	w := newWorld(t)
	client, other := w.net.Host("client"), w.net.Host("other")
	cm := w.conmgr(client, "500ms", "1s")
	w.conmgr(other, "500ms", "1s")
	plain := w.net.Host("plain") // has no conmgr
	dead := w.session(client, "BEGIN")
	survivors := map[string]*session{
		"a session of another host with a conmgr":    w.session(other, "BEGIN"),
		"a session of another host without a conmgr": w.session(plain, "BEGIN"),
		"a session of the server's own host":         w.session(w.db, "BEGIN"),
	}
	unix := w.sessionAt(nil, w.primary.DSNOf(w.primary.SocketDir, "postgres"), "BEGIN")
	survivors["a session by unix socket"] = unix

	since := w.primary.LogSize()
	cm.Signal(syscall.SIGSTOP) // silence, but its host can still open sessions
	w.waitGone(dead.pid, patience, "the session of the dead host")
	w.primary.WaitLog(since, `terminated connections: ipaddress="`+client.Addr4.String()+`", count=1`, patience)
	survivors["a session that started after the verdict"] = w.session(client, "BEGIN")
	// The verdict stands, and the terminator looks again for who has not ended: time to be wrong.
	since = w.primary.LogSize()
	eventually(t, "the time passes", func() (bool, string) {
		var age float64
		err := w.admin.QueryRow("SELECT extract(epoch FROM clock_timestamp() - backend_start) FROM pg_stat_activity WHERE pid = $1",
			survivors["a session that started after the verdict"].pid).Scan(&age)
		return err != nil || age > 2.5, ""
	})
	for what, s := range survivors {
		w.alive(s, what)
	}
	w.noLog(since, `terminated connections`)
	cm.Signal(syscall.SIGCONT)
	cm.WaitInstance(0, "state", "established")
	w.waitView(2)
	for what, s := range survivors {
		w.alive(s, what+", after the host came back")
	}
}

// TestLoopback: a conmgr on the server's own host that goes by ::1 stands for the sessions by
// 127.0.0.1 too: localhost may mean either. Another address of the host is another matter.
func TestLoopback(t *testing.T) {
	w := newWorld(t)
	cm := cmtest.Start(t, w.db, cmtest.Config{Interval: "300ms", Timeout: "900ms",
		Extra: fmt.Sprintf("backend_hostaddr0 = '::1'\nbackend_port0 = %d\n", w.primary.Port)})
	cm.WaitInstance(0, "state", "established")
	if addr := w.primary.Value("SELECT host(conmgr_addr) FROM pgx_stat_watchdog"); addr != "::1" {
		t.Errorf("conmgr_addr is %s", addr)
	}
	four := w.sessionAt(w.db, w.primary.DSNOf("127.0.0.1", "postgres"), "BEGIN")
	six := w.sessionAt(w.db, w.primary.DSNOf("::1", "postgres"), "BEGIN")
	other := w.session(w.db)
	cm.Signal(syscall.SIGSTOP)
	w.waitGone(four.pid, patience, "the session by 127.0.0.1")
	w.waitGone(six.pid, patience, "the session by ::1")
	w.alive(other, "the session by another address")
}

// TestStartingSession: a session that is still starting when its host dies is ended as well, and at
// once.
func TestStartingSession(t *testing.T) {
	w := newWorld(t, pgtest.Set("post_auth_delay", "20"))
	client := w.net.Host("client")
	w.conmgr(client, "200ms", "1s")
	conn, err := client.Dialer().DialContext(context.Background(), "tcp",
		fmt.Sprintf("%s:%d", w.db.Addr4, w.primary.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fe := pgproto3.NewFrontend(pgproto3.NewChunkReader(conn), conn)
	if err := fe.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters: map[string]string{"user": "postgres", "database": "postgres"}}); err != nil {
		t.Fatal(err)
	}
	if err := fe.Send(&pgproto3.Query{String: "BEGIN; SELECT pg_sleep(600)"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server has the startup packet", func() (bool, string) {
		for _, p := range w.primary.Processes() {
			if strings.Contains(p.Title, client.Addr4.String()) {
				return true, ""
			}
		}
		return false, fmt.Sprint(w.primary.Processes())
	})
	since := w.primary.LogSize()
	cut := w.net.Isolate(client)
	w.primary.WaitLog(since, `terminator: terminated connections: .*count=1`, patience)
	w.waitSessions(client, 0, patience)
	cut.Heal()
}

// TestThousandSessions: a thousand idle-in-transaction sessions of one host are all signaled in one
// pass. For comparison, a bare kill(2) loop ends as many. `make bench` has the figures; here is
// only a bound that a quadratic or a query-driven terminator would miss.
func TestThousandSessions(t *testing.T) {
	const n = 1000
	w := newWorld(t, pgtest.Set("max_connections", "1100"), pgtest.Set("shared_buffers", "64MB"))
	client := w.net.Host("client")
	cm := w.conmgr(client, "1s", "4s") // a thousand connects keep the machine busy
	w.primary.Exec("CREATE TABLE t (a int)")

	w.openMany(client, n)
	var pids []int
	for _, b := range w.primary.Backends() {
		if b.ClientAddr == client.Addr4.String() {
			pids = append(pids, b.Pid)
		}
	}
	if len(pids) != n {
		t.Fatalf("%d sessions, want %d", len(pids), n)
	}
	start := testnet.Monotonic()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	bare := w.waitSessions(client, 0, patience) - start

	w.openMany(client, n)
	mark, since := cm.Mark(), w.primary.LogSize()
	cut := w.net.Isolate(client)
	ended := w.waitSessions(client, 0, patience)
	now := testnet.Now()
	line := w.primary.WaitLog(since, `(?m)^(\S+ \S+ \S+) .*heartbeat is timed out: `, patience)
	w.primary.WaitLog(since, `terminator: terminated connections: ipaddress="`+client.Addr4.String()+`", count=1000`,
		patience)
	cm.WaitLog(mark, lostBySilence, patience)
	cut.Heal()
	verdict, err := time.Parse("2006-01-02 15:04:05.000 MST", line[1])
	if err != nil {
		t.Fatal(err)
	}
	took := ended - (now.Mono - now.Time.Sub(verdict))
	t.Logf("%d sessions were gone %v after the verdict; those of a bare kill(2) loop after %v: ratio %.2f", n, took,
		bare, took.Seconds()/bare.Seconds())
	if took > 3*bare+time.Second {
		t.Errorf("the sessions took %v to end, those of a bare kill loop %v", took, bare)
	}
}

// openMany opens n sessions of a host, idle in transaction with a lock.
func (w *world) openMany(from *testnet.Host, n int) {
	w.Helper()
	const dialers = 16
	var wg sync.WaitGroup
	for i := 0; i < dialers; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := i; j < n; j += dialers {
				_, fe, _ := w.frontend(from, nil)
				_ = fe.Send(&pgproto3.Query{String: "BEGIN; LOCK TABLE t IN ACCESS SHARE MODE"})
			}
		}()
	}
	wg.Wait()
	eventually(w, "the sessions are idle in transaction", func() (bool, string) {
		var k int
		_ = w.admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE client_addr = $1::inet AND state = 'idle in transaction'", from.Addr4.String()).Scan(&k)
		return k == n, fmt.Sprint(k)
	})
}
