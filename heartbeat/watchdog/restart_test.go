package watchdog

// A worker that dies, at any moment: what the next one finds in the slots, and does.

import (
	"net/netip"
	"testing"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// dying is a store whose worker dies when it is about to ask the terminator.
type dying struct{ *Memory }

func (dying) Ask(int, terminator.Time) { panic("killed") }

// freeing is a store whose worker dies when it is about to write another slot than it has freed.
type freeing struct {
	*Memory
	freed *bool
}

func (f freeing) SetState(i int, s State) {
	f.Memory.SetState(i, s)
	*f.freed = s == Free
}

func (f freeing) Put(i int, s *Slot) {
	if *f.freed {
		panic("killed")
	}
	f.Memory.Put(i, s)
}

// dies is a moment in which the worker of b dies, as it is in store.
func (b *bench) dies(ms int64, store Store, in func()) {
	b.t.Helper()
	b.table.store = store
	defer func() {
		if recover() == nil {
			b.t.Fatalf("it has not died; the log:\n%s", b.host.log())
		}
		b.restart(ms)
	}()
	in()
}

// TestWorkerDiesBeforeItAsks: the verdict stands in the slot, and nobody was asked for it. The next
// worker asks, once.
func TestWorkerDiesBeforeItAsks(t *testing.T) {
	for _, c := range []struct {
		name  string
		run   func(b *bench, p *peer)
		state string
	}{
		{"all of it has fallen", func(b *bench, p *peer) { b.bye(1000, p, heartbeat.GoodbyeConmgrEnds) }, "ending"},
		{"the part by address is put off", func(b *bench, p *peer) {
			b.beat(900, b.admit(500, who{2, addrA, 1, 0}))
			b.bye(1000, p, heartbeat.GoodbyeConmgrEnds)
		}, "waiting"},
		{"it is back", func(b *bench, _ *peer) { b.admit(1000, who{1, addrA, 1, 1}) }, "waiting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 2)
			p := b.admit(0, who{1, addrA, 1, 0})
			slot := p.slot
			b.dies(1100, dying{b.store}, func() { c.run(b, p) })
			s := b.store.Slot(slot)
			if state := [...]string{"free", "connected", "waiting", "ending"}[s.State]; state != c.state || !s.Pending() || s.Unasked {
				t.Errorf("the slot is %s, asked %v, unasked %v", state, s.Pending(), s.Unasked)
			}
			if b.store.Latest() != terminator.Time(at(1000).Mono) {
				t.Errorf("a session that starts would not look at it: the latest is %v", b.store.Latest())
			}
			b.store.Terminate(slot)
			b.restart(1200)
			if b.store.Slot(slot).Pending() {
				t.Error("it is asked again for what was done")
			}
		})
	}
}

// TestInheritsWhatItCan: of two verdicts that become one, the addresses that find no place in the
// slot are waited for in the other.
func TestInheritsWhatItCan(t *testing.T) {
	addr := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }
	for _, second := range []bool{false, true} { // the slot that stays is the later one's, or the earlier one's
		b := newBench(t, 8)
		others := []byte{1, 2, 3, 4, 5}
		b.timeout = testTimeout * 4
		for i, n := range others { // each address has one that lives
			b.admit(0, who{100 + byte(i), addr(n), 1, 0})
		}
		b.timeout = testTimeout
		if second {
			b.timeout -= testInterval
		}
		var p, q *peer
		for _, n := range []byte{2, 3, 4, 1} {
			p = b.admit(10, who{1, addr(n), 1, 0})
		}
		b.timeout = testTimeout
		for _, n := range []byte{5, 1} {
			q = b.admit(20, who{2, addr(n), 1, 0})
		}
		b.bye(1000, p, heartbeat.GoodbyeConmgrEnds)
		b.bye(1100, q, heartbeat.GoodbyeConmgrEnds)
		b.until(4101)
		for _, n := range others {
			if got, _ := b.cutOff(addr(n)); got < 1000 {
				t.Errorf("second %v: no verdict on %s falls: %d; the log:\n%s", second, addr(n), got, b.host.log())
			}
		}
		if n := b.table.deferrals; n != 0 {
			t.Errorf("%d verdicts are put off", n)
		}
	}
}

// TestWorkerDiesWhileTwoBecomeOne: of two verdicts that become one, no address is lost when the
// worker dies between the slots.
func TestWorkerDiesWhileTwoBecomeOne(t *testing.T) {
	addr := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }
	b := newBench(t, 4)
	b.timeout = testTimeout * 4
	others := []*peer{b.admit(0, who{101, addr(1), 1, 0}), b.admit(0, who{102, addr(2), 1, 0})}
	b.timeout = testTimeout
	b.admit(10, who{1, addr(2), 1, 0})
	p := b.admit(10, who{1, addr(1), 1, 0})
	b.admit(20, who{2, addr(1), 1, 0})
	for _, o := range others {
		b.beat(1000, o)
	}
	b.until(3015) // the first one's is put off
	b.store.Terminate(p.slot)
	b.dies(3100, freeing{b.store, new(bool)}, func() { b.until(3100) })
	b.until(9000) // before the others are judged
	for n := byte(1); n <= 2; n++ {
		if got, _ := b.cutOff(addr(n)); got < 1000 {
			t.Errorf("no verdict on %s falls: %d; the log:\n%s", addr(n), got, b.host.log())
		}
	}
}
