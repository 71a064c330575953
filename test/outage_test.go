package test

// Disturbances after which both ends of the heartbeats still have time: nobody loses anything by
// them.

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// undisturbed is what such a disturbance must leave as it was.
type undisturbed struct {
	w     *world
	cm    *cmtest.Conmgr
	s     *session
	bound *cmtest.Bound
	mark  int
	since int
	// verdict is what conmgr says if it has taken the disturbance for more than that.
	verdict string
}

func (w *world) undisturbed(cm *cmtest.Conmgr, s *session) *undisturbed {
	return &undisturbed{w: w, cm: cm, s: s, bound: cm.Bind("primary"), mark: cm.Mark(), since: w.primary.LogSize(),
		verdict: `is lost|heartbeat connection is closed`}
}

// check waits until heartbeats arrive again, and looks whether anybody was told, or ended.
func (u *undisturbed) check() {
	u.w.Helper()
	received := u.w.received()
	eventually(u.w, "heartbeats arrive again", func() (bool, string) { return u.w.received() > received+2, "" })
	if l, ok := u.cm.Find(u.mark, u.verdict); ok {
		u.w.Errorf("conmgr: %s", l.Text)
	}
	u.w.noLog(u.since, `timed out|terminated connections`)
	u.w.alive(u.s, "the session")
	if err := u.bound.Wait(10 * time.Millisecond); err != nil {
		u.w.Errorf("the application was told: %v", err)
	}
}

// TestOutageInTime: the link is away for as long as heartbeat_timeout leaves after an interval,
// less the little that is needed. With WATCHDOG_TEST_ROUNDS, so often with each of three settings;
// else four times, if this machine goes on for that long.
func TestOutageInTime(t *testing.T) {
	rounds := numberFrom(t, roundsVariable, 0)
	settings, spare := [][2]time.Duration{{time.Second, 2 * time.Second}}, 150*time.Millisecond
	if rounds > 0 { // on a machine that does nothing else
		spare = 60 * time.Millisecond
		settings = append(settings, [2]time.Duration{100 * time.Millisecond, 400 * time.Millisecond},
			[2]time.Duration{10 * time.Second, 20 * time.Second})
	}
	w := newWorld(t)
	for _, c := range settings {
		interval, timeout := c[0], c[1]
		client := w.net.Host("client_" + timeout.String())
		cm := w.conmgr(client, interval.String(), timeout.String())
		for done, tries := uint64(0), max(rounds, 12); done < max(rounds, 4) && tries > 0; tries-- {
			u := w.undisturbed(cm, w.session(client, "BEGIN"))
			waitRandom(interval)
			stalls := testkit.WatchStalls()
			cut := w.net.Cut(client, w.db)
			time.Sleep(timeout - interval - spare) // the fault's length: nothing to wait for
			cut.Heal()
			healed := w.primary.Value("SELECT clock_timestamp()")
			eventually(w, "a heartbeat arrives again", func() (bool, string) {
				v := w.primary.Value("SELECT max(last_received) > $1 FROM pgx_stat_watchdog", healed)
				return v == "true", v
			})
			if stall := stalls.Longest(); stall > spare/3 { // it was longer
				t.Logf("%v: this machine stalled for %v", timeout, stall)
				cm.WaitInstance(0, "state", "established")
				continue
			}
			u.check()
			done++
		}
		cm.Signal(syscall.SIGTERM)
	}
}

// TestForgottenConnection: something between has forgotten the heartbeat connection, and only that.
// The state stays, and the connection that takes its place is another one.
func TestForgottenConnection(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "1s", "4s")
	for range 3 {
		u := w.undisturbed(cm, w.session(client, "BEGIN"))
		old, _ := w.heartbeatEnds()
		hole := w.net.CutPort(client, w.db, old.Port())
		var now netip.AddrPort
		eventually(w, "another connection", func() (bool, string) {
			now, _ = w.heartbeatEnds()
			return now != old, fmt.Sprint(now)
		})
		u.check()
		hole.Heal()
	}
}

// disturbedFor is how long a disturbance lasts that goes on: 15 minutes in a long run.
func disturbedFor(t *testing.T) time.Duration {
	if numberFrom(t, roundsVariable, 0) > 0 {
		return 15 * time.Minute
	}
	return 10 * time.Second
}

// withoutKernel is a world in which heartbeats alone are evidence.
func withoutKernel(t *testing.T) *world {
	return newWorld(t, pgtest.Set("watchdog.kernel_evidence", "off"))
}

// bears disturbs what is between a client host and the server, and looks whether anybody was told or
// ended, unless this machine has stalled for longer than most: then nothing can be said.
func bears(t *testing.T, interval, timeout string, most time.Duration, disturb func(w *world, client *testnet.Host)) {
	t.Helper()
	w := withoutKernel(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, interval, timeout)
	u := w.undisturbed(cm, w.session(client, "BEGIN"))
	u.verdict = `is lost` // a connection may close, and be back at once
	stalls := testkit.WatchStalls()
	disturb(w, client)
	if stall := stalls.Longest(); stall > most {
		t.Logf("this machine stalled for %v: that says nothing", stall)
		return
	}
	u.check()
}

// TestRandomLoss: packets are lost at random, on both ways, and nobody is told or ended.
func TestRandomLoss(t *testing.T) {
	for _, c := range []struct {
		interval, timeout string
		percent           float64
		stall             time.Duration
	}{{"100ms", "400ms", 5, 80 * time.Millisecond}, {"1s", "2s", 20, 300 * time.Millisecond}} {
		t.Run(fmt.Sprintf("%s, %v percent", c.timeout, c.percent), func(t *testing.T) {
			bears(t, c.interval, c.timeout, c.stall, func(w *world, client *testnet.Host) {
				loss := w.net.Loss(client, w.db, c.percent)
				waitQuiet(disturbedFor(t))
				loss.Heal()
			})
		})
	}
}

// TestJitter: each packet is late by up to 150 ms, on both ways, and nobody is told or ended.
func TestJitter(t *testing.T) {
	bears(t, "100ms", "400ms", 80*time.Millisecond, func(w *world, client *testnet.Host) {
		jitter := w.net.Jitter(client, w.db, 150*time.Millisecond)
		waitQuiet(disturbedFor(t))
		jitter.Heal()
	})
}

// TestManyResets: the heartbeat connection is reset again and again, and nobody is told or ended.
func TestManyResets(t *testing.T) {
	bears(t, "100ms", "400ms", 100*time.Millisecond, func(w *world, _ *testnet.Host) {
		every := time.NewTicker(300 * time.Millisecond)
		defer every.Stop()
		resets := 0
		for end := time.After(disturbedFor(t)); ; {
			select {
			case <-every.C:
				conmgr, watchdog := w.heartbeatEnds()
				if w.net.TryForgeRST(watchdog, conmgr) == nil { // else conmgr has just left it for another one
					resets++
				}
				continue
			case <-end:
			}
			break
		}
		t.Logf("%d resets", resets)
		if resets < 5 {
			t.Errorf("%d resets only", resets)
		}
	})
}

// TestGroupReconnectsAtOnce: forty conmgrs of one address lose their connections in one moment, and
// all are back in time.
func TestGroupReconnectsAtOnce(t *testing.T) {
	const n = 40
	w := withoutKernel(t)
	client := w.net.Host("client")
	var cms []*cmtest.Conmgr
	var marks []int
	for i := range n {
		cms = append(cms, cmtest.Start(w, client, cmtest.Config{Interval: "1s", Timeout: "3s", Port: 20000 + i,
			Clusters: []*pgtest.Cluster{w.primary}}))
	}
	for _, cm := range cms {
		cm.WaitInstance(0, "state", "established")
		marks = append(marks, cm.Mark())
	}
	s := w.session(client, "BEGIN")
	for range 2 {
		since := w.primary.LogSize()
		var before []int
		for _, cm := range cms {
			before = append(before, cm.Mark())
		}
		w.restartWorker(workerTitle)
		for i, cm := range cms { // the view has all rows of the worker of before until this one has begun
			cm.WaitLog(before[i], "heartbeat connection is established", patience)
		}
		w.waitView(n)
		w.noLog(since, `timed out|terminated connections|did not resume|is closed`)
	}
	for i, cm := range cms {
		if l, ok := cm.Find(marks[i], `is lost`); ok {
			t.Errorf("conmgr %d: %s", i, l.Text)
		}
	}
	w.alive(s, "the session")
}
