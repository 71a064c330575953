package test

// A client host dies, and soon after its address is that of a machine that lives: another one, or
// itself after a power cycle. What the dead one had ends in time; what is new stays.

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// boot is a machine that has an address: a conmgr and applications, that come from there.
type boot struct {
	host *testnet.Host
	cm   *cmtest.Conmgr
	apps []*app
}

// boots starts a machine's conmgr and applications: one has its label, one has none.
func (w *world) boots(host *testnet.Host, addr byte, interval, timeout time.Duration) *boot {
	w.Helper()
	w.net.Assign(testnet.Floating(addr), host)
	w.net.Prefer(testnet.Floating(addr), host)
	b := &boot{host: host}
	b.cm = cmtest.Start(w, host, cmtest.Config{Interval: interval.String(), Timeout: timeout.String(),
		Clusters: []*pgtest.Cluster{w.primary}, BootID: newBootID()})
	b.cm.WaitInstance(0, "state", "established")
	for i, conninfo := range []string{byConmgr(b.cm), w.primary.DSN()} {
		a := w.app(host, []string{"front", "plain"}[i], conninfo)
		if from, err := a.ask("SELECT host(inet_client_addr())"); err != nil || from != testnet.Floating(addr).String() {
			w.Fatalf("%s comes from %s, %v", a.kind, from, err)
		}
		b.apps = append(b.apps, a)
	}
	return b
}

// newBootID is that of a machine that has just started.
func newBootID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// pause is one between the death of a host and the next machine at its address.
type pause struct {
	after time.Duration
	addr  byte
	dead  *boot
	next  *testnet.Host
	alive *boot
}

// TestTakeover: a machine that lives takes the address over, 1, 3 and 6 s after its owner's death. Its
// kernel answers with a reset what the dead one's connections still bring; or, as after a power cycle
// behind a firewall, nothing does.
func TestTakeover(t *testing.T) {
	rounds := numberFrom(t, roundsVariable, 0)
	settings := [][2]time.Duration{{4 * time.Second, 8 * time.Second}}
	if rounds > 0 {
		settings = append(settings, [2]time.Duration{10 * time.Second, 20 * time.Second})
	}
	for _, firewall := range []bool{false, true} {
		for _, c := range settings {
			t.Run(fmt.Sprintf("%v, firewall %v", c[1], firewall), func(t *testing.T) {
				w := newWorld(t)
				for n := range max(rounds, 1) {
					w.takeovers(fmt.Sprintf("%d_%v_", n, firewall), c[0], c[1], firewall)
				}
			})
		}
	}
}

// takeovers is one round: the hosts die at the same time, and have different pauses.
func (w *world) takeovers(name string, interval, timeout time.Duration, firewall bool) {
	w.Helper()
	pauses := []*pause{{after: time.Second}, {after: 3 * time.Second}, {after: 6 * time.Second}}
	for i, p := range pauses {
		p.addr = byte(1 + i)
		p.dead = w.boots(w.net.Host(fmt.Sprintf("%sold%d", name, i)), p.addr, interval, timeout)
		if p.next = w.net.Host(fmt.Sprintf("%snew%d", name, i)); firewall {
			w.net.DropUnknown(p.next)
		}
	}
	waitRandom(interval)
	stalls := testkit.WatchStalls()
	var cuts []*testnet.Fault
	for _, p := range pauses {
		cuts = append(cuts, w.net.Isolate(p.dead.host))
	}
	for i, p := range pauses {
		eventually(w, "the pause is over", func() (bool, string) {
			return testnet.Monotonic() >= cuts[i].Applied.After.Mono+p.after, ""
		})
		p.alive = w.boots(p.next, p.addr, interval, timeout)
	}
	var ends []time.Duration
	for i, p := range pauses {
		for _, a := range p.dead.apps {
			ends = append(ends, since(w.waitGone(a.pid, timeout+10*time.Second, "a session of the dead host, "+a.kind), cuts[i]))
		}
	}
	stall := stalls.Longest()
	w.Logf("the dead hosts' sessions ended %v after their death; this machine stalled for up to %v", ends, stall)
	if slices.Max(ends) > timeout+200*time.Millisecond+3*stall || slices.Min(ends) < timeout-interval-stall {
		w.Errorf("that is not the time for it")
	}
	// All that could still end does, and there is nothing left.
	waitQuiet(timeout)
	for _, p := range pauses {
		w.stays(p)
		for _, cm := range []*cmtest.Conmgr{p.alive.cm, p.dead.cm} {
			cm.Signal(syscall.SIGKILL)
			cm.Wait(patience)
		}
	}
	for _, p := range pauses {
		w.net.Withdraw(testnet.Floating(p.addr), p.next)
	}
}

// stays holds that the machine that has the address now has lost nothing.
func (w *world) stays(p *pause) {
	w.Helper()
	for _, a := range p.alive.apps {
		if got, err := a.ask("SELECT pg_backend_pid()::text"); err != nil || got != fmt.Sprint(a.pid) {
			w.Errorf("pause %v: a new session, %s, has ended: %v", p.after, a.kind, err)
		}
	}
	if log := p.alive.cm.Log(); strings.Contains(log, "is lost") {
		w.Errorf("pause %v: the new machine's conmgr: %s", p.after, log)
	}
}
