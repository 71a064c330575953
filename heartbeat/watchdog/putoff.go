package watchdog

// Verdicts on addresses that are put off, as other conmgrs prove that their host lives: when they are
// looked at again, and of two what becomes one. They stand in their slots, so that they survive this
// process, with the time at which they are due. Called within Step; pure.

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// review decides about the addresses on which the verdict was put off.
func (t *Table) review(now Now, p *peer) {
	fallen, wait := false, time.Duration(-1)
	for i := 0; i < MaxAddresses; {
		if !p.pending(i) {
			i++
			continue
		}
		addr := p.Proved.Nth(i).Addr
		switch d := terminator.Review(t.deferred(now, p, addr)); d.Action {
		case terminator.End:
			t.log.verdict(now, addr, Line{Level: Log,
				Message: fmt.Sprintf("no other conmgr of %s is heard of: the sessions that conmgr %s has left are terminated",
					addr, p.remote()),
				Detail: fmt.Sprintf("Its heartbeat_timeout was %d ms.", p.Timeout.Milliseconds())})
			p.falls(i, d.CutOff)
			fallen = true
		case terminator.Defer:
			if wait < 0 || d.Wait < wait {
				wait = d.Wait
			}
			i++
		default:
			t.settled(p, i)
		}
	}
	if fallen {
		p.Cause = p.DeferredCause
		if wait < 0 {
			p.State = Ending
		}
		t.end(now, p, terminator.NoReason)
	}
	switch {
	case wait >= 0:
		t.waitFor(now, p, wait)
	case fallen:
		t.drop(p, Ending)
	default:
		t.drop(p, Free)
	}
}

// settled takes an address from those on which the verdict on p was put off.
func (t *Table) settled(p *peer, i int) {
	t.delist(p, p.Proved.Nth(i).Addr)
	p.Slot.settled(i)
}

// settle drops the verdicts that were put off because of the conmgrs of addr, if one of them has
// just proved them needless.
func (t *Table) settle(now Now, addr netip.Addr) {
	for _, d := range t.waiting(addr) {
		if terminator.Review(t.deferred(now, d, addr)).Action != terminator.Spare {
			continue
		}
		t.settled(d, d.find(addr))
		if d.anyPending() {
			t.store.Put(d.slot, &d.Slot)
		} else {
			t.drop(d, Free)
		}
	}
}

func (p *peer) anyPending() bool {
	for i := range MaxAddresses {
		if p.pending(i) {
			return true
		}
	}
	return false
}

// waiting are the conmgrs whose verdict on addr is put off.
func (t *Table) waiting(addr netip.Addr) (found []*peer) {
	for _, p := range t.byHost[hostOf(addr)] {
		if i := p.find(addr); i >= 0 && p.standing() == terminator.PutOff && p.pending(i) {
			found = append(found, p)
		}
	}
	return found
}

// putOff puts off the verdict on addresses of p, which may become one with another of its address.
func (t *Table) putOff(now Now, p *peer, v terminator.Verdict) {
	others := t.waiting(p.Addr())
	p.State, p.Deferred, p.DeferredCause, p.WaitingSince, p.Until = Waiting, v.CutOff, v.Cause, now.Mono, 0
	t.deferrals++
	t.store.Count(VerdictsPutOff)
	t.end(now, p, firstReason(v.Addresses))
	var q *peer
	for _, o := range others {
		if q == nil || o.Boot == p.Boot {
			q = o
		}
	}
	if q != nil && terminator.Merges(q.Boot == p.Boot, len(others)) {
		m, second := terminator.Merge(t.deferred(now, p, p.Addr()), t.deferred(now, q, p.Addr()))
		if second {
			p, q = q, p
		}
		p.Deferred, p.DeferredCause = m.CutOff, m.Cause
		delete(t.taken, p) // what has come to one is not said to have come to the other
		t.inherit(p, q)
		if second && q.slot >= 0 {
			t.waitForOthers(now, q)
		}
	}
	t.waitForOthers(now, p)
}

// waitForOthers sets the time for which the verdict on p has to wait for others' sake.
func (t *Table) waitForOthers(now Now, p *peer) {
	wait := time.Duration(-1)
	for i := range MaxAddresses {
		if p.pending(i) {
			if w := terminator.Review(t.deferred(now, p, p.Proved.Nth(i).Addr)).Wait; wait < 0 || w < wait {
				wait = w
			}
		}
	}
	t.waitFor(now, p, wait)
}

// inherit takes over the addresses on which q's verdict is put off. For those that find no place q
// goes on.
func (t *Table) inherit(p, q *peer) {
	for i := 0; i < MaxAddresses; {
		if !q.pending(i) {
			i++
			continue
		}
		a := q.Proved.Nth(i)
		if p.find(a.Addr) < 0 {
			j := p.Proved.free()
			if j < 0 {
				i++
				continue
			}
			p.Proved.Set(j, a)
			t.enlist(p, a.Addr)
		}
		t.settled(q, i)
	}
	t.store.Put(p.slot, &p.Slot) // before q's has nothing of it any more
	if q.anyPending() {
		t.store.Put(q.slot, &q.Slot)
	} else {
		t.drop(q, Free)
	}
}

// waitFor sets the time at which the verdict on p is looked at again.
func (t *Table) waitFor(now Now, p *peer, wait time.Duration) {
	p.Due = now.Mono.Add(min(wait, p.Timeout))
	t.store.Put(p.slot, &p.Slot)
	t.await(now, p)
}

// await has the verdict on p looked at again when it is due.
func (t *Table) await(now Now, p *peer) {
	p.pulse = heartbeat.ResumePulse(p.Interval, p.Timeout, p.Due.Add(-p.Timeout), now.Mono)
	t.timers.set(p, p.pulse.Deadline())
}
