// Package terminator decides whose SQL sessions are ended when a conmgr dies, and which of them. It is pure policy: the terminator worker
// (extension/terminator.c) does the ending, docs/protocol.md 1.5 is the specification.
package terminator

import "time"

// Wall is a time of the wall clock in microseconds since 1970-01-01 00:00 UTC. Sessions are dated by it, so the cut-off has to be.
type Wall int64

// Add returns t + d.
func (t Wall) Add(d time.Duration) Wall { return t + Wall(d.Microseconds()) }

// Cause is by which rule a conmgr's sessions may have to end.
type Cause uint8

const (
	None    Cause = iota
	Silence       // nothing was received for heartbeat_timeout, or the connection broke without the conmgr's doing and was not resumed
	Goodbye       // the conmgr announced its end
	GivenUp       // the conmgr has told its applications that this instance is lost
	Closed        // the conmgr closed the connection and did not resume
)

// MinJourney is how long a session's start may at least lag behind the packets that asked for it, for the cut-off after a silence: a busy
// postmaster accepts and forks late.
const MinJourney = 500 * time.Millisecond

// Facts about the conmgr in question, at the time of the verdict.
type Facts struct {
	Now              Wall          // the verdict
	LastReceived     Wall          // Silence: the last frame
	ClosedAt         Wall          // Closed: when the connection was closed
	Interval         time.Duration // heartbeat_interval
	OtherAlive       bool          // another conmgr of the same address is connected, or may still resume
	TerminateOnClose bool          // watchdog.terminate_on_close
}

// Action is what is to be done with the sessions.
type Action uint8

const (
	Spare Action = iota // nothing
	End                 // end those that started at or before the cut-off
	Defer               // nothing while another conmgr of the address is alive; if that one dies too, the later cut-off holds
)

// Decision is what is to be done, and why.
type Decision struct {
	Action Action
	CutOff Wall   // End, Defer
	Why    string // Spare, Defer: for the log
}

// Decide applies the rules.
func Decide(cause Cause, f Facts) Decision {
	if (cause == Goodbye || cause == Closed) && !f.TerminateOnClose {
		return Decision{Why: "watchdog.terminate_on_close is off"}
	}
	d := Decision{Action: End, CutOff: f.Now}
	switch cause {
	case Silence:
		// The host was alive until its next BEAT was due; a session that
		// started later than that is one of a host that came back.
		d.CutOff = min(f.LastReceived.Add(f.Interval+max(f.Interval/2, MinJourney)), f.Now)
	case Closed:
		d.CutOff = min(f.ClosedAt, f.Now)
	case Goodbye, GivenUp:
	default:
		return Decision{Why: "no verdict"}
	}
	if f.OtherAlive {
		d.Action, d.Why = Defer, "another conmgr of this address is alive"
	}
	return d
}
