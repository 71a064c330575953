package worker

// The reactor with conmgrs that keep the protocol, and some that do not.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/terminator"
)

func TestHeartbeats(t *testing.T) {
	l := start(t, 4).listening()
	c, begin := l.dial(), time.Now()
	const interval, timeout = 30 * time.Millisecond, 900 * time.Millisecond
	w := c.greet(helloOf(1, 3, interval, timeout))
	if w.Version != 1 || w.Flags != heartbeat.KnowsLabels || w.SystemIdentifier != 77 || w.PostmasterStart != 1234567 || w.Attributes != (heartbeat.Attributes{Timeline: 1}) {
		t.Errorf("WELCOME %+v", w)
	}
	s := l.slotOf(1, "connected", inState(watchdog.Connected))
	if s.Interval != interval || s.Timeout != timeout || s.Generation != 3 || s.Addr().String() != "127.0.0.1" || s.Boot != (heartbeat.ID{9}) {
		t.Errorf("slot %+v", s)
	}
	const beats = 45 // longer than the timeout
	for i := uint32(1); i <= beats; i++ {
		c.write(beatFrame(i))
		b, err := heartbeat.ParseWatchdogBeat(c.expect(heartbeat.TypeBeat).Payload, 1)
		if err != nil || b != (heartbeat.WatchdogBeat{Sequence: i, Attributes: w.Attributes}) {
			t.Fatalf("BEAT %+v, %v; want number %d", b, err, i)
		}
	}
	if took := time.Since(begin); took < (beats-2)*interval {
		t.Errorf("%d BEATs in %v: they come too fast", beats, took)
	}
	l.slotOf(1, "all counted", func(s fakeSlot) bool { // the last ones may be under way
		return s.State == watchdog.Connected && s.Slot.Received >= beats && s.Slot.Sent >= beats
	})
	answers := l.host.alive.Load()
	l.host.wake()
	testkit.Eventually(t, patience, "an answer to the host's question", func() (bool, string) { return l.host.alive.Load() > answers, "" })
}

func TestSilentConmgr(t *testing.T) {
	l := start(t, 4).listening()
	c := l.dial()
	before := l.clock()
	const interval, timeout = 20 * time.Millisecond, 250 * time.Millisecond
	c.greet(helloOf(1, 0, interval, timeout))
	g, err := heartbeat.ParseGoodbye(c.expect(heartbeat.TypeGoodbye).Payload)
	took := l.clock().Mono.Sub(before.Mono)
	if err != nil || g.Code != heartbeat.GoodbyeConmgrSilent {
		t.Fatalf("%+v, %v", g, err)
	}
	c.ended()
	if took < timeout {
		t.Errorf("the verdict fell after %v", took)
	}
	s := l.slotOf(1, "ending, and the terminator is woken", func(s fakeSlot) bool {
		return s.State == watchdog.Ending && l.host.wakes.Load() == 1
	})
	if s.Cause != terminator.Silence || s.CutOff < terminator.Time(before.Mono) || s.CutOff > terminator.Time(l.clock().Mono) {
		t.Errorf("cause %d, cut-off %v after the HELLO", s.Cause, s.CutOff-terminator.Time(before.Mono))
	}
}

func TestAttributesArePushed(t *testing.T) {
	l := start(t, 4).listening()
	a, b := l.conmgr(1), l.conmgr(2)
	for i, attrs := range []heartbeat.Attributes{{Flags: heartbeat.InRecovery, Timeline: 1}, {Timeline: 2},
		{Flags: heartbeat.Draining, Timeline: 2}, {Flags: heartbeat.ShuttingDown, Timeline: 2}} {
		l.host.setAttributes(attrs)
		l.host.wake()
		for _, c := range []*remote{a, b} {
			got, err := heartbeat.ParseWatchdogBeat(c.expect(heartbeat.TypeBeat).Payload, 1)
			if want := (heartbeat.WatchdogBeat{Sequence: uint32(i + 1), Attributes: attrs}); err != nil || got != want {
				t.Fatalf("BEAT %+v, %v; want %+v", got, err, want)
			}
		}
	}
	late := l.dial()
	if w := late.greet(helloOf(3, 0, time.Hour, time.Hour)); w.Attributes.Flags != heartbeat.ShuttingDown {
		t.Errorf("WELCOME with %+v", w.Attributes)
	}
}

// TestAWakeIsHandledOnce: a descriptor that stays readable would keep a processor busy, and nobody
// would notice.
func TestAWakeIsHandledOnce(t *testing.T) {
	l := start(t, 4).listening()
	before := l.host.alive.Load()
	for i := range 3 {
		want := before + int64(i) + 1
		l.host.wake()
		testkit.Eventually(t, patience, "an answer to the host's question", func() (bool, string) { return l.host.alive.Load() >= want, "" })
		l.conmgr(byte(i)) // some turns
		if got := l.host.alive.Load(); got != want {
			t.Fatalf("woken %d times, handled %d times", i+1, got-before)
		}
	}
}

// TestPieces: frames arrive as the network likes.
func TestPieces(t *testing.T) {
	l := start(t, 4).listening()
	c := l.dial()
	stream := helloOf(1, 0, time.Hour, time.Hour).Append(nil)
	for i := uint32(1); i <= 40; i++ {
		stream = append(stream, beatFrame(i)...)
	}
	for i := 0; i < 64+9*8; i++ { // HELLO and some BEATs byte by byte
		c.write(stream[i : i+1])
	}
	c.write(stream[64+9*8:])
	c.expect(heartbeat.TypeWelcome)
	l.slotOf(1, "all frames counted", func(s fakeSlot) bool { return s.Slot.Received == 41 })
}

func TestGoodbyeOfConmgr(t *testing.T) {
	l := start(t, 4).listening()
	c := l.conmgr(1)
	c.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds, Text: "conmgr is shutting down"}.Append(nil))
	if s := l.slotOf(1, "ending", inState(watchdog.Ending)); s.Cause != terminator.Goodbye || s.CutOff == 0 {
		t.Errorf("cause %d", s.Cause)
	}
	c.gone()
	l.logged("remote node shuts down heartbeat connection: conmgr host=127.0.0.1")
}

func TestCloseAndReset(t *testing.T) {
	for name, reset := range map[string]bool{"FIN": false, "RST": true} {
		t.Run(name, func(t *testing.T) {
			l := start(t, 4).listening()
			c := l.conmgr(1)
			if reset {
				_ = c.conn.SetLinger(0)
			}
			c.conn.Close()
			if s := l.slotOf(1, "waiting", inState(watchdog.Waiting)); s.Closed != map[bool]watchdog.Close{false: watchdog.Finished, true: watchdog.Reset}[reset] || s.CutOff != 0 {
				t.Errorf("closed %v, cut-off %d", s.Closed, s.CutOff)
			}
			l.logged("remote node closes heartbeat connection: conmgr host=127.0.0.1")
			if w := l.dial().greet(helloOf(1, 0, time.Hour, time.Hour)); w.Flags != heartbeat.Resumed|heartbeat.KnowsLabels {
				t.Errorf("flags %d", w.Flags)
			}
		})
	}
}

func TestNewConnectionReplacesTheOld(t *testing.T) {
	l := start(t, 4).listening()
	old := l.conmgr(1)
	c := l.dial()
	if w := c.greet(helloOf(1, 0, time.Hour, time.Hour)); w.Flags != heartbeat.Resumed|heartbeat.KnowsLabels {
		t.Errorf("flags %d", w.Flags)
	}
	old.gone()
	c.write(beatFrame(1))
	l.slotOf(1, "hears the new connection", func(s fakeSlot) bool { return s.State == watchdog.Connected && s.Slot.Received == 3 })
}

// TestViolations: who was connected is told why, keeps its slot, and may resume. Much unread input
// must not turn the answer into a reset.
func TestViolations(t *testing.T) {
	l := start(t, 4).listening()
	raw := func(length int, typ byte) []byte {
		b := make([]byte, max(length, 4))
		binary.BigEndian.PutUint16(b, uint16(length))
		b[2] = typ
		return b
	}
	for i, c := range []struct {
		name  string
		bytes []byte
		text  string
	}{
		{"too long a frame", raw(513, 3), "frame of 513 bytes: a frame has 4 to 512"},
		{"the longest length", raw(65535, 3), "frame of 65535 bytes"},
		{"too short a length", raw(3, 3), "frame of 3 bytes"},
		{"HELLO again", helloOf(1, 0, time.Hour, time.Hour).Append(nil), "unexpected HELLO"},
		{"WELCOME", heartbeat.Welcome{Version: 1}.Append(nil), "unexpected WELCOME"},
		{"REFUSED", heartbeat.Refused{}.Append(nil), "unexpected REFUSED"},
		{"reserved type", raw(4, 6), "unexpected CHALLENGE"},
		{"unknown type", raw(4, 200), "unexpected type 200"},
		{"BEAT without its number", raw(4, 3), "malformed BEAT"},
		{"GOODBYE with a text beyond its end", []byte{0, 8, 4, 0, 0, 1, 0, 1}, "malformed GOODBYE"},
	} {
		id := byte(10 + i)
		r := l.dial()
		r.greet(helloOf(id, 0, time.Hour, time.Hour))
		r.write(append(c.bytes, bytes.Repeat([]byte{0xee}, 40000)...))
		r.refused(heartbeat.RefusedMalformed, c.text)
		if s := l.slotOf(id, "waiting", inState(watchdog.Waiting)); s.Closed != watchdog.Broken || s.CutOff != 0 {
			t.Errorf("%s: closed %v, cut-off %d", c.name, s.Closed, s.CutOff)
		}
		r = l.dial()
		if w := r.greet(helloOf(id, 0, time.Hour, time.Hour)); w.Flags != heartbeat.Resumed|heartbeat.KnowsLabels {
			t.Errorf("%s: flags %d", c.name, w.Flags)
		}
		r.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds}.Append(nil))
		l.slotOf(id, "ending", inState(watchdog.Ending))
		for i := range l.store.Len() {
			l.store.Terminate(i)
		}
	}
}

func TestStop(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		l := start(t, 4).listening()
		a, b, stranger := l.conmgr(1), l.conmgr(2), l.dial()
		a.write(beatFrame(1))
		l.end(StopServer)
		for _, c := range []*remote{a, b} {
			g, err := heartbeat.ParseGoodbye(c.expect(heartbeat.TypeGoodbye).Payload)
			if err != nil || g.Code != heartbeat.GoodbyeServerEnds || g.Text != "the server is shutting down" {
				t.Errorf("%+v, %v", g, err)
			}
			c.gone()
		}
		stranger.gone()
	})
	t.Run("worker", func(t *testing.T) {
		l := start(t, 4).listening()
		c := l.conmgr(1)
		l.end(StopWorker)
		c.ended() // no GOODBYE
		if s := l.slotOf(1, "left to be resumed", inState(watchdog.Connected)); s.CutOff != 0 {
			t.Error("a cut-off")
		}
	})
}

// TestStopIsSeenBeforeVerdicts: the request comes just when the reactor reads once more before it
// judges; nothing else would ever wake it.
func TestStopIsSeenBeforeVerdicts(t *testing.T) {
	l := start(t, 1).listening()
	c := l.dial() // no HELLO: the only thing that will be due
	l.conmgr(1)   // accepted after it
	asked := 0
	hook := func() {
		if l.seen.Load() == 0 {
			return
		}
		if asked++; asked == 2 { // once at the end of the events, once before more of them
			l.host.stop.Store(uint32(StopServer))
			l.host.wake()
		}
	}
	l.host.afterStop.Store(&hook)
	l.pass(2 * watchdog.HelloTime)
	l.wait()
	c.ended() // not refused
}

// TestFloodDoesNotDelayTheEnd: a peer that never stops sending.
func TestFloodDoesNotDelayTheEnd(t *testing.T) {
	l := start(t, 8).listening()
	done := make(chan struct{}, 4)
	for id := byte(1); id <= 4; id++ {
		c := l.conmgr(id)
		flood := bytes.Repeat(beatFrame(1), 8192)
		go func() {
			defer func() { done <- struct{}{} }()
			_ = c.conn.SetWriteDeadline(time.Now().Add(2 * patience))
			for {
				if _, err := c.conn.Write(flood); err != nil {
					return
				}
			}
		}()
	}
	l.slotOf(4, "flooded", func(s fakeSlot) bool { return s.Slot.Received > 20000 })
	l.end(StopServer)
	for range 4 {
		<-done
	}
}

// TestPausedProcess: the machine was paused for longer than the timeout. Nobody dies of that alone.
func TestPausedProcess(t *testing.T) {
	l := start(t, 2).listening()
	c := l.dial()
	const interval, timeout = 50 * time.Millisecond, 2 * time.Second
	c.greet(helloOf(1, 0, interval, timeout))
	for pause := range 3 {
		l.pass(time.Minute)
		for range 5 { // the reactor turns, and sends
			if _, err := heartbeat.ParseWatchdogBeat(c.expect(heartbeat.TypeBeat).Payload, 1); err != nil {
				t.Fatal(err)
			}
		}
		c.write(beatFrame(uint32(pause)))
		l.slotOf(1, "heard after the pause", func(s fakeSlot) bool { return s.State == watchdog.Connected && s.Slot.Received == uint64(pause)+2 })
	}
	if l.host.count("timed out") != 0 {
		t.Error("it was declared dead")
	}
	// But once per silence only: it says nothing any more.
	l.pass(time.Minute)
	c.expect(heartbeat.TypeBeat)
	l.pass(2 * time.Minute)
	l.slotOf(1, "ending", inState(watchdog.Ending))
}

func TestManyConmgrs(t *testing.T) {
	n := 2000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n = min(n, int(min(limit.Cur, 1<<20)-100)/2) // both ends are in this process
	l := start(t, n*9/8).listening()             // some slots are kept for other addresses
	var all []*remote
	for i := range n {
		h := helloOf(0, 0, time.Hour, time.Hour)
		binary.BigEndian.PutUint32(h.ID[:], uint32(i)+1)
		c := l.dial()
		c.greet(h)
		all = append(all, c)
	}
	l.host.setAttributes(heartbeat.Attributes{Timeline: 2})
	l.host.wake()
	for _, c := range all {
		if b, err := heartbeat.ParseWatchdogBeat(c.expect(heartbeat.TypeBeat).Payload, 1); err != nil || b.Attributes.Timeline != 2 {
			t.Fatalf("%+v, %v", b, err)
		}
	}
	all[0].write(beatFrame(1))
	l.slotOf(0, "still served", func(s fakeSlot) bool { return s.ID[3] == 1 && s.Slot.Received == 2 })
}

// TestAlive: each turn tells, in shared memory, that there is a worker.
func TestAlive(t *testing.T) {
	l := start(t, 1).listening()
	before := l.store.Alive()
	l.host.wake()
	testkit.Eventually(t, patience, "a time at which there was a worker", func() (bool, string) {
		now := l.store.Alive()
		return now > before && now <= l.clock().Mono, fmt.Sprint(before, now)
	})
}
