package bind

// What can be followed with log_min_messages = INFO (who asked for what and was sent where, who was
// relayed, heartbeat attempts) and DEBUG (every connection). These lines are as many as what they
// tell of: they are asked for. Nothing here blocks.

import (
	"fmt"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

// Trace is the log of connections.
type Trace struct {
	Log   *cmlog.Logger
	Limit *cmlog.Limiter // of lines that a peer can cause
}

// Target tells that a client has asked for an attribute, by a statement or a relay port, and got
// instance i of t, or none (-1).
func (tr *Trace) Target(of *Seat, want cm.Attribute, except []int, t *Table, i int) {
	if !tr.Log.Wants(cmlog.INFO) {
		return
	}
	who, how := of.String(), "asked for"
	if of.Application != "" {
		who += fmt.Sprintf(" (%s)", of.Application)
	}
	if of.Relay {
		how = "is relayed to"
	}
	got := "no instance"
	if i >= 0 {
		e := &t.Entries[i]
		got = fmt.Sprintf("instance %d (host %q, address %s, port %d)", e.Config.Number, e.Config.Name(), e.Address(),
			e.Config.Port)
	}
	if len(except) > 0 {
		how += fmt.Sprintf(" (except %v)", except)
	}
	m := cmlog.Message{Level: cmlog.INFO, Text: fmt.Sprintf("%s %s %s: %s", who, how, want, got)}
	if i < 0 || tr.Log.Wants(cmlog.DEBUG) {
		m.Detail = t.Describe(want, except) + "."
	}
	tr.Log.Message(m)
}

// Connection tells that a connection has come, or gone.
func (tr *Trace) Connection(of *Seat, what string) {
	if tr.Log.Wants(cmlog.DEBUG) {
		tr.Log.Log(cmlog.DEBUG, "connection from application %s: %s", what, of)
	}
}

// Rejection tells that an application, direct or relayed, gets no instance because of a shutdown.
func (tr *Trace) Rejection(of *Seat) {
	tr.Limit.Log("rejected", cmlog.LOG, "rejected a connection from application due to going shutdown: %s", of)
}
