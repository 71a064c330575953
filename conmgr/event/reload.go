package event

// What a reload of conmgr.conf does; emitted by the main goroutine. Pure.

import (
	"fmt"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

// Configured is what is wrong with conmgr.conf, or strange in it, at a reload.
type Configured struct {
	Warning    bool
	Said, Hint string
}

// Level of it.
func (e Configured) Level() cmlog.Level {
	if e.Warning {
		return cmlog.WARNING
	}
	return cmlog.ERROR
}

// Text of it.
func (e Configured) Text() string { return e.Said }

// Explain it.
func (e Configured) Explain(bool) (detail, hint string) { return "", e.Hint }

// NotReloaded is the end of a reload of a file with errors.
type NotReloaded struct{ failure }

// Text of it.
func (NotReloaded) Text() string {
	return fmt.Sprintf("%s contains errors; no changes were applied", cm.ConfigFile)
}

// Reloaded is the end of another one.
type Reloaded struct{ notable }

// Text of it.
func (Reloaded) Text() string { return "reloaded " + cm.ConfigFile }

// ParameterChanged is of a parameter whose value in conmgr.conf is another one now.
type ParameterChanged struct {
	notable
	Name, Value string
	Pending     bool // until a restart
}

// Text of it.
func (e ParameterChanged) Text() string {
	if e.Pending {
		return fmt.Sprintf("parameter %q cannot be changed without restarting conmgr", e.Name)
	}
	return fmt.Sprintf("parameter %q changed to %q", e.Name, e.Value)
}

// NotInPlace tells why some parameters change at a restart only, this time.
type NotInPlace struct {
	warning
	Err error
}

// Text of it.
func (e NotInPlace) Text() string { return "this conmgr cannot go on in place: " + e.Err.Error() }
