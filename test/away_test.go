package test

// A restart of conmgr, planned or by a crash, costs no session: what is relayed goes on over a
// planned one, and whoever is away too long, or has lost his instance meanwhile, is told.

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// transaction is a session that is in one.
type transaction struct {
	*session
	xid, what string
	n         int
}

func (w *world) transaction(from *testnet.Host, dsn, what string) *transaction {
	w.Helper()
	x := &transaction{session: w.sessionAt(from, dsn, "BEGIN", "CREATE TEMPORARY TABLE t (n int) ON COMMIT DROP"), what: what}
	if err := x.conn.QueryRowContext(context.Background(), "SELECT txid_current()::text").Scan(&x.xid); err != nil {
		w.Fatal(err)
	}
	return x
}

// goesOn writes in it, and looks whether all of before is there.
func (w *world) goesOn(x *transaction, when string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	x.n++
	var xid string
	var n int
	if _, err := x.conn.ExecContext(ctx, "INSERT INTO t VALUES (1)"); err != nil {
		w.Fatalf("%s, %s: %v", x.what, when, err)
	}
	err := x.conn.QueryRowContext(ctx, "SELECT txid_current()::text, (SELECT count(*) FROM t)").Scan(&xid, &n)
	if err != nil || xid != x.xid || n != x.n {
		w.Fatalf("%s, %s: transaction %s with %d rows, want %s with %d: %v", x.what, when, xid, n, x.xid, x.n, err)
	}
}

// busy runs statements in a transaction all the time, until it is stopped.
func (w *world) busy(x *transaction) (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		var err error
		for n := 0; err == nil && ctx.Err() == nil; n++ {
			_, err = x.conn.ExecContext(context.Background(), "SELECT pg_sleep(0.01)")
		}
		failed <- err
	}()
	return func() {
		w.Helper()
		cancel()
		if err := <-failed; err != nil {
			w.Errorf("%s, while it works: %v", x.what, err)
		}
		w.goesOn(x, "at the end")
	}
}

// relaying is a world with a client host whose conmgr has relay ports.
func relaying(t *testing.T) (w *world, client *testnet.Host, cm *cmtest.Conmgr) {
	t.Helper()
	w = newWorld(t)
	client = w.net.Host("client")
	cm = cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "900ms",
		Clusters: []*pgtest.Cluster{w.primary}, Extra: relayConf})
	cm.WaitInstance(0, "state", "established")
	return w, client, cm
}

// labelled is a connection string whose sessions are those of a conmgr, as drivers make them.
func labelled(w *world, cm *cmtest.Conmgr) string {
	return w.primary.DSN() + " options='-c conmgr.client=" + cm.Show("SHOW TARGET primary")[0]["client"] + "'"
}

// TestRestartsCostNothing: planned restarts in place, restarts by an end and a start, and crashes,
// under sessions in transactions, with a label and without one, direct ones and relayed ones.
func TestRestartsCostNothing(t *testing.T) {
	w, client, cm := relaying(t)
	var all, relayed []*transaction
	for range 4 {
		all = append(all, w.transaction(client, w.primary.DSN(), "a session"), w.transaction(client, labelled(w, cm), "a labelled session"))
	}
	for range 4 {
		relayed = append(relayed, w.transaction(client, relayDSN(relayReadWrite), "a relayed session"))
	}
	busy := []func(){w.busy(w.transaction(client, w.primary.DSN(), "a busy session")),
		w.busy(w.transaction(client, labelled(w, cm), "a busy labelled session"))}
	carried := w.busy(w.transaction(client, relayDSN(relayReadWrite), "a busy relayed session"))
	since := w.primary.LogSize()
	pid, generation := cm.Pid, cm.Show("SHOW INSTANCES")[0]["generation"]
	round := func(name string, restart func(), all ...*transaction) {
		t.Helper()
		bound, aware := cm.Bind("primary"), cm.Bind("primary NOTIFY")
		label := bound.Target["client"]
		begin := testnet.Monotonic()
		restart()
		if name == "killed" {
			if err := aware.Wait(patience); err != io.EOF {
				t.Errorf("%s: the application was told %v", name, err)
			}
		} else {
			if err := aware.Wait(patience); err == nil || !contains(err.Error(), "conmgr.notice: away 10000") {
				t.Errorf("%s: the application that waits was told %v", name, err)
			} else if err := aware.Wait(patience); err != io.EOF {
				t.Errorf("%s: and then %v", name, err)
			}
			if err := bound.Wait(patience); err == nil || !contains(err.Error(), "57P01", "the Connection Manager ") {
				t.Errorf("%s: the other application was told %v", name, err)
			}
		}
		cm.WaitInstance(0, "state", "established")
		t.Logf("%s: established again after %v", name, testnet.Monotonic()-begin)
		if got := cm.Show("SHOW TARGET primary")[0]["client"]; got != label {
			t.Fatalf("%s: the label is %s, was %s", name, got, label)
		}
		if got := cm.Show("SHOW INSTANCES")[0]["generation"]; got != generation {
			t.Fatalf("%s: generation %s, was %s", name, got, generation)
		}
		for _, x := range all {
			w.goesOn(x, name)
		}
		bound.Close()
		aware.Close()
	}
	for range rounds(t, 2) {
		round("in place", cm.Become, append(all, relayed...)...)
	}
	program := fmt.Sprintf("/proc/%d/exe", cm.Pid)
	before, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	round("upgraded", func() { w.install(program); cm.Become() }, append(all, relayed...)...)
	if now, err := os.Stat(program); err != nil || os.SameFile(before, now) {
		t.Errorf("it is still the program of before: %v", err)
	}
	if cm.Pid != pid {
		t.Errorf("process %d, was %d", cm.Pid, pid)
	}
	carried()
	for range rounds(t, 2) {
		round("ended and started", func() { cm.Restart(syscall.SIGUSR1) }, all...)
	}
	for range rounds(t, 2) {
		round("killed", func() { cm.Restart(syscall.SIGKILL) }, all...)
	}
	for _, stop := range busy {
		stop()
	}
	w.noLog(since, `terminated connections`)
	w.noLog(since, `is replaced by another one`)
	if n := w.primary.Value("SELECT count(*) FROM pgx_stat_watchdog"); n != "1" {
		t.Errorf("%s conmgrs are known", n)
	}
}

// install puts another build where a running program stands.
func (w *world) install(program string) {
	w.Helper()
	path, err := os.Readlink(program)
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err == nil {
		err = os.WriteFile(path+".new", append(b, "another build"...), 0o700)
	}
	if err == nil {
		err = os.Chmod(path+".new", 0o755)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// TestAwayTooLong: a conmgr that is away for longer than its grace has its sessions ended, then and
// not before; and so has a host that dies meanwhile.
func TestAwayTooLong(t *testing.T) {
	w := newWorld(t)
	for i, c := range []struct {
		name string
		away func(cm *cmtest.Conmgr, host *testnet.Host)
	}{
		{"killed", func(cm *cmtest.Conmgr, _ *testnet.Host) { cm.Signal(syscall.SIGKILL) }},
		{"ended", func(cm *cmtest.Conmgr, _ *testnet.Host) { cm.Signal(syscall.SIGUSR1) }},
		{"killed, and the host dies", func(cm *cmtest.Conmgr, host *testnet.Host) {
			since := w.primary.LogSize()
			cm.Signal(syscall.SIGKILL)
			w.primary.WaitLog(since, `remote node closes heartbeat connection`, patience)
			w.net.Isolate(host)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			host := w.net.Host(fmt.Sprintf("client%d", i))
			cm := cmtest.Start(t, host, cmtest.Config{Interval: "100ms", Timeout: "400ms", Clusters: []*pgtest.Cluster{w.primary},
				Extra: "application_grace = 2s\n"})
			cm.WaitInstance(0, "state", "established")
			s, l := w.session(host, "BEGIN"), w.sessionAt(host, labelled(w, cm), "BEGIN")
			begin, since := testnet.Monotonic(), w.primary.LogSize()
			c.away(cm, host)
			gone := max(w.waitGone(s.pid, patience, "the session"), w.waitGone(l.pid, patience, "the labelled session"))
			t.Logf("gone %v after conmgr", gone-begin)
			switch {
			case gone-begin >= 2*time.Second:
			case strings.Contains(w.primary.Log()[since:], "Connection reset by peer"):
				t.Log("it was killed with a BEAT unread: its kernel has sent a reset, for which there is no grace")
			default:
				t.Errorf("the sessions were ended %v after conmgr", gone-begin)
			}
		})
	}
}

// TestGraceIsTheServers: a server that grants none, or less, is believed.
func TestGraceIsTheServers(t *testing.T) {
	w := newWorld(t)
	w.primary.Configure("watchdog.max_application_grace", "0")
	w.primary.Reload()
	client := w.net.Host("client")
	cm := w.conmgr(client, "300ms", "900ms")
	s := w.session(client, "BEGIN")
	since := w.primary.LogSize()
	cm.Restart(syscall.SIGUSR1) // within heartbeat_timeout: no goodbye was said
	cm.WaitInstance(0, "state", "established")
	w.primary.WaitLog(since, `heartbeat connection is resumed`, patience)
	w.alive(s, "a quick restart")
	cm.Signal(syscall.SIGKILL)
	w.waitGone(s.pid, 5*time.Second, "the session")
}

// TestRelayedOverARestart: bytes that are under way, ends of streams and clients that wait for the
// port are as if nothing had been.
func TestRelayedOverARestart(t *testing.T) {
	w, client, cm := relaying(t)
	bulk := w.sessionAt(client, relayDSN(relayReadWrite))
	const rows = 200_000
	sum := make(chan error, 1)
	go func() {
		r, err := bulk.conn.QueryContext(context.Background(), "SELECT n, repeat('x', 200) FROM generate_series(1, $1) n", rows)
		if err != nil {
			sum <- err
			return
		}
		defer r.Close()
		for want := 1; r.Next(); want++ {
			var n int
			var text string
			if err := r.Scan(&n, &text); err != nil || n != want || len(text) != 200 {
				sum <- fmt.Errorf("row %d instead of %d: %w", n, want, err)
				return
			}
			if n%20_000 == 0 {
				time.Sleep(20 * time.Millisecond) // so that the pipe is full when the restart comes
			}
		}
		sum <- r.Err()
	}()
	cm.Become()
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() { // clients that come all the time
		for n := 0; ; n++ {
			select {
			case <-stop:
				failed <- nil
				return
			default:
			}
			db := w.primary.OpenAt(client, relayDSN(relayReadWrite))
			err := db.PingContext(context.Background())
			db.Close()
			if err != nil {
				failed <- fmt.Errorf("connection %d: %w", n, err)
				return
			}
		}
	}()
	for range rounds(t, 2) {
		cm.Become()
		cm.WaitInstance(0, "state", "established")
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Error(err)
	}
	select {
	case err := <-sum:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the bulk does not arrive")
	}
	if n := len(cm.Show("SHOW APPLICATIONS")); n != 1 {
		t.Errorf("%d applications, want the relayed one", n)
	}
}

// TestConnectsOverARestart: whoever connects at that moment is not turned away: who has come has his
// answer first, and others wait for the next process.
func TestConnectsOverARestart(t *testing.T) {
	w, client, cm := relaying(t)
	ctx, cancel := context.WithCancel(context.Background())
	front := w.front(client, cm)
	var n atomic.Int64
	connect := []func() error{
		func() error { _, err := front.run(context.Background(), "SELECT 1"); return err },
		func() error { _, err := cm.Try("SHOW TARGET read-write"); return err },
	}
	ends := make(chan error)
	for i := range 4 {
		go func() {
			var err error
			for err == nil && ctx.Err() == nil {
				err = connect[i%2]()
				n.Add(1)
			}
			ends <- err
		}()
	}
	for range rounds(t, 5) {
		cm.Become()
		cm.WaitInstance(0, "state", "established")
	}
	cancel()
	for range 4 {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d connects", n.Load())
}

// front is psql with the front, by way of a conmgr.
func (w *world) front(from *testnet.Host, cm *cmtest.Conmgr) stock {
	return stock{"front", func(ctx context.Context, statement string) (string, error) {
		cmd := from.Command(ctx, "psql", "-X", "-At", "-d", fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres target_session_attrs=read-write",
			cm.Addr().Port()), "-c", statement)
		cmd.Env = append(os.Environ(), "PGCMUSER=*", "LD_LIBRARY_PATH="+filepath.Join(sourceRoot(w.T), "build", "connmgr"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return strings.TrimSpace(string(out)), err
	}}
}

// TestWaitingOverARestart: who waits for an instance, by a relay port or with the front, waits on while
// conmgr becomes another process, and has it in the end.
func TestWaitingOverARestart(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "900ms", Clusters: []*pgtest.Cluster{w.primary},
		Extra: relayConf + "target_wait = 1min\n"})
	cm.WaitInstance(0, "state", "established")
	w.drain(w.primary, true, true)
	cm.WaitInstance(0, "draining", "server")
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	clients := w.stocks(client, relayDSN(relayReadWrite))
	clients = append(clients, w.front(client, cm))
	ends := make(chan error, len(clients))
	for _, c := range clients {
		go func() {
			got, err := c.run(ctx, "SELECT current_setting('cluster_name')")
			if err != nil || got != "primary" {
				err = fmt.Errorf("%s: %q, %w", c.name, got, err)
			}
			ends <- err
		}()
	}
	for range rounds(t, 2) {
		eventually(t, "all wait", func() (bool, string) {
			rows := cm.Show("SHOW WAITING")
			return len(rows) == len(clients), fmt.Sprint(rows)
		})
		cm.Become()
		cm.WaitInstance(0, "draining", "server")
	}
	w.drain(w.primary, false, false)
	for range clients {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
}

// TestInstanceDiesWhileAway: what is relayed to it is reset, heartbeat_timeout after the start at the
// latest.
func TestInstanceDiesWhileAway(t *testing.T) {
	w, client, cm := relaying(t)
	x := w.transaction(client, relayDSN(relayReadWrite), "a relayed session")
	result := x.start("SELECT pg_sleep(60)")
	mark := cm.Mark()
	cm.Signal(syscall.SIGUSR2)
	cm.WaitLog(mark, `restarting as`, patience)
	cut := w.net.Isolate(w.db)
	started := cm.WaitLog(mark, `starting Connection Manager`, patience).At
	select {
	case err := <-result:
		if err == nil {
			t.Error("the query has succeeded")
		}
	case <-time.After(patience):
		t.Fatal("the client waits for ever")
	}
	if d := testnet.Monotonic() - started; d > 5*time.Second {
		t.Errorf("the client was told %v after the start", d)
	} else {
		t.Logf("told %v after the start", d)
	}
	cut.Heal()
}

// TestRestartIsRefused: a configuration that is wrong costs nothing.
func TestRestartIsRefused(t *testing.T) {
	w, client, cm := relaying(t)
	x := w.transaction(client, relayDSN(relayReadWrite), "a relayed session")
	bound := cm.Bind("primary")
	conf := cm.Dir + "/conmgr.conf"
	right, err := os.ReadFile(conf)
	if err == nil {
		err = os.WriteFile(conf, append(right, "port = nonsense\n"...), 0o600)
	}
	if err == nil {
		err = os.Chmod(conf, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	mark := cm.Mark()
	cm.Signal(syscall.SIGUSR2)
	cm.WaitLog(mark, `could not restart: .*nonsense`, patience)
	w.goesOn(x, "refused")
	if err := bound.Wait(time.Millisecond); err != nil {
		t.Errorf("the application was told: %v", err)
	}
}
