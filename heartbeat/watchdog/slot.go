package watchdog

// What the watchdog's end shares with its surroundings: times, log lines, and the slots that
// outlive this process.

import (
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

// Slot is one conmgr in shared memory.
type Slot struct {
	State             State
	ID                heartbeat.ID
	KeyID             proof.KeyID // that has made it; zeros: nothing was proved
	Boot              heartbeat.ID
	Heir              heartbeat.ID         // label of the conmgr that has taken over what carries ours; zero: none
	Proved            [MaxAddresses]Proved // the latest first; no Addr: none
	Port              uint16               // of the latest connection
	Attempt           uint32               // the highest of its HELLOs, 0: a conmgr of version 1
	Incarnation       uint64               // of its process, the begin of what HELLO tells; 0: not told
	Closed            Close                // Waiting: how its connection ended, else Broken
	Remembered        bool                 // Waiting: its time to resume is over, and its sessions were spared
	Generation        uint64
	Interval, Timeout time.Duration
	Grace             time.Duration  // that it was granted
	Until             heartbeat.Mono // Waiting: not before is it given up, whatever its timeout; 0: by that
	ConnectedAt       Wall           // for those who read, and the name of what is known of it
	Since             heartbeat.Mono // the same
	WaitingSince      heartbeat.Mono
	// A cut-off that waits for what becomes of the other conmgrs of the address, and by which rule;
	// 0: there is none. State Waiting, since it was put off; until Due.
	Deferred      terminator.Time
	DeferredCause terminator.Cause
	Due           heartbeat.Mono
	// The verdict that has fallen, which stands until the slot is used again: by which rule, and up
	// to when sessions end; 0: none.
	Cause          terminator.Cause
	CutOff         terminator.Time
	Unasked        bool   // the terminator was not asked for it yet
	Suspended      uint32 // verdicts
	Resumed        uint64
	Received, Sent uint64
	LastReceived   Now
}

// Addr is the address of its latest connection.
func (s Slot) Addr() netip.Addr { return s.Proved[0].Addr }

// proves takes an address to the front. lost: the one that had to go. The two ways to say loopback
// are one address, the one that was used last.
func (s *Slot) proves(addr netip.Addr, at terminator.Time) (lost netip.Addr) {
	i := s.find(addr)
	if i < 0 {
		i = MaxAddresses - 1
		lost = s.Proved[i].Addr
		s.Proved[i] = Proved{At: at}
	}
	a := s.Proved[i]
	a.Addr = addr
	copy(s.Proved[1:i+1], s.Proved[:i])
	s.Proved[0] = a
	return lost
}

// find is where an address stands, -1: nowhere.
func (s *Slot) find(addr netip.Addr) int {
	for i := range s.Proved {
		if a := s.Proved[i].Addr; a.IsValid() && hostOf(a) == hostOf(addr) {
			return i
		}
	}
	return -1
}

// lastCutOff is the latest of its verdict.
func (s *Slot) lastCutOff() terminator.Time {
	latest := s.CutOff
	for _, a := range s.Proved {
		if a.Ended {
			latest = max(latest, a.At)
		}
	}
	return latest
}

// since is when its machine first was at an address.
func (s *Slot) since(addr netip.Addr) terminator.Time {
	if i := s.find(addr); i >= 0 && !s.Proved[i].Ended {
		return s.Proved[i].At
	}
	return terminator.Time(s.Since)
}

// pending tells whether a verdict that is put off waits for that address.
func (s *Slot) pending(i int) bool { return s.Proved[i].Addr.IsValid() && !s.Proved[i].Ended }

// settled takes away an address on which the verdict was dropped.
func (s *Slot) settled(i int) {
	copy(s.Proved[i:], s.Proved[i+1:])
	s.Proved[MaxAddresses-1] = Proved{}
}

// Sessions are those by which a host is asked whether it lives: with its label, and those of places
// that carry none which is that of a conmgr that lives.
type Sessions struct {
	Label  heartbeat.ID
	CutOff terminator.Time // those that were there by then
	Places []Place
	Known  func(label heartbeat.ID) bool // the label of one that is connected or may resume
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
	switch {
	case s.Cookie == 0:
		return false
	case s.Label == q.Label:
		return began <= q.CutOff
	case s.Label != (heartbeat.ID{}) && q.Known(s.Label):
		return false
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
}
