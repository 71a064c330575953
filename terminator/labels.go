package terminator

// Which sessions a verdict means. Pure; extension/verdicts.c does the same in C, for the terminator
// and for each session that starts.

import "time"

// Bond is what a session has to do with a conmgr on which a verdict has fallen.
type Bond struct {
	Heard Time // when its client was last heard, at the start of the session
	Own   bool // it carries the conmgr's label, or one that this conmgr has taken over
	// It comes from one of the conmgr's addresses, on which the verdict has fallen, with that
	// cut-off.
	Address bool
	Falls   Time
	// Kept: the conmgr whose label it carries, or the one that has taken it over, is awaited, and
	// has proved the session's address: see Keeps.
	Kept bool
}

// Keeps tells whether a conmgr that is awaited, and has proved the session's address, keeps what
// carries its label from the verdict on another one of that address. If its connection was closed
// or reset, it proves nothing for the machine on which that one has died. If that one has only
// ended, who was granted a grace is waited for.
func Keeps(left Parting, sameBoot bool, grace time.Duration, cause Cause) bool {
	return left == Broken || !sameBoot || left != Reset && grace > 0 && !cause.Silent()
}

// Means tells whether a verdict with that cut-off means the session. By its label it is meant
// wherever it comes from. By its address it is if the label tells nothing: there is none, or no
// conmgr that is known has it, or that one has not proved the address, so that anybody may have
// made it up.
func Means(cutOff Time, b Bond) bool {
	return b.Own && b.Heard <= cutOff || b.Address && !b.Kept && b.Heard <= b.Falls
}
