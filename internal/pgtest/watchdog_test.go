package pgtest

// The option Watchdog, with what make has built.

import (
	"os"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func TestWatchdog(t *testing.T) {
	c := New(t, Watchdog())
	testkit.Eventually(t, 10*time.Second, "the watchdog worker", func() (bool, string) {
		return c.WorkerPid("watchdog") != 0, c.Log()
	})
	c.Exec("create extension watchdog")
	if got := c.Value("select count(*) from pgx_stat_watchdog"); got != "0" {
		t.Errorf("got %s rows in the view, want 0", got)
	}
	for _, path := range []string{c.inst.pkglib + "/watchdog.so", c.inst.share + "/extension/watchdog.control"} {
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: got %v, %v; want a private copy", path, info, err)
		}
	}
}
