package watchdog

// Random lives of conmgrs, and what must hold after every event. Pure; time is the test's.

import (
	"fmt"
	"math/rand"
	"net/netip"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

func TestTableRandomEvents(t *testing.T) {
	events := 400
	for seed := range int64(300) {
		data := make([]byte, 3*events)
		rand.New(rand.NewSource(seed)).Read(data)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { liveRandomly(t, data) })
	}
}

func FuzzTable(f *testing.F) {
	for seed := range int64(8) {
		data := make([]byte, 150)
		rand.New(rand.NewSource(seed)).Read(data)
		f.Add(data)
	}
	f.Fuzz(liveRandomly)
}

// liveRandomly takes three bytes an event: what, who, how long after the one before.
func liveRandomly(t *testing.T, data []byte) {
	const slots = 5
	data = data[:min(len(data), 1500)] // a longer life is only slower
	b := newBench(t, slots)
	addrs := []netip.Addr{addrA, netip.MustParseAddr("2001:db8::1")}
	gens := map[heartbeat.ID]uint64{}
	what := ""
	type fallen struct {
		slot int
		Proved
	}
	known := map[fallen]bool{}
	b.store.Asked = func(i int) { // a verdict has just been written
		s := b.store.Slot(i)
		for _, a := range s.Proved.All() {
			if f := (fallen{i, a}); a.Ended && !known[f] {
				known[f] = true
				checkFallen(t, b, s, a, what)
			}
		}
	}
	for ; len(data) >= 3; data = data[3:] {
		op, sel, dt := data[0], data[1], int64(data[2])
		w := who{id: sel&3 + 1, addr: addrs[sel>>2&1], boot: sel >> 3 & 1}
		key := heartbeat.ID{w.id}
		p := b.table.known(key)
		what = fmt.Sprintf("event %d of %d@%s", op%16, w.id, w.addr)
		next := b.now + dt*dt/16 // 0 to 4 s, mostly short
		b.until(next)
		if q := b.table.known(key); q != p { // it died meanwhile
			p = q
		}
		switch op % 16 {
		case 0, 1, 2, 3:
			w.gen = gens[key]
			_, _, _, _ = b.hello(next, w)
		case 4:
			gens[key]++
			w.gen = gens[key]
			_, _, _, _ = b.hello(next, w)
		case 5:
			if p != nil && p.Generation > 0 {
				w.gen = p.Generation - 1
				if _, _, _, err := b.hello(next, w); err == nil {
					t.Fatalf("%s: a lower generation was accepted", what)
				}
			}
		case 6, 7, 8:
			if p != nil && p.latest() != nil {
				b.beat(next, p)
			}
		case 9:
			if p != nil && p.latest() != nil {
				b.fin(next, p)
			}
		case 10:
			if p != nil && p.latest() != nil {
				b.broke(next, p)
			}
		case 11:
			if p != nil && p.latest() != nil {
				b.bye(next, p, heartbeat.GoodbyeCode(1+sel>>5&1))
			}
		case 12:
			b.store.Terminate(int(sel) % slots)
		case 13:
			b.setOnClose(sel&1 == 0)
		case 14:
			if sel < 40 {
				b.restart(next)
			} else {
				b.table.held(time.Duration(sel) * 10 * time.Millisecond)
			}
		case 15:
			b.store.Terminate(int(sel) % slots)
			b.until(next + 500)
		}
		checkTable(t, b, what)
	}
	// Everybody falls silent, and the terminator does its work: nothing is left but those that are
	// remembered.
	what = "the end"
	b.until(b.now + 20000)
	for i := range slots {
		b.store.Terminate(i)
	}
	checkTable(t, b, what)
	for _, p := range b.table.peers {
		if !p.Remembered {
			t.Fatalf("conmgr %v is still there", p.ID)
		}
	}
	for i := range slots {
		if s := b.store.Slot(i); s.State == Ending || s.State == Connected || s.Pending() {
			t.Fatalf("slot %d is left: %+v", i, s)
		}
	}
}

// checkFallen looks at a verdict on an address.
func checkFallen(t *testing.T, b *bench, s MemorySlot, a Proved, what string) {
	t.Helper()
	if a.At > at(b.now).cutOff() || s.CutOff > at(b.now).cutOff() {
		t.Fatalf("%s at %d ms: a cut-off in the future", what, b.now)
	}
	for _, o := range b.table.peers {
		if o.ID == s.ID || o.find(a.Addr) < 0 || o.Boot != s.Boot || o.Remembered || o.Deferred != 0 ||
			o.State == Waiting && o.Closed != Broken {
			continue
		}
		if at(b.now).Mono < o.LastReceived.Mono.Add(o.Timeout) {
			t.Fatalf("%s at %d ms: sessions of %s are ended while conmgr %d of the same boot is alive", what, b.now,
				a.Addr, o.ID[0])
		}
	}
}

// checkTable holds the invariants.
func checkTable(t *testing.T, b *bench, what string) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("after %s at %d ms: %s; slots: %s", what, b.now, fmt.Sprintf(format, args...), b.states())
	}
	if len(b.store.Faults()) > 0 {
		fail("%s", b.store.Faults()[0])
	}
	owner := map[int]string{}
	own := func(i int, by string) {
		if before, taken := owner[i]; taken || i < 0 || i >= b.store.Len() {
			fail("slot %d is of %s and of %s", i, before, by)
		}
		owner[i] = by
	}
	for _, i := range b.table.free {
		own(i, "free")
		if s := b.store.Slot(i); s.State != Free || s.Pending() {
			fail("slot %d is said to be free, state %d, cut-off %d", i, s.State, s.CutOff)
		}
	}
	for _, i := range b.table.ending {
		own(i, "ending")
		if s := b.store.Slot(i); s.State == Ending && !s.Pending() {
			fail("slot %d is ending, and nobody ends it", i)
		} else if s.State != Ending && s.State != Free {
			fail("slot %d is said to be ending, state %d", i, s.State)
		}
	}
	now := at(b.now).Mono
	listed := 0
	for key, p := range b.table.peers {
		own(p.slot, fmt.Sprint(p.ID[0]))
		for range p.Proved.All() {
			listed++
		}
		s := b.store.Slot(p.slot)
		if heartbeat.LabelID(p.ID) != key || s.ID != p.ID || s.State != p.State || s.Generation != p.Generation {
			fail("slot %d is not what its conmgr is: %+v, %+v", p.slot, s.Slot, p.Slot)
		}
		if (s.State == Connected) != (p.latest() != nil) || (s.State != Connected && s.State != Waiting) {
			fail("slot %d has state %d, connection %v", p.slot, s.State, p.latest())
		}
		if s.LastReceived != p.LastReceived || s.Slot.Received != p.Slot.Received || s.Slot.Sent != p.Slot.Sent {
			fail("the counts of slot %d are others", p.slot)
		}
		if p.Remembered != (p.heapIndex < 0) {
			fail("remembered %v, place %d in the heap", p.Remembered, p.heapIndex)
		}
		if p.Remembered {
			continue
		}
		if h := b.table.timers.h; int(p.heapIndex) >= len(h) || h[p.heapIndex] != (timer{p.due, p}) {
			fail("the heap has another one at %d", p.heapIndex)
		}
		wake := p.pulse.Deadline()
		if p.latest() != nil {
			wake = p.pulse.Wake()
		}
		if p.due > wake {
			fail("it is looked at at %d ms, too late for %d", p.due/1e6, wake/1e6)
		}
		if wake < now {
			fail("it should have been looked at at %d ms", wake/1e6)
		}
	}
	for i, x := range b.table.timers.h {
		if b.table.known(x.p.ID) != x.p {
			fail("the heap has one that is forgotten")
		}
		if parent := b.table.timers.h[max(i-1, 0)/children]; parent.due > x.due {
			fail("the heap is not in order")
		}
	}
	byHost := 0
	for addr, list := range b.table.byHost {
		if len(list) == 0 {
			fail("an empty list for %s", addr)
		}
		for _, p := range list {
			byHost++
			if b.table.known(p.ID) != p || p.find(addr) < 0 {
				fail("the list of %s has a wrong one", addr)
			}
		}
	}
	if byHost != listed || len(owner) != b.store.Len() {
		fail("%d conmgrs, %d by address; %d of %d slots have an owner", len(b.table.peers), byHost, len(owner),
			b.store.Len())
	}
}
