// Package terminator decides whose SQL sessions are ended when a conmgr dies, and which of them. It
// is pure policy: the terminator worker (extension/terminator.c) does the ending, docs/protocol.md
// 1.5 is the specification.
package terminator

import "time"

// Wall is a time of the wall clock in microseconds since 1970-01-01 00:00 UTC. Sessions are dated
// by it, so the cut-off has to be.
type Wall int64

// Add returns t + d.
func (t Wall) Add(d time.Duration) Wall { return t + Wall(d.Microseconds()) }

// Cause is by which rule a conmgr's sessions may have to end.
type Cause uint8

const (
	None Cause = iota
	// nothing was received for heartbeat_timeout, whether or not the connection broke or was reset meanwhile
	Silence
	Goodbye // the conmgr announced its end
	GivenUp // the conmgr has told its applications that this instance is lost
	Closed  // the conmgr closed the connection (FIN) and did not resume
)

// MinJourney is how long a session's start may at least lag behind the packets that asked for it,
// for the cut-off after a silence: a busy postmaster accepts and forks late.
const MinJourney = 500 * time.Millisecond

// SparesWalsenders tells whether walsenders of that host go on: only a silent host is taken for
// dead. By all other causes it is alive, and so is what it receives as a standby, for a base backup
// or by logical replication. WD_CAUSE_SPARES_WALSENDERS in extension/bridge.h is the same rule.
func (c Cause) SparesWalsenders() bool { return c != Silence }

// AtDeadline is the cause if a conmgr has not been heard of until its deadline. Only a FIN is taken
// for the conmgr's own doing: a reset is also what a firewall answers in the name of a host that is
// dead.
func AtDeadline(closedByConmgr bool) Cause {
	if closedByConmgr {
		return Closed
	}
	return Silence
}

// Other is what counts of another conmgr of the same address.
type Other struct {
	Closed   bool          // its connection was closed or reset
	Rebooted bool          // of another boot of the machine, and first connected after the silence in question began
	Silent   time.Duration // since it was last heard
	Interval time.Duration // its heartbeat_interval
	Timeout  time.Duration // its heartbeat_timeout
	Senior   bool          // it was there before the conmgr in question
}

// MaxSchedule bounds the schedule by which a senior conmgr is believed to live, and the
// heartbeat_timeout with which it stands in for another one.
const MaxSchedule = time.Minute

// reach is for how long o may be silent and is still taken for alive, when it is asked for a conmgr
// with that heartbeat_timeout. One that came later cannot have that timeout count for less than the
// heartbeats of one that was there before: with 10 ms, whoever says HELLO and falls silent would end
// the sessions of a host that lives. The schedule of one that came later is no reason to wait.
func (o Other) reach(timeout time.Duration) time.Duration {
	if o.believed() {
		return max(timeout, schedule(o.Interval))
	}
	return timeout
}

// schedule is within what time a conmgr with that heartbeat_interval is heard of if it lives.
func schedule(interval time.Duration) time.Duration { return interval + max(interval/2, MinJourney) }

func (o Other) believed() bool { return o.Senior && schedule(o.Interval) <= MaxSchedule }

// Protects tells whether o proves that the host of a conmgr with that heartbeat_timeout is up. What
// o itself has for a timeout does not matter: sessions were promised the end of theirs, and so
// whoever says HELLO later cannot put it off.
func (o Other) Protects(timeout time.Duration) bool {
	return !o.Closed && !o.Rebooted && o.Silent < o.reach(timeout)
}

// covers tells whether the own verdict on o will do for sessions that were promised that timeout.
func (o Other) covers(timeout time.Duration) bool {
	return o.Timeout <= timeout || o.believed() && o.Timeout <= MaxSchedule
}

// Rebooted tells whether the machine of a conmgr was restarted between its last word and the other
// one's first: then that proves nothing of what ran before. After a stall of the watchdog, both may
// be read in one turn.
func Rebooted(sameBoot bool, connected, lastWord Wall) bool {
	return !sameBoot && connected >= lastWord
}

// Absent is what counts of a conmgr that is not connected, when another one of its address connects.
type Absent struct {
	Finished bool // its connection was closed (FIN)
	Reset    bool
	SameBoot bool
	Timeout  time.Duration // its heartbeat_timeout
}

// ReplacedBy tells whether a newcomer with that heartbeat_timeout stands for its host from now on, so
// that no verdict will fall. One that was to be heard of more often stays until its deadline. So does
// one whose connection was reset, unless slots are scarce: it may live, and not know yet.
func (a Absent) ReplacedBy(timeout time.Duration, scarce bool) bool {
	return (a.Finished || a.Reset && scarce) && a.SameBoot && timeout <= a.Timeout
}

// Facts about the conmgr in question, at the time of the verdict.
type Facts struct {
	Now              Wall          // the verdict
	LastReceived     Wall          // Silence: the last frame
	ClosedAt         Wall          // Closed: when the connection was closed
	Interval         time.Duration // heartbeat_interval
	Timeout          time.Duration // heartbeat_timeout
	Back             bool          // it has connected again, with this verdict
	Others           []Other       // the other conmgrs of its address
	TerminateOnClose bool          // watchdog.terminate_on_close
}

// Action is what is to be done with the sessions.
type Action uint8

const (
	Spare Action = iota // nothing
	End                 // end those that started at or before the cut-off
	Defer               // nothing yet: ask Review again later
	// nothing; but its sessions end should it come back and have told its applications that they are lost
	Remember
)

// Decision is what is to be done, and why.
type Decision struct {
	Action Action
	Cause  Cause         // End, Defer: which of the sessions, see SparesWalsenders
	CutOff Wall          // End, Defer
	Wait   time.Duration // Defer: for so long; never more than heartbeat_timeout
	Why    string        // Spare, Defer: for the log
}

const (
	whySetting = "watchdog.terminate_on_close is off"
	whyAlive   = "another conmgr of this address is alive"
)

// Decide applies the rules.
func Decide(cause Cause, f Facts) Decision {
	if (cause == Goodbye || cause == Closed) && !f.TerminateOnClose {
		if cause == Closed {
			return Decision{Action: Remember, Why: whySetting}
		}
		return Decision{Why: whySetting}
	}
	d := Decision{Action: End, Cause: cause, CutOff: f.Now}
	switch cause {
	case Silence:
		// The host was alive until its next BEAT was due; a session that
		// started later than that is one of a host that came back.
		d.CutOff = min(f.LastReceived.Add(schedule(f.Interval)), f.Now)
	case Closed:
		d.CutOff = min(f.ClosedAt, f.Now)
	case Goodbye, GivenUp:
	default:
		return Decision{Why: "no verdict"}
	}
	if wait, ok := protection(f.Others, f.Timeout); ok {
		d.Action, d.Wait, d.Why = Defer, wait, whyAlive
		if f.Back { // and so is this one: what becomes of its host is judged by its own heartbeats
			d = Decision{Why: whyAlive}
		}
	}
	return d
}

// Deferred is a cut-off that was put off, as another conmgr of the address was alive.
type Deferred struct {
	Cause            Cause
	CutOff           Wall
	Timeout          time.Duration // heartbeat_timeout of the conmgr whose verdict it was
	Age              time.Duration // since it was put off first
	Others           []Other
	TerminateOnClose bool
}

// Review decides about a deferred cut-off when its time has come. The sessions were promised to end
// when their host has not been heard of for Timeout. They stay while somebody at the address is
// heard that often; they are no longer in question when a conmgr with no longer timeout, or a senior
// one, has been heard since, whose own verdict then covers them.
func Review(d Deferred) Decision {
	if wait, ok := protection(d.Others, d.Timeout); ok {
		for _, o := range d.Others {
			if o.Protects(d.Timeout) && o.covers(d.Timeout) && o.Silent < d.Age {
				return Decision{Why: whyAlive}
			}
		}
		return Decision{Action: Defer, Cause: d.Cause, CutOff: d.CutOff, Wait: wait, Why: whyAlive}
	}
	if (d.Cause == Goodbye || d.Cause == Closed) && !d.TerminateOnClose {
		return Decision{Why: whySetting}
	}
	return Decision{Action: End, Cause: d.Cause, CutOff: d.CutOff}
}

// Merge is one deferred cut-off for two of the same address: the wider of both.
func Merge(a, b Deferred) Deferred {
	a.CutOff = max(a.CutOff, b.CutOff)
	if b.Cause == Silence {
		a.Cause = Silence
	}
	return a
}

// protection tells whether one of the others protects, and for how long at least.
func protection(others []Other, timeout time.Duration) (wait time.Duration, ok bool) {
	for _, o := range others {
		if o.Protects(timeout) {
			wait, ok = max(wait, o.reach(timeout)-o.Silent), true
		}
	}
	return wait, ok
}
