package event

// What happens to one instance; emitted by its goroutine (package watch). Pure.

import (
	"fmt"
	"net/netip"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Instance says which one. Embedded, it makes an event one of that instance.
type Instance struct {
	Number int
	Host   string // name, or address
	Port   int
}

// Of is the instance of an entry of conmgr.conf.
func Of(c *conf.Instance) Instance { return Instance{c.Number, c.Name(), c.Port} }

func (in Instance) instance() Instance { return in }

func (in Instance) String() string {
	return fmt.Sprintf("instance %d (host %q, port %d)", in.Number, in.Host, in.Port)
}

// short leaves the port out.
func (in Instance) short() string { return fmt.Sprintf("instance %d (host %q)", in.Number, in.Host) }

func (in Instance) kind(name string) string { return fmt.Sprintf("%s %d", name, in.Number) }

// Connecting tells that an address is tried.
type Connecting struct {
	info
	Instance
	To netip.AddrPort // of its watchdog
}

// Text of it.
func (e Connecting) Text() string {
	return fmt.Sprintf("connecting to the watchdog: %s, address %s", e.Instance, e.To)
}

// Kind of it.
func (e Connecting) Kind() string { return e.kind("connecting") }

// ConnectFailure says how an attempt came to nothing.
type ConnectFailure uint8

// The failures.
const (
	NotReached ConnectFailure = iota
	RefusedByWatchdog
	NoAnswer
)

// ConnectFailed tells that all addresses were tried.
type ConnectFailed struct {
	warning
	Instance
	Failure ConnectFailure
	Why     string
}

// Text of it.
func (e ConnectFailed) Text() string {
	what := [...]string{NotReached: "could not establish heartbeat connection",
		RefusedByWatchdog: "heartbeat connect is refused", NoAnswer: "heartbeat connect is timed out"}[e.Failure]
	return fmt.Sprintf("%s: %s: %s", what, e.Instance, e.Why)
}

// Kind of it.
func (e ConnectFailed) Kind() string { return e.kind("attempt") }

func (ConnectFailed) lasts() {}

// LookupFailed tells that addresses that were known before are used.
type LookupFailed struct {
	warning
	Instance
	Err error
}

// Text of it.
func (e LookupFailed) Text() string {
	return fmt.Sprintf("%s; the last known addresses of %s are used", e.Err, e.Instance)
}

// Kind of it.
func (e LookupFailed) Kind() string { return e.kind("name") }

// KeyReplaced tells that the file of heartbeat_key_file has another key.
type KeyReplaced struct {
	notable
	Instance
	KeyID string
}

// Text of it.
func (e KeyReplaced) Text() string {
	return fmt.Sprintf("another key of keyid %q is used for the heartbeats with %s", e.KeyID, e.Instance)
}

// Kind of it.
func (e KeyReplaced) Kind() string { return e.kind("key") }

// KeyUnusable tells that it cannot be read.
type KeyUnusable struct {
	warning
	Instance
	Err error
}

// Text of it.
func (e KeyUnusable) Text() string {
	return fmt.Sprintf("%s: %s; the key of before is used for %s", conf.KeyParam, e.Err, e.Instance)
}

// Kind of it.
func (e KeyUnusable) Kind() string { return e.kind("key file") }

// Established tells that its watchdog has welcomed us.
type Established struct {
	notable
	Instance
	Addr netip.Addr
}

// Text of it.
func (e Established) Text() string {
	return fmt.Sprintf("heartbeat connection is established: %s, address %s", e.Instance, e.Addr)
}

// Kind of it.
func (e Established) Kind() string { return e.kind("established") }

// AttributesChanged tells of its role, for example.
type AttributesChanged struct {
	notable
	Instance
	Before, Now string
}

// Text of it.
func (e AttributesChanged) Text() string {
	return fmt.Sprintf("attribute of the instance(host='%s', port=%d) is changed from '%s' to '%s'", e.Host, e.Port,
		e.Before, e.Now)
}

// Kind of it.
func (e AttributesChanged) Kind() string { return e.kind("attribute") }

// Closed tells that the heartbeat connection has ended, which is no verdict.
type Closed struct {
	notable
	Instance
	Why string
}

// Text of it.
func (e Closed) Text() string {
	return fmt.Sprintf("heartbeat connection is closed: %s: %s", e.Instance, e.Why)
}

// Kind of it.
func (e Closed) Kind() string { return e.kind("closed") }

// Stopping tells that it has announced its end, and is used no more.
type Stopping struct {
	notable
	Instance
}

// Text of it.
func (e Stopping) Text() string {
	return fmt.Sprintf("remote node shuts down heartbeat connection: %s; its connections are left to the server",
		e.Instance)
}

// Kind of it.
func (e Stopping) Kind() string { return e.kind("goodbye") }

// Stopped tells that it has closed its connections itself.
type Stopped struct {
	notable
	Instance
}

// Text of it.
func (e Stopped) Text() string { return fmt.Sprintf("the server has shut down: %s", e.Instance) }

// Kind of it.
func (e Stopped) Kind() string { return e.kind("stopped") }

// TimedOut tells that its deadline has passed. It is lost next.
type TimedOut struct {
	warning
	Instance
}

// Text of it.
func (e TimedOut) Text() string { return fmt.Sprintf("heartbeat is timed out: %s", e.Instance) }

// Kind of it.
func (e TimedOut) Kind() string { return e.kind("attempt") }

func (TimedOut) lasts() {}

// Lost is the verdict. Whoever is bound to it is told next.
type Lost struct {
	warning
	Instance
	Loss heartbeat.Loss
}

// Text of it.
func (e Lost) Text() string { return fmt.Sprintf("%s is lost: %s", e.Instance, e.Loss) }

// Kind of it.
func (e Lost) Kind() string { return e.kind("lost") }

// Duplicate tells that it is a server that is there as another instance.
type Duplicate struct {
	notable
	Instance
	Of int // number of the one whose heartbeats serve
}

// Text of it.
func (e Duplicate) Text() string {
	return fmt.Sprintf("%s is the same server as instance %d, whose heartbeats serve for both", e.Instance, e.Of)
}

// Kind of it.
func (e Duplicate) Kind() string { return e.kind("duplicate") }

// OtherPort tells that applications are sent to another port than the server's own.
type OtherPort struct {
	warning
	Instance
	What string
}

// Text of it.
func (e OtherPort) Text() string {
	return fmt.Sprintf("%s: %s (a mistake, unless a pooler or a forwarded port is meant)", e.Instance, e.What)
}

// Kind of it.
func (e OtherPort) Kind() string { return e.kind("port") }

// IdentityTaken tells that another process has the id by which the instance knows this one.
type IdentityTaken struct {
	warning
	Instance
}

// Text of it.
func (e IdentityTaken) Text() string {
	return "another Connection Manager that runs has the identity of this one: " + e.short() + " knows this one by a new one now"
}

// Explain it.
func (IdentityTaken) Explain(bool) (detail, hint string) {
	return "", "Was the directory of one of them copied? Remove conmgr.identity from the copy before it is started."
}
