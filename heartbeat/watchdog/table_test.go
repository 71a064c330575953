package watchdog

// The rules of docs/protocol.md 1.4 and 1.5 on the table alone: time is the test's, nothing waits.
// Interval 1 s, timeout 3 s, so that the cut-off of a silence is 1.5 s after the last reception.

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

func TestSilence(t *testing.T) {
	b := newBench(t, 4)
	p := b.admit(100, who{1, addrA, 1, 0})
	b.beat(1100, p)
	b.until(4099)
	b.wantNone(addrA)
	b.until(4100)
	b.wantCutOff(addrA, 2600, terminator.Silence)
	if b.states() != "ending free free free" || b.host.wakes() != 1 {
		t.Errorf("slots: %s; the terminator was woken %d times", b.states(), b.host.wakes())
	}
	if b.host.count("heartbeat is timed out: conmgr host=192.0.2.1 port=40001|Nothing was received for 3000 ms, heartbeat_timeout is 3000 ms.") != 1 {
		t.Errorf("the log:\n%s", b.host.log())
	}
	b.until(60000)
	if b.host.wakes() != 1 {
		t.Error("the same silence was judged again")
	}
}

func TestBeatsKeepAlive(t *testing.T) {
	b := newBench(t, 1)
	p := b.admit(0, who{1, addrA, 1, 0})
	for ms := int64(2900); ms < 60000; ms += 2900 {
		b.beat(ms, p)
	}
	b.wantNone(addrA)
	s := b.store.Slot(0)
	if s.State != Connected || s.Slot.Received != 21 || s.LastReceived != at(58000) {
		t.Errorf("slot: %+v", s)
	}
	if s.Slot.Sent != 59 { // WELCOME, and a BEAT each second until 58 s
		t.Errorf("%d frames sent, want 59", s.Slot.Sent)
	}
}

func TestAnnouncedEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		code    heartbeat.GoodbyeCode
		onClose bool
		ends    bool
		cause   terminator.Cause
	}{
		{"GOODBYE 1", heartbeat.GoodbyeConmgrEnds, true, true, terminator.Goodbye},
		{"GOODBYE 2", heartbeat.GoodbyeGivenUp, true, true, terminator.GivenUp},
		{"GOODBYE 1, terminate_on_close off", heartbeat.GoodbyeConmgrEnds, false, false, terminator.None},
		{"GOODBYE 2, terminate_on_close off", heartbeat.GoodbyeGivenUp, false, true, terminator.GivenUp},
		{"GOODBYE of a later version", 4, true, true, terminator.Goodbye},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 2)
			b.setOnClose(c.onClose)
			p := b.admit(0, who{1, addrA, 1, 0})
			b.bye(700, p, c.code)
			if c.ends {
				b.wantCutOff(addrA, 700, c.cause)
			} else {
				b.wantNone(addrA)
				if b.host.count("no session of 192.0.2.1 is terminated|watchdog.terminate_on_close is off.") != 1 {
					t.Errorf("the log:\n%s", b.host.log())
				}
			}
			if b.host.count("remote node shuts down heartbeat connection: conmgr host=192.0.2.1 port=40001|Bye.") != 1 {
				t.Errorf("the log:\n%s", b.host.log())
			}
			if len(b.table.peers) != 0 {
				t.Error("it is still known")
			}
		})
	}
}

func TestClosedAndNotResumed(t *testing.T) {
	b := newBench(t, 2)
	p := b.admit(0, who{1, addrA, 1, 0})
	b.beat(1000, p)
	b.fin(1400, p)
	if b.states() != "waiting free" || b.store.Slot(0).Closed != Finished ||
		b.store.Slot(0).WaitingSince != at(1400).Mono {
		t.Errorf("slot %+v", b.store.Slot(0))
	}
	b.until(3999)
	b.wantNone(addrA)
	b.until(4000)
	b.wantCutOff(addrA, 1400, terminator.Closed)
}

// TestBroken: the network broke it, which is silence.
func TestBroken(t *testing.T) {
	b := newBench(t, 2)
	p := b.admit(0, who{1, addrA, 1, 0})
	b.beat(1000, p)
	b.broke(2900, p)
	b.until(4000)
	b.wantCutOff(addrA, 2500, terminator.Silence)
}

func TestResume(t *testing.T) {
	for _, how := range []string{"closed", "broken", "still connected"} {
		t.Run(how, func(t *testing.T) {
			b := newBench(t, 1)
			p := b.admit(0, who{1, addrA, 1, 5})
			old := p.latest()
			switch how {
			case "closed":
				b.fin(1000, p)
			case "broken":
				b.broke(1000, p)
			}
			again, flags, replaced, err := b.hello(2900, who{1, addrA, 1, 5})
			if err != nil || again != p || flags != heartbeat.Resumed {
				t.Fatalf("%v, flags %d, %v", again, flags, err)
			}
			if (replaced == old) != (how == "still connected") || p.latest() == old {
				t.Errorf("replaced connection %v, the old one %v", replaced, old)
			}
			b.wantNone(addrA)
			if s := b.store.Slot(0); s.State != Connected || s.Closed != Broken || s.Resumed != 1 || s.Port != 40002 {
				t.Errorf("slot %+v", s)
			}
			b.until(5899)
			b.wantNone(addrA)
			b.until(5900)
			b.wantCutOff(addrA, 4400, terminator.Silence)
		})
	}
}

func TestHigherGenerationEndsSessions(t *testing.T) {
	for _, onClose := range []bool{true, false} {
		b := newBench(t, 1)
		b.setOnClose(onClose)
		p := b.admit(0, who{1, addrA, 1, 0})
		b.fin(1000, p)
		again, flags, _, err := b.hello(2000, who{1, addrA, 1, 1})
		if err != nil || again != p || flags != 0 {
			t.Fatalf("flags %d, %v", flags, err)
		}
		b.wantCutOff(addrA, 2000, terminator.GivenUp)
		if b.states() != "connected" {
			t.Errorf("slots: %s", b.states())
		}
		if b.host.count("established again, after conmgr had declared this instance lost") != 1 {
			t.Errorf("the log:\n%s", b.host.log())
		}
		b.store.Terminate(0)
		if b.states() != "connected" {
			t.Errorf("slots after the terminator: %s", b.states())
		}
		// The same generation again resumes.
		if _, flags, _, _ := b.hello(2100, who{1, addrA, 1, 1}); flags != heartbeat.Resumed {
			t.Errorf("flags %d", flags)
		}
		b.wantNone(addrA)
	}
}

func TestLowerGenerationIsRefused(t *testing.T) {
	b := newBench(t, 1)
	p := b.admit(0, who{1, addrA, 1, 4})
	_, _, _, err := b.hello(500, who{1, addrA, 1, 3})
	var pe *heartbeat.ProtocolError
	if !errors.As(err, &pe) || pe.Code != heartbeat.RefusedMalformed || pe.Text != "generation 3 after 4" {
		t.Fatalf("got %v", err)
	}
	if p.latest() == nil || p.Generation != 4 || b.states() != "connected" {
		t.Error("the refusal did something to the one that is known")
	}
	b.until(3000) // a refused HELLO is no reception
	b.wantCutOff(addrA, 1500, terminator.Silence)
}

// TestAnotherAddress: a conmgr that comes back from another address resumes, and both are its own.
func TestAnotherAddress(t *testing.T) {
	b := newBench(t, 2)
	p := b.admit(0, who{1, addrA, 1, 0})
	other := netip.MustParseAddr("192.0.2.2")
	q, flags, replaced, err := b.hello(100, who{1, other, 1, 0})
	if err != nil || q != p || flags != heartbeat.Resumed || replaced == nil {
		t.Fatalf("flags %d, %v", flags, err)
	}
	b.wantNone(addrA)
	b.bye(200, q, heartbeat.GoodbyeConmgrEnds)
	b.wantCutOff(other, 200, terminator.Goodbye)
	b.wantCutOff(addrA, 200, terminator.Goodbye)
}

// TestLatestAddresses: only so many are kept, and what was proved is known to the next worker.
func TestLatestAddresses(t *testing.T) {
	b := newBench(t, 2)
	for n := range byte(MaxAddresses + 2) {
		b.admit(int64(n)*100, who{1, host(10 + n), 1, 0})
	}
	p := b.admit(700, who{1, host(13), 1, 0}) // known, and the latest now
	want := []netip.Addr{host(13), host(15), host(14), host(12)}
	check := func(p *peer) {
		t.Helper()
		for i := range MaxAddresses {
			a := p.Proved.Nth(i)
			if a.Addr != want[i] || i == 0 && a.At != at(300).cutOff() {
				t.Fatalf("addresses: %v", p.Proved)
			}
		}
	}
	check(p)
	b.restart(800)
	check(b.table.known(heartbeat.ID{1}))
	if len(b.table.byHost) != MaxAddresses {
		t.Errorf("%d addresses are known", len(b.table.byHost))
	}
	b.until(10_000)
	for n := range byte(MaxAddresses + 2) {
		ms := int64(2300) // a new worker counts from its start
		if n < 2 {
			ms = -1
		}
		if got, _ := b.cutOff(host(10 + n)); got != ms {
			t.Errorf("cut-off of %s is %d ms, want %d", host(10+n), got, ms)
		}
	}
}

// TestEachAddressIsJudged: a neighbour protects the address that both have, and no other.
func TestEachAddressIsJudged(t *testing.T) {
	b := newBench(t, 4)
	other := netip.MustParseAddr("192.0.2.2")
	b.admit(0, who{1, addrA, 1, 0})
	p := b.admit(100, who{1, other, 1, 0})
	q := b.admit(200, who{2, addrA, 2, 0}) // another machine
	b.bye(1000, p, heartbeat.GoodbyeConmgrEnds)
	b.wantCutOff(other, 1000, terminator.Goodbye)
	b.wantNone(addrA)
	if s := b.store.Slot(p.slot); s.CutOff != at(1000).cutOff() {
		t.Errorf("what carries its label ends by %d", s.CutOff)
	}
	b.store.Terminate(0)
	b.broke(1500, q)
	b.until(5000)
	if s := b.store.Slot(0); !s.Pending() || s.Proved.Nth(1) != (Proved{addrA, at(1000).cutOff(), true}) {
		t.Errorf("slot %+v; the log:\n%s", s, b.host.log())
	}
}

// TestNewLifeAfterAVerdict: who comes back while the verdict on its address is put off has lost
// what carried its label, and is told so.
func TestNewLifeAfterAVerdict(t *testing.T) {
	b := newBench(t, 4)
	p := b.admit(0, who{1, addrA, 1, 0})
	known := p.ConnectedAt
	q := b.admit(0, who{2, addrA, 1, 0})
	b.beat(2000, q)
	b.until(3100)
	p, flags, _, err := b.hello(3200, who{1, addrA, 1, 0})
	if err != nil || flags != 0 || p.ConnectedAt == known || p.Deferred != 0 {
		t.Errorf("flags %d, %v, known since %d", flags, err, p.ConnectedAt)
	}
	b.wantNone(addrA)
}

// TestHeir: what carries the label of a conmgr that another one of its machine has replaced, or
// that is not needed, is that one's.
func TestHeir(t *testing.T) {
	b := newBench(t, 4)
	b.fin(100, b.admit(0, who{1, addrA, 1, 0}))
	b.admit(200, who{2, addrA, 1, 0})
	if s := b.store.Slot(0); s.State != Free || s.Heir != heartbeat.LabelID(heartbeat.ID{2}) {
		t.Errorf("slot %+v", s)
	}
	b.bye(400, b.admit(300, who{3, addrA, 1, 0}), heartbeat.GoodbyeDuplicate)
	if s := b.store.Slot(2); s.State != Free || s.Heir != heartbeat.LabelID(heartbeat.ID{2}) {
		t.Errorf("slot %+v", s)
	}
	b.bye(600, b.admit(500, who{4, addrA, 2, 0}), heartbeat.GoodbyeDuplicate)
	if s := b.store.Slot(3); s.State != Free || s.Heir != (heartbeat.ID{}) {
		t.Errorf("another machine's: slot %+v", s)
	}
}

// TestHeirsStay: a slot that says who has taken sessions over is used again last.
func TestHeirsStay(t *testing.T) {
	b := newBench(t, 3)
	b.setOnClose(false) // no verdicts: a slot is free at once
	b.fin(100, b.admit(0, who{1, addrA, 1, 0}))
	b.admit(200, who{2, addrA, 1, 0})
	for n := byte(10); n < 20; n++ {
		b.bye(300, b.admit(300, who{n, host(n), 1, 0}), heartbeat.GoodbyeConmgrEnds)
	}
	if s := b.store.Slot(0); s.ID != (heartbeat.ID{1}) || s.Heir != heartbeat.LabelID(heartbeat.ID{2}) {
		t.Errorf("slot %+v", s)
	}
	b.admit(400, who{3, host(3), 1, 0})
	b.admit(400, who{4, host(4), 1, 0})
	if s := b.store.Slot(0); s.Heir != (heartbeat.ID{}) {
		t.Errorf("with no other left: slot %+v", s)
	}
}

// TestVerdictsStand: as long as there are other slots, for a minute.
func TestVerdictsStand(t *testing.T) {
	b := newBench(t, 3)
	b.bye(100, b.admit(0, who{1, addrA, 1, 0}), heartbeat.GoodbyeConmgrEnds)
	b.store.Terminate(0)
	b.setOnClose(false)
	for n := byte(10); n < 20; n++ {
		b.bye(300, b.admit(300, who{n, host(n), 1, 0}), heartbeat.GoodbyeConmgrEnds)
	}
	if s := b.store.Slot(0); s.ID != (heartbeat.ID{1}) || s.CutOff != at(100).cutOff() || s.State != Free {
		t.Errorf("slot %+v", s)
	}
	for n := byte(10); n < 13; n++ {
		b.bye(61_000, b.admit(61_000, who{n, host(n), 1, 0}), heartbeat.GoodbyeConmgrEnds)
	}
	if s := b.store.Slot(0); s.CutOff != 0 {
		t.Errorf("a minute later: slot %+v", s)
	}
}

// TestOwnSlotAgain: an entry that looks again and again where its address leads takes one slot.
func TestOwnSlotAgain(t *testing.T) {
	b := newBench(t, 4)
	b.admit(0, who{1, addrA, 1, 0})
	for ms := int64(100); ms < 1000; ms += 100 {
		b.bye(ms, b.admit(ms, who{2, addrA, 1, 0}), heartbeat.GoodbyeDuplicate)
	}
	left := 0
	for i := range b.store.Len() {
		if b.store.Slot(i).ID == (heartbeat.ID{2}) {
			left++
		}
	}
	if left != 1 || len(b.table.left) != 1 {
		t.Errorf("%d slots are of it, %d in the list", left, len(b.table.left))
	}
}

func TestAnotherConmgrOfTheAddressIsAlive(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(b *bench, p *peer) // at 1000 ms or by the silence at 3000 ms
		by   int64
	}{
		{"silence", func(*bench, *peer) {}, 3000},
		{"GOODBYE 1", func(b *bench, p *peer) { b.bye(1000, p, heartbeat.GoodbyeConmgrEnds) }, 1000},
		{"GOODBYE 2", func(b *bench, p *peer) { b.bye(1000, p, heartbeat.GoodbyeGivenUp) }, 1000},
		{"higher generation", func(b *bench, p *peer) { b.admit(1000, who{1, addrA, 1, 1}) }, 1000},
		{"close", func(b *bench, p *peer) { b.fin(1000, p) }, 3000},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 4)
			p := b.admit(0, who{1, addrA, 1, 0})
			q := b.admit(0, who{2, addrA, 1, 0})
			b.beat(900, q)
			c.end(b, p)
			if c.by > 2500 {
				b.beat(2500, q)
			}
			b.until(c.by)
			b.wantNone(addrA)
			if b.host.count("no session of 192.0.2.1 is terminated but those with the label of conmgr host=192.0.2.1 port=4000") != 1 {
				t.Errorf("the log:\n%s", b.host.log())
			}
		})
	}
}

// TestRebooted: a conmgr of a later boot says nothing of what ran before; one of the same boot, or
// one that was there before the silence, does.
func TestRebooted(t *testing.T) {
	for _, c := range []struct {
		name      string
		connects  int64
		boot      byte
		lastBeat  int64 // of the one that falls silent
		wantEnds  bool
		wantAtMS  int64
		terminate terminator.Cause
	}{
		{"other boot, after the silence began", 1500, 2, 1000, true, 1500, terminator.Silence},
		{"other boot, in the turn in which the last word is read", 1000, 2, 1000, true, 1000, terminator.Silence},
		{"same boot, after the silence began", 1500, 1, 1000, false, 0, 0},
		{"other boot, but both were heard of together", 500, 2, 1000, false, 0, 0},
		{"boots are not known", 1500, 0, 1000, false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 4)
			first := byte(1)
			if c.boot == 0 {
				first = 0
			}
			p := b.admit(0, who{1, addrA, first, 0})
			var q *peer
			if c.connects < c.lastBeat {
				q = b.admit(c.connects, who{2, addrA, c.boot, 0})
				b.beat(c.lastBeat, p)
			} else {
				b.beat(c.lastBeat, p)
				q = b.admit(c.connects, who{2, addrA, c.boot, 0})
			}
			b.beat(2500, q)
			b.until(4000)
			if c.wantEnds {
				b.wantCutOff(addrA, c.wantAtMS, c.terminate)
			} else {
				b.wantNone(addrA)
			}
			if q.latest() == nil {
				t.Error("the other one is gone")
			}
		})
	}
}

// TestLaterBootIsForgotten: what began since it has come is its own all the same.
func TestLaterBootIsForgotten(t *testing.T) {
	for _, c := range []struct {
		name   string
		then   func(b *bench, p, q *peer) // from 1300 ms on
		at     int64
		cutOff int64
	}{
		{"removed", func(b *bench, _, q *peer) { b.bye(1300, q, heartbeat.GoodbyeDuplicate) }, 4000, 1200},
		{"removed, and the worker is another one", func(b *bench, _, q *peer) {
			b.bye(1300, q, heartbeat.GoodbyeDuplicate)
			b.restart(1400)
		}, 4400, 1200},
		{"ended, which ends nothing", func(b *bench, _, q *peer) {
			b.setOnClose(false)
			b.bye(1300, q, heartbeat.GoodbyeConmgrEnds)
		}, 4000, 1200},
		{"there again", func(b *bench, _, q *peer) {
			b.bye(1300, q, heartbeat.GoodbyeDuplicate)
			b.admit(1500, who{3, addrA, 2, 0})
		}, 4000, 1200},
		{"the next one, too", func(b *bench, _, q *peer) {
			b.bye(1300, q, heartbeat.GoodbyeDuplicate)
			b.bye(1600, b.admit(1500, who{3, addrA, 3, 0}), heartbeat.GoodbyeDuplicate)
		}, 4000, 1200},
		{"the one before has lived on", func(b *bench, p, q *peer) {
			b.bye(1300, q, heartbeat.GoodbyeDuplicate)
			b.beat(1400, p)
		}, 4400, 2900},
		{"it has lived on, and another one has come", func(b *bench, p, q *peer) {
			b.bye(1300, q, heartbeat.GoodbyeDuplicate)
			b.beat(1400, p)
			b.bye(1600, b.admit(1500, who{3, addrA, 3, 0}), heartbeat.GoodbyeDuplicate)
		}, 4400, 1500},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 4)
			p := b.admit(0, who{1, addrA, 1, 0})
			b.beat(1000, p)
			q := b.admit(1200, who{2, addrA, 2, 0})
			c.then(b, p, q)
			b.until(c.at - 1)
			b.wantNone(addrA)
			b.until(c.at)
			b.wantCutOff(addrA, c.cutOff, terminator.Silence)
		})
	}
}

// TestLaterBootBetweenTwo: of two verdicts that become one, the later one is on who was heard of when
// that boot had been and gone.
func TestLaterBootBetweenTwo(t *testing.T) {
	b := newBench(t, 4)
	b.timeout = 2 * time.Second
	b.admit(0, who{1, addrA, 1, 0})
	b.timeout = testTimeout
	q, r := b.admit(50, who{2, addrA, 1, 0}), b.admit(60, who{3, addrA, 1, 0})
	b.bye(200, b.admit(100, who{4, addrA, 2, 0}), heartbeat.GoodbyeDuplicate)
	b.beat(1950, r)
	b.bye(2100, q, heartbeat.GoodbyeConmgrEnds)
	b.until(3949)
	b.wantNone(addrA)
	b.until(3950)
	b.wantCutOff(addrA, 2100, terminator.Silence)
}

// TestConmgrOfALaterBootStartsAgain: what began between the two belongs to the machine that lives.
func TestConmgrOfALaterBootStartsAgain(t *testing.T) {
	for _, c := range []struct {
		name     string
		takes    int64 // when the later boot's first conmgr connects
		wantAtMS int64
	}{
		{"it came after the silence began", 1200, 1200},
		{"both were heard of together: two machines behind one address", 500, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 4)
			p := b.admit(0, who{1, addrA, 1, 0})
			if c.takes > 1000 {
				b.beat(1000, p)
			}
			q := b.admit(c.takes, who{2, addrA, 2, 0})
			if c.takes < 1000 {
				b.beat(1000, p)
			}
			b.fin(1400, q)
			q = b.admit(1450, who{3, addrA, 2, 0})
			b.beat(3900, q)
			b.until(4100)
			if got, _ := b.cutOff(addrA); got != c.wantAtMS {
				t.Errorf("cut-off %d ms, want %d; the log:\n%s", got, c.wantAtMS, b.host.log())
			}
		})
	}
}

// TestReplacedByANewConmgr: conmgr was started again on its host. The sessions of before are
// spared, the slot is free at once.
func TestReplacedByANewConmgr(t *testing.T) {
	b := newBench(t, 2)
	b.fin(500, b.admit(0, who{1, addrA, 1, 0}))
	b.admit(600, who{2, addrA, 1, 0})
	if b.states() != "connected free" && b.states() != "free connected" {
		t.Errorf("slots: %s", b.states())
	}
	if len(b.table.peers) != 1 || b.host.count("conmgr host=192.0.2.1 port=40001 is replaced by another one of its host") != 1 {
		t.Errorf("the log:\n%s", b.host.log())
	}
	b.until(3500)
	b.wantNone(addrA)

	// The network broke its connection: it may be running still, and resume.
	b = newBench(t, 2)
	b.broke(500, b.admit(0, who{1, addrA, 1, 3}))
	b.admit(600, who{2, addrA, 1, 0})
	if _, flags, _, err := b.hello(700, who{1, addrA, 1, 3}); flags != heartbeat.Resumed || err != nil {
		t.Errorf("flags %d, %v", flags, err)
	}

	// After a reboot it is no replacement: those sessions are dead.
	b = newBench(t, 2)
	b.fin(500, b.admit(0, who{1, addrA, 1, 0}))
	b.admit(600, who{2, addrA, 2, 0})
	b.until(3000)
	b.wantCutOff(addrA, 500, terminator.Closed)
}

func TestCloseIsSparedAndRemembered(t *testing.T) {
	setup := func(t *testing.T, slots int) *bench {
		b := newBench(t, slots)
		b.setOnClose(false)
		b.fin(1000, b.admit(0, who{1, addrA, 1, 3}))
		b.until(4000)
		b.wantNone(addrA)
		if b.store.State(b.table.known(heartbeat.ID{1}).slot) != Waiting {
			t.Fatalf("slots: %s", b.states())
		}
		if b.host.count("closed its heartbeat connection and did not resume") != 1 {
			t.Fatalf("the log:\n%s", b.host.log())
		}
		return b
	}
	t.Run("comes back with a higher generation", func(t *testing.T) {
		b := setup(t, 1)
		if _, flags, _, err := b.hello(90000, who{1, addrA, 1, 4}); flags != 0 || err != nil {
			t.Fatalf("flags %d, %v", flags, err)
		}
		b.wantCutOff(addrA, 90000, terminator.GivenUp)
	})
	t.Run("comes back with a lower generation", func(t *testing.T) {
		b := setup(t, 1)
		if _, _, _, err := b.hello(90000, who{1, addrA, 1, 2}); err == nil {
			t.Error("no error")
		}
	})
	t.Run("comes back with the same generation", func(t *testing.T) {
		b := setup(t, 1)
		p, flags, _, err := b.hello(90000, who{1, addrA, 1, 3})
		if flags != heartbeat.Resumed || err != nil || p.Remembered {
			t.Fatalf("flags %d, %v", flags, err)
		}
		b.until(93000) // and is judged again
		b.wantCutOff(addrA, 91500, terminator.Silence)
	})
	t.Run("is no proof that its host is alive", func(t *testing.T) {
		b := setup(t, 2)
		b.admit(5000, who{2, addrA, 1, 0})
		b.until(8000)
		b.wantCutOff(addrA, 6500, terminator.Silence)
	})
	t.Run("nor is it after a pause of the machine", func(t *testing.T) {
		b := setup(t, 2)
		p := b.admit(5000, who{2, addrA, 1, 0})
		b.table.held(2 * testInterval)
		b.bye(5500, p, heartbeat.GoodbyeGivenUp)
		b.wantCutOff(addrA, 5500, terminator.GivenUp)
	})
	t.Run("is not replaced by another one of its host", func(t *testing.T) {
		b := setup(t, 2)
		b.fin(5500, b.admit(5000, who{2, addrA, 1, 0}))
		b.admit(6000, who{1, addrA, 1, 4})
		b.wantCutOff(addrA, 6000, terminator.GivenUp)
	})
	t.Run("gives way when the table is full, the oldest first", func(t *testing.T) {
		b := setup(t, 2)
		addrB := netip.MustParseAddr("192.0.2.2")
		b.fin(5000, b.admit(4500, who{2, addrB, 1, 0}))
		b.until(9000)
		b.admit(10000, who{3, netip.MustParseAddr("192.0.2.3"), 1, 0})
		if b.table.known(heartbeat.ID{1}) != nil || b.table.known(heartbeat.ID{2}) == nil {
			t.Error("not the oldest one gave way")
		}
	})
	t.Run("does not give way while its sessions are being ended", func(t *testing.T) {
		b := newBench(t, 2)
		b.setOnClose(false)
		addrB := netip.MustParseAddr("192.0.2.2")
		p := b.admit(0, who{1, addrA, 1, 0})
		b.fin(100, p)
		p = b.admit(200, who{1, addrA, 1, 1}) // a cut-off that the terminator does not serve yet
		b.fin(300, p)
		b.fin(500, b.admit(400, who{2, addrB, 1, 0}))
		b.until(5000)
		b.wantCutOff(addrA, 200, terminator.GivenUp)
		b.admit(6000, who{3, netip.MustParseAddr("192.0.2.3"), 1, 0})
		if b.table.known(heartbeat.ID{1}) == nil || b.table.known(heartbeat.ID{2}) != nil {
			t.Error("the slot that could not be had was given up, and the one that could was not")
		}
		b.wantCutOff(addrA, 200, terminator.GivenUp)
	})
}

// ending is the slot that is ending.
func ending(b *bench) int {
	for i := range b.store.Len() {
		if b.store.State(i) == Ending {
			return i
		}
	}
	b.t.Fatal("no slot is ending")
	return -1
}

// TestPendingCutOffKeepsTheSlot: a conmgr is forgotten while an earlier request for its sessions is
// still under way.
func TestPendingCutOffKeepsTheSlot(t *testing.T) {
	b := newBench(t, 2)
	p := b.admit(0, who{1, addrA, 1, 0})
	b.admit(50, who{1, addrA, 1, 1}) // request of 50
	b.setOnClose(false)
	b.bye(100, p, heartbeat.GoodbyeConmgrEnds) // ends nothing itself
	if b.states() != "ending free" {
		t.Errorf("slots: %s", b.states())
	}
	b.wantCutOff(addrA, 50, terminator.GivenUp)
	b.store.Terminate(0)
	if b.states() != "free free" {
		t.Errorf("slots: %s", b.states())
	}
}

// TestTerminatorIsFaster: it may answer between the cut-off and the state. The slot must not stay
// Ending for ever.
func TestTerminatorIsFaster(t *testing.T) {
	b := newBench(t, 1)
	b.store.Asked = b.store.Terminate
	for id := byte(1); id < 10; id++ {
		p := b.admit(int64(id)*1000, who{id, addrA, 1, 0})
		b.bye(int64(id)*1000+500, p, heartbeat.GoodbyeConmgrEnds)
		if b.states() != "free" {
			t.Fatalf("slots: %s", b.states())
		}
	}
}

func TestWorkerRestart(t *testing.T) {
	addrs := make([]netip.Addr, 6)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})
	}
	b := newBench(t, 6)
	connected := b.admit(0, who{1, addrs[0], 1, 7})
	closed := b.admit(0, who{2, addrs[1], 1, 0})
	b.fin(500, closed)
	bye := b.admit(600, who{3, addrs[2], 1, 0})
	b.bye(700, bye, heartbeat.GoodbyeConmgrEnds)
	answered := b.admit(800, who{4, addrs[3], 1, 0}) // its worker died before it could ask, or see the answer
	torn := b.admit(900, who{5, addrs[4], 1, 0})
	b.store.Edit(answered.slot, func(s *MemorySlot) { s.State = Ending })
	b.store.Edit(torn.slot, func(s *MemorySlot) { s.Interval = 0 })
	sent := b.store.Slot(connected.slot).Slot.Sent
	b.restart(5000)
	if got := b.host.count("waiting for 2 known conmgr processes to resume"); got != 1 {
		t.Errorf("the log:\n%s", b.host.log())
	}
	counts := map[State]int{}
	for i := range b.store.Len() {
		counts[b.store.State(i)]++
	}
	if counts[Waiting] != 2 || counts[Ending] != 2 || counts[Free] != 2 || !b.store.Pending(answered.slot) {
		t.Errorf("slots: %s", b.states())
	}
	if s := b.store.Slot(b.table.known(heartbeat.ID{1}).slot); s.Closed != Broken ||
		s.WaitingSince != at(5000).Mono || s.Generation != 7 || s.Slot.Sent != sent {
		t.Errorf("slot of the connected one: %+v", s)
	}
	// Both have heartbeat_timeout from now on.
	b.until(7900)
	b.wantNone(addrs[0])
	b.wantNone(addrs[1])
	if _, flags, _, err := b.hello(7950, who{1, addrs[0], 1, 7}); err != nil || flags != heartbeat.Resumed {
		t.Errorf("resume after the restart: flags %d, %v", flags, err)
	}
	b.until(8000)
	b.wantNone(addrs[0])
	b.wantCutOff(addrs[1], 500, terminator.Closed)
	b.wantCutOff(addrs[2], 700, terminator.Goodbye)
	b.until(10950)
	b.wantCutOff(addrs[0], 9450, terminator.Silence)
}

func TestWorkerRestartForgetsDuplicates(t *testing.T) {
	b := newBench(t, 3)
	p := b.admit(0, who{1, addrA, 1, 0})
	b.store.Edit((p.slot+1)%3, func(s *MemorySlot) { *s = b.store.slots[p.slot] })
	b.restart(1000)
	if len(b.table.peers) != 1 || strings.Count(b.states(), "free") != 2 {
		t.Errorf("%d conmgrs, slots: %s", len(b.table.peers), b.states())
	}
	if p, _, _, err := b.hello(1100, who{1, addrA, 1, 1}); err != nil || p.Generation != 1 {
		t.Errorf("higher generation after the restart: %v", err)
	}
	b.wantCutOff(addrA, 1100, terminator.GivenUp)
}

// TestLateWorker: the process was held up; nobody dies of that.
func TestLateWorker(t *testing.T) {
	b := newBench(t, 2)
	b.admit(0, who{1, addrA, 1, 0})
	waiting := b.admit(0, who{2, netip.MustParseAddr("192.0.2.2"), 1, 0})
	b.fin(100, waiting)
	b.until(2500)
	b.table.held(2 * testInterval)
	b.table.held(9 * testInterval) // once per silence
	b.until(5999)
	b.wantNone(addrA)
	b.wantNone(waiting.Addr())
	b.until(6000)
	b.wantCutOff(addrA, 1500, terminator.Silence)
	b.wantCutOff(waiting.Addr(), 100, terminator.Closed)
}

// TestZones: a link-local address is another host on each link.
func TestZones(t *testing.T) {
	b := newBench(t, 4)
	one, two := netip.MustParseAddr("fe80::1%1"), netip.MustParseAddr("fe80::1%2")
	x := b.admit(200, who{2, one, 1, 0})
	b.admit(200, who{3, two, 1, 0})
	b.bye(300, x, heartbeat.GoodbyeConmgrEnds)
	b.wantCutOff(one, 300, terminator.Goodbye)
	b.wantNone(two)
}

// TestLoopbackIsOneHost: conmgrs by ::1 and by 127.0.0.1 protect each other, as the terminator
// matches the sessions of both.
func TestLoopbackIsOneHost(t *testing.T) {
	b := newBench(t, 2)
	six := netip.IPv6Loopback()
	p := b.admit(0, who{1, six, 1, 0})
	q := b.admit(0, who{2, netip.MustParseAddr("127.0.0.1"), 1, 0})
	b.bye(100, p, heartbeat.GoodbyeConmgrEnds)
	b.wantNone(six)
	b.bye(200, q, heartbeat.GoodbyeConmgrEnds)
	b.wantCutOff(netip.MustParseAddr("127.0.0.1"), 200, terminator.Goodbye)
}

func TestTexts(t *testing.T) {
	for in, want := range map[string]string{"": "", "the end": "The end.", "watchdog.port": "watchdog.port.", "X": "X.",
		"äh": "äh."} {
		if got := sentence(in); got != want {
			t.Errorf("sentence(%q) = %q, want %q", in, got, want)
		}
	}
	if got := HostPort(netip.MustParseAddr("2001:db8::1"), 65535); got != "host=2001:db8::1 port=65535" {
		t.Error(got)
	}
}
