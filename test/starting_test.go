package test

// Sessions that are still starting when their host dies, wherever they are held up, and those that
// have not even begun. None of them stays.

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// startup opens a connection and sends a startup packet: what comes of it, nobody waits for.
func (w *world) startup(from *testnet.Host, params map[string]string) {
	w.Helper()
	conn, err := from.Dialer().DialContext(context.Background(), "tcp", fmt.Sprintf("%s:%d", w.db.Addr4, w.primary.Port))
	if err != nil {
		w.Fatalf("%v", err)
	}
	w.Cleanup(func() { conn.Close() })
	m := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters: map[string]string{"user": "postgres", "database": "postgres"}}
	for k, v := range params {
		m.Parameters[k] = v
	}
	if err := pgproto3.NewFrontend(pgproto3.NewChunkReader(conn.(*net.TCPConn)), conn).Send(m); err != nil {
		w.Fatalf("%v", err)
	}
}

// processesOf are the server's processes for a host, in whatever state.
func (w *world) processesOf(host *testnet.Host) (n int) {
	for _, p := range w.primary.Processes() {
		if strings.Contains(p.Title, host.Addr4.String()) {
			n++
		}
	}
	return n
}

func (w *world) waitProcesses(host *testnet.Host, n int) {
	w.Helper()
	eventually(w, fmt.Sprintf("%d sessions of %s, in whatever state", n, host.Name), func() (bool, string) {
		got := w.processesOf(host)
		return got == n, fmt.Sprint(got)
	})
}

// TestStartingSessions: held up in post_auth_delay, in a lock on their database, and in the hook of
// another library, which calls nobody else's. The terminator is restarted 50 ms after the verdict.
func TestStartingSessions(t *testing.T) {
	const each = 15
	w := newWorld(t, pgtest.NoChain(), pgtest.Set("max_connections", "100"))
	client, other := w.net.Host("client"), w.net.Host("other")
	w.conmgr(client, "300ms", "900ms")
	w.primary.Exec("CREATE DATABASE locked")
	holder := w.session(other, "BEGIN", "ALTER DATABASE locked RENAME TO renamed")
	for range each {
		w.startup(client, map[string]string{"options": "-c post_auth_delay=60"})
		w.startup(client, map[string]string{"database": "locked"})
		w.startup(client, map[string]string{"application_name": "slow"})
	}
	w.waitProcesses(client, 3*each)
	eventually(t, "all have a row", func() (bool, string) {
		n := w.primary.Value("SELECT count(*) FROM pgx_stat_watchdog_sessions WHERE client_addr = $1", client.Addr4.String())
		return n == fmt.Sprint(3*each), n
	})
	if n := w.primary.Value("SELECT count(*) FROM pgx_stat_watchdog_sessions WHERE warning IS NOT NULL AND client_addr = $1",
		client.Addr4.String()); n != "0" {
		t.Errorf("%s sessions have a warning", n)
	}
	since := w.primary.LogSize()
	terminator := w.primary.Worker(terminatorTitle)
	cut := w.net.Isolate(client)
	w.primary.WaitLog(since, `heartbeat is timed out: `, patience)
	time.AfterFunc(50*time.Millisecond, func() { _ = syscall.Kill(terminator, syscall.SIGTERM) })
	w.waitProcesses(client, 0)
	w.alive(holder, "the session of another host")
	eventually(t, "another terminator runs", func() (bool, string) {
		pid := w.primary.WorkerPid("terminator worker")
		return pid != 0 && pid != terminator, fmt.Sprint(pid)
	})
	cut.Heal()
}

// TestSessionsInTheBacklog: the postmaster stands still, and connections of a client host queue;
// the host dies, and the postmaster goes on when the verdict has fallen.
func TestSessionsInTheBacklog(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.terminate_on_silence_only", `'one, "two", three'`))
	client, other := w.net.Host("client"), w.net.Host("other")
	w.conmgr(client, "500ms", "1s")
	survivor := w.session(other, "BEGIN")
	postmaster := w.primary.PostmasterPid()
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(postmaster, syscall.SIGCONT) }()
	for range 5 {
		w.startup(client, nil)
	}
	w.startup(other, nil) // finds the verdict as well, which does not mean it
	since := w.primary.LogSize()
	cut := w.net.Isolate(client)
	w.primary.WaitLog(since, `terminator: terminated connections: .*count=0`, patience)
	// So long after the death that no cut-off by the clock would find them.
	dead := testnet.Monotonic()
	eventually(t, "the postmaster has stood still for 4 s", func() (bool, string) {
		return testnet.Monotonic()-dead > 4*time.Second, ""
	})
	_ = syscall.Kill(postmaster, syscall.SIGCONT)
	eventually(t, "they end themselves", func() (bool, string) {
		log := w.primary.Log()[since:]
		n := strings.Count(log, "It was opened before the end of its client host. Nothing was received from the conmgr process")
		return n == 5, fmt.Sprint(n)
	})
	w.waitProcesses(client, 0)
	w.alive(survivor, "the session of another host")
	w.waitProcesses(other, 2)
	cut.Heal()
	w.waitView(1)
	back := w.session(client, "BEGIN")
	w.alive(back, "a session of the host that is back")
}

// TestLabelsDecide: three conmgrs on two hosts; one of them falls silent. What carries its label
// ends, wherever it comes from; what carries another one's lives, and so does what carries none, as
// its host lives. On the other host, a label from elsewhere protects nothing.
func TestLabelsDecide(t *testing.T) {
	w := newWorld(t)
	host, far := w.net.Host("host"), w.net.Host("far")
	labels := map[string]bool{}
	label := func() string {
		for _, row := range w.primary.Query("SELECT replace(conmgr_id::text, '-', '') FROM pgx_stat_watchdog") {
			if !labels[row[0]] {
				labels[row[0]] = true
				return row[0]
			}
		}
		t.Fatal("there is no new conmgr")
		return ""
	}
	start := func(h *testnet.Host, port int) (*cmtest.Conmgr, string) {
		cm := cmtest.Start(w, h, cmtest.Config{Interval: "300ms", Timeout: "2s", Clusters: []*pgtest.Cluster{w.primary},
			Port: port})
		cm.WaitInstance(0, "state", "established")
		return cm, label()
	}
	silent, a := start(host, 27546)
	_, b := start(host, 27547)
	_, c := start(far, 27546)
	open := func(from *testnet.Host, label string) int {
		_, _, pid := w.frontend(from, map[string]string{"options": "-c conmgr.client=" + label})
		return pid
	}
	ends := []int{open(host, a), open(far, a)}
	lives := []int{open(host, b), open(host, c), open(host, strings.Repeat("ab", 16)), w.session(host).pid, open(far, c),
		open(far, b), w.session(far).pid}
	if got := w.primary.Value("SELECT string_agg(coalesce(conmgr_alive::text, '-'), ' ' ORDER BY client_port) FROM " +
		"pgx_stat_watchdog_sessions WHERE label IS NOT NULL"); strings.Count(got, "true") != 6 || strings.Count(got, "false") != 1 {
		t.Errorf("conmgr_alive: %s", got)
	}
	if got := w.primary.Value("SELECT string_agg(warning, ', ') FROM pgx_stat_watchdog_sessions"); got !=
		"no conmgr process has its label" {
		t.Errorf("warnings: %s", got)
	}
	silent.Signal(syscall.SIGSTOP)
	for _, pid := range ends {
		w.waitGone(pid, patience, "a session with the label of the silent one")
	}
	for i, pid := range lives {
		if !w.exists(pid) {
			t.Errorf("session %d of those that live has ended", i)
		}
	}
	silent.Signal(syscall.SIGCONT)
	// The label of a conmgr that lives, but not at that address, protects nothing from the host's
	// death.
	cut := w.net.Isolate(far)
	for _, pid := range lives[4:] {
		w.waitGone(pid, patience, "a session of the dead host")
	}
	w.waitGone(lives[1], patience, "its label on another host") // exact, wherever it comes from
	for _, i := range []int{0, 2, 3} {
		if !w.exists(lives[i]) {
			t.Errorf("session %d of the host that lives has ended", i)
		}
	}
	cut.Heal()
}
