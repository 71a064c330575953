package watchdog

// Whose slot a new conmgr gets. Pure; time is the test's.

import (
	"errors"
	"net/netip"
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
			if last := hoard[len(hoard)-displaced]; b.table.peers[last.ID] != nil {
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
	if real.latest() == nil || b.table.peers[real.ID] != real {
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
