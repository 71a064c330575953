package watchdog

// What the watchdog's end shares with its surroundings: times, log lines, and the slots that
// outlive this process.

import (
	"net/netip"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
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

// Now is a moment on both clocks: verdicts are measured on the monotonic one, sessions are dated by
// the wall clock.
type Now struct {
	Mono heartbeat.Mono
	Wall terminator.Wall
}

// Never is a time that does not come.
const Never = heartbeat.Mono(1<<63 - 1)

// Key identifies a conmgr: its id counts only together with the address that it comes from.
type Key struct {
	ID   heartbeat.ID
	Addr netip.Addr // IPv4-mapped addresses unmapped
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
	Key               Key
	Boot              heartbeat.ID
	Port              uint16
	Closed            Close // Waiting: how its connection ended, else Broken
	Generation        uint64
	Interval, Timeout time.Duration
	ConnectedAt       terminator.Wall
	WaitingSince      terminator.Wall
	// A cut-off that waits for what becomes of the other conmgrs of the address, and by which rule;
	// 0: there is none. State Waiting.
	Deferred       terminator.Wall
	DeferredCause  terminator.Cause
	Resumed        uint64
	Received, Sent uint64
	LastReceived   Now
}

// Store is the array of slots in shared memory. The watchdog owns it, but for slots with a cut-off:
// those are requests to the terminator, which takes the cut-off back when it is done, and sets an
// Ending slot Free.
type Store interface {
	Len() int
	State(i int) State
	Load(i int) Slot
	Put(i int, s *Slot)                                           // everything but the cut-off
	Received(i int, n uint64, at Now)                             // a frame came in: count and time
	Sent(i int, n uint64)                                         // a frame went out
	CutOff(i int, cause terminator.Cause, cutOff terminator.Wall) // asks the terminator
	Pending(i int) bool                                           // the terminator has not answered yet
	SetState(i int, s State)                                      // Free takes a cut-off back as well
}
