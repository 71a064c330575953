package watchdog

// Slots in ordinary memory, with a terminator that its owner plays: for tests and the simulator.
// Any goroutine.

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// MemorySlot is a slot, with how many verdicts there have been in it, and how many the terminator
// has carried out.
type MemorySlot struct {
	Slot
	Verdicts, Served uint32
}

// Pending tells whether the terminator has to carry out the verdict.
func (s MemorySlot) Pending() bool { return s.Verdicts != s.Served }

// Memory is a Store. Asked, if set, is called after each Ask.
type Memory struct {
	Asked func(i int)

	mu     sync.Mutex
	slots  []MemorySlot
	latest terminator.Time
	alive  heartbeat.Mono
	faults []string
	last   []Record
	totals [Counters]atomic.Uint64
}

// keepRecords is how many verdicts are kept, the last.
const keepRecords = 100

var _ Store = (*Memory)(nil)

// NewMemory returns n free slots.
func NewMemory(n int) *Memory { return &Memory{slots: make([]MemorySlot, n)} }

// Len is the number of slots.
func (m *Memory) Len() int { return len(m.slots) }

// Alive implements Store.
func (m *Memory) Alive() heartbeat.Mono {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.alive
}

// SetAlive implements Store.
func (m *Memory) SetAlive(now heartbeat.Mono) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alive = now
}

// Slot is a copy of slot i.
func (m *Memory) Slot(i int) MemorySlot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.slots[i]
}

// Edit changes slot i behind the watchdog's back.
func (m *Memory) Edit(i int, change func(*MemorySlot)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.slots[i])
}

// State implements Store.
func (m *Memory) State(i int) State { return m.Slot(i).State }

// Load implements Store.
func (m *Memory) Load(i int) Slot { return m.Slot(i).Slot }

// Pending implements Store.
func (m *Memory) Pending(i int) bool { return m.Slot(i).Pending() }

// Latest is the latest cut-off of all.
func (m *Memory) Latest() terminator.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.latest
}

// Put implements Store.
func (m *Memory) Put(i int, v *Slot) {
	m.Edit(i, func(s *MemorySlot) {
		if s.Pending() && s.ID != v.ID {
			m.faults = append(m.faults,
				fmt.Sprintf("slot %d is taken from %v while the terminator has to end its sessions", i, s.Addr()))
		}
		s.Slot = *v
	})
}

// Received implements Store.
func (m *Memory) Received(i int, n uint64, at Now) {
	m.Edit(i, func(s *MemorySlot) { s.Slot.Received, s.LastReceived = n, at })
}

// Sent implements Store.
func (m *Memory) Sent(i int, n uint64) { m.Edit(i, func(s *MemorySlot) { s.Slot.Sent = n }) }

// Ask implements Store.
func (m *Memory) Ask(i int, latest terminator.Time) {
	m.Edit(i, func(s *MemorySlot) {
		s.Verdicts++
		s.Unasked = false
		m.latest = max(m.latest, latest)
	})
	if m.Asked != nil {
		m.Asked(i)
	}
}

// Count implements Store.
func (m *Memory) Count(c Counter) { m.totals[c].Add(1) }

// Total is what was counted.
func (m *Memory) Total(c Counter) uint64 { return m.totals[c].Load() }

// Record implements Store.
func (m *Memory) Record(r Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.last) == keepRecords {
		m.last = m.last[:copy(m.last, m.last[1:])]
	}
	m.last = append(m.last, r)
}

// Records are the last verdicts.
func (m *Memory) Records() []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.last)
}

// SetState implements Store.
func (m *Memory) SetState(i int, st State) {
	m.Edit(i, func(s *MemorySlot) { s.State = st })
}

// Terminate does what extension/terminator.c does when it has served slot i.
func (m *Memory) Terminate(i int) {
	m.Edit(i, func(s *MemorySlot) {
		s.Served = s.Verdicts
		if s.State == Ending {
			s.State = Free
		}
	})
}

// Faults are the uses of the store that would do harm.
func (m *Memory) Faults() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.faults
}
