package watchdog

// The ends of conmgrs: docs/protocol.md 1.5. What follows from one for the sessions of its address
// is decided in terminator/; here it is told the facts, and what it decides is carried out. A
// verdict that is put off stays in its slot, so that it survives this process. Pure; called by the
// reactor's goroutine only.

import (
	"fmt"
	"net/netip"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// closed records that the connection of p has ended without a GOODBYE. It may resume until its
// deadline.
func (t *Table) closed(now Now, p *peer, how Close, cause string) {
	p.conn = nil
	p.State, p.Closed, p.WaitingSince = Waiting, how, now.Wall
	t.store.Put(p.slot, &p.Slot)
	t.timers.set(p, p.pulse.Deadline())
	what := "heartbeat connection is broken"
	if how != Broken {
		what = "remote node closes heartbeat connection"
	}
	t.log.routine(now, p.Key.Addr, Line{Level: Log, Message: fmt.Sprintf("%s: conmgr %s", what, p.remote()),
		Detail: fmt.Sprintf("%s It may resume for %d ms.", sentence(cause),
			max(0, p.pulse.Deadline().Sub(now.Mono).Milliseconds()))})
	t.lastWord(now, p)
}

// lastWord gives those whose verdicts were put off because of p their time from when p was last
// heard of.
func (t *Table) lastWord(now Now, p *peer) {
	for _, d := range t.byHost[hostOf(p.Key.Addr)] {
		if d.Deferred != 0 && !d.rebooted(p) && p.LastReceived.Mono.Add(d.Timeout) > d.pulse.Deadline() {
			d.pulse = heartbeat.ResumePulse(d.Interval, d.Timeout, p.LastReceived.Mono, now.Mono)
			t.timers.set(d, d.pulse.Deadline())
		}
	}
}

// goodbye records an announced end.
func (t *Table) goodbye(now Now, p *peer, g heartbeat.Goodbye) {
	t.received(now, p)
	p.conn = nil
	cause := terminator.Goodbye
	switch g.Code {
	case heartbeat.GoodbyeGivenUp:
		cause = terminator.GivenUp
	case heartbeat.GoodbyeDuplicate:
		t.log.routine(now, p.Key.Addr, Line{Level: Log,
			Message: fmt.Sprintf("conmgr %s monitors this server under another of its entries", p.remote()),
			Detail:  "This heartbeat connection is not needed."})
		t.drop(p, Free)
		return
	}
	t.log.routine(now, p.Key.Addr, Line{Level: Log,
		Message: fmt.Sprintf("remote node shuts down heartbeat connection: conmgr %s", p.remote()),
		Detail:  sentence(g.Text)})
	t.judge(now, p, cause)
	t.lastWord(now, p)
}

// dead ends p, whose deadline has passed. If it was still connected, the caller closes the
// connection.
func (t *Table) dead(now Now, p *peer) {
	if p.Deferred != 0 {
		t.review(now, p)
		return
	}
	cause := terminator.AtDeadline(p.State == Waiting && p.Closed == Finished)
	p.conn = nil
	line := Line{Level: Log, Message: fmt.Sprintf("conmgr %s closed its heartbeat connection and did not resume",
		p.remote())}
	if cause == terminator.Silence {
		line = Line{Level: Log, Message: fmt.Sprintf("heartbeat is timed out: conmgr %s", p.remote()),
			Detail: fmt.Sprintf("Nothing was received for %d ms, heartbeat_timeout is %d ms.",
				now.Mono.Sub(p.pulse.LastReceived()).Milliseconds(), p.Timeout.Milliseconds())}
	}
	t.log.verdict(now, p.Key.Addr, line)
	t.judge(now, p, cause)
}

// givenUp decides about the sessions of p's address when p has connected again with a higher
// generation.
func (t *Table) givenUp(now Now, p *peer) {
	f := t.facts(now, p)
	f.Back = true
	if d := terminator.Decide(terminator.GivenUp, f); d.Action == terminator.End {
		t.end(p, d)
	} else {
		t.spared(now, p, d.Why)
	}
}

// judge decides about the sessions of p's address when p is no more.
func (t *Table) judge(now Now, p *peer, cause terminator.Cause) {
	d := terminator.Decide(cause, t.facts(now, p))
	switch d.Action {
	case terminator.End:
		t.end(p, d)
		t.drop(p, Ending)
		return
	case terminator.Remember:
		t.timers.remove(p)
		p.remembered = true
		return
	case terminator.Defer:
		t.deferUntil(now, p, d)
	default:
		t.drop(p, Free)
	}
	t.spared(now, p, d.Why)
}

// review decides about a cut-off that was put off.
func (t *Table) review(now Now, p *peer) {
	d := terminator.Review(t.deferred(now, p))
	switch d.Action {
	case terminator.End:
		t.log.verdict(now, p.Key.Addr, Line{Level: Log,
			Message: fmt.Sprintf("no other conmgr of %s is heard of: the sessions that conmgr %s has left are terminated",
				p.Key.Addr, p.remote()),
			Detail: fmt.Sprintf("Its heartbeat_timeout was %d ms.", p.Timeout.Milliseconds())})
		t.end(p, d)
		t.drop(p, Ending)
	case terminator.Defer:
		t.waitFor(now, p, d)
	default:
		t.drop(p, Free)
	}
}

// settle drops the verdict that was put off because of the conmgrs of addr, if one of them has just
// proved it needless.
func (t *Table) settle(now Now, addr netip.Addr) {
	for _, d := range t.byHost[hostOf(addr)] {
		if d.Deferred != 0 && terminator.Review(t.deferred(now, d)).Action == terminator.Spare {
			t.drop(d, Free)
			return // there is one at most
		}
	}
}

// deferUntil puts off the verdict on p. An address has one such at most.
func (t *Table) deferUntil(now Now, p *peer, d terminator.Decision) {
	p.State, p.Deferred, p.DeferredCause, p.putOff = Waiting, d.CutOff, d.Cause, now.Mono
	t.deferrals++
	for _, q := range t.byHost[hostOf(p.Key.Addr)] {
		if q == p || q.Deferred == 0 {
			continue
		}
		m := terminator.Merge(t.deferred(now, p), t.deferred(now, q))
		if q.Timeout < p.Timeout { // the shorter time is what counts
			p, q = q, p
		}
		p.Deferred, p.DeferredCause = m.CutOff, m.Cause
		t.drop(q, Free)
		break
	}
	t.store.Put(p.slot, &p.Slot)
	t.waitFor(now, p, terminator.Review(t.deferred(now, p)))
}

// waitFor sets the time at which d is looked at again.
func (t *Table) waitFor(now Now, p *peer, d terminator.Decision) {
	p.pulse = heartbeat.ResumePulse(p.Interval, p.Timeout, now.Mono.Add(d.Wait-p.Timeout), now.Mono)
	t.timers.set(p, p.pulse.Deadline())
}

// end asks the terminator for the end of sessions.
func (t *Table) end(p *peer, d terminator.Decision) {
	t.store.CutOff(p.slot, d.Cause, d.CutOff)
	t.act(Action{Kind: WakeTerminator})
}

func (t *Table) spared(now Now, p *peer, why string) {
	t.log.routine(now, p.Key.Addr, Line{Level: Log, Message: fmt.Sprintf("no session of %s is terminated", p.Key.Addr),
		Detail: sentence(why)})
}

// facts is what the terminator's policy has to know of p.
func (t *Table) facts(now Now, p *peer) terminator.Facts {
	return terminator.Facts{
		Now: now.Wall, LastReceived: now.Wall.Add(-now.Mono.Sub(p.pulse.LastReceived())), ClosedAt: p.WaitingSince,
		Interval: p.Interval, Timeout: p.Timeout, Others: t.others(now, p), TerminateOnClose: t.settings.TerminateOnClose,
	}
}

func (t *Table) deferred(now Now, p *peer) terminator.Deferred {
	return terminator.Deferred{
		Cause: p.DeferredCause, CutOff: p.Deferred, Timeout: p.Timeout, Age: now.Mono.Sub(p.putOff),
		Others:           t.others(now, p),
		TerminateOnClose: t.settings.TerminateOnClose,
	}
}

// others are the other conmgrs of p's address. When each was heard of is what this or an earlier
// worker has received, not when its deadline was last set.
func (t *Table) others(now Now, p *peer) (others []terminator.Other) {
	for _, o := range t.live(p.Key.Addr, p) {
		others = append(others, terminator.Other{Closed: o.State == Waiting && o.Closed != Broken,
			Rebooted: p.rebooted(o), Senior: o.ConnectedAt < p.ConnectedAt,
			Silent: now.Mono.Sub(o.LastReceived.Mono), Interval: o.Interval, Timeout: o.Timeout})
	}
	return others
}

// rebooted tells whether o says nothing of what ran before p's last word.
func (p *peer) rebooted(o *peer) bool {
	return terminator.Rebooted(o.Boot == p.Boot, o.ConnectedAt, p.LastReceived.Wall)
}
