package watchdog

// The ends of conmgrs: docs/protocol.md 1.5. What follows from one for the sessions of its address
// is decided in terminator/, alone; here it is told the facts, and what it decides is carried out. A
// verdict that is put off stays in its slot, so that it survives this process. Pure; called by the
// reactor's goroutine only.

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/terminator"
)

// closed records that the last connection of p has ended without a GOODBYE. It may resume until its
// deadline.
func (t *Table) closed(now Now, p *peer, how Close, cause string) {
	if p.KeyID != (proof.KeyID{}) { // anybody on the way can close a connection
		how = Broken
	}
	p.State, p.Closed, p.WaitingSince = Waiting, how, now.Mono
	t.store.Put(p.slot, &p.Slot)
	t.timers.set(p, p.pulse.Deadline())
	what := "heartbeat connection is broken"
	if how != Broken {
		what = "remote node closes heartbeat connection"
	}
	t.log.routine(now, p.Key.Addr, Line{Level: Log, Message: fmt.Sprintf("%s: conmgr %s", what, p.remote()),
		Detail: fmt.Sprintf("%s It may resume for %d ms.", sentence(cause),
			max(0, p.pulse.Deadline().Sub(now.Mono).Milliseconds()))})
	t.lastWord(now, p, how)
}

// lastWord gives the verdict that was put off because of p the time that p's last word has left it.
func (t *Table) lastWord(now Now, p *peer, how terminator.Parting) {
	for _, d := range t.byHost[hostOf(p.Key.Addr)] {
		if d.Deferred == 0 || !p.weighs(d.KeyID) {
			continue
		}
		o := d.other(now, p)
		o.Left = how
		if wait, later := t.deferred(now, d).AfterLastWord(o, d.pulse.Deadline().Sub(now.Mono)); later {
			t.waitFor(now, d, wait)
		}
	}
}

// parting is what a GOODBYE says. A code of a later version is read as 1: docs/protocol.md 1.2.
func parting(code heartbeat.GoodbyeCode) terminator.Parting {
	switch code {
	case heartbeat.GoodbyeGivenUp:
		return terminator.GivesUp
	case heartbeat.GoodbyeDuplicate:
		return terminator.NotNeeded
	}
	return terminator.Ends
}

// counts tells whether a GOODBYE on c means anything. What a conmgr has given up before its last
// HELLO, that HELLO has told; and it may say more by a later connection than by an earlier one.
func (p *peer) counts(c *conn, g heartbeat.ConmgrGoodbye) bool {
	switch {
	case c.ch.Version < 2:
		return true
	case g.Code == heartbeat.GoodbyeGivenUp:
		return g.Generation > p.Generation
	}
	return c.ch.Attempt == p.Attempt
}

// goodbye records an announced end, of a conmgr or of one of its connections only.
func (t *Table) goodbye(now Now, c *conn, g heartbeat.ConmgrGoodbye) {
	p := c.peer
	t.received(now, p)
	if !p.counts(c, g) {
		t.close(c)
		t.parted(now, p, c, Finished, "the connection was closed")
		return
	}
	for _, o := range p.leave() {
		t.close(o)
	}
	line := Line{Level: Log, Message: fmt.Sprintf("remote node shuts down heartbeat connection: conmgr %s", p.remote()),
		Detail: sentence(g.Text)}
	how := parting(g.Code)
	if how == terminator.NotNeeded {
		line = Line{Level: Log,
			Message: fmt.Sprintf("conmgr %s monitors this server under another of its entries", p.remote()),
			Detail:  "This heartbeat connection is not needed."}
	}
	t.log.routine(now, p.Key.Addr, line)
	t.judge(now, p, how.Cause())
	t.lastWord(now, p, how)
}

// dead ends p, whose deadline has passed. The caller closes the connections that it still had.
func (t *Table) dead(now Now, p *peer) {
	if p.Deferred != 0 {
		t.review(now, p)
		return
	}
	p.conns = nil
	cause := p.Closed.Cause()
	line := Line{Level: Log, Message: fmt.Sprintf("conmgr %s closed its heartbeat connection and did not resume",
		p.remote())}
	if cause.Silent() {
		line = Line{Level: Log, Message: fmt.Sprintf("heartbeat is timed out: conmgr %s", p.remote()),
			Detail: fmt.Sprintf("Nothing was received for %d ms, heartbeat_timeout is %d ms.",
				now.Mono.Sub(p.pulse.LastReceived()).Milliseconds(), p.Timeout.Milliseconds())}
	}
	t.log.verdict(now, p.Key.Addr, line)
	t.judge(now, p, cause)
}

// back decides about the sessions of p's address when p has connected again.
func (t *Table) back(now Now, p *peer, cause terminator.Cause) {
	f := t.facts(now, p)
	f.Back = true
	if d := terminator.Decide(cause, f); d.Action == terminator.End {
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
		p.State = Ending
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
		p.State = Ending
		t.end(p, d)
		t.drop(p, Ending)
	case terminator.Defer:
		t.waitFor(now, p, d.Wait)
	default:
		t.drop(p, Free)
	}
}

// settle drops the verdicts that were put off because of the conmgrs of addr, if one of them has just
// proved them needless.
func (t *Table) settle(now Now, addr netip.Addr) {
	for _, d := range t.putOff(addr) {
		if terminator.Review(t.deferred(now, d)).Action == terminator.Spare {
			t.drop(d, Free)
		}
	}
}

// putOff are the conmgrs of addr's host whose verdicts are.
func (t *Table) putOff(addr netip.Addr) (found []*peer) {
	for _, p := range t.byHost[hostOf(addr)] {
		if p.standing() == terminator.PutOff {
			found = append(found, p)
		}
	}
	return found
}

// deferUntil puts off the verdict on p, which may become one with another of its address.
func (t *Table) deferUntil(now Now, p *peer, d terminator.Decision) {
	others := t.putOff(p.Key.Addr)
	p.State, p.Deferred, p.DeferredCause, p.putOff = Waiting, d.CutOff, d.Cause, now.Mono
	t.deferrals++
	var q *peer
	for _, o := range others {
		if q == nil || o.Boot == p.Boot {
			q = o
		}
	}
	if q != nil && terminator.Merges(q.Boot == p.Boot, len(others)) {
		m, second := terminator.Merge(t.deferred(now, p), t.deferred(now, q))
		if second {
			p, q = q, p
		}
		p.Deferred, p.DeferredCause = m.CutOff, m.Cause
		t.drop(q, Free)
	}
	t.store.Put(p.slot, &p.Slot)
	t.waitFor(now, p, terminator.Review(t.deferred(now, p)).Wait)
}

// waitFor sets the time at which the verdict on p is looked at again.
func (t *Table) waitFor(now Now, p *peer, wait time.Duration) {
	p.pulse = heartbeat.ResumePulse(p.Interval, p.Timeout, now.Mono.Add(wait-p.Timeout), now.Mono)
	t.timers.set(p, p.pulse.Deadline())
}

// end asks the terminator for the end of sessions.
func (t *Table) end(p *peer, d terminator.Decision) {
	p.Cause, p.CutOff = d.Cause, d.CutOff
	t.store.Put(p.slot, &p.Slot)
	t.ask(p.slot, d.CutOff)
}

func (t *Table) ask(slot int, latest terminator.Time) {
	t.store.Ask(slot, latest)
	t.act(Action{Kind: WakeTerminator})
}

// spared says so, if there is anything to say.
func (t *Table) spared(now Now, p *peer, why string) {
	if why == "" {
		return
	}
	t.log.routine(now, p.Key.Addr, Line{Level: Log, Message: fmt.Sprintf("no session of %s is terminated", p.Key.Addr),
		Detail: sentence(why)})
}

// facts is what the terminator's policy has to know of p.
func (t *Table) facts(now Now, p *peer) terminator.Facts {
	return terminator.Facts{
		Now: now.cutOff(), LastReceived: terminator.Time(p.pulse.LastReceived()), ClosedAt: terminator.Time(p.WaitingSince),
		Interval: p.Interval, Timeout: p.Timeout, Others: t.others(now, p), TerminateOnClose: t.settings.TerminateOnClose,
		Covered: t.covered(p),
	}
}

func (t *Table) deferred(now Now, p *peer) terminator.Deferred {
	return terminator.Deferred{
		Cause: p.DeferredCause, CutOff: p.Deferred, Timeout: p.Timeout, Age: now.Mono.Sub(p.putOff),
		Others:           t.others(now, p),
		TerminateOnClose: t.settings.TerminateOnClose,
		Covered:          t.covered(p),
	}
}

// others are the other conmgrs of p's address. When each was heard of is what this or an earlier
// worker has received, not when its deadline was last set.
func (t *Table) others(now Now, p *peer) (others []terminator.Other) {
	for _, o := range t.byHost[hostOf(p.Key.Addr)] {
		if o != p && o.weighs(p.KeyID) {
			others = append(others, p.other(now, o))
		}
	}
	return others
}

// other is what counts of o when it is asked for p.
func (p *peer) other(now Now, o *peer) terminator.Other {
	return terminator.Other{Left: o.Closed, Standing: o.standing(),
		Rebooted: terminator.Rebooted(o.Boot == p.Boot, terminator.Time(o.Since), terminator.Time(p.LastReceived.Mono)),
		Senior:   o.Since < p.Since, Silent: now.Mono.Sub(o.LastReceived.Mono),
		Interval: o.Interval, Timeout: o.Timeout}
}

func (p *peer) standing() terminator.Standing {
	switch {
	case p.remembered:
		return terminator.Remembered
	case p.Deferred != 0:
		return terminator.PutOff
	}
	return terminator.Awaited
}
