package bind

// Tests of waiting for a target, without a board.

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// lineRig is a registry whose one instance is there or not.
type lineRig struct {
	t     *testing.T
	r     *Registry
	there bool
	woken int
}

func newLineRig(t *testing.T, places, waiting int) *lineRig {
	x := &lineRig{t: t, r: NewRegistry(1, places)}
	x.r.MaxWaiting = waiting
	return x
}

func (x *lineRig) table() *Table { return nil }

func (x *lineRig) add() *place {
	x.t.Helper()
	p := &place{Seat: Seat{Bound: -1, Owner: Owner{Address: netip.MustParseAddr("192.0.2.1")}}}
	if a := x.r.Add(p); a != admitted {
		x.t.Fatalf("not admitted: %d", a)
	}
	return p
}

func (x *lineRig) waiter(p *place) *Waiter {
	return &Waiter{Member: p, Target: "primary", Wait: time.Hour, Wake: func() { x.woken++ }, Choose: func(*Table, Load) int {
		if x.there {
			return 0
		}
		return -1
	}}
}

// waits has one more wait.
func (x *lineRig) waits() *Waiter {
	x.t.Helper()
	w := x.waiter(x.add())
	if a, waits := x.r.Seek(w, x.table); !waits {
		x.t.Fatalf("does not wait: %+v", a)
	}
	return w
}

// empty fails if anything is left of those who have waited.
func (x *lineRig) empty() {
	x.t.Helper()
	if r := x.r; len(r.all) != 0 || len(r.owners) != 0 || r.resting != 0 || r.count != 0 || r.line.counted != 0 ||
		len(r.line.all()) != 0 {
		x.t.Errorf("left: %d connections, %v, %d waiting, %d bound, %d in the line", len(r.all), r.owners, r.resting,
			r.count, len(r.line.all()))
	}
}

// One user fills the line; another one has some places beyond it, and a few such users as many as there
// are.
func TestOneUserDoesNotFillTheLine(t *testing.T) {
	x := newLineRig(t, 1000, 32)
	wait := func(uid uint32) bool {
		p := x.add()
		x.r.owners[p.Owner]--
		p.Owner = Owner{UID: uid, Known: true}
		x.r.owners[p.Owner]++
		a, waits := x.r.Seek(x.waiter(p), x.table)
		if waits == (a.Full != "") {
			t.Fatalf("%+v", a)
		}
		return waits
	}
	for _, c := range []struct {
		uid  uint32
		want int
	}{{1, 32}, {2, 2}, {1, 0}, {3, 2}, {4, 2}, {5, 2}, {6, 0}} {
		n := 0
		for wait(c.uid) {
			n++
		}
		if n != c.want {
			t.Errorf("%d of user %d wait, want %d", n, c.uid, c.want)
		}
	}
}

func TestWaiting(t *testing.T) {
	x := newLineRig(t, 10, 10)
	w := x.waits()
	if next, n, _ := x.r.serve(nil, time.Now()); !next.IsZero() || n != 0 || x.woken != 0 {
		t.Error("it goes nowhere")
	}
	if rows := x.r.Waiting(); len(rows) != 1 || rows[0].Target != "primary" || rows[0].Via != "bind" {
		t.Errorf("%+v", rows)
	}
	x.there = true
	if _, n, _ := x.r.serve(nil, time.Now()); n != 1 || x.woken != 1 || w.Member.Place().Bound != 0 {
		t.Errorf("%d served, woken %d times", n, x.woken)
	}
	if a := x.r.Leave(w, x.table); a.Index != 0 || a.Full != "" || x.r.count != 1 {
		t.Errorf("%+v", a)
	}
	x.r.Remove(w.Member)
	x.empty()

	x.there = false
	w = x.waits()
	x.there = true // and nobody has gone through the line
	if a := x.r.Leave(w, x.table); a.Index != 0 {
		t.Errorf("the last attempt: %+v", a)
	}
	x.r.Remove(w.Member)
	x.there = false
	w = x.waits()
	if a := x.r.Leave(w, x.table); a.Index != -1 || a.Full != "" || len(x.r.owners) != 1 {
		t.Errorf("in vain: %+v", a)
	}
	x.r.Remove(w.Member)
	x.empty()
}

// A client that leaves is nothing any more, whether or not it has its answer.
func TestWaitingEndsWithTheClient(t *testing.T) {
	for _, served := range []bool{false, true} {
		x := newLineRig(t, 10, 10)
		w := x.waits()
		if x.there = served; served {
			x.r.serve(nil, time.Now())
		}
		x.r.Abandon(w)
		x.r.Remove(w.Member)
		x.empty()
	}
}

func TestMaxWaiting(t *testing.T) {
	x := newLineRig(t, 1, 2) // one place: who waits has none
	first, second := x.waits(), x.waits()
	third := x.waiter(x.add())
	if a, waits := x.r.Seek(third, x.table); waits || a.Full != "too many connections wait for a target: at most 2" {
		t.Errorf("%v, %+v", waits, a)
	}
	if a := x.r.Add(&place{Seat: Seat{Bound: -1}}); a != OverAll {
		t.Errorf("one more is admitted: %d", a)
	}
	x.r.Remove(third.Member)
	x.there = true
	x.r.serve(nil, time.Now())
	if a := x.r.Leave(first, x.table); a.Index != 0 || a.Full != "" {
		t.Errorf("the first: %+v", a)
	}
	if a := x.r.Leave(second, x.table); a.Index != -1 || a.Full != "too many connections: at most 1" {
		t.Errorf("the second: %+v", a)
	}
	x.r.Remove(first.Member)
	x.r.Remove(second.Member)
	x.empty()
}

// Of one user's connections, those that wait do not count until they are bound.
func TestShareOfWaiting(t *testing.T) {
	x := newLineRig(t, 10, 10)
	x.r.Share = 1
	w, other := x.waits(), x.add()
	x.there = true
	x.r.serve(nil, time.Now())
	if a := x.r.Leave(w, x.table); !strings.HasPrefix(a.Full, "too many connections of address 192.0.2.1: at most 1") {
		t.Errorf("%+v", a)
	}
	x.r.Remove(w.Member)
	x.r.Remove(other)
	x.empty()
}

// Descriptors are for those who wait, too.
func TestWaitingNeedsDescriptors(t *testing.T) {
	x := newLineRig(t, 2, 10)
	x.r.Most = 3
	for range 3 {
		x.waits()
	}
	if a := x.r.Add(&place{Seat: Seat{Bound: -1}}); a != OverDescriptors {
		t.Errorf("%d", a)
	}
}

// While others who can go are held back, one who would wait stands behind them; one who would not
// goes at once.
func TestNobodyOvertakes(t *testing.T) {
	x := newLineRig(t, 1000, 1000)
	for range releaseBurst + 1 {
		x.waits()
	}
	x.there = true
	if next, n, _ := x.r.serve(nil, time.Now()); n != releaseBurst || next.IsZero() {
		t.Fatalf("%d go", n)
	}
	late := x.waits()
	hasty := x.waiter(x.add())
	hasty.Wait = 0
	if a, waits := x.r.Seek(hasty, x.table); waits || a.Index != 0 {
		t.Errorf("who does not wait: %v, %+v", waits, a)
	}
	if _, n, _ := x.r.serve(nil, time.Now().Add(time.Second)); n != 2 || late.answer == nil {
		t.Errorf("then %d go", n)
	}
	if w := x.waiter(x.add()); true {
		if _, waits := x.r.Seek(w, x.table); waits {
			t.Error("waits behind nobody")
		}
	}
}

func TestShutdownAnswersWaiting(t *testing.T) {
	x := newLineRig(t, 10, 10)
	w, other := x.waits(), x.add()
	x.r.Refuse()
	if x.woken != 1 {
		t.Error("not woken")
	}
	if a := x.r.Leave(w, x.table); !a.Shutdown {
		t.Errorf("%+v", a)
	}
	if _, waits := x.r.Seek(x.waiter(other), x.table); waits {
		t.Error("one more waits")
	}
	x.r.EndEverything([]byte("57P01"))
	if ended := w.Member.(*place).ended; !strings.Contains(ended, "C57P03\x00") {
		t.Errorf("who has no answer yet: %q", ended)
	}
	if other.ended != "57P01" {
		t.Errorf("the other: %q", other.ended)
	}
	x.r.Answered(w.Member)
	x.r.EndEverything([]byte("57P01"))
	if ended := w.Member.(*place).ended; ended != "57P01" {
		t.Errorf("who has his answer: %q", ended)
	}
}

// Who waits with EXCEPT gets the instance once it is another one than that which could not be
// reached.
func TestLeftOutUntilItIsBack(t *testing.T) {
	entry := func(s hb.State, losses uint64, start int64) *Table {
		return newTable([]Entry{{Config: &conf.Instance{Number: 5}, Losses: losses, Status: Status{State: s, Known: true,
			PostmasterStart: start}}, {Config: &conf.Instance{Number: 6}}}, route.Known{}, true, route.Rules{}, time.Now())
	}
	const est, lost = hb.Established, hb.Lost
	for _, c := range []struct {
		was, now *Table
		out      bool
	}{
		{entry(est, 0, 1), entry(est, 0, 1), true},
		{entry(est, 0, 1), entry(hb.Connecting, 0, 1), true},
		{entry(est, 0, 1), entry(lost, 1, 1), false},
		{entry(est, 0, 1), entry(est, 1, 1), false},
		{entry(est, 0, 1), entry(est, 0, 2), false},
		{entry(lost, 1, 1), entry(lost, 1, 1), true},
		{entry(lost, 1, 1), entry(est, 1, 1), false},
	} {
		if got := fmt.Sprint(c.was.LeaveOut([]int{5, 9}).In(c.now)) == "[5]"; got != c.out {
			t.Errorf("%+v, then %+v: left out %v", c.was.Entries[0].Status, c.now.Entries[0].Status, got)
		}
	}
}
