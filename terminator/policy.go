// Package terminator decides whose SQL sessions are ended when a conmgr dies, and which of them. It
// is pure policy: the watchdog's table tells the facts and carries out what is decided here, the
// terminator worker (extension/terminator.c) does the ending, docs/protocol.md 1.5 is the
// specification.
//
//	parting.go    what a conmgr's last word means, or that it had none
//	policy.go     the verdict: whose sessions, and the cut-off
//	others.go     the other conmgrs of an address: who protects its sessions
//	witness.go    the kernel, who is asked before a silence becomes a verdict
//	deferred.go   a verdict that was put off for their sake
//	labels.go     which sessions a verdict means: by label, by address
//	slots.go      on whom no verdict will fall, as its slot is needed
package terminator

// The verdict on a conmgr. Pure.

import "time"

// Time is a time of CLOCK_MONOTONIC in nanoseconds. The sessions are dated by it: a wall clock may
// be set at any moment.
type Time int64

// Add returns t + d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Cause is by which rule a conmgr's sessions may have to end.
type Cause uint8

const (
	None Cause = iota
	// nothing was received for heartbeat_timeout, whether or not the connection broke or was reset
	// meanwhile
	Silence
	Goodbye // the conmgr announced its end
	GivenUp // the conmgr has told its applications that this instance is lost
	Closed  // the conmgr closed the connection (FIN) and did not resume
)

// Silent tells whether the host is taken for dead: by all other causes it is alive.
func (c Cause) Silent() bool { return c == Silence }

// SparesWalsenders tells whether walsenders of that host go on: only a silent host is taken for
// dead. By all other causes it is alive, and so is what it receives as a standby, for a base backup
// or by logical replication. WD_CAUSE_SPARES_WALSENDERS in extension/bridge.h is the same rule.
func (c Cause) SparesWalsenders() bool { return !c.Silent() }

// Facts about the conmgr in question, at the time of the verdict.
type Facts struct {
	Now              Time          // the verdict
	LastReceived     Time          // Silence: the last frame
	ClosedAt         Time          // Closed: when the connection was closed
	Interval         time.Duration // heartbeat_interval
	Timeout          time.Duration // heartbeat_timeout
	Back             bool          // it has connected again, with this verdict
	TerminateOnClose bool          // watchdog.terminate_on_close
}

// Action is what is to be done with the sessions.
type Action uint8

const (
	Spare Action = iota // nothing
	End                 // end those that started at or before the cut-off
	Defer               // nothing yet: ask Review again later
	// nothing; but its sessions end should it come back and have told its applications that they
	// are lost
	Remember
)

// Verdict is what follows from the end of a conmgr.
type Verdict struct {
	// Own is for the sessions that carry its label: End, Spare or Remember. It is never put off for
	// the sake of others, as these sessions are nobody else's.
	Own    Action
	Cause  Cause
	CutOff Time // End
	Why    Why
	// Addresses are for the other sessions of each of its addresses, in their order; nil unless Own
	// is End.
	Addresses []Decision
}

// Decision is what is to be done with the sessions of an address, and why.
type Decision struct {
	Action Action
	Cause  Cause         // End, Defer: which of the sessions, see SparesWalsenders
	CutOff Time          // End, Defer
	Wait   time.Duration // Defer: for so long; never more than heartbeat_timeout
	Why    Why           // Spare, Defer: for the log; NoReason: nothing is said, as there was no cause
}

// Why is the reason for which sessions stay. It is kept in shared memory, and shown:
// extension/bridge.h.
type Why uint8

const (
	NoReason Why = iota
	whySetting
	whyAlive
	whyCovered
)

// String says it in the log's words.
func (w Why) String() string {
	switch w {
	case whySetting:
		return "watchdog.terminate_on_close is off"
	case whyAlive:
		return "another conmgr of this address is alive"
	case whyCovered:
		return "it has not proved by a key who it is, and another conmgr of this address has"
	}
	return ""
}

// Address is what counts of one of its addresses.
type Address struct {
	Others  []Other // the other conmgrs there
	Covered bool    // it has proved nothing, and somebody at that address has
}

// Decide applies the rules.
func Decide(cause Cause, f Facts, addresses ...Address) Verdict {
	if (cause == Goodbye || cause == Closed) && !f.TerminateOnClose {
		if cause == Closed {
			return Verdict{Own: Remember, Why: whySetting}
		}
		return Verdict{Why: whySetting}
	}
	v := Verdict{Own: End, Cause: cause, CutOff: f.Now}
	switch cause {
	case Silence:
		v.CutOff = silenceCutOff(f.LastReceived, f.Interval, f.Now)
	case Closed:
		v.CutOff = min(f.ClosedAt, f.Now)
	case Goodbye, GivenUp:
	default:
		return Verdict{}
	}
	for _, a := range addresses {
		v.Addresses = append(v.Addresses, a.decide(v, f))
	}
	return v
}

// decide is the part of a verdict that concerns one address.
func (a Address) decide(v Verdict, f Facts) Decision {
	if a.Covered {
		return Decision{Why: whyCovered}
	}
	d := Decision{Action: End, Cause: v.Cause, CutOff: capped(v.CutOff, a.Others)}
	if wait, ok := protection(a.Others, f.Timeout); ok {
		d.Action, d.CutOff, d.Wait, d.Why = Defer, v.CutOff, wait, whyAlive
		if f.Back { // and so is this one: what becomes of its host is judged by its own heartbeats
			d = Decision{Why: whyAlive}
		}
	}
	return d
}
