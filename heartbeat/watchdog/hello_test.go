package watchdog

// Who is admitted, and as whom. Pure; time is the test's.

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// TestSomebodyElseWithAKnownID: while the real one is connected and heard of, or has just been
// reset, a HELLO with its id that cannot be its own is refused; it keeps its connection, generation
// and deadline, and no session ends.
func TestSomebodyElseWithAKnownID(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(b *bench, w *who)
		text string
	}{
		{"generation 2^63-1", func(_ *bench, w *who) { w.gen = math.MaxInt64 },
			"generation 9223372036854775807 after 5"},
		{"a jump", func(_ *bench, w *who) { w.gen += terminator.MaxGenerationStep + 1 }, "generation 22 after 5"},
		{"lower generation", func(_ *bench, w *who) { w.gen-- }, "generation 4 after 5"},
		{"generation 0", func(_ *bench, w *who) { w.gen = 0 }, "generation 0 after 5"},
		{"another boot", func(_ *bench, w *who) { w.boot = 2 }, "another boot id"},
		{"no boot", func(_ *bench, w *who) { w.boot = 0 }, "another boot id"},
		{"another boot, next generation", func(_ *bench, w *who) { w.boot, w.gen = 2, 6 }, "another boot id"},
		{"longer timeout", func(b *bench, _ *who) { b.timeout = time.Hour },
			"known with heartbeat_interval 1000 ms and heartbeat_timeout 3000 ms"},
		{"shorter timeout", func(b *bench, _ *who) { b.timeout = heartbeat.MinInterval },
			"known with heartbeat_interval 1000 ms"},
		{"another interval", func(b *bench, _ *who) { b.interval = time.Minute },
			"known with heartbeat_interval 1000 ms"},
	} {
		for _, state := range []string{"connected", "reset"} {
			t.Run(c.name+", "+state, func(t *testing.T) {
				b := newBench(t, 4)
				real := who{1, addrA, 1, 5}
				p := b.admit(0, real)
				if state == "reset" {
					b.rst(500, p)
				}
				before, conn := b.store.Slot(p.slot), p.latest()
				other := real
				c.with(b, &other)
				_, _, replaced, err := b.hello(900, other)
				var pe *heartbeat.ProtocolError
				if !errors.As(err, &pe) || pe.Code != heartbeat.RefusedMalformed || !strings.Contains(pe.Text, c.text) {
					t.Fatalf("got %v, want %q", err, c.text)
				}
				if state == "reset" {
					before.Slot.Sent = b.store.Slot(p.slot).Slot.Sent
				}
				if after := b.store.Slot(p.slot); after != before || p.latest() != conn || replaced != nil {
					t.Errorf("slot %+v, was %+v; connection %v, was %v", after, before, p.latest(), conn)
				}
				b.wantNone(addrA)
				b.interval, b.timeout = testInterval, testTimeout
				if _, flags, _, err := b.hello(1000, real); err != nil || flags != heartbeat.Resumed {
					t.Errorf("the real one cannot resume: flags %d, %v", flags, err)
				}
				b.until(3999) // and its deadline counts from its own HELLO
				b.wantNone(addrA)
				b.until(4000)
				b.wantCutOff(addrA, 2500, terminator.Silence)
			})
		}
	}
}

// TestGenerationSteps: those that a conmgr can take.
func TestGenerationSteps(t *testing.T) {
	for _, step := range []uint64{1, 2, terminator.MaxGenerationStep} {
		b := newBench(t, 1)
		b.admit(0, who{1, addrA, 1, 5})
		if _, flags, _, err := b.hello(100, who{1, addrA, 1, 5 + step}); err != nil || flags != 0 {
			t.Errorf("step %d: flags %d, %v", step, flags, err)
		}
		b.wantCutOff(addrA, 100, terminator.GivenUp)
	}
	// One whose time is over, and whose sessions were spared, may have lived for long with another
	// server of its address.
	b := newBench(t, 1)
	b.setOnClose(false)
	b.fin(100, b.admit(0, who{1, addrA, 1, 5}))
	b.until(60_000)
	if _, _, _, err := b.hello(60_000, who{1, addrA, 1, 500}); err != nil {
		t.Error(err)
	}
	b.wantCutOff(addrA, 60_000, terminator.GivenUp)
}

// TestMaxTimeout: what a HELLO may ask for at most, by the current setting. One that is known keeps
// what it has.
func TestMaxTimeout(t *testing.T) {
	for _, c := range []struct {
		interval, timeout, limit time.Duration
		text                     string // "": admitted
	}{
		{time.Second, time.Hour, time.Hour, ""},
		{time.Hour, time.Hour, time.Hour, ""},
		{time.Second, time.Hour + time.Millisecond, time.Hour,
			"heartbeat_timeout is 3600001 ms: this server allows 10 to 3600000 (watchdog.max_heartbeat_timeout)"},
		{time.Second, heartbeat.MaxInterval, time.Hour, "heartbeat_timeout is 2147483647 ms"},
		{heartbeat.MaxInterval, time.Second, time.Hour, "heartbeat_interval is 2147483647 ms"},
		{time.Second, heartbeat.MaxInterval, heartbeat.MaxInterval, ""},
		{time.Second, 3 * time.Second, 2 * time.Second, "heartbeat_timeout is 3000 ms: this server allows 10 to 2000"},
	} {
		b := newBench(t, 1)
		b.setCap(c.limit)
		b.interval, b.timeout = c.interval, c.timeout
		_, _, _, err := b.hello(0, who{1, addrA, 1, 0})
		var pe *heartbeat.ProtocolError
		switch {
		case c.text == "" && err != nil:
			t.Errorf("%v, %v of %v: %v", c.interval, c.timeout, c.limit, err)
		case c.text != "" && (!errors.As(err, &pe) || pe.Code != heartbeat.RefusedSetting ||
			!strings.HasPrefix(pe.Text, c.text)):
			t.Errorf("%v, %v of %v: %v, want %q", c.interval, c.timeout, c.limit, err, c.text)
		case c.text != "" && b.states() != "free":
			t.Errorf("slots: %s", b.states())
		}
	}
	b := newBench(t, 1)
	b.admit(0, who{1, addrA, 1, 0})
	b.setCap(time.Second)
	if _, flags, _, err := b.hello(100, who{1, addrA, 1, 0}); err != nil || flags != heartbeat.Resumed {
		t.Errorf("a known one cannot resume with a lower limit: %v", err)
	}
}

// TestGroupReconnects: forty conmgrs behind one address lose their connections at one time, and
// each tries as often as it may, before any HELLO arrives. Whoever has connected last is heard.
func TestGroupReconnects(t *testing.T) {
	const group = 40
	table, _ := NewTable(Server{}, Settings{TerminateOnClose: true, MaxTimeout: time.Hour}, NewMemory(64), at(0))
	open, of := map[Conn]bool{}, map[Conn]heartbeat.Hello{}
	welcomed := 0
	step := func(ms int64, e Event) {
		for _, a := range table.Step(at(ms), e) {
			switch a.Kind {
			case CloseNow:
				delete(open, a.Conn)
			case Admitted:
				welcomed++
			}
		}
	}
	connect := func(ms int64, i int, attempt uint32) Conn {
		c := Conn(len(of) + 1)
		of[c] = heartbeat.Hello{MinVersion: 1, MaxVersion: 2, ID: heartbeat.ID{byte(i + 1)}, Boot: heartbeat.ID{1},
			Interval: time.Second, Timeout: 2 * time.Second, Attempt: attempt}
		open[c] = true
		step(ms, Event{Kind: Opened, Conn: c, From: netip.AddrPortFrom(addrA, uint16(10000+c))})
		return c
	}
	say := func(ms int64, c Conn) { step(ms, Event{Kind: Bytes, Conn: c, Data: of[c].Append(nil)}) }
	for i := range group {
		say(0, connect(0, i, 1))
	}
	for attempt := uint32(2); attempt < 2+heartbeat.MostBeside; attempt++ {
		for i := range group {
			connect(int64(1000+100*attempt), i, attempt)
		}
	}
	heard := map[byte]bool{}
	for c := range of {
		if open[c] && of[c].Attempt > 1 {
			say(1950, c)
			heard[of[c].ID[0]] = true
		}
	}
	if len(heard) != group || welcomed < 2*group {
		t.Errorf("%d of %d are heard again, %d are welcomed in all", len(heard), group, welcomed)
	}
	step(2500, Event{Kind: Due, CaughtUp: true})
	if n := len(table.peers); n != group {
		t.Errorf("%d are left", n)
	}
}
