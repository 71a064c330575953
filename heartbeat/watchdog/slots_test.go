package watchdog

// Whose slot a new conmgr gets. Pure; time is the test's.

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

func host(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }

func TestFullTable(t *testing.T) {
	b := newBench(t, 2)
	p := b.admit(0, who{1, addrA, 1, 0})
	q := b.admit(0, who{2, netip.MustParseAddr("192.0.2.2"), 1, 0})
	third := who{3, netip.MustParseAddr("192.0.2.3"), 1, 0}
	_, _, _, err := b.hello(100, third)
	var pe *heartbeat.ProtocolError
	if !errors.As(err, &pe) || pe.Code != heartbeat.RefusedFull ||
		pe.Text != "all 2 heartbeat connections that watchdog.max_heartbeat_connections allows are taken" {
		t.Fatalf("got %v", err)
	}
	if b.host.count("WARNING|could not accept heartbeat connection from host=192.0.2.3 port=40003|All 2 heartbeat connections that watchdog.max_heartbeat_connections allows are taken.|Raise watchdog.max_heartbeat_connections.") != 1 {
		t.Errorf("the log:\n%s", b.host.log())
	}
	if p.latest() == nil || q.latest() == nil {
		t.Error("those that were there are harmed")
	}
	if _, flags, _, err := b.hello(200, who{1, addrA, 1, 0}); err != nil || flags != heartbeat.Resumed {
		t.Errorf("a known one cannot resume: %v", err)
	}
	// An ending slot is the terminator's until it is done.
	b.bye(300, p, heartbeat.GoodbyeConmgrEnds)
	if _, _, _, err := b.hello(400, third); err == nil {
		t.Error("the slot of sessions that are being ended was taken")
	}
	b.store.Terminate(ending(b))
	if _, _, _, err := b.hello(500, third); err != nil {
		t.Errorf("the slot that the terminator has freed is not used: %v", err)
	}
	if len(b.store.Faults()) > 0 {
		t.Error(b.store.Faults())
	}
}

// TestClosedConmgrsHoardSlots: an address that has left many closed connections with long timeouts
// does not keep others out, and nobody's sessions end for that.
func TestClosedConmgrsHoardSlots(t *testing.T) {
	b := newBench(t, 5)
	honest := b.admit(0, who{1, host(2), 1, 0})
	b.fin(10, honest) // closed before all others, and about to resume
	for id := byte(2); id <= 5; id++ {
		b.fin(20+int64(id), b.admit(20+int64(id), who{id, addrA, id, 0}))
	}
	for id := byte(6); id <= 8; id++ { // from elsewhere: they get the hoarder's slots, the youngest first
		b.admit(100, who{id, host(id), 1, 0})
	}
	if _, flags, _, err := b.hello(200, who{1, host(2), 1, 0}); err != nil || flags != heartbeat.Resumed {
		t.Errorf("the honest one cannot resume: %v", err)
	}
	b.wantNone(addrA)
	b.wantNone(host(2))
	if n := b.host.count("is forgotten: its slot is needed"); n != 3 {
		t.Errorf("%d were forgotten, want 3; the log:\n%s", n, b.host.log())
	}
	// One of the hoarder's is left, and dies by the rules.
	b.until(4000)
	b.wantCutOff(addrA, 22, terminator.Closed)
}

// TestOneAddressTakesAllSlots: one process says HELLO with ever new ids. Its address has a quota;
// whoever comes from another one is admitted, however many these are, and has the last of the
// hoarder's slots. What was at that address before stays.
func TestOneAddressTakesAllSlots(t *testing.T) {
	const slots = 64
	b := newBench(t, slots)
	real := b.admit(0, who{255, addrA, 1, 0})
	taken := 0
	var hoard []*peer
	for id := byte(66); id < 250; id++ {
		if p, _, _, err := b.hello(10, who{id, addrA, id, 0}); err == nil {
			taken++
			hoard = append(hoard, p)
		}
	}
	if want := slots - slots/reserveShare - 1; taken != want {
		t.Errorf("it took %d slots, want %d", taken, want)
	}
	displaced := 0
	for n := byte(2); n <= slots; n++ {
		p := b.admit(20, who{n, host(n), 1, 0})
		if b.displaced != nil {
			displaced++
			if last := hoard[len(hoard)-displaced]; b.table.known(last.ID) != nil {
				t.Errorf("displacement %d: the youngest has kept its slot", displaced)
			}
		}
		if p.latest() == nil {
			t.Fatalf("conmgr of %s is not connected", p.Addr())
		}
	}
	if want := slots - 1 - slots/reserveShare; displaced != want {
		t.Errorf("%d lost their slots, want %d", displaced, want)
	}
	if real.latest() == nil || b.table.known(real.ID) != real {
		t.Error("the conmgr that was at that address before has lost its slot")
	}
	if _, _, _, err := b.hello(30, who{65, addrA, 1, 0}); err == nil {
		t.Error("the hoarder got one more")
	}
	if _, _, _, err := b.hello(30, who{1, host(2), 1, 0}); err == nil {
		t.Error("an address that has one took another's only slot")
	}
	if _, flags, _, err := b.hello(40, who{255, addrA, 1, 0}); err != nil || flags != heartbeat.Resumed {
		t.Errorf("a known one cannot resume: flags %d, %v", flags, err)
	}
	for n := byte(1); n <= slots; n++ {
		b.wantNone(host(n))
	}
	if b.host.count("has to make room for one of 192.0.2.") == 0 || strings.Count(b.host.log(), "\n") > 200 {
		t.Errorf("the log:\n%s", b.host.log())
	}
}

// TestReplacementNeedsNoPlace: where an address has used up its quota, a conmgr of it that was
// killed and is started again has its slot.
func TestReplacementNeedsNoPlace(t *testing.T) {
	b := newBench(t, reserveShare)
	var all []*peer
	for id := byte(1); id < reserveShare; id++ {
		all = append(all, b.admit(0, who{id, addrA, id, 0}))
	}
	again := who{100, addrA, 3, 0} // another process of that machine
	if _, _, _, err := b.hello(10, again); err == nil {
		t.Fatal("the quota does not hold")
	}
	b.admit(15, who{1, host(9), 1, 0}) // the place that is kept for such
	b.fin(20, all[2])
	b.admit(30, again)
}

// TestNewConmgrDoesNotTakeAClosedSlotOfItsAddress: the real conmgr's connection was reset; another
// process of its address must not get its slot by saying HELLO before it is back.
func TestNewConmgrDoesNotTakeAClosedSlotOfItsAddress(t *testing.T) {
	b := newBench(t, 2)
	real := b.admit(0, who{1, addrA, 1, 0})
	b.admit(0, who{2, addrA, 2, 0})
	b.rst(100, real)
	if _, _, _, err := b.hello(200, who{3, addrA, 3, 0}); err == nil {
		t.Error("it got a slot")
	}
	if _, flags, _, err := b.hello(300, who{1, addrA, 1, 0}); err != nil || flags != heartbeat.Resumed {
		t.Errorf("the real one cannot resume: %v", err)
	}
}

// heirs are the heirs that free slots name of a conmgr.
func (b *bench) heirs(n byte) (all []heartbeat.ID) {
	for i := range b.store.Len() {
		if s := b.store.Slot(i); s.ID == (heartbeat.ID{n}) && s.State == Free && s.Heir != (heartbeat.ID{}) {
			all = append(all, s.Heir)
		}
	}
	return all
}

// TestOneHeir: a conmgr that leaves its sessions to another one, comes back and leaves them to a
// third one has one heir, the last, whatever stands in its slots, and whichever worker has seen what.
func TestOneHeir(t *testing.T) {
	for _, x := range []struct {
		name             string
		verdict, restart bool
	}{{"its slot is used again", false, false}, {"a verdict stands in its slot", true, false},
		{"another worker", false, true}, {"both", true, true}} {
		t.Run(x.name, func(t *testing.T) {
			b := newBench(t, 8)
			two := b.admit(0, who{2, addrA, 1, 0})
			one := b.admit(10, who{1, addrA, 1, 0})
			if x.verdict { // it has told that it had lost the server, and is there again
				one = b.admit(20, who{1, addrA, 1, 1})
				b.store.Terminate(1)
			}
			b.bye(100, one, heartbeat.GoodbyeDuplicate)
			if got := b.heirs(1); !slices.Equal(got, []heartbeat.ID{heartbeat.LabelID(heartbeat.ID{2})}) {
				t.Fatal(got)
			}
			if x.restart {
				b.restart(110)
				two = b.admit(120, who{2, addrA, 1, 0})
			}
			one = b.admit(200, who{1, addrA, 1, 1})
			if got := b.heirs(1); len(got) != 0 {
				t.Errorf("it is back: %v", got)
			}
			b.admit(210, who{3, addrA, 1, 0})
			b.bye(300, two, heartbeat.GoodbyeDuplicate)
			b.bye(400, one, heartbeat.GoodbyeDuplicate)
			if got := b.heirs(1); !slices.Equal(got, []heartbeat.ID{heartbeat.LabelID(heartbeat.ID{3})}) {
				t.Errorf("it has left again: %v", got)
			}
		})
	}
}

// TestWhoAnswers: for what carries a label answers its conmgr, or whoever it was left to, as long as
// that one lives.
func TestWhoAnswers(t *testing.T) {
	b := newBench(t, 4)
	label := func(n byte) heartbeat.ID { return heartbeat.LabelID(heartbeat.ID{n}) }
	nobody := heartbeat.ID{}
	answers := func(when string, one, two, three heartbeat.ID) {
		t.Helper()
		for i, want := range []heartbeat.ID{one, two, three} {
			if got := b.table.ownerOf(label(byte(i + 1))); got != want {
				t.Errorf("%s: for what carries the label of %d answers %v, want %v", when, i+1, got, want)
			}
		}
	}
	three := b.admit(0, who{3, addrA, 1, 0})
	answers("at first", nobody, nobody, label(3))
	b.bye(20, b.admit(10, who{2, addrA, 1, 0}), heartbeat.GoodbyeDuplicate)
	b.bye(40, b.admit(30, who{1, addrA, 1, 0}), heartbeat.GoodbyeDuplicate)
	answers("two were left to the third", label(3), label(3), label(3))
	b.admit(50, who{4, addrA, 1, 0})
	b.bye(60, three, heartbeat.GoodbyeDuplicate)
	answers("which has left all to a fourth", label(4), label(4), label(4))
	b.restart(70)
	answers("after a restart of the worker", label(4), label(4), label(4))
	four := b.admit(80, who{4, addrA, 1, 0})
	b.bye(90, four, heartbeat.GoodbyeConmgrEnds)
	answers("in the end", nobody, nobody, nobody)
}

// TestOlderSlotOfOneWithAnHeir: when a slot is used again that has a verdict of before on a conmgr, it
// is known still to whom that one has left its sessions since.
func TestOlderSlotOfOneWithAnHeir(t *testing.T) {
	b := newBench(t, 4)
	b.bye(10, b.admit(0, who{1, addrA, 1, 0}), heartbeat.GoodbyeConmgrEnds)
	older := 0
	b.store.Terminate(older)
	b.admit(20, who{2, addrA, 1, 0})
	b.bye(40, b.admit(30, who{1, addrA, 1, 0}), heartbeat.GoodbyeDuplicate)
	label, heir := heartbeat.LabelID(heartbeat.ID{1}), heartbeat.LabelID(heartbeat.ID{2})
	for n := byte(3); b.store.Slot(older).ID == (heartbeat.ID{1}); n++ {
		b.admit(int64(n)*100, who{n, host(n), n, 0})
		if n > 9 {
			t.Fatalf("slots: %s", b.states())
		}
	}
	if got := b.table.ownerOf(label); got != heir {
		t.Errorf("for what it has left answers %v, want %v", got, heir)
	}
}

// TestLooksOnly: an entry that looks again where its address leads, and breaks before it was heard of,
// leaves its sessions where they are, over a restart of the worker, too. One that was heard of has
// taken them back.
func TestLooksOnly(t *testing.T) {
	for _, x := range []struct {
		name                       string
		beats, restart, gone, dies bool
		want                       State
	}{{"it looks", false, false, false, false, Free}, {"another worker", false, true, false, false, Free},
		{"it is heard of", true, false, false, false, Ending}, {"nobody has them", false, false, true, false, Ending},
		{"its host dies", false, false, false, true, Ending}} {
		t.Run(x.name, func(t *testing.T) {
			b := newBench(t, 4)
			serves := b.admit(0, who{1, addrA, 1, 0})
			b.bye(20, b.admit(10, who{2, addrA, 1, 0}), heartbeat.GoodbyeDuplicate)
			if x.gone {
				b.setOnClose(false)
				b.bye(30, serves, heartbeat.GoodbyeConmgrEnds)
			}
			looks := b.admit(100, who{2, addrA, 1, 0})
			if x.beats {
				b.beat(110, looks)
			}
			if !x.dies {
				b.rst(120, looks)
			}
			if !x.gone {
				b.beat(130, serves)
			}
			if x.restart {
				b.restart(140)
				serves = b.admit(150, who{1, addrA, 1, 0})
			}
			for ms := int64(200); ms < 4000 && !x.gone && !x.dies; ms += 200 {
				b.beat(ms, serves)
			}
			b.until(4000)
			s := b.store.Slot(1)
			if s.ID != (heartbeat.ID{2}) || s.State != x.want || (s.Heir == (heartbeat.ID{})) != (x.want == Ending) {
				t.Errorf("slot %+v", s)
			}
		})
	}
}
