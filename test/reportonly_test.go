package test

// watchdog.terminate = off: all is decided, logged and counted as with it on, and nobody ends.

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// silentFault is one of those that silence_test.go has, or the end of a conmgr.
type silentFault struct {
	timeout  string // heartbeat_timeout; interval: a tenth of a second
	verdicts int    // each time
	ipv6     bool
	either   bool // who judges first, and so by which rule, is chance; of a loss that is only reported the server hears nothing
	ends     bool // conmgr does, and tells of that
	begin    func(w *world, client *testnet.Host, cm *cmtest.Conmgr) (heal func())
}

func healed(begin func(w *world, client *testnet.Host) *testnet.Fault) func(*world, *testnet.Host, *cmtest.Conmgr) func() {
	return func(w *world, client *testnet.Host, _ *cmtest.Conmgr) func() {
		f := begin(w, client)
		return func() { f.Heal() }
	}
}

var silentFaults = map[string]silentFault{
	"a cut": {"1s", 1, false, false, false, healed(func(w *world, c *testnet.Host) *testnet.Fault { return w.net.Cut(c, w.db) })},
	"a cut, client to server": {"1s", 1, false, false, false,
		healed(func(w *world, c *testnet.Host) *testnet.Fault { return w.net.CutOneWay(c, w.db) })},
	"a cut, server to client": {"1s", 1, false, true, false,
		healed(func(w *world, c *testnet.Host) *testnet.Fault { return w.net.CutOneWay(w.db, c) })},
	"a cut of the heartbeat port": {"1s", 1, false, false, false,
		healed(func(w *world, c *testnet.Host) *testnet.Fault { return w.net.CutPort(c, w.db, pgtest.WatchdogPort) })},
	"a cut of IPv6": {"1s", 1, true, false, false,
		healed(func(w *world, c *testnet.Host) *testnet.Fault { return w.net.Cut(c, w.db) })},
	"a link that is down": {"1s", 1, false, false, false, func(_ *world, client *testnet.Host, _ *cmtest.Conmgr) func() {
		client.LinkDown()
		return func() { client.LinkUp() }
	}},
	"a link that is down briefly": {"8s", 0, false, false, false, func(w *world, client *testnet.Host, _ *cmtest.Conmgr) func() {
		client.LinkDown()
		client.LinkUp()
		return w.someBeats
	}},
	"packets that are lost": {"8s", 0, false, false, false, func(w *world, client *testnet.Host, _ *cmtest.Conmgr) func() {
		loss := w.net.Loss(client, w.db, 20)
		w.someBeats()
		return func() { loss.Heal() }
	}},
	"the end of conmgr": {"1s", 1, false, false, true, func(_ *world, _ *testnet.Host, cm *cmtest.Conmgr) func() {
		cm.Signal(syscall.SIGTERM)
		return cm.Again
	}},
}

// someBeats waits for some heartbeats.
func (w *world) someBeats() {
	w.Helper()
	before := w.received()
	eventually(w, "20 heartbeats", func() (bool, string) { n := w.received(); return n >= before+20, fmt.Sprint(n) })
}

// judged is what log and views say of what was done.
type judged struct {
	verdicts []verdict // as if all had been carried out
	log      []string
	totals   []string
	sessions []bool // whether they are there
	told     string // of the first loss, by conmgr: to how many applications
}

var toldLine = regexp.MustCompile(`(would have )?(told \d+ application connections) of the loss`)

// told is what conmgr says that it has told, or would have, and whether the application was told.
func (f silentFault) told(t *testing.T, cm *cmtest.Conmgr, bound *cmtest.Bound, notify string) string {
	t.Helper()
	if f.verdicts > 0 {
		cm.WaitLog(0, toldLine.String(), patience)
	}
	m := toldLine.FindStringSubmatch(cm.Log())
	wait := patience
	if m == nil || notify == "off" {
		wait = 100 * time.Millisecond
		m = append(m, "", "", "")
	}
	if err := bound.Wait(wait); (err != nil) != (m[2] != "" && notify == "on") {
		t.Errorf("notify_loss is %s: the application was told: %v", notify, err)
	}
	if (m[1] != "") != (m[2] != "" && notify == "off") {
		t.Errorf("notify_loss is %s: %s", notify, m[0])
	}
	return m[2]
}

var terminatedLine = regexp.MustCompile(`terminator: (would have )?terminated connections: .*`)

// judge applies a fault twice, and tells what came of it. terminate is watchdog.terminate, and conmgr's
// notify_loss.
func (f silentFault) judge(t *testing.T, terminate string) (j judged) {
	w := newWorld(t, pgtest.Set("watchdog.terminate", terminate), pgtest.Set("watchdog.kernel_evidence", "off"))
	client := w.net.Host("client")
	cm := cmtest.Start(w, client, cmtest.Config{Interval: "100ms", Timeout: f.timeout, Clusters: []*pgtest.Cluster{w.primary},
		IPv6: f.ipv6, Extra: "notify_loss = " + terminate + "\n"})
	cm.WaitInstance(0, "state", "established")
	dsn := w.primary.DSN()
	if f.ipv6 {
		dsn = w.primary.DSNOf(w.db.Addr6.String(), "postgres")
	}
	var receiver *consumer
	if !f.either { // some rules spare it
		receiver = w.receiveWAL(client)
	}
	all := []*session{w.sessionAt(client, dsn, "BEGIN")}
	bound := cm.Bind("primary")
	for round := 1; round <= 2; round++ {
		all = append(all, w.sessionAt(client, dsn))
		heal := f.begin(w, client, cm)
		if f.verdicts > 0 {
			w.waitVerdicts(round * f.verdicts)
		}
		if round == 1 && !f.ends {
			j.told = f.told(t, cm, bound, terminate)
		}
		heal()
		cm.WaitInstance(0, "state", "established")
	}
	for _, s := range all {
		j.sessions = append(j.sessions, w.exists(s.pid))
		if terminate == "off" {
			w.alive(s, "a session, with watchdog.terminate off")
		}
	}
	if terminate == "off" && receiver != nil && !w.exists(receiver.sender) {
		t.Error("a replication connection has ended, with watchdog.terminate off")
	}
	for _, v := range w.verdicts() {
		if v.reportOnly != fmt.Sprint(terminate == "off") {
			t.Errorf("watchdog.terminate is %s: %v", terminate, v)
		}
		v.reportOnly, v.outcome = "", strings.Replace(v.outcome, "reported", "terminated", 1)
		if f.either {
			v.cause = ""
		}
		j.verdicts = append(j.verdicts, v)
	}
	var lines [][]string
	eventually(t, "as many lines as verdicts", func() (bool, string) { // they may come after what the views show
		lines = terminatedLine.FindAllStringSubmatch(w.primary.Log(), -1)
		return len(lines) >= 2*f.verdicts, fmt.Sprint(lines)
	})
	for _, m := range lines {
		if (m[1] != "") != (terminate == "off") {
			t.Errorf("watchdog.terminate is %s: %s", terminate, m[0])
		}
		j.log = append(j.log, strings.Replace(m[0], m[1], "", 1))
	}
	done, other := "terminated", "reported"
	if terminate == "off" {
		done, other = other, done
	}
	columns := `DONE_silence, DONE_goodbye, DONE_given_up, DONE_closed, verdicts_silence, verdicts_goodbye, verdicts_given_up`
	if f.either {
		columns = `DONE_silence + DONE_given_up + DONE_closed, verdicts_silence + verdicts_given_up + verdicts_closed`
	}
	j.totals = w.primary.Query(strings.NewReplacer("DONE", done, "OTHER", other).Replace("SELECT " + columns +
		`, spared, OTHER_silence + OTHER_goodbye + OTHER_given_up + OTHER_closed FROM pgx_stat_watchdog_totals`))[0]
	return j
}

// TestReportOnly: each fault with both halves on and off. Log and views say the same, but that
// it would have been; with it off, nobody ends. A session is reported once.
func TestReportOnly(t *testing.T) {
	for name, f := range silentFaults {
		t.Run(name, func(t *testing.T) {
			on, off := f.judge(t, "on"), f.judge(t, "off")
			if !reflect.DeepEqual(on.verdicts, off.verdicts) || len(on.verdicts) != 2*f.verdicts {
				t.Errorf("the verdicts, on:\n%v\noff:\n%v", on.verdicts, off.verdicts)
			}
			if !reflect.DeepEqual(on.log, off.log) || len(on.log) != 2*f.verdicts {
				t.Errorf("the log, on:\n%v\noff:\n%v", on.log, off.log)
			}
			if told := f.verdicts > 0 && !f.ends; on.told != off.told || (on.told == "told 1 application connections") != told {
				t.Errorf("conmgr, on: %q, off: %q", on.told, off.told)
			}
			if !reflect.DeepEqual(on.totals, off.totals) {
				t.Errorf("the counters, on:\n%v\noff:\n%v", on.totals, off.totals)
			}
			there := f.verdicts == 0
			if want := []bool{there, there, there}; !reflect.DeepEqual(on.sessions, want) {
				t.Errorf("the sessions, on: %v, want %v", on.sessions, want)
			}
			if want := []bool{true, true, true}; !reflect.DeepEqual(off.sessions, want) {
				t.Errorf("the sessions, off: %v, want %v", off.sessions, want)
			}
		})
	}
}

// TestReportOnlyStarts: sessions that lay in the backlog when their host died find the verdict, and
// say that they would have ended by it. It stays a report when watchdog.terminate is on again,
// which the terminator is told first here; what falls then is none.
func TestReportOnlyStarts(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.terminate", "off"))
	client := w.net.Host("client")
	w.conmgr(client, "200ms", "1s")
	old := w.session(client, "BEGIN")
	postmaster := w.primary.PostmasterPid()
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(postmaster, syscall.SIGCONT) }()
	for range 3 {
		w.startup(client, nil)
	}
	since := w.primary.LogSize()
	cut := w.net.Isolate(client)
	w.primary.WaitLog(since, `terminator: would have terminated connections: .*count=1`, patience)
	w.primary.Configure("watchdog.terminate", "on")
	if err := syscall.Kill(w.primary.Worker(terminatorTitle), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	w.primary.WaitLog(since, `terminator: sessions of dead client hosts are terminated from now on`, patience)
	_ = syscall.Kill(postmaster, syscall.SIGCONT)
	eventually(t, "they say that they would have ended", func() (bool, string) {
		n := strings.Count(w.primary.Log()[since:], "terminator: would have terminated a connection that is starting")
		return n == 3, fmt.Sprint(n)
	})
	if v := w.primary.Query("SELECT sessions_signaled, sessions_starting, report_only FROM pgx_stat_watchdog_verdicts"); !reflect.DeepEqual(v, [][]string{{"1", "3", "true"}}) {
		t.Errorf("the verdict: %v", v)
	}
	if n := w.total("reported_silence"); n != 4 {
		t.Errorf("reported_silence is %d, want 4", n)
	}
	w.primary.Reload()
	w.restartWorker(terminatorTitle) // which looks for what there is to do
	w.waitProcesses(client, 4)
	cut.Heal()
	w.waitView(1)
	w.alive(old, "a session from before")
	w.waitProcesses(client, 4)
	cut = w.net.Isolate(client)
	w.waitProcesses(client, 0)
	cut.Heal()
	if n := w.total("terminated_silence"); n != 4 {
		t.Errorf("terminated_silence is %d, want 4", n)
	}
}

// TestReportOnlyPutOff: a conmgr dies while watchdog.terminate is off; another one of its address
// protects what has no label (for as long as it
// lives, as it has a longer timeout), and leaves when it is on. Only what was not reported before ends.
func TestReportOnlyPutOff(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.terminate", "off"), pgtest.Set("watchdog.terminate_on_close", "off"))
	host := w.net.Host("host")
	silent := cmtest.Start(w, host, cmtest.Config{Interval: "200ms", Timeout: "1s", Clusters: []*pgtest.Cluster{w.primary}})
	silent.WaitInstance(0, "state", "established")
	label := w.primary.Value("SELECT replace(conmgr_id::text, '-', '') FROM pgx_stat_watchdog")
	other := cmtest.Start(w, host, cmtest.Config{Interval: "100ms", Timeout: "10s", Clusters: []*pgtest.Cluster{w.primary},
		Port: 27547})
	other.WaitInstance(0, "state", "established")
	_, _, labelled := w.frontend(host, map[string]string{"options": "-c conmgr.client=" + label})
	plain := w.session(host, "BEGIN")
	since := w.primary.LogSize()
	silent.Signal(syscall.SIGSTOP)
	w.primary.WaitLog(since, `terminator: would have terminated connections: .*count=1`, patience)
	w.primary.Configure("watchdog.terminate", "on")
	w.primary.Reload()
	w.primary.WaitLog(since, `terminator: sessions of dead client hosts are terminated from now on`, patience)
	other.Signal(syscall.SIGTERM)
	w.waitGone(plain.pid, patience, "a session that was protected")
	if !w.exists(labelled) {
		t.Error("a session was ended by what was decided while watchdog.terminate was off")
	}
	silent.Signal(syscall.SIGCONT)
}

// TestReportOnlyWitness: a session that would be gone proves nothing for its host any more: the next
// verdict falls when it would if watchdog.terminate was on.
func TestReportOnlyWitness(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.terminate", "off"))
	host := w.net.Host("host")
	cm := cmtest.Start(w, host, cmtest.Config{Interval: "200ms", Timeout: "1s", Clusters: []*pgtest.Cluster{w.primary}})
	cm.WaitInstance(0, "state", "established")
	idle := w.session(host)
	since := w.primary.LogSize()
	cm.Signal(syscall.SIGSTOP)
	w.primary.WaitLog(since, `terminator: would have terminated connections: .*count=1`, patience)
	since = w.primary.LogSize() // the line on the first connection may have come late
	cm.Signal(syscall.SIGCONT)
	w.primary.WaitLog(since, `heartbeat connection is established`, patience)
	busy := idle.start("DO 'BEGIN FOR i IN 1..150 LOOP RAISE NOTICE ''%'', i; PERFORM pg_sleep(0.02); END LOOP; END'")
	since = w.primary.LogSize()
	cm.Signal(syscall.SIGSTOP)
	w.primary.WaitLog(since, `heartbeat is timed out`, patience)
	w.noLog(since, "its host is heard of")
	if err := <-busy; err != nil {
		t.Error(err)
	}
	cm.Signal(syscall.SIGCONT)
}
