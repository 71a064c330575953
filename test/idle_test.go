package test

// Nothing happens, and nobody says that something did.

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

var idleFor = flag.Duration("idle", 15*time.Second, "how long TestNoFalseVerdict looks on; 10m for the figure in docs/design.md")

// TestNoFalseVerdict: idle heartbeats beside a CPU hog for each processor: no verdict, no broken
// connection.
func TestNoFalseVerdict(t *testing.T) {
	w := newWorld(t)
	var watched []*idle
	for name, c := range map[string][2]time.Duration{"slow": {time.Second, 2 * time.Second},
		"fast": {100 * time.Millisecond, 300 * time.Millisecond}} {
		host := w.net.Host(name)
		watched = append(watched, &idle{host: host, interval: c[0], timeout: c[1],
			cm: w.conmgr(host, c[0].String(), c[1].String()), s: w.session(host, "BEGIN")})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := 0; i < runtime.NumCPU(); i++ {
		hog := w.db.Command(ctx, "sh", "-c", "while :; do :; done")
		if err := hog.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); _ = hog.Wait() })
	}
	stalls := testkit.WatchStalls()
	time.Sleep(*idleFor) // the length of the observation
	stall := stalls.Longest()
	t.Logf("%v beside %d hogs; this machine stalled for up to %v", *idleFor, runtime.NumCPU(), stall)
	log := w.primary.Log()
	for _, i := range watched {
		var complaints []string
		if l, ok := i.cm.Find(0, `is lost|closed`); ok {
			complaints = append(complaints, "conmgr: "+l.Text)
		}
		if m := regexp.MustCompile(`.*(timed out|broken|closes).*host=` + i.host.Addr4.String() +
			` .*`).FindString(log); m != "" {
			complaints = append(complaints, "server: "+m)
		}
		// A machine that stands still for longer than a peer may be silent is as good as dead.
		if len(complaints) > 0 && stall > i.timeout-2*i.interval+i.interval/2 {
			t.Logf("%v / %v, no wonder on this machine: %s", i.interval, i.timeout, complaints)
			continue
		}
		for _, c := range complaints {
			t.Errorf("%v / %v: %s", i.interval, i.timeout, c)
		}
		w.alive(i.s, "the session of "+i.host.Name)
	}
}

// TestNobodyIsBusyAtRest: a loop that finds something to do all the time works as well as one that
// sleeps, and nobody notices but who pays.
func TestNobodyIsBusyAtRest(t *testing.T) {
	w := newWorld(t)
	host := w.net.Host("client")
	cm := cmtest.Start(t, host, cmtest.Config{Clusters: []*pgtest.Cluster{w.primary}, Extra: relayConf})
	cm.WaitInstance(0, "state", "established")
	s := w.sessionAt(host, relayDSN(relayReadWrite), "BEGIN") // a relay loop has something to carry, now and then
	const window, most = 200 * time.Millisecond, 10           // percent of a processor
	for name, pid := range map[string]int{"conmgr": cm.Pid, workerTitle: w.primary.Worker(workerTitle),
		terminatorTitle: w.primary.Worker(terminatorTitle)} {
		eventually(t, name+" sleeps", func() (bool, string) {
			before, begun := testkit.ProcessorTime(t, pid), testnet.Monotonic()
			time.Sleep(window) // the length of the observation
			share := 100 * float64(testkit.ProcessorTime(t, pid)-before) / float64(testnet.Monotonic()-begun)
			return share < most, fmt.Sprintf("%.1f %% of a processor", share)
		})
	}
	w.alive(s, "the relayed session")
}

// idle is one conmgr that is looked on.
type idle struct {
	host              *testnet.Host
	interval, timeout time.Duration
	cm                *cmtest.Conmgr
	s                 *session
}
