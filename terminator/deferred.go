package terminator

// A verdict that was put off, as another conmgr of the address was alive. Pure.

import "time"

// Deferred is a cut-off that was put off, as another conmgr of the address was alive.
type Deferred struct {
	Cause            Cause
	CutOff           Time
	Timeout          time.Duration // heartbeat_timeout of the conmgr whose verdict it was
	Age              time.Duration // since it was put off first
	Others           []Other
	TerminateOnClose bool
	Covered          bool // see Address
}

// Review decides about a deferred cut-off when its time has come. The sessions were promised to end
// when their host has not been heard of for Timeout. They stay while somebody at the address is
// heard that often; they are no longer in question when a conmgr with no longer timeout, or a
// senior one, has been heard since, whose own verdict then covers them.
func Review(d Deferred) Decision {
	if d.Covered {
		return Decision{Why: whyCovered}
	}
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
	return Decision{Action: End, Cause: d.Cause, CutOff: capped(d.CutOff, d.Others)}
}

// AfterLastWord is how long a verdict, which would fall in so much time, has to wait if one of the
// others leaves, now: as if nothing had been heard of that one since, as its host was alive then. A
// machine that was restarted meanwhile says nothing of what ran before; and one that is not needed
// goes on under another entry, which is asked itself.
func (d Deferred) AfterLastWord(o Other, falls time.Duration) (wait time.Duration, later bool) {
	wait = d.Timeout - o.Silent
	return wait, o.Left != NotNeeded && !o.Rebooted && wait > falls
}

// MostPutOff is how many verdicts of an address can be put off, each in a slot, so that whoever
// says HELLO and goodbye again and again does not take all slots.
const MostPutOff = 2

// Merges tells whether a verdict that is put off becomes one with another of its address, of so
// many others. Two boots of a machine are two hosts: when the later one's conmgr is back, which
// drops the verdict on it, the one on the earlier boot has to stay.
func Merges(sameBoot bool, others int) bool { return sameBoot || others >= MostPutOff }

// Merge is one deferred cut-off for two of the same address: the wider of both, and the shorter
// time, as that was promised. second: that is b's.
func Merge(a, b Deferred) (m Deferred, second bool) {
	if m = a; b.Timeout < a.Timeout {
		m, second = b, true
	}
	m.CutOff, m.Cause = max(a.CutOff, b.CutOff), a.Cause
	if b.Cause == Silence {
		m.Cause = Silence
	}
	return m, second
}
