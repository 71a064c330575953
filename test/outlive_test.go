package test

// Applications by the libpq front and by the Go client, whose sessions go on while conmgr is
// restarted, killed and upgraded; and who are told of a loss all the same.

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// answered asks all of them something that takes a while, does something meanwhile, and looks
// whether each has the answer of the session that it had.
func (w *world) answered(all []*app, what string, meanwhile func()) {
	w.Helper()
	type answer struct {
		of  *app
		pid string
		err error
	}
	answers := make(chan answer, len(all))
	for _, a := range all {
		go func() {
			pid, err := a.ask("SELECT pg_backend_pid()::text FROM pg_sleep(0.5)")
			answers <- answer{a, pid, err}
		}()
	}
	meanwhile()
	for range all {
		if got := <-answers; got.err != nil || got.pid != strconv.Itoa(got.of.pid) {
			w.Errorf("%s: %s has session %s, had %d: %v", what, got.of.kind, got.pid, got.of.pid, got.err)
		}
	}
}

// TestDriversOutliveRestarts: no session of theirs ends by a restart, a crash or an upgrade of conmgr.
// An instance that dies while conmgr is away is a loss for each, told in time.
func TestDriversOutliveRestarts(t *testing.T) {
	w := newWorld(t, pgtest.Set("max_connections", "250"))
	client := w.net.Host("client")
	const timeout, grace = 900 * time.Millisecond, 5 * time.Second
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: timeout.String(),
		Clusters: []*pgtest.Cluster{w.primary}, Extra: "application_grace = 5s\n"})
	cm.WaitInstance(0, "state", "established")
	var all []*app
	for range rounds(t, 3) {
		all = append(all, w.app(client, "front", byConmgr(cm)), w.app(client, "go", byConmgr(cm)))
	}
	bound := func() {
		t.Helper()
		eventually(t, "all are bound again", func() (bool, string) {
			n := cm.Show("SHOW INSTANCES")[0]["bound"]
			return n == strconv.Itoa(len(all)), n + " are bound"
		})
	}
	bound()
	since := w.primary.LogSize()
	for _, way := range []struct {
		name string
		do   func()
	}{
		{"in place", cm.Become},
		{"ended and started", func() { cm.Restart(syscall.SIGUSR1) }},
		{"killed", func() { cm.Restart(syscall.SIGKILL) }},
	} {
		for range rounds(t, 2) {
			w.answered(all, way.name, func() {
				way.do()
				bound()
			})
		}
	}
	w.noLog(since, `terminated connections`)
	if t.Failed() {
		return
	}

	told := make(chan error, len(all))
	for _, a := range all {
		go func() {
			_, err := a.ask("SELECT pg_backend_pid()::text FROM pg_sleep(600)")
			told <- err
		}()
	}
	eventually(t, "all wait", func() (bool, string) {
		n := w.primary.Value("SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep\\(600\\)' AND pid <> pg_backend_pid()")
		return n == strconv.Itoa(len(all)), n
	})
	died := testnet.Monotonic()
	cm.Signal(syscall.SIGKILL)
	cut := w.net.Isolate(w.db)
	cm.Again()
	for range all {
		if err := <-told; err == nil {
			t.Error("an answer of a server that is cut off")
		}
		if after := testnet.Monotonic() - died; after > grace+timeout+2*time.Second {
			t.Errorf("an application was told after %v", after)
		}
	}
	t.Logf("all told %v after the death", testnet.Monotonic()-died)
	cut.Heal()
}
