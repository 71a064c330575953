package worker

// Stand-ins for what the worker meets in its process: shared memory, the host, the clocks, the
// terminator. Several goroutines may ask them.

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

// fakeStore is the array of slots, with the terminator's answers.
type (
	fakeStore = watchdog.Memory
	fakeSlot  = watchdog.MemorySlot
)

func newFakeStore(n int) *fakeStore { return watchdog.NewMemory(n) }

// fakeHost is the process. Its eventfd is there only when a reactor needs it.
type fakeHost struct {
	attrs      atomic.Uint64
	stop       atomic.Uint32
	onClose    atomic.Bool
	kernel     atomic.Bool
	cap        atomic.Int64
	succession atomic.Pointer[heartbeat.Succession]
	lag        atomic.Pointer[heartbeat.Lag]
	wakeFD     int
	alive      atomic.Int64
	wakes      atomic.Int64 // of the terminator
	access     atomic.Pointer[Access]
	failed     atomic.Value

	afterStop atomic.Pointer[func()] // called after each Stop
	mu        sync.Mutex
	lines     []watchdog.Line
	sessions  []*watchdog.Session
	state     map[string]string
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

func (h *fakeHost) Lag() heartbeat.Lag {
	if l := h.lag.Load(); l != nil {
		return *l
	}
	return heartbeat.Lag{}
}

func (h *fakeHost) KernelEvidence() bool { return h.kernel.Load() }

func (h *fakeHost) Sessions(yield func(*watchdog.Session)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		yield(s)
	}
}

func (h *fakeHost) MaxTimeout() time.Duration { return time.Duration(h.cap.Load()) }
func (h *fakeHost) MaxGrace() time.Duration   { return time.Minute }
func (h *fakeHost) TerminateOnClose() bool    { return h.onClose.Load() }
func (h *fakeHost) AccessSerial() uint32      { return h.Access().Serial }
func (h *fakeHost) Access() Access {
	if a := h.access.Load(); a != nil {
		return *a
	}
	return Access{}
}
func (h *fakeHost) WakeFD() int     { return h.wakeFD }
func (h *fakeHost) Alive()          { h.alive.Add(1) }
func (h *fakeHost) WakeTerminator() { h.wakes.Add(1) }
func (h *fakeHost) Fail(why string) { h.failed.Store(why) }

func (h *fakeHost) Listening(n int, failed bool) { h.told("listening", n, failed) }
func (h *fakeHost) Keys(n int, failed bool)      { h.told("keys", n, failed) }

func (h *fakeHost) told(what string, n int, failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == nil {
		h.state = map[string]string{}
	}
	h.state[what] = fmt.Sprintf("%d%v", n, failed)
}

// told is what the worker has said last.
func (h *fakeHost) said(what string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state[what]
}

func (h *fakeHost) Log(l watchdog.Line) {
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
		b.WriteString(l.String() + "\n")
	}
	return b.String()
}

func (h *fakeHost) count(text string) int { return strings.Count(h.log(), text) }

// wallAtZero is the wall clock when the tests' monotonic clock is 0.
const wallAtZero = watchdog.Wall(1_700_000_000_000_000)

func at(ms int64) watchdog.Now {
	return watchdog.Now{Mono: heartbeat.Mono(time.Duration(ms) * time.Millisecond), Wall: wallAtZero + watchdog.Wall(ms*1000)}
}

const (
	testInterval = time.Second
	testTimeout  = 3 * time.Second
)

var addrA = netip.MustParseAddr("192.0.2.1")
