package test

// Client hosts behind one address, each with a conmgr: the server knows by the label whose a
// session is.

import (
	"slices"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// behindNAT is one of the hosts, with its applications: by the front, by Go, and without a label.
type behindNAT struct {
	*testnet.Host
	cm   *cmtest.Conmgr
	apps []*app
}

const (
	natInterval = 500 * time.Millisecond
	natTimeout  = 2 * time.Second
)

// TestNAT: one of two hosts dies, in turn. Its labelled sessions end in time, and the other one's
// stay, labelled or not. What has no label belongs to the address, so that the dead host's stays
// until both are dead.
func TestNAT(t *testing.T) {
	w := newWorld(t)
	one, two := &behindNAT{Host: w.net.Host("c1")}, &behindNAT{Host: w.net.Host("c2")}
	w.net.Masquerade(testnet.Floating(1), one.Host, two.Host)
	for _, h := range []*behindNAT{one, two} {
		h.cm = w.conmgr(h.Host, natInterval.String(), natTimeout.String())
	}
	stalls := testkit.WatchStalls()
	rounds := numberFrom(t, roundsVariable, 2)
	var ends []time.Duration
	dead, alive := one, two
	for n := range rounds {
		ends = append(ends, w.natRound(int(n), dead, alive)...)
		dead, alive = alive, dead
	}
	stall := stalls.Longest()
	slices.Sort(ends)
	first, last := ends[0], ends[len(ends)-1]
	t.Logf("labelled sessions ended %v to %v after the cut (n = %d, this machine stalled for up to %v)", first, last,
		len(ends), stall)
	if first <= natTimeout-natInterval-stall {
		t.Errorf("%v after the cut is too early", first)
	}
	if last > natTimeout+200*time.Millisecond+3*stall {
		t.Errorf("%v after the cut is too late", last)
	}
	for _, h := range []*behindNAT{one, two} {
		h.open(w)
	}
	cuts := []*testnet.Fault{w.net.Isolate(one.Host), w.net.Isolate(two.Host)}
	for _, h := range []*behindNAT{one, two} {
		for _, a := range h.apps {
			w.waitGone(a.pid, patience, "a session of "+h.Name+", "+a.kind+", when both hosts are dead")
		}
	}
	for _, c := range cuts {
		c.Heal()
	}
}

// open starts what applications are missing.
func (h *behindNAT) open(w *world) {
	w.Helper()
	for i, kind := range appKinds {
		if i == len(h.apps) {
			h.apps = append(h.apps, nil)
		}
		if h.apps[i] != nil && w.exists(h.apps[i].pid) {
			continue
		}
		conninfo := byConmgr(h.cm)
		if kind == "plain" {
			conninfo = w.primary.DSN()
		}
		h.apps[i] = w.app(h.Host, kind, conninfo)
		if label := h.apps[i].label(); (label != "") != (kind != "plain") {
			w.Fatalf("%s: label %q", kind, label)
		}
	}
}

// natRound returns when the labelled sessions of the dead host ended, after the cut.
func (w *world) natRound(n int, dead, alive *behindNAT) (ends []time.Duration) {
	w.Helper()
	dead.open(w)
	alive.open(w)
	waitRandom(natInterval)
	cut := w.net.Isolate(dead.Host)
	for _, a := range dead.apps[:2] {
		ends = append(ends, since(w.waitGone(a.pid, natTimeout+10*time.Second,
			"a labelled session of the dead host, "+a.kind), cut))
	}
	if !w.exists(dead.apps[2].pid) {
		w.Errorf("round %d: what has no label was ended, though another conmgr of the address lives", n)
	}
	w.answers(n, alive, "while the other host is dead")
	cut.Heal()
	dead.cm.WaitInstance(0, "state", "established") // and says that it has given up its sessions
	w.answers(n, alive, "when the other host is back")
	return ends
}

// answers holds the applications of a host to be as they were.
func (w *world) answers(n int, h *behindNAT, when string) {
	w.Helper()
	for _, a := range h.apps {
		if got, err := a.ask("SELECT pg_backend_pid()::text"); err != nil || got == "" {
			w.Errorf("round %d: %s of %s, %s: %v", n, a.kind, h.Name, when, err)
		}
	}
}
