package watchdog

// Verdicts where an address has more than one conmgr, and those on connections that were closed or
// reset: docs/protocol.md 1.5 on the table alone. Time is the test's. Interval 1 s, timeout 3 s
// unless said otherwise.

import (
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// TestLastOfTwo: another one of the address was alive at the verdict, and what became of it.
func TestLastOfTwo(t *testing.T) {
	const bye, givenUp = heartbeat.GoodbyeConmgrEnds, heartbeat.GoodbyeGivenUp
	type lives struct{ p, q *peer }
	for _, c := range []struct {
		name    string
		keep    bool // terminate_on_close off
		run     func(b *bench, l lives)
		at      int64 // when to look
		cutOff  int64 // -1: none
		by      terminator.Cause
		earlier int64 // and there must be none until then
	}{
		{"GOODBYE, then silence: the GOODBYE is later", false,
			func(b *bench, l lives) { b.bye(2900, l.p, bye) }, 5900, 2900, terminator.Goodbye, 3099},
		{"silence, then silence: the own is later", false,
			func(b *bench, l lives) { b.beat(2000, l.q); b.until(3000) }, 5000, 3500, terminator.Silence, 4999},
		{"it is closed: no protection", false,
			func(b *bench, l lives) { b.fin(1000, l.q); b.bye(2000, l.p, bye) }, 2000, 2000, terminator.Goodbye, 1999},
		{"it is reset: no protection", false,
			func(b *bench, l lives) { b.rst(1000, l.q); b.until(2900) }, 3000, 1500, terminator.Silence, 2999},
		{"its connection is broken, and it was heard", false,
			func(b *bench, l lives) { b.beat(2000, l.q); b.broke(2500, l.q) }, 5000, 3500, terminator.Silence, 4999},
		{"closed, terminate_on_close off: the silence of the first holds", true,
			func(b *bench, l lives) { b.beat(1900, l.q); b.until(3000); b.fin(3100, l.q) }, 4900, 1500,
			terminator.Silence, 4899},
		{"heard again: dropped", true,
			func(b *bench, l lives) { b.bye(1000, l.p, givenUp); b.beat(1100, l.q); b.fin(1200, l.q) }, 60000, -1, 0,
			0},
		{"resumed: dropped", true,
			func(b *bench, l lives) {
				b.bye(1000, l.p, givenUp)
				b.fin(1100, l.q)
				b.fin(1300, b.admit(1200, who{2, addrA, 1, 0}))
			}, 60000, -1, 0, 0},
		{"its GOODBYE is heard as well: dropped", true,
			func(b *bench, l lives) { b.bye(1500, l.p, givenUp); b.bye(2000, l.q, bye) }, 60000, -1, 0, 0},
		{"closed, not heard since: not dropped", true,
			func(b *bench, l lives) { b.bye(1500, l.p, givenUp); b.fin(2000, l.q) }, 4500, 1500, terminator.GivenUp,
			4499},
		{"the first is back: as if nothing had been", false,
			func(b *bench, l lives) {
				b.beat(2900, l.q)
				b.until(3000)
				p := b.admit(3100, who{1, addrA, 1, 0})
				b.fin(3150, l.q)
				for ms := int64(3200); ms < 59000; ms += 1000 {
					b.beat(ms, p)
				}
			}, 59000, -1, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 4)
			b.setOnClose(!c.keep)
			l := lives{p: b.admit(0, who{1, addrA, 1, 0}), q: b.admit(100, who{2, addrA, 1, 0})}
			c.run(b, l)
			if c.cutOff >= 0 && b.now < c.earlier {
				b.until(c.earlier)
				b.wantNone(addrA)
			}
			b.until(c.at)
			b.wantCutOff(addrA, c.cutOff, c.by)
			if b.table.deferrals != 0 {
				t.Errorf("%d verdicts are still put off", b.table.deferrals)
			}
		})
	}
}

// TestBothAtOnce: one whose own time is over does not count as alive.
func TestBothAtOnce(t *testing.T) {
	b := newBench(t, 4)
	b.admit(0, who{1, addrA, 1, 0})
	b.admit(0, who{2, addrA, 1, 0})
	b.until(3000)
	b.wantCutOff(addrA, 1500, terminator.Silence)
	if b.host.count("is alive") != 0 {
		t.Errorf("the log:\n%s", b.host.log())
	}
}

// TestLongTimeoutDoesNotProtect: another process of the address says HELLO with the longest timeout
// that there may be. The host dies at 10 s: 3 s later its sessions end, as its conmgr had promised
// them.
func TestLongTimeoutDoesNotProtect(t *testing.T) {
	const dies = 10_000
	for _, c := range []struct {
		name string
		live func(b *bench, ms int64, q *peer) *peer // each 250 ms until the host dies
		cut  int64                                   // at the earliest; the sessions' last possible start is 10 s
	}{
		{"mute", func(_ *bench, _ int64, q *peer) *peer { return q }, 0},
		{"closed", func(b *bench, ms int64, q *peer) *peer {
			if ms == 5000 {
				b.fin(ms, q)
			}
			return q
		}, 0},
		{"closed at the very end", func(b *bench, ms int64, q *peer) *peer {
			if ms == dies-250 {
				b.beat(ms, q)
				b.fin(ms, q)
			}
			return q
		}, 0},
		{"reset", func(b *bench, ms int64, q *peer) *peer {
			if ms == dies-250 {
				b.rst(ms, q)
			}
			return q
		}, 0},
		{"beats until the end", func(b *bench, ms int64, q *peer) *peer { b.beat(ms, q); return q }, 0},
		{"ever new ones, that close", func(b *bench, ms int64, q *peer) *peer {
			if q.State == Connected {
				b.fin(ms, q)
			}
			p, _, _, err := b.hello(ms, who{byte(ms/250) + 10, addrA, 1, 0})
			if err != nil {
				b.t.Fatal(err)
			}
			return p
		}, 0},
		{"ever new ones, that say goodbye", func(b *bench, ms int64, q *peer) *peer {
			p := b.admit(ms, who{byte(ms/250) + 10, addrA, 1, 0})
			b.bye(ms, q, heartbeat.GoodbyeConmgrEnds)
			return p
		}, 0},
	} {
		for _, end := range []string{"silent", "killed before", "stopped before"} {
			t.Run(c.name+", "+end, func(t *testing.T) {
				b := newBench(t, 200)
				p := b.admit(0, who{1, addrA, 1, 0})
				b.timeout, b.interval = time.Hour, time.Hour
				q := b.admit(0, who{2, addrA, 1, 0})
				gone := false
				for ms := int64(250); ms < dies; ms += 250 {
					q = c.live(b, ms, q)
					switch {
					case end == "killed before" && ms == dies-500:
						b.fin(ms, p)
						gone = true
					case end == "stopped before" && ms == dies-500:
						b.bye(ms, p, heartbeat.GoodbyeConmgrEnds)
						gone = true
					case !gone:
						b.beat(ms, p)
					}
				}
				b.until(dies + 3000)
				if ms, cause := b.cutOff(addrA); ms < dies-500 || ms > dies+3000 || cause == terminator.None {
					t.Errorf("cut-off %d by %d; the log:\n%s", ms, cause, b.host.log())
				}
			})
		}
	}
}

// TestShortTimeoutOfALaterOne: a host lives, and another process of its address has said HELLO with
// the shortest timeout that there may be. Whatever becomes of that, the sessions stay, and end by
// the host's own conmgr.
func TestShortTimeoutOfALaterOne(t *testing.T) {
	for name, end := range map[string]func(b *bench, q *peer){
		"mute":     func(*bench, *peer) {},
		"closed":   func(b *bench, q *peer) { b.fin(5005, q) },
		"reset":    func(b *bench, q *peer) { b.rst(5005, q) },
		"goodbye":  func(b *bench, q *peer) { b.bye(5005, q, heartbeat.GoodbyeConmgrEnds) },
		"given up": func(b *bench, q *peer) { b.bye(5005, q, heartbeat.GoodbyeGivenUp) },
		"given up and back": func(b *bench, q *peer) {
			b.broke(5005, q)
			b.admit(5006, who{2, addrA, 1, 1})
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				b := newBench(t, 4)
				b.interval, b.timeout = 10*time.Second, 20*time.Second
				p := b.admit(0, who{1, addrA, 1, 0})
				b.interval, b.timeout = 10*time.Millisecond, 10*time.Millisecond
				q := b.admit(5000, who{2, addrA, 1, 0})
				if restart { // both resume
					b.restart(5001)
					q = b.admit(5002, who{2, addrA, 1, 0})
					b.interval, b.timeout = 10*time.Second, 20*time.Second
					p = b.admit(5003, who{1, addrA, 1, 0})
					b.interval, b.timeout = 10*time.Millisecond, 10*time.Millisecond
				}
				end(b, q)
				b.beat(10_000, p)
				b.until(29_999)
				b.wantNone(addrA)
				b.until(30_000)
				b.wantCutOff(addrA, 25_000, terminator.Silence)
			})
		}
	}
}

// TestProtectedByOneOfLongTimeout: a host lives, its conmgr was killed. Another conmgr with a
// longer timeout is heard often enough: the sessions stay as long as it is, and end as the first
// had promised when it is not.
func TestProtectedByOneOfLongTimeout(t *testing.T) {
	b := newBench(t, 4)
	p := b.admit(0, who{1, addrA, 1, 0})
	b.timeout = time.Minute
	q := b.admit(0, who{2, addrA, 1, 0})
	b.fin(500, p)
	for ms := int64(1000); ms <= 30_000; ms += 1000 {
		b.beat(ms, q)
	}
	b.wantNone(addrA)
	b.until(32_999)
	b.wantNone(addrA)
	b.until(33_000)
	b.wantCutOff(addrA, 500, terminator.Closed)
	if b.host.count("no other conmgr of 192.0.2.1 is heard of: the sessions that conmgr host=192.0.2.1 port=40001 has left are terminated") != 1 {
		t.Errorf("the log:\n%s", b.host.log())
	}
	if q.latest() == nil {
		t.Error("the other one, whose own time is not over, was ended")
	}
}

// TestTimeFromTheLastWord: a verdict was put off, and the one that protects, whose timeout is
// longer, closes soon after it was heard: the host was up then.
func TestTimeFromTheLastWord(t *testing.T) {
	b := newBench(t, 4)
	b.admit(0, who{1, addrA, 1, 0})
	b.timeout = time.Minute
	q := b.admit(0, who{2, addrA, 1, 0})
	b.beat(2000, q)
	b.until(3000)
	b.beat(4000, q)
	b.fin(4100, q)
	b.until(6999)
	b.wantNone(addrA)
	b.until(7000)
	b.wantCutOff(addrA, 1500, terminator.Silence)

	// One of a later boot says nothing of the sessions of before.
	b = newBench(t, 4)
	b.admit(0, who{1, addrA, 1, 0})
	b.timeout = time.Minute
	b.beat(2000, b.admit(0, who{2, addrA, 1, 0}))
	b.until(3000)
	q = b.admit(3500, who{3, addrA, 2, 0})
	b.beat(4400, q)
	b.fin(4500, q)
	b.until(4999)
	b.wantNone(addrA)
	b.until(5000)
	b.wantCutOff(addrA, 1500, terminator.Silence)
}

// TestLessWatchedReplacement: a conmgr was killed, and one with a longer timeout came in its place
// and closed: that frees the first one's slot, but not the sessions from its promise.
func TestLessWatchedReplacement(t *testing.T) {
	b := newBench(t, 4)
	b.fin(1000, b.admit(0, who{1, addrA, 1, 0}))
	b.timeout = time.Hour
	b.fin(1200, b.admit(1100, who{2, addrA, 1, 0}))
	b.until(2999)
	b.wantNone(addrA)
	b.until(3000)
	b.wantCutOff(addrA, 1000, terminator.Closed)
}

// TestDeferredSurvivesARestart: the worker ends between a verdict that was put off and what becomes
// of it.
func TestDeferredSurvivesARestart(t *testing.T) {
	setup := func(t *testing.T) *bench {
		b := newBench(t, 4)
		p := b.admit(0, who{1, addrA, 1, 0})
		b.admit(100, who{2, addrA, 1, 0})
		b.bye(1500, p, heartbeat.GoodbyeGivenUp)
		b.setOnClose(false)
		b.restart(2000)
		if b.host.count("waiting for 1 known conmgr processes to resume") != 1 || b.table.deferrals != 1 {
			t.Errorf("%d put off; the log:\n%s", b.table.deferrals, b.host.log())
		}
		return b
	}
	b := setup(t)
	b.until(4999)
	b.wantNone(addrA)
	b.until(5000)
	b.wantCutOff(addrA, 3500, terminator.Silence) // the other one's own; and the one put off
	for i := range b.store.Len() {
		if s := b.store.Slot(i); s.ID[0] == 1 && (s.CutOff != at(1500).cutOff() || s.Cause != terminator.GivenUp) {
			t.Errorf("slot %+v", s)
		}
	}
	b = setup(t)
	q := b.admit(2500, who{2, addrA, 1, 0})
	if b.table.deferrals != 0 {
		t.Error("the other one is back, and the verdict is still put off")
	}
	b.fin(2600, q)
	b.until(60000)
	b.wantNone(addrA)
}

// TestRestartProvesNothing: after a restart of the worker the other conmgr has time to resume, but
// it was not heard.
func TestRestartProvesNothing(t *testing.T) {
	b := newBench(t, 4)
	b.admit(0, who{1, addrA, 1, 0})
	b.timeout = time.Hour
	b.admit(0, who{2, addrA, 1, 0})
	b.restart(1000)
	b.until(3999)
	b.wantNone(addrA)
	b.until(4000)
	if ms, cause := b.cutOff(addrA); ms < 0 || cause != terminator.Silence {
		t.Errorf("cut-off %d by %d", ms, cause)
	}
}

// TestOneDeferralAnAddress: those put off do not take ever more slots, whatever boots they tell.
func TestOneDeferralAnAddress(t *testing.T) {
	b := newBench(t, 4)
	q := b.admit(0, who{1, addrA, 1, 0})
	for id := byte(2); id < 100; id++ {
		b.timeout = testTimeout + time.Duration(id)*time.Millisecond
		b.bye(int64(id), b.admit(int64(id), who{id, addrA, id, 0}), heartbeat.GoodbyeConmgrEnds)
		if n := len(b.table.peers); n > 1+terminator.MostPutOff {
			t.Fatalf("%d slots are used", n)
		}
		for i := range b.store.Len() { // what carried their labels has ended
			b.store.Terminate(i)
		}
	}
	b.wantNone(addrA)
	b.broke(99, q)
	b.until(99 + 3099)
	b.wantCutOff(addrA, 1500, terminator.Silence)
}

// TestResetIsSilence: a firewall answers with RST in the name of a host that is dead. Its sessions
// end at the deadline, whatever terminate_on_close says, and as those of a silent host.
func TestResetIsSilence(t *testing.T) {
	for _, onClose := range []bool{true, false} {
		b := newBench(t, 2)
		b.setOnClose(onClose)
		p := b.admit(0, who{1, addrA, 1, 0})
		b.beat(1000, p)
		b.rst(2000, p)
		b.until(3999)
		b.wantNone(addrA)
		b.until(4000)
		b.wantCutOff(addrA, 2500, terminator.Silence)
		if b.host.count("heartbeat is timed out") != 1 {
			t.Errorf("the log:\n%s", b.host.log())
		}
	}
	// The conmgr was killed with something unread, and is started again: as after a FIN, but it is
	// not known to be gone.
	for slots, replaced := range map[int]int{2: 0, 1: 1} {
		b := newBench(t, slots)
		b.rst(500, b.admit(0, who{1, addrA, 1, 0}))
		p := b.admit(600, who{2, addrA, 1, 0})
		if n := b.host.count("is replaced by another one of its host"); n != replaced || len(b.table.peers) != 2-n {
			t.Errorf("%d slots; the log:\n%s", slots, b.host.log())
		}
		for ms := int64(1000); ms < 5000; ms += 500 {
			b.beat(ms, p)
		}
		b.wantNone(addrA)
		if len(b.table.peers) != 1 {
			t.Errorf("%d are known", len(b.table.peers))
		}
	}
}

// TestResetOfALivingConmgr: a middlebox has reset the server's end only, so that the conmgr does
// not know yet; another one of its host says HELLO meanwhile. It must resume: a server that has
// forgotten it is lost to its applications. (Found by internal/simulate.)
func TestResetOfALivingConmgr(t *testing.T) {
	b := newBench(t, 4)
	b.rst(500, b.admit(0, who{1, addrA, 1, 0}))
	b.admit(600, who{2, addrA, 1, 0})
	if _, flags, _, err := b.hello(1000, who{1, addrA, 1, 0}); err != nil || flags&heartbeat.Resumed == 0 {
		t.Errorf("flags %d, %v; the log:\n%s", flags, err, b.host.log())
	}
}

// TestDuplicateEntry: conmgr has found that two of its entries are this server.
func TestDuplicateEntry(t *testing.T) {
	b := newBench(t, 2)
	b.bye(700, b.admit(0, who{1, addrA, 1, 0}), heartbeat.GoodbyeDuplicate)
	b.until(60000)
	b.wantNone(addrA)
	if len(b.table.peers) != 0 || b.states() != "free free" {
		t.Errorf("slots: %s", b.states())
	}
	if b.host.count("conmgr host=192.0.2.1 port=40001 monitors this server under another of its entries") != 1 ||
		b.host.count("shuts down") != 0 || b.host.count("is terminated") != 0 {
		t.Errorf("the log:\n%s", b.host.log())
	}
}

// TestRestartIsNotLate: what was due before a worker began is not when it was to look next: a
// process that is that late gives everybody grace.
func TestRestartIsNotLate(t *testing.T) {
	b := newBench(t, 4)
	if _, _, _, err := b.hello(57_000, who{id: 1, addr: addrA}); err != nil {
		t.Fatal(err)
	}
	b.store.SetAlive(at(60_900).Mono) // and then it stood still
	b.restart(61_000)
	if w := b.table.Wake(); w != at(61_000).Mono {
		t.Errorf("the next look is to be at %v", time.Duration(w))
	}
}
