package test

// Silent faults: packets disappear, nothing else happens.

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// lostBySilence is conmgr's log line for that verdict.
const lostBySilence = `is lost: no heartbeat for`

// TestSilentCuts is the central promise: both verdicts fall within (timeout - interval, timeout +
// 0.2 s] after a silent cut.
func TestSilentCuts(t *testing.T) {
	for _, c := range []struct {
		interval, timeout time.Duration
	}{
		{time.Second, 2 * time.Second},
		{100 * time.Millisecond, 300 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%v-%v", c.interval, c.timeout),
			func(t *testing.T) { silentCuts(t, c.interval, c.timeout, 20) })
	}
}

func silentCuts(t *testing.T, interval, timeout time.Duration, cuts int) {
	const hosts = 5
	w := newWorld(t)
	var verdicts, ends []time.Duration
	var mu sync.Mutex
	stalls := testkit.WatchStalls()
	var wg sync.WaitGroup
	for i := 0; i < hosts; i++ {
		host := w.net.Host(fmt.Sprintf("client%d", i))
		cm := w.conmgr(host, fmt.Sprintf("%dms", interval.Milliseconds()), fmt.Sprintf("%dms", timeout.Milliseconds()))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; n < cuts/hosts; n++ {
				s := w.session(host, "BEGIN")
				waitRandom(interval)
				mark := cm.Mark()
				cut := w.net.Cut(host, w.db)
				verdict := make(chan time.Duration)
				go func() { verdict <- cm.WaitLog(mark, lostBySilence, timeout+10*time.Second).At }()
				end := w.waitGone(s.pid, timeout+10*time.Second, "the session of a dead host")
				mu.Lock()
				verdicts = append(verdicts, since(<-verdict, cut))
				ends = append(ends, since(end, cut))
				mu.Unlock()
				cut.Heal()
				cm.WaitInstance(0, "state", "established")
			}
		}()
	}
	wg.Wait()
	stall := stalls.Longest()
	for what, times := range map[string][]time.Duration{"conmgr's verdict": verdicts, "end of the sessions": ends} {
		sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
		t.Logf("%s, after the cut: %v to %v, median %v (n = %d, this machine stalled for up to %v)",
			what, times[0], times[len(times)-1], times[len(times)/2], len(times), stall)
		if len(times) != cuts {
			t.Errorf("%s: %d measured, want %d", what, len(times), cuts)
		}
		if times[0] <= timeout-interval-stall {
			t.Errorf("%s: %v after the cut is too early for timeout %v and interval %v", what, times[0], timeout,
				interval)
		}
		if last := times[len(times)-1]; last > timeout+200*time.Millisecond+3*stall {
			t.Errorf("%s: %v after the cut is too late for timeout %v", what, last, timeout)
		}
	}
}

// since is the time since the middle of the window in which a fault was applied.
func since(at time.Duration, f *testnet.Fault) time.Duration {
	return at - (f.Applied.Before.Mono+f.Applied.After.Mono)/2
}

// waitRandom makes the fault fall at a random phase of the heartbeats.
func waitRandom(interval time.Duration) {
	time.Sleep(time.Duration(rand.Int64N(int64(interval))))
}

// TestOneWaySilence: packets disappear in one direction only. The other direction's data are not
// acknowledged, so that TCP soon holds it back as well: both sides judge, each by its own deadline,
// and nothing that they would say to each other arrives.
func TestOneWaySilence(t *testing.T) {
	for _, way := range []string{"client to server", "server to client"} {
		t.Run(way, func(t *testing.T) {
			w := newWorld(t)
			client := w.net.Host("client")
			from, to := client, w.db
			if way == "server to client" {
				from, to = to, from
			}
			cm := w.conmgr(client, "500ms", "1s")
			s := w.session(client, "BEGIN")
			mark, since := cm.Mark(), w.primary.LogSize()
			cut := w.net.CutOneWay(from, to)
			w.waitGone(s.pid, patience, "the session of the silent host")
			w.primary.WaitLog(since, `heartbeat is timed out`, patience)
			cm.WaitLog(mark, lostBySilence, patience)
			cut.Heal()
			cm.WaitInstance(0, "state", "established")
			w.alive(w.session(client), "a session after the cut")
		})
	}
}

// TestGivenUp: the heartbeat port alone is cut. conmgr gives the instance up, the server only
// learns of that from the higher generation, or by its own verdict; either way the sessions from
// before are ended and later ones live.
func TestGivenUp(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "500ms", "1s")
	s := w.session(client, "BEGIN")
	mark := cm.Mark()
	cut := w.net.CutPort(client, w.db, pgtest.WatchdogPort)
	cm.WaitLog(mark, lostBySilence, patience)
	w.waitGone(s.pid, patience, "the session from before the cut")
	later := w.session(client)
	cut.Heal()
	cm.WaitInstance(0, "state", "established")
	w.waitView(1)
	w.alive(later, "a session that started after the verdict")
}

func (w *world) waitView(rows int) {
	w.Helper()
	eventually(w, fmt.Sprintf("pgx_stat_watchdog has %d rows", rows), func() (bool, string) {
		n := w.viewRows()
		return n == rows, fmt.Sprintf("%d rows", n)
	})
}

// TestLinkDownBriefly: a link that is back within the timeout is no verdict for anybody.
func TestLinkDownBriefly(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "1s", "6s")
	s := w.session(client, "BEGIN")
	mark, since := cm.Mark(), w.primary.LogSize()
	client.LinkDown()
	time.Sleep(2 * time.Second) // the fault's length: nothing to wait for
	client.LinkUp()
	received := w.received()
	eventually(w, "heartbeats arrive again", func() (bool, string) { return w.received() > received+2, "" })
	if l, ok := cm.Find(mark, `is lost`); ok {
		t.Errorf("conmgr: %s", l.Text)
	}
	w.noLog(since, `timed out|terminated connections`)
	w.alive(s, "the session")
}

// TestLinkDownTooLong: both judge; after the link is back everything works without anybody's help.
func TestLinkDownTooLong(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "500ms", "1s")
	s := w.session(client, "BEGIN")
	mark := cm.Mark()
	client.LinkDown()
	cm.WaitLog(mark, lostBySilence, patience)
	w.waitGone(s.pid, patience, "the session of the host without a link")
	client.LinkUp()
	cm.WaitInstance(0, "state", "established")
	w.alive(w.session(client), "a session after the link is back")
	cm.WaitInstance(0, "generation", "1")
}

// TestApplicationsAreTold: a bound connection gets its FATAL at the verdict, and SHOW TARGET leaves
// the lost instance out.
func TestApplicationsAreTold(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "500ms", "1s")
	bound := cm.Bind("primary")
	cut := w.net.Cut(client, w.db)
	if err := bound.Wait(patience); err == nil || !contains(err.Error(), "57P01", "is lost", "no heartbeat for") {
		t.Errorf("the application was told: %v", err)
	}
	if _, err := cm.Try("SHOW TARGET primary"); err == nil ||
		!contains(err.Error(), "no target server address from Connection Manager") {
		t.Errorf("SHOW TARGET: %v", err)
	}
	cut.Heal()
	cm.WaitInstance(0, "state", "established")
	if row := cm.Show("SHOW TARGET primary")[0]; row["hostaddr"] != w.db.Addr4.String() {
		t.Errorf("SHOW TARGET: %v", row)
	}
}

// TestIPv6: heartbeats and sessions by IPv6; the same host's IPv4 sessions are another address, and
// are not touched.
func TestIPv6(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "500ms", Timeout: "1s",
		Clusters: []*pgtest.Cluster{w.primary}, IPv6: true})
	cm.WaitInstance(0, "state", "established")
	if addr := w.primary.Value("SELECT host(conmgr_addr) FROM pgx_stat_watchdog"); addr != client.Addr6.String() {
		t.Errorf("conmgr_addr is %s, want %s", addr, client.Addr6)
	}
	s6 := w.sessionAt(client, w.primary.DSNOf(w.db.Addr6.String(), "postgres"), "BEGIN")
	s4 := w.session(client)
	mark := cm.Mark()
	cut := w.net.CutPort(client, w.db, pgtest.WatchdogPort)
	cm.WaitLog(mark, lostBySilence, patience)
	w.waitGone(s6.pid, patience, "the IPv6 session")
	w.alive(s4, "the IPv4 session")
	cut.Heal()
	cm.WaitInstance(0, "state", "established")
}

// TestLoss: one packet in five is lost, at a timeout that leaves TCP time to repeat: no verdict.
func TestLoss(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "500ms", "8s")
	s := w.session(client)
	mark, since := cm.Mark(), w.primary.LogSize()
	loss := w.net.Loss(client, w.db, 20)
	before := w.received()
	eventually(w, "20 heartbeats", func() (bool, string) { return w.received() >= before+20, "" })
	loss.Heal()
	if l, ok := cm.Find(mark, `is lost`); ok {
		t.Errorf("conmgr: %s", l.Text)
	}
	w.noLog(since, `timed out|terminated connections`)
	w.alive(s, "the session")
}
