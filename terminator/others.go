package terminator

// The other conmgrs of an address, whose life protects its sessions. Pure.

import "time"

// MinJourney is how long a session's start may at least lag behind the packets that asked for it,
// for the cut-off after a silence: a busy postmaster accepts and forks late.
const MinJourney = 500 * time.Millisecond

// Standing is where the watchdog stands with a conmgr.
type Standing uint8

const (
	Awaited    Standing = iota // it is connected, or may resume: no verdict has fallen
	PutOff                     // a verdict waits for what becomes of the others: Deferred
	Remembered                 // its time is over and its sessions were spared: Remember
)

// Other is what counts of another conmgr of the same address.
type Other struct {
	Left     Parting // how its connection ended, if it has
	Standing Standing
	SameBoot bool          // of the machine
	Rebooted bool          // of another boot of the machine, and first connected after the silence in question began
	Since    Time          // when it first connected from the address
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
// heartbeats of one that was there before: with 10 ms, whoever says HELLO and falls silent would
// end the sessions of a host that lives. The schedule of one that came later is no reason to wait.
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
// whoever says HELLO later cannot put it off. A connection that was closed or reset may have been
// closed by the kernel of a host whose conmgr has died; one that the network broke says nothing.
func (o Other) Protects(timeout time.Duration) bool {
	return o.Standing == Awaited && o.Left == Broken && !o.Rebooted && o.Silent < o.reach(timeout)
}

// covers tells whether the own verdict on o will do for sessions that were promised that timeout.
func (o Other) covers(timeout time.Duration) bool {
	return o.Timeout <= timeout || o.believed() && o.Timeout <= MaxSchedule
}

// Rebooted tells whether the machine of a conmgr was restarted between its last word and the other
// one's first: then that proves nothing of what ran before. After a stall of the watchdog, both may
// be read in one turn.
func Rebooted(sameBoot bool, connected, lastWord Time) bool {
	return !sameBoot && connected >= lastWord
}

// capped is the cut-off of an address: what began when another boot, or another machine, had come
// to it is that one's, as long as its own verdict is still to fall.
func capped(cutOff Time, others []Other) Time {
	for _, o := range others {
		if o.Rebooted && o.Standing == Awaited {
			cutOff = min(cutOff, o.Since)
		}
	}
	return cutOff
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
