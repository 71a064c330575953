package test

// What is kept for those who ask later: the last verdicts, and the counters.

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// verdict is a row of pgx_stat_watchdog_verdicts, without its times.
type verdict struct{ addr, cause, outcome, signaled, spared, reason, left, reportOnly string }

// verdicts are all that are kept, the oldest first.
func (w *world) verdicts() (all []verdict) {
	w.Helper()
	for _, r := range w.primary.Query(`SELECT host(conmgr_addr), cause, outcome, sessions_signaled, sessions_spared,
		coalesce(spared_reason, ''), sessions_left, report_only FROM pgx_stat_watchdog_verdicts ORDER BY number`) {
		all = append(all, verdict{r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]})
	}
	return all
}

// total is a counter of pgx_stat_watchdog_totals.
func (w *world) total(name string) int {
	w.Helper()
	n, err := strconv.Atoi(w.primary.Value("SELECT " + name + " FROM pgx_stat_watchdog_totals"))
	if err != nil {
		w.Fatalf("%s: %v", name, err)
	}
	return n
}

// waitVerdicts waits for the n-th verdict, and until nobody is left by any.
func (w *world) waitVerdicts(n int) []verdict {
	w.Helper()
	eventually(w, fmt.Sprintf("%d verdicts, of which nobody is left", n), func() (bool, string) {
		v := w.primary.Query(`SELECT count(*), count(*) FILTER (WHERE outcome = 'pending' OR sessions_left > 0)
			FROM pgx_stat_watchdog_verdicts`)[0]
		return reflect.DeepEqual(v, []string{strconv.Itoa(n), "0"}), fmt.Sprint(v)
	})
	return w.verdicts()
}

// TestVerdicts: who has died, by what, and what became of his sessions; also when both workers have
// been started again. The oldest ones make room.
func TestVerdicts(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.verdict_history", "3"))
	silent, ends := w.net.Host("silent"), w.net.Host("ends")
	w.conmgr(silent, "300ms", "1200ms")
	leaving := w.conmgr(ends, "1s", "10s")
	for range 3 {
		w.session(silent, "BEGIN")
	}
	w.session(ends, "BEGIN")
	receiver := w.receiveWAL(ends)
	if got := w.verdicts(); got != nil {
		t.Errorf("before anything has happened: %v", got)
	}
	id := w.primary.Value("SELECT conmgr_id FROM pgx_stat_watchdog WHERE conmgr_addr = $1", silent.Addr4.String())

	cut := w.net.Cut(silent, w.db)
	want := []verdict{{silent.Addr4.String(), "silence", "terminated", "3", "0", "", "0", "false"}}
	if got := w.waitVerdicts(1); !reflect.DeepEqual(got, want) {
		t.Errorf("silence: %v, want %v", got, want)
	}
	row := w.primary.Query(`SELECT conmgr_id, heartbeat_timeout_ms, decided_at - last_received BETWEEN '600 ms' AND '10 s',
		gone_after BETWEEN '0' AND '10 s', now() - decided_at < '1 min' FROM pgx_stat_watchdog_verdicts`)[0]
	if !reflect.DeepEqual(row, []string{id, "1200", "true", "true", "true"}) {
		t.Errorf("the verdict: %v", row)
	}
	leaving.Signal(syscall.SIGTERM)
	leaving.Wait(patience)
	want = append(want, verdict{ends.Addr4.String(), "goodbye", "terminated", "1", "1",
		"its host lives, and they end by silence only", "0", "false"})
	if got := w.waitVerdicts(2); !reflect.DeepEqual(got, want) {
		t.Errorf("goodbye: %v, want %v", got, want)
	}
	w.streams(receiver, "what is spared")
	for _, title := range []string{workerTitle, terminatorTitle} {
		w.restartWorker(title)
	}
	if got := w.verdicts(); !reflect.DeepEqual(got, want) {
		t.Errorf("after a restart of both workers: %v, want %v", got, want)
	}
	for name, n := range map[string]int{"verdicts_silence": 1, "verdicts_goodbye": 1, "verdicts_closed": 0,
		"terminated_silence": 3, "terminated_goodbye": 1, "spared": 1, "reported_silence": 0, "worker_starts": 2,
		"terminator_starts": 2, "conmgrs_admitted": 2} {
		if got := w.total(name); got != n {
			t.Errorf("%s is %d, want %d", name, got, n)
		}
	}

	before := w.primary.Value("SELECT stats_reset FROM pgx_stat_watchdog_totals")
	w.primary.Exec("SELECT pgx_stat_watchdog_reset()")
	if v := w.primary.Query(`SELECT verdicts_silence + verdicts_goodbye + terminated_silence + worker_starts, stats_reset > $1
		FROM pgx_stat_watchdog_totals`, before)[0]; !reflect.DeepEqual(v, []string{"0", "true"}) {
		t.Errorf("after a reset: %v", v)
	}
	cut.Heal()
	for n := 3; n <= 4; n++ { // the first one makes room
		again := w.conmgr(ends, "1s", "10s")
		again.Signal(syscall.SIGTERM)
		again.Wait(patience) // the next one has its port
		eventually(t, "another verdict", func() (bool, string) {
			v := w.primary.Value("SELECT max(number) FROM pgx_stat_watchdog_verdicts WHERE outcome = 'terminated'")
			return v == strconv.Itoa(n), v
		})
	}
	if got := w.verdicts(); len(got) != 3 || got[0] != want[1] {
		t.Errorf("of three that are kept: %v", got)
	}
}

// TestVerdictWrittenOver: who adds to a verdict that was written over meanwhile adds nothing to the
// one in its place (test/module/verdicts.c).
func TestVerdictWrittenOver(t *testing.T) {
	root, program := sourceRoot(t), filepath.Join(t.TempDir(), "verdicts")
	include, err := exec.Command(cmp.Or(os.Getenv("PG_CONFIG"), "pg_config"), "--includedir-server").Output()
	if err != nil {
		t.Fatal(err)
	}
	// Statically: a name that is not there is only an error if it is called.
	build := exec.Command("cc", "-std=gnu11", "-g", "-fno-strict-aliasing", "-isystem", strings.TrimSpace(string(include)),
		"-static", "-Wl,--unresolved-symbols=ignore-all", "-o", program,
		filepath.Join(root, "test/module/verdicts.c"), filepath.Join(root, "extension/shmem.c"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(program).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTwoVerdictsOnOneSession: a session that has not ended yet when another verdict means it counts
// for the first one, and for that until it has gone.
func TestTwoVerdictsOnOneSession(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	first := w.conmgr(client, "1s", "10s")
	s := w.session(client, "BEGIN")
	signal := func(sig syscall.Signal) {
		if err := syscall.Kill(s.pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP) // it cannot end
	goodbye := func(n int) []verdict {
		eventually(t, fmt.Sprintf("verdict %d is carried out", n), func() (bool, string) {
			v := w.primary.Value("SELECT count(*) FROM pgx_stat_watchdog_verdicts WHERE outcome = 'terminated'")
			return v == strconv.Itoa(n), v
		})
		return w.verdicts()
	}
	first.Signal(syscall.SIGTERM)
	first.Wait(patience) // the next one has its port
	want := []verdict{{client.Addr4.String(), "goodbye", "terminated", "1", "0", "", "1", "false"}}
	if got := goodbye(1); !reflect.DeepEqual(got, want) {
		t.Errorf("the first verdict: %v, want %v", got, want)
	}
	w.conmgr(client, "1s", "10s").Signal(syscall.SIGTERM)
	want = append(want, verdict{client.Addr4.String(), "goodbye", "terminated", "0", "0", "", "0", "false"})
	if got := goodbye(2); !reflect.DeepEqual(got, want) {
		t.Errorf("the second verdict, of which it is no session: %v, want %v", got, want)
	}
	const gone = "SELECT number FROM pgx_stat_watchdog_verdicts WHERE gone_after IS NOT NULL"
	if got := w.primary.Query(gone); got != nil {
		t.Errorf("the session is there, and has gone by verdict %v", got)
	}
	signal(syscall.SIGCONT)
	if want[0].left = "0"; !reflect.DeepEqual(w.waitVerdicts(2), want) {
		t.Errorf("when it has gone: %v, want %v", w.verdicts(), want)
	}
	if got := w.primary.Query(gone); !reflect.DeepEqual(got, [][]string{{"1"}}) {
		t.Errorf("it has gone by verdict %v, want 1", got)
	}
	if n := w.total("terminated_goodbye"); n != 1 {
		t.Errorf("%d sessions were terminated, want 1", n)
	}
}
