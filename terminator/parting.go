package terminator

// How a conmgr leaves, and what that means for its sessions. Pure.

import "time"

// Parting is how a conmgr has left: by its last word, or by how its connection ended without one.
type Parting uint8

// The first three are in the slots in shared memory: extension/bridge.h.
const (
	Broken    Parting = iota // the network gave up, the peer broke the protocol, or the worker was restarted
	Finished                 // FIN: the conmgr, or its kernel for it
	Reset                    // RST: that too, or a firewall in the name of a host that may be dead
	Ends                     // GOODBYE 1: it ends
	GivesUp                  // GOODBYE 2: it has told its applications that this instance is lost
	NotNeeded                // GOODBYE 3: another of its entries leads to this server, too
)

// Cause is by which rule its sessions may have to end: after a goodbye at once, else when it has not
// resumed until its deadline. Only a FIN is taken for the conmgr's own doing: a reset is also what a
// firewall answers in the name of a host that is dead. One that is not needed ends nothing: the
// other entry's heartbeats are those of its host.
func (p Parting) Cause() Cause {
	switch p {
	case Finished:
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
}

// ReplacedBy tells whether a newcomer with that heartbeat_timeout stands for its host from now on, so
// that no verdict will fall. One that was to be heard of more often stays until its deadline. So does
// one whose connection was reset, unless slots are scarce: it may live, and not know yet.
func (a Absent) ReplacedBy(timeout time.Duration, scarce bool) bool {
	left := a.Left == Finished || a.Left == Reset && scarce
	return left && a.Standing == Awaited && a.SameBoot && timeout <= a.Timeout
}
