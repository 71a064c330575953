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

// ShutdownRequested has a mode: smart, fast or immediate.
type ShutdownRequested struct {
	notable
	Mode string
}

// Text of it.
func (e ShutdownRequested) Text() string { return fmt.Sprintf("received %s shutdown request", e.Mode) }

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
