package terminator

// How a conmgr leaves, and what that means for its sessions. Pure.

import "time"

// Parting is how a conmgr has left: by its last word, or by how its connection ended without one.
type Parting uint8

// The first three, and the last one, are in the slots in shared memory: extension/bridge.h.
const (
	Broken    Parting = iota // the network gave up, the peer broke the protocol, or the worker was restarted
	Finished                 // FIN: the conmgr, or its kernel for it
	Reset                    // RST: that too, or a firewall in the name of a host that may be dead
	Ends                     // GOODBYE 1: it ends
	GivesUp                  // GOODBYE 2: it has told its applications that this instance is lost
	NotNeeded                // GOODBYE 3: another of its entries leads to this server, too
	Returns                  // GOODBYE 4: it ends, and will be back
)

// Cause is by which rule its sessions may have to end: after a goodbye at once, else when it has not
// resumed until its deadline. Only a FIN is taken for the conmgr's own doing: a reset is also what a
// firewall answers in the name of a host that is dead. One that is not needed ends nothing: the
// other entry's heartbeats are those of its host.
func (p Parting) Cause() Cause {
	switch p {
	case Finished, Returns:
		return Closed
	case Ends:
		return Goodbye
	case GivesUp:
		return GivenUp
	case NotNeeded:
		return None
	}
	return Silence
}

// Awaits is until when a conmgr that has left so, then, may come back whatever its
// heartbeat_timeout: for the grace that it was granted, if it, or its kernel, has closed the
// connection. A host that has died in silence has none. 0: no longer than that.
func (p Parting) Awaits(at Time, grace time.Duration) Time {
	if grace <= 0 || p != Finished && p != Returns {
		return 0
	}
	return at.Add(grace)
}

// Successor is what counts of a process that has the id of a conmgr, and is another one.
type Successor struct {
	SameBoot          bool
	Known, Generation uint64 // the one that was told last, and its own
}

// MaxGenerationStep is by how much the generation of a known conmgr may rise at a time. A conmgr
// cannot lose an instance again before it has reached it, with a HELLO, so that it rises by one;
// some more do no harm.
const MaxGenerationStep = 16

// Rises tells whether a generation can follow the one that is known.
func Rises(known, generation uint64) bool {
	return generation >= known && generation-known <= MaxGenerationStep
}

// Follows tells whether it is the next process of that conmgr, whose sessions are its own: one that
// was started again on the same machine, and knows what its predecessor has told. It need not have
// its settings.
func (s Successor) Follows() bool { return s.SameBoot && Rises(s.Known, s.Generation) }

// Yields tells which of two processes that live under one id has to take another one: the later
// one, unless by its HELLO the earlier one's sessions have ended.
func Yields(earlier, later uint64) (yields bool) { return later <= earlier }

// AtHello is by which rule the sessions of a known conmgr end when it connects again: a generation
// that has risen says that its applications were told that this instance is lost. Else it resumes.
func AtHello(known, generation uint64) Cause {
	if generation > known {
		return GivenUp
	}
	return None
}

// Absent is what counts of a conmgr that is not connected, when another one of its address connects.
type Absent struct {
	Left     Parting // how its connection ended
	Standing Standing
	SameBoot bool
	Timeout  time.Duration // its heartbeat_timeout
	Granted  bool          // it may come back for a time that it was granted
}

// ReplacedBy tells whether a newcomer with that heartbeat_timeout stands for its host from now on, so
// that no verdict will fall. One that was to be heard of more often stays until its deadline. So does
// one whose connection was reset, unless slots are scarce: it may live, and not know yet. One that
// was granted a time to come back has it.
func (a Absent) ReplacedBy(timeout time.Duration, scarce bool) bool {
	left := !a.Granted && (a.Left == Finished || a.Left == Reset && scarce)
	return left && a.mayLeaveTo(timeout)
}

// mayLeaveTo tells whether its sessions may be another one's: with that heartbeat_timeout.
func (a Absent) mayLeaveTo(timeout time.Duration) bool {
	return a.Standing == Awaited && a.SameBoot && timeout <= a.Timeout
}

// LeftTo tells whether one that had left its sessions to another conmgr, and has said nothing since but
// HELLO, has only looked where its address leads, so that they stay that one's, with that
// heartbeat_timeout, which was heard of after a kernel had ended the connection.
func (a Absent) LeftTo(timeout time.Duration, gone, heard Time) bool {
	return a.Left != Broken && a.mayLeaveTo(timeout) && heard > gone
}

// FollowedBy tells whether one whose time to come back is over leaves its sessions to another conmgr
// of its machine with that heartbeat_timeout, which has come since: it may be the same, with another
// id.
func (a Absent) FollowedBy(timeout time.Duration, gone, came Time) bool {
	return a.Granted && (a.Left == Returns || a.Left == Finished) && a.mayLeaveTo(timeout) && came >= gone
}
