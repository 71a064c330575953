package event

// What happens to conmgr itself; emitted by its main goroutine. Pure.

import (
	"fmt"
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
)

// Started tells that its ports are open.
type Started struct {
	notable
	Instances, Port int
}

// Text of it.
func (e Started) Text() string {
	return fmt.Sprintf("starting Connection Manager %s: %d instances, port %d", cm.Version, e.Instances, e.Port)
}

// NotStarted tells why: a port is taken, for example.
type NotStarted struct {
	fatal
	Err error
}

// Text of it.
func (e NotStarted) Text() string { return e.Err.Error() }

// ShutdownRequested has a mode: smart, fast or immediate, or restart: conmgr will be back.
type ShutdownRequested struct {
	notable
	Mode string
}

// Text of it.
func (e ShutdownRequested) Text() string {
	if e.Mode == Restart {
		return "received restart request"
	}
	return fmt.Sprintf("received %s shutdown request", e.Mode)
}

// Restart is the mode of a conmgr that will be back.
const Restart = "restart"

// ApplicationsClosed is of all of them.
type ApplicationsClosed struct{ notable }

// Text of it.
func (ApplicationsClosed) Text() string { return "closing all application connections" }

// CutShort tells that not everything was over in time.
type CutShort struct{ debug }

// Text of it.
func (CutShort) Text() string { return "some connections were cut at the end of the shutdown" }

// ShutDown is the end.
type ShutDown struct{ notable }

// Text of it.
func (ShutDown) Text() string { return "Connection Manager is shut down" }

// PidFileUnwritten tells that cm_ctl does not see what changes.
type PidFileUnwritten struct {
	warning
	Err error
}

// Text of it.
func (e PidFileUnwritten) Text() string { return e.Err.Error() }

// IdentityUnreadable is of the file by which the servers know this Connection Manager again.
type IdentityUnreadable struct {
	warning
	Err  error
	Hint string
}

// Text of it.
func (e IdentityUnreadable) Text() string {
	return "the servers do not know this Connection Manager again: " + e.Err.Error()
}

// Explain it.
func (e IdentityUnreadable) Explain(bool) (detail, hint string) { return "", e.Hint }

// IdentityUnwritten is of the same file.
type IdentityUnwritten struct {
	warning
	Why string
}

// Text of it.
func (e IdentityUnwritten) Text() string { return e.Why }

// Explain it.
func (e IdentityUnwritten) Explain(bool) (detail, hint string) {
	return "A restart of conmgr would end the sessions of its applications.", ""
}

// Restarting tells that this process becomes the program that is installed now.
type Restarting struct {
	notable
	Program string
}

// Text of it.
func (e Restarting) Text() string { return fmt.Sprintf("restarting as \"%s\"", e.Program) }

// NotRestarted tells why it does not, and goes on.
type NotRestarted struct {
	failure
	Err error
}

// Text of it.
func (e NotRestarted) Text() string { return "could not restart: " + e.Err.Error() }

// Explain it.
func (NotRestarted) Explain(bool) (detail, hint string) {
	return "The Connection Manager goes on as it is.", ""
}

// HTTPOpen tells where metrics and health checks are answered.
type HTTPOpen struct {
	notable
	Addresses []string
}

// Text of it.
func (e HTTPOpen) Text() string { return "listening for HTTP on " + strings.Join(e.Addresses, ", ") }

// HTTPNotOpen tells why they are not, after a restart in place.
type HTTPNotOpen struct {
	failure
	Err error
}

// Text of it.
func (e HTTPNotOpen) Text() string {
	return "metrics and health checks are not answered: " + e.Err.Error()
}

// Explain it.
func (HTTPNotOpen) Explain(bool) (detail, hint string) {
	return "", "Correct http_port, health_port or http_listen_addresses in conmgr.conf, and reload."
}

// HTTPOverfull tells that a connection was closed, as there are enough.
type HTTPOverfull struct {
	notable
	Peer string
	Max  int
}

// Text of it.
func (e HTTPOverfull) Text() string {
	return fmt.Sprintf("closed a connection to the HTTP port: %s: there are %d connections already", e.Peer, e.Max)
}

// Kind of it.
func (HTTPOverfull) Kind() string { return "http" }

// HTTPFailed is what the HTTP server complains of.
type HTTPFailed struct {
	failure
	Why string
}

// Text of it.
func (e HTTPFailed) Text() string { return "HTTP: " + e.Why }

// Kind of it.
func (HTTPFailed) Kind() string { return "http failure" }

// CommandFailed tells that event_command did not do its work, or was not run for all events.
type CommandFailed struct {
	warning
	Of      string // the event that it was run for
	Why     string // "": it has done its work
	LeftOut int    // events that it was not run for
}

// Text of it.
func (e CommandFailed) Text() string {
	var all []string
	if e.Why != "" {
		all = append(all, fmt.Sprintf("event_command has failed for the event %s: %s", e.Of, e.Why))
	}
	if e.LeftOut > 0 {
		all = append(all, fmt.Sprintf("event_command was not run for %d events, as too many were waiting for it", e.LeftOut))
	}
	return strings.Join(all, "; ")
}

// Kind of it.
func (CommandFailed) Kind() string { return "event_command" }
