// Package worker is the heart of the watchdog worker: it listens for conmgrs, exchanges heartbeats
// with them, and decides when one is dead.
//
//	host.go       what it needs of the process that it lives in
//	table.go      the conmgrs that are known: docs/protocol.md 1.4, pure, time injected
//	hello.go      who is admitted, and as whom
//	slots.go      whose slot a new conmgr gets
//	verdict.go    the ends of conmgrs: docs/protocol.md 1.5; terminator/ decides
//	timers.go     who has to be looked at next
//	listen.go     listening sockets
//	reactor.go    one goroutine, one epoll: sockets in, table, sockets out
//	accept.go     its listening sockets, and what comes in by them
//	wait.go       waiting for events and for what is due
//	admission.go  peers that have not proven themselves yet
//	loglimit.go   what peers can make the log say, within bounds
//	faults_*.go   faults on request, in the test build only
//
// It runs inside the watchdog worker process of PostgreSQL, on threads that never call PostgreSQL
// (cgo/ is the bridge).
package worker

import (
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

// Stop is why the worker has to end.
type Stop uint8

const (
	Run        Stop = iota
	StopWorker      // the worker is restarted: conmgrs will resume
	StopServer      // the server shuts down: conmgrs have to be told
)

// Host is the process that the worker lives in. All methods may be called from any goroutine and
// never block.
type Host interface {
	Attributes() heartbeat.Attributes // current ones
	Succeeds() heartbeat.Succession   // the current one
	Stop() Stop
	TerminateOnClose() bool    // current setting
	MaxTimeout() time.Duration // current setting: the longest heartbeat_interval and heartbeat_timeout of a HELLO
	WakeFD() int               // an eventfd that becomes readable when one of the above has changed
	Alive()                    // the worker has looked at WakeFD: it still works
	Log(Line)
	WakeTerminator() // a slot has got a cut-off
	Fail(why string) // the worker cannot go on: have the process restarted
}

// Config does not change while the worker runs.
type Config struct {
	ListenAddresses  string // as PostgreSQL's listen_addresses
	Port             int
	SystemIdentifier uint64
	PostmasterStart  int64  // microseconds since 1970-01-01 00:00 UTC
	PostmasterPort   uint16 // 0: not known
}

// Now is a moment on both clocks: verdicts are measured on the monotonic one, sessions are dated by
// the wall clock.
type Now struct {
	Mono heartbeat.Mono
	Wall terminator.Wall
}

// Clock tells the time.
type Clock func() Now

// State of a slot, as in extension/bridge.h.
type State uint32

const (
	Free State = iota
	Connected
	Waiting // not connected, may still resume
	Ending  // the terminator ends its sessions, then frees the slot
)

// Close is how a heartbeat connection ended without a GOODBYE, as in extension/bridge.h.
type Close uint8

const (
	Broken   Close = iota // the network gave up, the peer broke the protocol, or the worker was restarted
	Finished              // FIN: the conmgr, or its kernel for it
	Reset                 // RST: that too, or a firewall in the name of a host that may be dead
)

// Slot is one conmgr in shared memory.
type Slot struct {
	State             State
	Key               Key
	Boot              heartbeat.ID
	Port              uint16
	Closed            Close // Waiting: how its connection ended
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

// Store is the array of slots in shared memory. The worker owns it, but for slots with a cut-off:
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
