package worker

// Stand-ins for what the worker meets in its process: shared memory, the host, the clocks, the
// terminator. Several goroutines may ask them.

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// fakeSlot is a slot as it is in shared memory, with its cut-off.
type fakeSlot struct {
	Slot
	cause  terminator.Cause
	cutOff terminator.Wall
}

// fakeStore is the array of slots. answered, if set, is called after each CutOff: a terminator that
// is faster than the caller.
type fakeStore struct {
	mu       sync.Mutex
	slots    []fakeSlot
	answered func(i int)
	errs     []string
}

func newFakeStore(n int) *fakeStore { return &fakeStore{slots: make([]fakeSlot, n)} }

func (s *fakeStore) Len() int { return len(s.slots) }

func (s *fakeStore) State(i int) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[i].State
}

func (s *fakeStore) Load(i int) Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[i].Slot
}

func (s *fakeStore) Put(i int, v *Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := &s.slots[i]; c.cutOff != 0 && c.Key != v.Key {
		s.errs = append(s.errs, fmt.Sprintf("slot %d is taken from %v while the terminator has to end its sessions", i,
			c.Key.Addr))
	}
	s.slots[i].Slot = *v
}

func (s *fakeStore) Received(i int, n uint64, at Now) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots[i].Slot.Received, s.slots[i].LastReceived = n, at
}

func (s *fakeStore) Sent(i int, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots[i].Slot.Sent = n
}

func (s *fakeStore) CutOff(i int, cause terminator.Cause, cutOff terminator.Wall) {
	s.mu.Lock()
	s.slots[i].cause, s.slots[i].cutOff = cause, cutOff
	s.mu.Unlock()
	if s.answered != nil {
		s.answered(i)
	}
}

func (s *fakeStore) Pending(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[i].cutOff != 0
}

func (s *fakeStore) SetState(i int, st State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots[i].State = st
	if st == Free {
		s.slots[i].cutOff = 0
	}
}

// terminate does what extension/terminator.c does when it has served a slot.
func (s *fakeStore) terminate(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[i].cutOff == 0 {
		return
	}
	s.slots[i].cutOff = 0
	if s.slots[i].State == Ending {
		s.slots[i].State = Free
	}
}

func (s *fakeStore) slot(i int) fakeSlot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[i]
}

// fakeHost is the process. Its eventfd is there only when a reactor needs it.
type fakeHost struct {
	attrs      atomic.Uint64
	stop       atomic.Uint32
	onClose    atomic.Bool
	cap        atomic.Int64
	succession atomic.Pointer[heartbeat.Succession]
	wakeFD     int
	alive      atomic.Int64
	wakes      atomic.Int64 // of the terminator
	failed     atomic.Value

	afterStop atomic.Pointer[func()] // called after each Stop
	mu        sync.Mutex
	lines     []Line
}

func newFakeHost() *fakeHost {
	h := &fakeHost{wakeFD: -1}
	h.onClose.Store(true)
	h.cap.Store(int64(time.Hour))
	return h
}

func (h *fakeHost) Attributes() heartbeat.Attributes {
	a := h.attrs.Load()
	return heartbeat.Attributes{Flags: heartbeat.AttributeFlags(a >> 32), Timeline: uint32(a)}
}

func (h *fakeHost) setAttributes(a heartbeat.Attributes) {
	h.attrs.Store(uint64(a.Flags)<<32 | uint64(a.Timeline))
}

func (h *fakeHost) Stop() Stop {
	s := Stop(h.stop.Load())
	if f := h.afterStop.Load(); f != nil {
		(*f)()
	}
	return s
}

func (h *fakeHost) Succeeds() heartbeat.Succession {
	if s := h.succession.Load(); s != nil {
		return *s
	}
	return heartbeat.Succession{}
}

func (h *fakeHost) MaxTimeout() time.Duration { return time.Duration(h.cap.Load()) }
func (h *fakeHost) TerminateOnClose() bool    { return h.onClose.Load() }
func (h *fakeHost) WakeFD() int               { return h.wakeFD }
func (h *fakeHost) Alive()                    { h.alive.Add(1) }
func (h *fakeHost) WakeTerminator()           { h.wakes.Add(1) }
func (h *fakeHost) Fail(why string)           { h.failed.Store(why) }

func (h *fakeHost) Log(l Line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, l)
}

func (h *fakeHost) wake() {
	one := [8]byte{1}
	_, _ = unix.Write(h.wakeFD, one[:])
}

// log is everything logged so far, a line each.
func (h *fakeHost) log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, l := range h.lines {
		fmt.Fprintf(&b, "%s|%s|%s|%s\n", [...]string{"DEBUG", "LOG", "WARNING"}[l.Level], l.Message, l.Detail, l.Hint)
	}
	return b.String()
}

func (h *fakeHost) count(text string) int { return strings.Count(h.log(), text) }

// wallAtZero is the wall clock when the tests' monotonic clock is 0.
const wallAtZero = terminator.Wall(1_700_000_000_000_000)

func at(ms int64) Now {
	return Now{Mono: heartbeat.Mono(time.Duration(ms) * time.Millisecond), Wall: wallAtZero + terminator.Wall(ms*1000)}
}

// bench is a table with its surroundings, driven as the reactor drives it.
type bench struct {
	t     *testing.T
	store *fakeStore
	host  *fakeHost
	table *Table
	now   int64 // ms
	conns int

	interval, timeout time.Duration // of the HELLOs to come
	displaced         *conn         // by the last HELLO
}

func newBench(t *testing.T, slots int) *bench {
	b := &bench{t: t, store: newFakeStore(slots), host: newFakeHost(), interval: testInterval, timeout: testTimeout}
	b.table = NewTable(b.host, b.store, at(0))
	return b
}

// restart is a new worker on the same shared memory.
func (b *bench) restart(ms int64) {
	b.now = ms
	b.table = NewTable(b.host, b.store, at(ms))
}

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
	c := &conn{fd: b.conns}
	h := heartbeat.Hello{ID: heartbeat.ID{w.id}, Boot: heartbeat.ID{w.boot}, Generation: w.gen, Interval: b.interval,
		Timeout: b.timeout}
	a, err := b.table.Hello(at(ms), c, w.addr, uint16(40000+b.conns), h)
	b.displaced = a.displaced
	return a.peer, a.flags, a.replaced, err
}

// admit is a hello that has to succeed.
func (b *bench) admit(ms int64, w who) *peer {
	b.t.Helper()
	p, _, _, err := b.hello(ms, w)
	if err != nil {
		b.t.Fatalf("HELLO of %d at %d ms: %v", w.id, ms, err)
	}
	return p
}

func (b *bench) beat(ms int64, p *peer) { b.until(ms); b.table.Received(at(ms), p) }
func (b *bench) fin(ms int64, p *peer) {
	b.until(ms)
	b.table.Closed(at(ms), p, Finished, "the connection was closed")
}
func (b *bench) rst(ms int64, p *peer) {
	b.until(ms)
	b.table.Closed(at(ms), p, Reset, "connection reset by peer")
}
func (b *bench) broke(ms int64, p *peer) {
	b.until(ms)
	b.table.Closed(at(ms), p, Broken, "connection timed out")
}
func (b *bench) bye(ms int64, p *peer, code heartbeat.GoodbyeCode) {
	b.until(ms)
	b.table.Goodbye(at(ms), p, heartbeat.Goodbye{Code: code, Text: "bye"})
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
				b.table.Dead(now, p)
			case p.conn == nil:
				b.table.timers.set(p, p.pulse.Deadline())
			default:
				if p.pulse.SendDue(now.Mono) {
					b.table.NextBeat(p)
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

// cutOff is the request to the terminator for the sessions of addr, in ms; -1: none. Two requests:
// the later.
func (b *bench) cutOff(addr netip.Addr) (ms int64, cause terminator.Cause) {
	ms = -1
	for i := range b.store.slots {
		if s := b.store.slot(i); s.cutOff != 0 && s.Key.Addr == addr && int64(s.cutOff-wallAtZero)/1000 > ms {
			ms, cause = int64(s.cutOff-wallAtZero)/1000, s.cause
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
	for i := range b.store.slots {
		s = append(s, [...]string{"free", "connected", "waiting", "ending"}[b.store.State(i)])
	}
	return strings.Join(s, " ")
}
