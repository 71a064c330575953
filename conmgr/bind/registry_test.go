package bind

// Tests of the registry's lock.

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// place is a member that keeps what it is told.
type place struct {
	Seat
	noted  []string
	pushed int
	ended  string
}

func (p *place) End(m []byte)   { p.ended = string(m) }
func (*place) Finish(time.Time) {}
func (p *place) Push()          { p.pushed = len(p.noted) }
func (p *place) Note(m []byte) {
	if p.noted = append(p.noted, string(m)); m == nil {
		p.noted = p.noted[:p.pushed]
	}
}

// An application that binds at the moment of a loss is either told of it, or gets another instance.
// The table is read, and the choice made, under the lock that a loss takes after it has published
// its table.
func TestBindReadsTheTableUnderTheLock(t *testing.T) {
	r := NewRegistry(1, 10)
	s := &place{Seat: Seat{Bound: -1}}
	r.Add(s)
	entries := []Entry{{Config: &conf.Instance{Port: 1}, Status: Status{State: hb.Established, Known: true, SystemIdentifier: 7, Attributes: hb.Attributes{Timeline: 1}}}}
	tab := newTable(entries, route.Known{SystemIdentifier: 7, Timeline: 1}, true, route.Rules{}, time.Now())
	locked := func(what string) {
		if r.mu.TryLock() {
			r.mu.Unlock()
			t.Errorf("%s without the lock: a loss at this moment would be missed", what)
		}
	}
	_, i, ok := r.Bind(s, "primary", func() *Table {
		locked("the table is read")
		return tab
	}, func(tab *Table, l Load) int {
		locked("the instance is chosen")
		return tab.Choose(Request{Want: cm.Primary}, l)
	})
	if i != 0 || !ok || s.Bound != 0 {
		t.Errorf("bound to %d", i)
	}
}

func TestReservedPlaces(t *testing.T) {
	r := NewRegistry(1, 2)
	r.Share = 2
	add := func(s Seat) Admission { s.Bound = -1; return r.Add(&place{Seat: s}) }
	foreign := Seat{Owner: Owner{UID: uint32(os.Geteuid()) + 1, Known: true}}
	elsewhere := Seat{Owner: Owner{Address: netip.MustParseAddr("192.0.2.1")}}
	own := Seat{Owner: Owner{UID: uint32(os.Geteuid()), Known: true}}
	byUnix := own
	byUnix.Local = &unix.Ucred{Uid: uint32(os.Geteuid())}
	rootByUnix := Seat{Owner: Owner{Known: true}, Local: &unix.Ucred{}}
	foreignByUnix := Seat{Owner: foreign.Owner, Local: &unix.Ucred{}}
	for i, x := range []struct {
		s    Seat
		want Admission
	}{{foreign, admitted}, {foreign, admitted}, {foreign, OverAll}, {foreignByUnix, OverAll}, {elsewhere, OverAll},
		{own, OverAll},
		{byUnix, admitted}, {rootByUnix, admitted}, {byUnix, admitted}, {byUnix, OverAll}, {rootByUnix, OverAll}} {
		if got := add(x.s); got != x.want {
			t.Errorf("%d: %s: %d, want %d", i, &x.s, got, x.want)
		}
	}
}

// Whoever has asked for it is told what is no loss, of the instance that he is bound to.
// Those are coming whose first question was not answered yet, unless they wait for a target.
func TestComing(t *testing.T) {
	x := newLineRig(t, 10, 10)
	relay := &place{Seat: Seat{Bound: -1, Relay: true}}
	x.r.Add(relay)
	x.waits()
	if x.r.isComing() {
		t.Error("a relayed connection and one that waits are coming")
	}
	p := x.add()
	if !x.r.isComing() {
		t.Error("it is not coming")
	}
	x.r.Arrived(p)
	if x.r.isComing() {
		t.Error("it has arrived")
	}
}

func TestNotify(t *testing.T) {
	r := NewRegistry(2, 10)
	tab := newTable([]Entry{{Config: &conf.Instance{}}, {Config: &conf.Instance{}}}, route.Known{}, true, route.Rules{}, time.Now())
	var all []*place
	for i := range 4 {
		p := &place{Seat: Seat{Bound: -1, Notified: i%2 == 0}}
		r.Add(p)
		r.Bind(p, "any", func() *Table { return tab }, func(*Table, Load) int { return i / 2 })
		all = append(all, p)
	}
	if n := r.Notify(1, "draining"); n != 1 {
		t.Errorf("%d are told", n)
	}
	for i, p := range all {
		want := 0
		if i == 2 {
			want = 1
		}
		if len(p.noted) != want || p.pushed != want {
			t.Errorf("%d: told %q, of which %d are sent", i, p.noted, p.pushed)
		}
	}
}

// The choice among standbys goes by the connections that are bound, without the one that asks.
func TestChoiceCountsBindings(t *testing.T) {
	r := NewRegistry(2, 10)
	r.Random = func() uint64 { return 0 }
	entry := func(n int) Entry {
		return Entry{Config: &conf.Instance{Number: n, Port: 1}, Status: Status{State: hb.Established, Known: true,
			SystemIdentifier: 7, Attributes: hb.Attributes{Flags: hb.InRecovery, Timeline: 1}}}
	}
	tab := newTable([]Entry{entry(0), entry(1)}, route.Known{SystemIdentifier: 7, Timeline: 1}, true, route.Rules{}, time.Now())
	ask := func(p *place) int {
		_, i, _ := r.Bind(p, "standby", func() *Table { return tab },
			func(t *Table, l Load) int { return t.Choose(Request{Want: cm.Standby}, l) })
		return i
	}
	var all []*place
	for i := range 6 {
		p := &place{Seat: Seat{Bound: -1}}
		r.Add(p)
		all = append(all, p)
		if got := ask(p); got != i%2 {
			t.Errorf("%d is bound to %d", i, got)
		}
	}
	for _, i := range []int{5, 3} {
		r.Remove(all[i])
	}
	if got := ask(all[4]); got != 1 {
		t.Errorf("with 2 others at 0, and 1 at 1: bound to %d", got)
	}
	if got := ask(all[4]); got != 1 {
		t.Errorf("with 2 others at 0, and 1 other at 1: bound to %d", got)
	}
}

// When conmgr ends and will be back, who is bound and has asked for notices is told that; what is
// relayed goes on, if it can.
func TestEndForNow(t *testing.T) {
	for _, relayed := range []bool{false, true} {
		r := NewRegistry(1, 10)
		add := func(bound, notified, relay bool) *place {
			p := &place{Seat: Seat{Bound: -1, Relay: relay}}
			r.Add(p)
			if bound {
				r.bindTo(p, "any", nil, 0)
			}
			p.Notified = notified
			return p
		}
		aware, bound, looks, relays := add(true, true, false), add(true, false, false), add(false, true, false), add(true, false, true)
		r.EndForNow([]byte("end"), []byte("away"), relayed)
		carried := "end"
		if !relayed {
			carried = ""
		}
		for p, want := range map[*place]string{aware: "away", bound: "end", looks: "end", relays: carried} {
			if p.ended != want {
				t.Errorf("relayed %v: told %q, want %q", relayed, p.ended, want)
			}
		}
		if n := r.TargetOf(relays); (n == 0) == relayed {
			t.Errorf("relayed %v: it is bound to %d", relayed, n)
		}
	}
}
