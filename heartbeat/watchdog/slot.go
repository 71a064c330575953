package watchdog

// What the watchdog's end shares with its surroundings: times, log lines, and the slots that
// outlive this process.

import (
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/terminator"
)

// Level of a log line.
type Level uint8

const (
	Debug Level = iota
	Log
	Warning
)

// Line is one message for the server log. Detail and Hint may be empty.
type Line struct {
	Level                 Level
	Message, Detail, Hint string
}

// String is all of it in one line.
func (l Line) String() string {
	level := [...]string{"DEBUG", "LOG", "WARNING"}[l.Level]
	return strings.Join([]string{level, l.Message, l.Detail, l.Hint}, "|")
}

// Now is a moment on both clocks: the monotonic one decides, the wall clock is for those who read.
type Now struct {
	Mono heartbeat.Mono
	Wall Wall
}

// Wall is a time of the wall clock in microseconds since 1970-01-01 00:00 UTC.
type Wall int64

// Add returns t + d.
func (t Wall) Add(d time.Duration) Wall { return t + Wall(d.Microseconds()) }

// cutOff is a moment as terminator/ has it.
func (n Now) cutOff() terminator.Time { return terminator.Time(n.Mono) }

// Never is a time that does not come.
const Never = heartbeat.Mono(1<<63 - 1)

// MaxAddresses is how many of the addresses that a conmgr has proved are kept, the latest.
const MaxAddresses = 4

// Proved is an address from which a conmgr has connected.
type Proved struct {
	Addr netip.Addr // IPv4-mapped addresses unmapped
	// At is when its machine did first, by this or by an earlier conmgr; once the verdict on the
	// address has fallen, its cut-off.
	At    terminator.Time
	Ended bool
}

// Addresses are the MaxAddresses that are kept of a conmgr, the latest first; no Addr: none. It is a
// value: what others points to, which nearly nobody has, is never changed.
type Addresses struct {
	latest Proved
	others *[MaxAddresses - 1]Proved
}

// Nth is number i of them.
func (a *Addresses) Nth(i int) Proved {
	switch {
	case i == 0:
		return a.latest
	case a.others == nil:
		return Proved{}
	}
	return a.others[i-1]
}

// Set changes number i.
func (a *Addresses) Set(i int, p Proved) {
	if i == 0 {
		a.latest = p
		return
	}
	var others [MaxAddresses - 1]Proved
	if a.others != nil {
		others = *a.others
	}
	others[i-1] = p
	a.others = nil
	if others != [MaxAddresses - 1]Proved{} {
		a.others = &others
	}
}

// free is the first number at which there is none, -1: there is no place.
func (a *Addresses) free() int {
	for i := range MaxAddresses {
		if !a.Nth(i).Addr.IsValid() {
			return i
		}
	}
	return -1
}

// All are those that are there, by their numbers.
func (a *Addresses) All() iter.Seq2[int, Proved] {
	return func(yield func(int, Proved) bool) {
		for i := range MaxAddresses {
			if p := a.Nth(i); p.Addr.IsValid() && !yield(i, p) {
				return
			}
		}
	}
}

// State of a slot, as in extension/bridge.h.
type State uint32

const (
	Free State = iota
	Connected
	Waiting // not connected, may still resume
	Ending  // the terminator ends its sessions, then frees the slot
)

// Close is how a heartbeat connection ended without a GOODBYE; what that means, terminator/ knows.
type Close = terminator.Parting

const (
	Broken   = terminator.Broken
	Finished = terminator.Finished
	Reset    = terminator.Reset
)

// Slot is one conmgr in shared memory. Small fields are together, as there are many of it.
type Slot struct {
	State State
	ID    heartbeat.ID
	KeyID proof.KeyID // that has made it; zeros: nothing was proved
	Boot  heartbeat.ID
	Heir  heartbeat.ID // label of the conmgr that has taken over what carries ours; zero: none

	Port          uint16           // of the latest connection
	Closed        Close            // Waiting: how its connection ended, else Broken
	Remembered    bool             // Waiting: its time to resume is over, and its sessions were spared
	Unasked       bool             // the terminator was not asked yet for the verdict that has fallen
	Cause         terminator.Cause // of that
	DeferredCause terminator.Cause // of the one that is put off
	Attempt       uint32           // the highest of its HELLOs, 0: a conmgr of version 1
	Suspended     uint32           // verdicts

	Proved            Addresses
	Incarnation       uint64 // of its process, the begin of what HELLO tells; 0: not told
	Generation        uint64
	Interval, Timeout time.Duration
	Grace             time.Duration  // that it was granted
	Until             heartbeat.Mono // Waiting: not before is it given up, whatever its timeout; 0: by that
	ConnectedAt       Wall           // for those who read, and the name of what is known of it
	Since             heartbeat.Mono // the same
	WaitingSince      heartbeat.Mono
	// A cut-off that waits for what becomes of the other conmgrs of the address; 0: there is none.
	// State Waiting, since it was put off; until Due.
	Deferred terminator.Time
	Due      heartbeat.Mono
	// The verdict that has fallen, which stands until the slot is used again: up to when sessions end;
	// 0: none.
	CutOff         terminator.Time
	Resumed        uint64
	Received, Sent uint64
	LastReceived   Now
}

// Addr is the address of its latest connection.
func (s Slot) Addr() netip.Addr { return s.Proved.latest.Addr }

// proves takes an address to the front. lost: the one that had to go. The two ways to say loopback
// are one address, the one that was used last.
func (s *Slot) proves(addr netip.Addr, at terminator.Time) (lost netip.Addr) {
	i := s.find(addr)
	a := Proved{At: at}
	if i < 0 {
		i = MaxAddresses - 1
		lost = s.Proved.Nth(i).Addr
	} else {
		a = s.Proved.Nth(i)
	}
	a.Addr = addr
	for ; i > 0; i-- {
		s.Proved.Set(i, s.Proved.Nth(i-1))
	}
	s.Proved.Set(0, a)
	return lost
}

// find is where an address stands, -1: nowhere.
func (s *Slot) find(addr netip.Addr) int {
	for i, a := range s.Proved.All() {
		if hostOf(a.Addr) == hostOf(addr) {
			return i
		}
	}
	return -1
}

// lastCutOff is the latest of its verdict.
func (s *Slot) lastCutOff() terminator.Time {
	latest := s.CutOff
	for _, a := range s.Proved.All() {
		if a.Ended {
			latest = max(latest, a.At)
		}
	}
	return latest
}

// since is when its machine first was at an address.
func (s *Slot) since(addr netip.Addr) terminator.Time {
	if i := s.find(addr); i >= 0 && !s.Proved.Nth(i).Ended {
		return s.Proved.Nth(i).At
	}
	return terminator.Time(s.Since)
}

// pending tells whether a verdict that is put off waits for that address.
func (s *Slot) pending(i int) bool {
	a := s.Proved.Nth(i)
	return a.Addr.IsValid() && !a.Ended
}

// falls notes the verdict on an address.
func (s *Slot) falls(i int, cutOff terminator.Time) {
	a := s.Proved.Nth(i)
	a.Ended, a.At = true, cutOff
	s.Proved.Set(i, a)
}

// settled takes away an address on which the verdict was dropped.
func (s *Slot) settled(i int) {
	for ; i < MaxAddresses-1; i++ {
		s.Proved.Set(i, s.Proved.Nth(i+1))
	}
	s.Proved.Set(i, Proved{})
}

// Sessions are those by which a host is asked whether it lives: with its label, or one that was left
// to it, and those of places that carry none for which a conmgr that lives answers.
type Sessions struct {
	Label  heartbeat.ID
	CutOff terminator.Time // those that were there by then
	Places []Place
	// Owner is the label of the conmgr, connected or about to resume, that answers for who carries a
	// label: its own, or one that was left to it; zeros: nobody does.
	Owner func(label heartbeat.ID) heartbeat.ID
}

// Place is an address, by hostOf, and its own cut-off.
type Place struct {
	Addr   netip.Addr
	CutOff terminator.Time
}

// Session is one, as the server's table has it.
type Session struct {
	Local, Remote netip.AddrPort
	Label         heartbeat.ID // zeros: none
	Cookie        uint64       // of its socket
	Device        uint32       // that this is bound to, by a link-local address; 0: none
	Heard         heartbeat.Mono
}

// Host is the address by which the session's host is known: with its zone, as in a slot.
func (s *Session) Host() netip.Addr {
	addr := s.Remote.Addr()
	if s.Device != 0 {
		addr = addr.WithZone(strconv.FormatUint(uint64(s.Device), 10))
	}
	return hostOf(addr)
}

// Mean tells whether they are asked of a session.
func (q *Sessions) Mean(s *Session) bool {
	began := terminator.Time(s.Heard)
	if s.Cookie == 0 {
		return false
	}
	if s.Label != (heartbeat.ID{}) {
		switch owner := q.Owner(s.Label); {
		case s.Label == q.Label, owner == q.Label:
			return began <= q.CutOff
		case owner != (heartbeat.ID{}):
			return false
		}
	}
	for _, p := range q.Places {
		if p.Addr == s.Host() {
			return began <= p.CutOff
		}
	}
	return false
}

// Store is the array of slots in shared memory. The watchdog owns it. A verdict in a slot is a
// request to the terminator, which answers it when it is done, and sets an Ending slot Free.
type Store interface {
	Len() int
	Alive() heartbeat.Mono // when there last was a worker, 0: not known
	SetAlive(now heartbeat.Mono)
	State(i int) State
	Load(i int) Slot
	Put(i int, s *Slot)
	Received(i int, n uint64, at Now)  // a frame came in: count and time
	Sent(i int, n uint64)              // a frame went out
	Ask(i int, latest terminator.Time) // asks the terminator for the verdict in the slot. latest: of its cut-offs
	Pending(i int) bool                // the terminator has not answered yet
	SetState(i int, s State)
	Count(c Counter)
	Record(r Record)
}
