package conmgr

// What can be followed with log_min_messages = INFO (who asked for what and was sent where, who was
// relayed, heartbeat attempts) and DEBUG (every connection). These lines are as many as what they
// tell of: they are asked for. Nothing here blocks.

import (
	"fmt"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

// trace is the log of connections.
type trace struct {
	log   *cmlog.Logger
	limit *cmlog.Limiter // of lines that a peer can cause
}

// target: a client has asked for an attribute, by a statement or a relay port, and got
// instance i of t, or none (-1).
func (tr *trace) target(of *seat, want cm.Attribute, except []int, t *table, i int) {
	if !tr.log.Wants(cmlog.INFO) {
		return
	}
	who, how := of.String(), "asked for"
	if of.application != "" {
		who += fmt.Sprintf(" (%s)", of.application)
	}
	if of.relay {
		how = "is relayed to"
	}
	got := "no instance"
	if i >= 0 {
		e := &t.entries[i]
		got = fmt.Sprintf("instance %d (host %q, address %s, port %d)", e.cfg.Number, e.cfg.Name(), e.address(),
			e.cfg.Port)
	}
	if len(except) > 0 {
		how += fmt.Sprintf(" (except %v)", except)
	}
	m := cmlog.Message{Level: cmlog.INFO, Text: fmt.Sprintf("%s %s %s: %s", who, how, want, got)}
	if i < 0 || tr.log.Wants(cmlog.DEBUG) {
		m.Detail = t.Describe(want, except) + "."
	}
	tr.log.Message(m)
}

// connection: a connection has come, or gone.
func (tr *trace) connection(of *seat, what string) {
	if tr.log.Wants(cmlog.DEBUG) {
		tr.log.Log(cmlog.DEBUG, "connection from application %s: %s", what, of)
	}
}

// rejection: an application, direct or relayed, gets no instance because of a shutdown.
func (tr *trace) rejection(of *seat) {
	tr.limit.Log("rejected", cmlog.LOG, "rejected a connection from application due to going shutdown: %s", of)
}
