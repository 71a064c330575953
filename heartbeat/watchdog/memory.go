package watchdog

// Slots in ordinary memory, with a terminator that its owner plays: for tests and the simulator.
// Any goroutine.

import (
	"fmt"
	"sync"

	"github.com/pgwatchdog/watchdog/terminator"
)

// MemorySlot is a slot with its cut-off.
type MemorySlot struct {
	Slot
	Cause  terminator.Cause
	CutOff terminator.Wall
}

// Memory is a Store. Answered, if set, is called after each CutOff.
type Memory struct {
	Answered func(i int)

	mu     sync.Mutex
	slots  []MemorySlot
	faults []string
}

var _ Store = (*Memory)(nil)

// NewMemory returns n free slots.
func NewMemory(n int) *Memory { return &Memory{slots: make([]MemorySlot, n)} }

// Len is the number of slots.
func (m *Memory) Len() int { return len(m.slots) }

// Slot is a copy of slot i, with its cut-off.
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
func (m *Memory) Pending(i int) bool { return m.Slot(i).CutOff != 0 }

// Put implements Store.
func (m *Memory) Put(i int, v *Slot) {
	m.Edit(i, func(s *MemorySlot) {
		if s.CutOff != 0 && s.Key != v.Key {
			m.faults = append(m.faults,
				fmt.Sprintf("slot %d is taken from %v while the terminator has to end its sessions", i, s.Key.Addr))
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

// CutOff implements Store.
func (m *Memory) CutOff(i int, cause terminator.Cause, cutOff terminator.Wall) {
	m.Edit(i, func(s *MemorySlot) { s.Cause, s.CutOff = cause, cutOff })
	if m.Answered != nil {
		m.Answered(i)
	}
}

// SetState implements Store.
func (m *Memory) SetState(i int, st State) {
	m.Edit(i, func(s *MemorySlot) {
		s.State = st
		if st == Free {
			s.CutOff = 0
		}
	})
}

// Terminate does what extension/terminator.c does when it has served slot i.
func (m *Memory) Terminate(i int) {
	m.Edit(i, func(s *MemorySlot) {
		if s.CutOff == 0 {
			return
		}
		s.CutOff = 0
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
