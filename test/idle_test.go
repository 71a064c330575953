package test

// Nothing happens, and nobody says that something did.

import (
	"context"
	"flag"
	"runtime"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
)

var idleFor = flag.Duration("idle", 15*time.Second, "how long TestNoFalseVerdict looks on; 10m for the figure in docs/design.md")

// TestNoFalseVerdict: idle heartbeats beside more CPU hogs than there are processors, on both sides: no verdict, no broken connection.
func TestNoFalseVerdict(t *testing.T) {
	w := newWorld(t)
	slow, fast := w.net.Host("slow"), w.net.Host("fast")
	conmgrs := map[string]*cmtest.Conmgr{"1 s / 2 s": w.conmgr(slow, "1s", "2s"), "100 ms / 300 ms": w.conmgr(fast, "100ms", "300ms")}
	sessions := []*session{w.session(slow, "BEGIN"), w.session(fast, "BEGIN")}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := 0; i < 2*runtime.NumCPU(); i++ {
		hog := w.db.Command(ctx, "sh", "-c", "while :; do :; done")
		if err := hog.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); _ = hog.Wait() })
	}
	stalls := measureStalls()
	since := w.primary.LogSize()
	time.Sleep(*idleFor) // the length of the observation
	t.Logf("%v beside %d hogs; this machine stalled for up to %v", *idleFor, 2*runtime.NumCPU(), stalls.worst())
	for what, cm := range conmgrs {
		if l, ok := cm.Find(0, `is lost|closed`); ok {
			t.Errorf("%s: %s", what, l.Text)
		}
	}
	w.noLog(since, `timed out|broken|closes|terminated connections`)
	for _, s := range sessions {
		w.alive(s, "the session")
	}
}
