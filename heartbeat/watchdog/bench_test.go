package watchdog

// A table with its surroundings: shared memory, the terminator, the log. Time is the test's.

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// fakeHost takes in the actions: the log, and the terminator's wake-ups.
type fakeHost struct {
	table *Table // whose actions have to be taken in
	lines []Line
	woken int
}

func newFakeHost() *fakeHost { return &fakeHost{} }

// Log takes in one line.
func (h *fakeHost) Log(l Line) { h.lines = append(h.lines, l) }

func (h *fakeHost) collect() {
	if h.table == nil {
		return
	}
	for _, a := range h.table.actions {
		switch a.Kind {
		case Write:
			h.Log(*a.Line)
		case WakeTerminator:
			h.woken++
		}
	}
	h.table.actions = h.table.actions[:0]
}

// wakes is how often the terminator was woken.
func (h *fakeHost) wakes() int {
	h.collect()
	return h.woken
}

// log is everything logged so far, a line each.
func (h *fakeHost) log() string {
	h.collect()
	var b strings.Builder
	for _, l := range h.lines {
		b.WriteString(l.String() + "\n")
	}
	return b.String()
}

func (h *fakeHost) count(text string) int { return strings.Count(h.log(), text) }

// wallAtZero is the wall clock when the tests' monotonic clock is 0.
const wallAtZero = Wall(1_700_000_000_000_000)

func at(ms int64) Now {
	return Now{Mono: heartbeat.Mono(time.Duration(ms) * time.Millisecond), Wall: wallAtZero + Wall(ms*1000)}
}

// bench is a table with its surroundings, driven as the reactor drives it.
type bench struct {
	t     *testing.T
	store *Memory
	host  *fakeHost
	table *Table
	now   int64 // ms
	conns int

	interval, timeout time.Duration // of the HELLOs to come
	displaced         *conn         // by the last HELLO
}

func newBench(t *testing.T, slots int) *bench {
	b := &bench{t: t, store: NewMemory(slots), host: newFakeHost(), interval: testInterval, timeout: testTimeout}
	b.start(Settings{TerminateOnClose: true, MaxTimeout: time.Hour})
	return b
}

func (b *bench) start(s Settings) {
	b.table, _ = NewTable(Server{}, s, b.store, at(b.now))
	b.host.table = b.table
}

// restart is a new worker on the same shared memory.
func (b *bench) restart(ms int64) {
	b.host.collect()
	b.now = ms
	b.start(b.table.settings)
}

func (b *bench) setOnClose(on bool)       { b.table.settings.TerminateOnClose = on }
func (b *bench) setCap(max time.Duration) { b.table.settings.MaxTimeout = max }

const (
	testInterval = time.Second
	testTimeout  = 3 * time.Second
)

var addrA = netip.MustParseAddr("192.0.2.1")

// who is a conmgr of the tests.
type who struct {
	id   byte
	addr netip.Addr
	boot byte
	gen  uint64
}

func (b *bench) hello(ms int64, w who) (*peer, heartbeat.WelcomeFlags, *conn, error) {
	b.until(ms)
	b.conns++
	c := &conn{id: Conn(b.conns), addr: w.addr, port: uint16(40000 + b.conns)}
	for int(c.id) >= len(b.table.conns) {
		b.table.conns = append(b.table.conns, nil)
	}
	b.table.conns[c.id] = c
	h := heartbeat.Hello{ID: heartbeat.ID{w.id}, Boot: heartbeat.ID{w.boot}, Generation: w.gen, Interval: b.interval,
		Timeout: b.timeout}
	a, err := b.table.hello(at(ms), c, h)
	c.peer, b.displaced = a.peer, latest(a.displaced)
	return a.peer, a.flags, latest(a.replaced), err
}

func latest(conns []*conn) *conn { return (&peer{conns: conns}).latest() }

// admit is a hello that has to succeed.
func (b *bench) admit(ms int64, w who) *peer {
	b.t.Helper()
	p, _, _, err := b.hello(ms, w)
	if err != nil {
		b.t.Fatalf("HELLO of %d at %d ms: %v", w.id, ms, err)
	}
	return p
}

func (b *bench) beat(ms int64, p *peer) { b.until(ms); b.table.received(at(ms), p) }
func (b *bench) fin(ms int64, p *peer) {
	b.until(ms)
	b.table.parted(at(ms), p, p.latest(), Finished, "the connection was closed")
}
func (b *bench) rst(ms int64, p *peer) {
	b.until(ms)
	b.table.parted(at(ms), p, p.latest(), Reset, "connection reset by peer")
}
func (b *bench) broke(ms int64, p *peer) {
	b.until(ms)
	b.table.parted(at(ms), p, p.latest(), Broken, "connection timed out")
}
func (b *bench) bye(ms int64, p *peer, code heartbeat.GoodbyeCode) {
	b.until(ms)
	b.table.goodbye(at(ms), p.latest(), heartbeat.ConmgrGoodbye{Goodbye: heartbeat.Goodbye{Code: code, Text: "bye"}})
}

// until lets time pass: every timer that comes due is served, as Reactor.fire does.
func (b *bench) until(ms int64) {
	b.t.Helper()
	if ms < b.now {
		b.t.Fatalf("time runs backwards: %d after %d ms", ms, b.now)
	}
	for ; b.now <= ms; b.now++ {
		now := at(b.now)
		for p := b.table.timers.next(); p != nil && p.due <= now.Mono; p = b.table.timers.next() {
			switch {
			case p.pulse.Dead(now.Mono):
				b.table.dead(now, p)
			case p.latest() == nil:
				b.table.timers.set(p, p.pulse.Deadline())
			default:
				if p.pulse.SendDue(now.Mono) {
					b.table.countSent(p)
				}
				b.table.timers.set(p, p.pulse.Wake())
			}
		}
		if due := b.table.timers.next(); due != nil && due.due > now.Mono { // nothing happens until then
			if jump := int64(time.Duration(due.due) / time.Millisecond); jump > b.now {
				b.now = min(jump, ms+1) - 1
			}
		} else if due == nil {
			b.now = ms
		}
	}
	b.now = ms
}

// cutOff is the request to the terminator for all sessions of addr, in ms; -1: none. Two requests:
// the later.
func (b *bench) cutOff(addr netip.Addr) (ms int64, cause terminator.Cause) {
	ms = -1
	for i := range b.store.Len() {
		s := b.store.Slot(i)
		for _, a := range s.Proved.All() {
			if s.Pending() && a.Ended && a.Addr == addr && int64(a.At)/1e6 > ms {
				ms, cause = int64(a.At)/1e6, s.Cause
			}
		}
	}
	return ms, cause
}

func (b *bench) wantCutOff(addr netip.Addr, ms int64, cause terminator.Cause) {
	b.t.Helper()
	gotMS, gotCause := b.cutOff(addr)
	if gotMS != ms || gotCause != cause {
		b.t.Errorf("at %d ms: cut-off of %s is %d ms by cause %d, want %d by %d; the log:\n%s", b.now, addr, gotMS,
			gotCause, ms, cause, b.host.log())
	}
}

func (b *bench) wantNone(addr netip.Addr) {
	b.t.Helper()
	b.wantCutOff(addr, -1, terminator.None)
}

func (b *bench) states() string {
	var s []string
	for i := range b.store.Len() {
		s = append(s, [...]string{"free", "connected", "waiting", "ending"}[b.store.State(i)])
	}
	return strings.Join(s, " ")
}
