package event

// What happens to conmgr itself; emitted by its main goroutine. Pure.

import (
	"fmt"

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
