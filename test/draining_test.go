package test

// A server that is drained: conmgrs are told at once, and who has to go is shown, and ended when the
// settings say so. How they end is in drainend_test.go.

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// hearsDraining waits for a BEAT that says whether the server is drained.
func (r *rawConmgr) hearsDraining(want bool) {
	r.Helper()
	for {
		b, err := heartbeat.ParseWatchdogBeat(r.next(heartbeat.TypeBeat), 1)
		if err != nil {
			r.Fatal(err)
		}
		if b.Attributes.Has(heartbeat.Draining) == want {
			return
		}
	}
}

// drain calls the function over the Unix socket.
func (w *world) drain(c *pgtest.Cluster, on, want bool) {
	w.Helper()
	if got := c.Value("SELECT watchdog_drain($1)", on); got != fmt.Sprint(want) {
		w.Errorf("watchdog_drain(%v): %s, want %v", on, got, want)
	}
}

func (w *world) setDraining(c *pgtest.Cluster, value string) {
	c.Configure("watchdog.draining", value)
	c.Reload()
}

// restartWorker ends a worker, and waits for the next one.
func (w *world) restartWorker(title string) {
	w.Helper()
	pid := w.primary.Worker(title)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		w.Fatal(err)
	}
	eventually(w, "another "+title, func() (bool, string) {
		now := w.primary.WorkerPid(title)
		return now != 0 && now != pid, fmt.Sprint(now)
	})
}

// TestDrain: the function and the setting are one as good as the other, and everybody hears of it at
// once, whatever the interval of the attributes.
func TestDrain(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.check_attr_interval", "1h"))
	r := w.rawConmgr(1)
	if r.welcome.Attributes.Has(heartbeat.Draining) {
		t.Errorf("WELCOME of a server that is not drained: %+v", r.welcome)
	}
	for range 5 {
		w.drain(w.primary, true, true)
		r.hearsDraining(true)
		w.drain(w.primary, true, true)
		w.drain(w.primary, false, false)
		r.hearsDraining(false)
	}
	w.setDraining(w.primary, "on")
	r.hearsDraining(true)
	w.drain(w.primary, true, true)
	w.drain(w.primary, false, true) // the setting
	w.drain(w.primary, true, true)
	since := w.primary.LogSize()
	w.setDraining(w.primary, "off")
	w.primary.WaitLog(since, `this server is drained: (?s:.*)DETAIL: .*watchdog.draining is off`, patience)
	w.drain(w.primary, false, false)
	r.hearsDraining(false)

	// Who else reads it anew: another worker, and a new server; and it is not kept where it was called.
	drained := func(what string, id byte, want bool) {
		t.Helper()
		if got := w.rawConmgr(id).welcome.Attributes.Has(heartbeat.Draining); got != want {
			t.Errorf("%s: drained is %v in WELCOME, want %v", what, got, want)
		}
	}
	w.drain(w.primary, true, true)
	r.hearsDraining(true)
	w.restartWorker(workerTitle)
	drained("another worker", 2, true)
	w.restartWorker(terminatorTitle)
	drained("another terminator", 3, true)
	crash := func() {
		t.Helper()
		s := w.session(w.db)
		since := w.primary.LogSize()
		_ = syscall.Kill(s.pid, syscall.SIGKILL)
		w.primary.WaitLog(since, `all server processes terminated(?s:.*)listening for heartbeat connections`, patience)
	}
	crash()
	drained("the crash of a backend, the function", 4, false)
	r = w.rawConmgr(5)
	w.setDraining(w.primary, "on")
	r.hearsDraining(true)
	crash()
	drained("the crash of a backend, the setting", 6, true)
	since = w.primary.LogSize()
	w.primary.Restart()
	w.primary.WaitLog(since, `listening for heartbeat connections`, patience)
	drained("a restart, the setting", 7, true)
}

// TestDrainFromTheStart: a server whose setting says so is drained before any worker has looked at the
// settings; here, the terminator never does.
func TestDrainFromTheStart(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.draining", "on"), pgtest.Set("max_worker_processes", "2"))
	if r := w.rawConmgr(1); !r.welcome.Attributes.Has(heartbeat.Draining) {
		t.Errorf("WELCOME: %+v", r.welcome)
	}
}

// TestDrainStandby: a standby can be drained, too, which writes nothing.
func TestDrainStandby(t *testing.T) {
	w := newWorld(t)
	standby := w.primary.Standby("standby", pgtest.Host(w.net.Host("standby")), pgtest.Watchdog())
	w.drain(standby, true, true)
	w.drain(w.primary, false, false)
	w.drain(standby, false, false)
	w.setDraining(standby, "on")
	eventually(t, "the setting is in force", func() (bool, string) {
		v := standby.Value("SELECT watchdog_drain(false)")
		return v == "true", v
	})
}

// toDrain is what the views show: how many sessions of each conmgr, by its address, have to go, and
// which ones altogether.
func (w *world) toDrain() (perConmgr map[string]string, pids map[string]string) {
	w.Helper()
	perConmgr, pids = map[string]string{}, map[string]string{}
	for _, row := range w.primary.Query("SELECT host(conmgr_addr), sessions_to_drain FROM pgx_stat_watchdog") {
		perConmgr[row[0]] = row[1]
	}
	for _, row := range w.primary.Query("SELECT pid, to_drain FROM pgx_stat_watchdog_sessions WHERE pid IS NOT NULL") {
		pids[row[0]] = row[1]
	}
	return perConmgr, pids
}

// TestDrainViews: who is left of each conmgr. Walsenders, and who began after the drain, have not to
// go; nor has the session that asked for it.
func TestDrainViews(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.terminate_on_silence_only", "backup"))
	one, other := w.net.Host("one"), w.net.Host("other")
	w.conmgr(one, "500ms", "30s")
	w.conmgr(other, "500ms", "30s")
	w.waitView(2)
	label := w.primary.Value("SELECT replace(conmgr_id::text, '-', '') FROM pgx_stat_watchdog WHERE conmgr_addr = $1",
		other.Addr4.String())
	old := []*session{w.session(one), w.session(one, "BEGIN")}
	elsewhere := w.sessionAt(one, w.primary.DSN()+" options='-c conmgr.client="+label+"'")
	stays := []int{w.session(one, "SET application_name = backup").pid, w.walsender(one)}
	caller := w.session(one)
	perConmgr, pids := w.toDrain()
	if perConmgr[one.Addr4.String()] != "" || perConmgr[other.Addr4.String()] != "" {
		t.Errorf("not drained: %v", perConmgr)
	}
	for pid, v := range pids {
		if v != "" {
			t.Errorf("not drained: session %s is %s", pid, v)
		}
	}
	if _, err := caller.conn.ExecContext(context.Background(), "SELECT watchdog_drain(true)"); err != nil {
		t.Fatal(err)
	}
	stays = append(stays, caller.pid, w.session(one).pid)
	if perConmgr, pids = w.toDrain(); perConmgr[one.Addr4.String()] != "2" || perConmgr[other.Addr4.String()] != "1" {
		t.Errorf("left: %v", perConmgr)
	}
	for _, s := range append(old, elsewhere) {
		if pids[fmt.Sprint(s.pid)] != "true" {
			t.Errorf("session %d of before the drain: %q", s.pid, pids[fmt.Sprint(s.pid)])
		}
	}
	for _, pid := range stays {
		if pids[fmt.Sprint(pid)] != "false" {
			t.Errorf("session %d, which stays: %q", pid, pids[fmt.Sprint(pid)])
		}
	}
	// The query of docs/operations.md names who is in a transaction.
	if rows := w.primary.Query(`SELECT s.pid, a.state FROM pgx_stat_watchdog_sessions s JOIN pg_stat_activity a USING (pid)
		WHERE s.to_drain AND a.xact_start IS NOT NULL`); len(rows) != 1 || rows[0][0] != fmt.Sprint(old[1].pid) ||
		rows[0][1] != "idle in transaction" {
		t.Errorf("in a transaction: %v", rows)
	}
	old[0].conn.Close()
	old[0].db.Close()
	w.waitGone(old[0].pid, patience, "a session that was closed")
	if perConmgr, _ = w.toDrain(); perConmgr[one.Addr4.String()] != "1" {
		t.Errorf("left: %v", perConmgr)
	}
	w.alive(old[1], "without drain_grace nobody is ended")
}

// leavers are one session of each kind, of before a drain.
type leavers struct {
	*world
	client          *testnet.Host
	idle, inTx, sql *session
	aborted         *session
	stays           map[string]int // pids
	unix            *session
}

func (w *world) leavers(client *testnet.Host) *leavers {
	w.Helper()
	l := &leavers{world: w, client: client, idle: w.session(client), inTx: w.session(client, "BEGIN", "INSERT INTO t VALUES (1)"),
		sql: w.session(client), aborted: w.session(client, "BEGIN"),
		unix: w.sessionAt(nil, w.primary.DSNOf(w.primary.SocketDir, "postgres"))}
	if _, err := l.aborted.conn.ExecContext(context.Background(), "SELECT 1/0"); err == nil {
		w.Fatal("1/0 is no error")
	}
	l.stays = map[string]int{"a walsender": w.walsender(client), "a session by Unix socket": l.unix.pid,
		"an application of terminate_on_silence_only": w.session(client, "SET application_name = backup").pid}
	return l
}

// stay checks that those are there who are not meant.
func (l *leavers) stay(more ...*session) {
	l.Helper()
	for what, pid := range l.stays {
		if !l.exists(pid) {
			l.Errorf("%s has ended", what)
		}
	}
	for _, s := range more {
		l.alive(s, "a session that is not meant")
	}
}

func newLeavers(t *testing.T, options ...pgtest.Option) *leavers {
	t.Helper()
	w := newWorld(t, append(options, pgtest.Set("watchdog.terminate_on_silence_only", "backup"))...)
	w.primary.Exec("CREATE TABLE t (a int)")
	return w.leavers(w.net.Host("client"))
}

// TestDrainLimit: when it is over, transactions are broken, too; who is not meant stays.
func TestDrainLimit(t *testing.T) {
	l := newLeavers(t, pgtest.Set("watchdog.drain_limit", "1s"))
	running := l.sql.start("SELECT pg_sleep(600)")
	begun := testnet.Monotonic()
	l.drain(l.primary, true, true)
	young := l.session(l.client, "BEGIN")
	if err := <-running; err == nil {
		t.Error("the query ended without an error")
	}
	if d := testnet.Monotonic() - begun; d < time.Second {
		t.Errorf("ended %v after the drain", d)
	}
	for _, s := range []*session{l.idle, l.inTx, l.sql, l.aborted} {
		l.waitGone(s.pid, patience, "a session of before the drain")
	}
	l.primary.WaitLog(0, `terminator: terminated connections that began before the drain: count=4`, patience)
	l.stay(young, l.unix)
}

// TestDrainUndone: what was asked to end, and could not yet, stays when the drain is undone; and the
// next drain has its own time.
func TestDrainUndone(t *testing.T) {
	l := newLeavers(t, pgtest.Set("watchdog.drain_grace", "200ms"))
	mark := l.primary.LogSize()
	l.drain(l.primary, true, true)
	l.waitGone(l.idle.pid, patience, "the idle session")
	l.primary.WaitLog(mark, fmt.Sprintf(`still in a transaction: count=2(?s:.*)DETAIL: .*Processes: .*%d`, l.inTx.pid), patience)
	l.drain(l.primary, false, false)
	young := l.session(l.client, "BEGIN", "INSERT INTO t VALUES (2)")
	for _, s := range []*session{l.inTx, l.aborted} {
		if _, err := s.conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		l.alive(s, "a session of before a drain that was undone")
	}
	l.primary.Configure("watchdog.drain_grace", "-1")
	l.primary.Reload()
	eventually(t, "the setting is in force", func() (bool, string) {
		v := l.primary.Value("SHOW watchdog.drain_grace")
		return v == "-1", v
	})
	l.drain(l.primary, true, true)
	for range 3 { // each passes the moment in which it would end
		l.alive(young, "without a grace")
		l.alive(l.inTx, "without a grace")
	}
	l.primary.Configure("watchdog.drain_grace", "0")
	l.primary.Reload()
	l.waitGone(l.inTx.pid, patience, "a session of before the second drain")
	if _, err := young.conn.ExecContext(context.Background(), "COMMIT"); err != nil {
		t.Errorf("COMMIT: %v", err)
	}
	l.waitGone(young.pid, patience, "a session that began between the drains")
	if n := l.primary.Value("SELECT count(*) FROM t"); n != "1" {
		t.Errorf("%s rows", n)
	}
	l.stay(l.unix)
}

// TestDrainGraceIsTakenBack: who was asked to end, and could not yet, stays when drain_grace is taken
// back, and ends when there is one again.
func TestDrainGraceIsTakenBack(t *testing.T) {
	l := newLeavers(t, pgtest.Set("watchdog.drain_grace", "200ms"))
	mark := l.primary.LogSize()
	l.drain(l.primary, true, true)
	l.primary.WaitLog(mark, `still in a transaction: count=2`, patience)
	l.primary.Configure("watchdog.drain_grace", "-1")
	for _, value := range []string{"on", "off"} { // the terminator tells of the second one when it is done with the first
		l.setDraining(l.primary, value)
		l.primary.WaitLog(mark, "watchdog.draining is "+value, patience)
	}
	for _, s := range []*session{l.inTx, l.aborted} {
		if _, err := s.conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		for range 3 { // each passes the moment in which it would end
			l.alive(s, "without a grace any more")
		}
	}
	l.primary.Configure("watchdog.drain_grace", "0")
	l.primary.Reload()
	for _, s := range []*session{l.inTx, l.aborted} {
		l.waitGone(s.pid, patience, "a session of before the drain, with a grace again")
	}
	l.stay(l.unix)
}
