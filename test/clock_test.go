package test

// The wall clock of a server is set, back and forth, while client hosts die: it decides nothing.

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// TestClockIsSet: by 20 seconds and by an hour, before a silence begins, and within it. All sessions
// of the dead host end, in time, whether they began before the clock was set or after, or are still
// starting; nobody else's does.
func TestClockIsSet(t *testing.T) {
	w := newWorld(t, pgtest.ShiftedClock())
	client, other := w.net.Host("client"), w.net.Host("other")
	const timeout = 900 * time.Millisecond
	cm := w.conmgr(client, "300ms", timeout.String())
	w.conmgr(other, "300ms", timeout.String())
	shift := time.Duration(0)
	set := func(by time.Duration) {
		shift += by
		w.primary.ShiftClock(shift)
		at := time.Now().Add(shift)
		seconds, err := strconv.ParseFloat(w.primary.Value("SELECT extract(epoch FROM clock_timestamp())"), 64)
		if err != nil {
			t.Fatal(err)
		}
		if off := time.Duration(seconds*float64(time.Second)) - time.Duration(at.UnixNano()); off.Abs() > 5*time.Second {
			t.Fatalf("the server's clock is %v off what was set", off)
		}
	}
	for _, step := range []time.Duration{20 * time.Second, -20 * time.Second, time.Hour, -time.Hour} {
		for _, within := range []bool{false, true} { // the silence
			survivor := w.session(other, "BEGIN")
			dead := []*session{w.session(client, "BEGIN")}
			if !within {
				set(step)
			}
			dead = append(dead, w.session(client, "BEGIN"))
			w.startup(client, map[string]string{"options": "-c post_auth_delay=60"})
			w.waitProcesses(client, len(dead)+1)
			cut := w.net.Isolate(client)
			if within {
				set(step)
			}
			for i, s := range dead {
				end := w.waitGone(s.pid, patience, fmt.Sprintf("session %d of the dead host", i))
				t.Logf("clock set by %v, within the silence %v: session %d ended %v after the cut", step, within, i, since(end, cut))
			}
			w.waitProcesses(client, 0)
			w.alive(survivor, "the session of another host")
			w.alive(w.session(other), "a session of another host, that began afterwards")
			cut.Heal()
			cm.WaitInstance(0, "state", "established")
			back := w.session(client)
			w.alive(back, "a session of the host that is back")
			set(-step)
			w.alive(back, "that session, when the clock is set right")
			_ = back.conn.Close()
			_ = back.db.Close()
			w.waitProcesses(client, 0)
		}
	}
}

// TestClockIsSetInAPause: the clock is set back by an hour while a worker that has failed waits before
// it begins again. It is back when its library is, and not an hour later.
func TestClockIsSetInAPause(t *testing.T) {
	w := newWorld(t, pgtest.ShiftedClock())
	lib := filepath.Join(strings.TrimSpace(w.client("pg_config", "--pkglibdir")), "watchdog_go.so")
	if err := os.Rename(lib, lib+".kept"); err != nil {
		t.Fatal(err)
	}
	const fails = "could not load the heartbeat library"
	since := w.primary.LogSize()
	_ = syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM)
	// After this one comes a pause of two seconds.
	testkit.Eventually(t, patience, "the third failure", func() (bool, string) {
		n := strings.Count(w.primary.Log()[since:], fails)
		return n >= 3, fmt.Sprint(n)
	})
	w.primary.ShiftClock(-time.Hour)
	if err := os.Rename(lib+".kept", lib); err != nil {
		t.Fatal(err)
	}
	w.primary.WaitLog(since, `listening for heartbeat connections`, patience)
}
