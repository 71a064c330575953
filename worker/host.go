// Package worker moves bytes and clocks for the watchdog: it listens for conmgrs, tells
// heartbeat/watchdog what comes in and what time it is, and does what that asks for. It decides
// nothing.
//
//	host.go      what it needs of the process that it lives in
//	listen.go    listening sockets
//	reactor.go   one goroutine, one epoll: sockets in, events and actions, sockets out
//	conn.go      one connection: reading, writing, closing
//	access.go    who may connect: reads the key file
//	accept.go    its listening sockets, and what comes in by them
//	witness.go   when sessions' sockets were heard from, by the kernel's account
//	wait.go      waiting for events and for what is due
//	faults_*.go  faults on request, in the test build only
//
// It runs inside the watchdog worker process of PostgreSQL, on threads that never call PostgreSQL
// (cgo/ is the bridge).
package worker

import (
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

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
	Lag() heartbeat.Lag               // as it was a second ago at most; of a standby
	Stop() Stop
	TerminateOnClose() bool    // current setting
	KernelEvidence() bool      // current setting: a silence is held against what the kernel has heard of sessions
	MaxTimeout() time.Duration // current setting: the longest heartbeat_interval and heartbeat_timeout of a HELLO
	MaxGrace() time.Duration   // current setting: the longest grace that a conmgr is granted
	AccessSerial() uint32      // of the current Access
	Access() Access            // current setting
	WakeFD() int               // an eventfd that becomes readable when one of the above has changed
	Alive()                    // the worker has looked at WakeFD: it still works
	Log(watchdog.Line)
	Sessions(func(*watchdog.Session)) // of client hosts, one by one
	WakeTerminator()                  // a slot has got a verdict
	Fail(why string)                  // the worker cannot go on: have the process restarted
	// For those who ask how it is: so many listening sockets there are, and so many keys are in force.
	// failed: there should be others.
	Listening(n int, failed bool)
	Keys(n int, failed bool)
}

// Config does not change while the worker runs, but for where it listens: see Access.
type Config struct {
	ListenAddresses  string // as PostgreSQL's listen_addresses
	Port             int
	SystemIdentifier uint64
	PostmasterStart  int64  // microseconds since 1970-01-01 00:00 UTC
	PostmasterPort   uint16 // 0: not known
}

// Clock tells the time.
type Clock func() watchdog.Now
