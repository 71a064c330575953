package watchdog

// The ends of conmgrs: docs/protocol.md 1.5. What follows from one for the sessions of its address
// is decided in terminator/, alone; here it is told the facts, and what it decides is carried out.
// A verdict that is put off stays in its slot, so that it survives this process. Pure; called by
// the reactor's goroutine only.

import (
	"fmt"
	"net/netip"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/terminator"
)

// closed records that the last connection of p has ended, without a GOODBYE or with one that it will
// be back. It may resume until its deadline.
func (t *Table) closed(now Now, p *peer, how Close, cause string) {
	p.left = how
	// Anybody on the way can close a connection. That leaves the host no longer than it was granted,
	// and is no word of conmgr's.
	p.Until = heartbeat.Mono(how.Awaits(now.cutOff(), p.Grace))
	p.pulse.Await(p.Until)
	if p.KeyID != (proof.KeyID{}) && how != terminator.Returns {
		how = Broken
	}
	p.State, p.Closed, p.WaitingSince = Waiting, how, now.Mono
	t.store.Put(p.slot, &p.Slot)
	t.resume(now, p)
	what := "remote node closes heartbeat connection"
	switch how {
	case Broken:
		what = "heartbeat connection is broken"
	case terminator.Returns:
		what = "remote node ends and will be back"
	}
	t.log.routine(now, p.Addr(), Line{Level: Log, Message: fmt.Sprintf("%s: conmgr %s", what, p.remote()),
		Detail: fmt.Sprintf("%s It may resume for %d ms.", sentence(cause),
			max(0, p.pulse.Deadline().Sub(now.Mono).Milliseconds()))})
	t.lastWord(now, p, how)
}

// lastWord gives the verdict that was put off because of p the time that p's last word has left it.
func (t *Table) lastWord(now Now, p *peer, how terminator.Parting) {
	for _, d := range t.byHost[hostOf(p.Addr())] {
		if d.Deferred == 0 || !p.weighs(d.KeyID) {
			continue
		}
		o := d.other(now, p, p.Addr())
		o.Left = how
		if wait, later := t.deferred(now, d, p.Addr()).AfterLastWord(o, d.pulse.Deadline().Sub(now.Mono)); later {
			t.waitFor(now, d, wait)
		}
	}
}

// parting is what a GOODBYE says. A code of a later version is read as 1, and so is that of somebody
// who will be back and has no time for it: docs/protocol.md 1.2.
func (p *peer) parting(code heartbeat.GoodbyeCode) terminator.Parting {
	switch code {
	case heartbeat.GoodbyeGivenUp:
		return terminator.GivesUp
	case heartbeat.GoodbyeDuplicate:
		return terminator.NotNeeded
	case heartbeat.GoodbyeReturns:
		if p.Grace > 0 {
			return terminator.Returns
		}
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
	return c == p.latest()
}

// goodbye records an announced end, of a conmgr or of one of its connections only.
func (t *Table) goodbye(now Now, c *conn, g heartbeat.ConmgrGoodbye) {
	p := c.peer
	if p.leaves(c) {
		t.close(c)
		return
	}
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
	how := p.parting(g.Code)
	switch how {
	case terminator.Returns:
		t.forgetFormer(p)
		t.closed(now, p, how, g.Text)
		return
	case terminator.NotNeeded:
		line = Line{Level: Log,
			Message: fmt.Sprintf("conmgr %s monitors this server under another of its entries", p.remote()),
			Detail:  "This heartbeat connection is not needed."}
	}
	t.log.routine(now, p.Addr(), line)
	t.forgetFormer(p)
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
	t.forgetFormer(p)
	if t.followed(now, p) || t.hasLooked(now, p) {
		return
	}
	p.Heir = heartbeat.ID{}
	cause := p.Closed.Cause()
	line := Line{Level: Log, Message: fmt.Sprintf("conmgr %s closed its heartbeat connection and did not resume",
		p.remote())}
	if cause.Silent() {
		line = Line{Level: Log, Message: fmt.Sprintf("heartbeat is timed out: conmgr %s", p.remote()),
			Detail: fmt.Sprintf("Nothing was received for %d ms, heartbeat_timeout is %d ms.",
				now.Mono.Sub(p.pulse.LastReceived()).Milliseconds(), p.Timeout.Milliseconds())}
	}
	t.log.verdict(now, p.Addr(), line)
	t.judge(now, p, cause)
}

// asksKernel asks, once for each deadline that has passed in silence, what the kernel has heard of
// the host's sessions: a firewall that closes the heartbeat port, or a conmgr that hangs, is no
// dead host.
func (t *Table) asksKernel(now Now, p *peer) bool {
	cause := p.Closed.Cause()
	if p.Deferred != 0 {
		cause = p.DeferredCause
	}
	if !t.settings.KernelEvidence || p.witnessed == p.pulse.Deadline() {
		return false
	}
	q, ok := terminator.Asks(cause, t.facts(now, p), t.addresses(now, p)...)
	if !ok {
		return false
	}
	s := &Sessions{Label: heartbeat.LabelID(p.ID), CutOff: q.CutOff, Owner: t.ownerOf}
	for _, a := range p.Proved.All() {
		if until := q.Addresses[0]; until != 0 && (p.Deferred == 0 || !a.Ended) {
			s.Places = append(s.Places, Place{hostOf(a.Addr), until})
		}
		q.Addresses = q.Addresses[1:]
	}
	t.asking, p.witnessed = p, p.pulse.Deadline()
	t.act(Action{Kind: AskKernel, Sessions: s})
	return true
}

// kernelHeard takes the answer. The verdict is put off until timeout after the last that was heard
// of either, and never waived.
func (t *Table) kernelHeard(now Now, heard heartbeat.Mono) {
	p := t.asking
	t.asking = nil
	if p == nil || p.slot < 0 || !terminator.Suspends(terminator.Time(heard), now.cutOff(), p.Timeout) {
		return
	}
	silence := now.Mono.Sub(p.LastReceived.Mono)
	if p.Deferred != 0 {
		t.waitFor(now, p, p.Timeout-now.Mono.Sub(heard))
	} else {
		p.pulse.Heard(heard)
		p.heard = heard
	}
	p.Suspended++
	t.store.Put(p.slot, &p.Slot)
	if len(p.conns) > 0 {
		t.timers.set(p, p.pulse.Wake())
	} else {
		t.timers.set(p, p.pulse.Deadline())
	}
	begun := p.LastReceived.Mono.Add(1)
	if p.told == begun {
		return
	}
	p.told = begun
	t.store.Count(VerdictsSuspended)
	t.log.verdict(now, p.Addr(), Line{Level: Log,
		Message: fmt.Sprintf("heartbeat is timed out, but its host is heard of: conmgr %s", p.remote()),
		Detail: fmt.Sprintf("Nothing was received from the conmgr process for %d ms, from its host's sessions for %d ms. "+
			"No session is terminated as long as they are heard of.", silence.Milliseconds(), now.Mono.Sub(heard).Milliseconds())})
}

// back decides about the sessions of p when p has connected again.
func (t *Table) back(now Now, p *peer, cause terminator.Cause) {
	f := t.facts(now, p)
	f.Back = true
	v := terminator.Decide(cause, f, t.addresses(now, p)...)
	if v.Own != terminator.End {
		t.spared(now, p, v.Why)
		return
	}
	p.Cause, p.CutOff = v.Cause, v.CutOff
	t.fall(p, v.Addresses)
	t.end(now, p, firstReason(v.Addresses))
	t.sparedAddresses(now, p, v.Addresses)
}

// judge decides about the sessions of p when p is no more.
func (t *Table) judge(now Now, p *peer, cause terminator.Cause) {
	v := terminator.Decide(cause, t.facts(now, p), t.addresses(now, p)...)
	switch v.Own {
	case terminator.End:
	case terminator.Remember:
		t.timers.remove(p)
		p.Remembered = true
		t.record(now, p, false, cause, v.Why)
		t.store.Put(p.slot, &p.Slot)
		return
	default:
		if v.Why != terminator.NoReason {
			t.record(now, p, false, cause, v.Why)
		}
		t.leave(now, p)
		t.spared(now, p, v.Why)
		return
	}
	p.Cause, p.CutOff, p.State = v.Cause, v.CutOff, Ending
	for i, a := range p.Proved.All() {
		a.Ended = false
		p.Proved.Set(i, a)
	}
	all := t.fall(p, v.Addresses)
	if all {
		t.end(now, p, firstReason(v.Addresses))
	}
	t.sparedAddresses(now, p, v.Addresses)
	if all {
		t.drop(p, Ending)
	} else {
		t.putOff(now, p, v)
	}
}

// leave forgets p, whose sessions stay: another conmgr of its machine may stand for them.
func (t *Table) leave(now Now, p *peer) {
	for _, o := range t.byHost[hostOf(p.Addr())] {
		if o != p && o.Boot == p.Boot && o.standing() == terminator.Awaited && p.leavesTo(o.KeyID) {
			t.bequeath(now, p, o.ID)
			return
		}
	}
	t.drop(p, Free)
}

// fall notes on which addresses of p the verdict has fallen. all: none is put off.
func (t *Table) fall(p *peer, addresses []terminator.Decision) (all bool) {
	all = true
	for i, d := range addresses {
		switch d.Action {
		case terminator.End:
			p.falls(i, d.CutOff)
		case terminator.Defer:
			all = false
		}
	}
	return all
}

// end asks the terminator for the end of sessions, by the verdict that p has now. why: some stay.
func (t *Table) end(now Now, p *peer, why terminator.Why) {
	p.Unasked = true
	t.store.Put(p.slot, &p.Slot)
	p.Unasked = false
	t.record(now, p, true, p.Cause, why)
	t.ask(p.slot, p.lastCutOff())
}

func (t *Table) ask(slot int, latest terminator.Time) {
	t.verdicts++
	t.store.Ask(slot, latest)
	t.act(Action{Kind: WakeTerminator})
}

// spared says so, if there is anything to say.
func (t *Table) spared(now Now, p *peer, why terminator.Why) {
	if why == terminator.NoReason {
		return
	}
	t.log.routine(now, p.Addr(), Line{Level: Log, Message: fmt.Sprintf("no session of %s is terminated", p.Addr()),
		Detail: sentence(why.String())})
}

// sparedAddresses says on which addresses nobody ends but who carries p's label.
func (t *Table) sparedAddresses(now Now, p *peer, addresses []terminator.Decision) {
	for i, d := range addresses {
		if d.Why != terminator.NoReason {
			t.log.routine(now, p.Proved.Nth(i).Addr, Line{Level: Log,
				Message: fmt.Sprintf("no session of %s is terminated but those with the label of conmgr %s",
					p.Proved.Nth(i).Addr, p.remote()),
				Detail: sentence(d.Why.String())})
		}
	}
}

// facts is what the terminator's policy has to know of p.
func (t *Table) facts(now Now, p *peer) terminator.Facts {
	return terminator.Facts{
		Now: now.cutOff(), LastReceived: terminator.Time(p.pulse.LastReceived()), ClosedAt: terminator.Time(p.WaitingSince),
		Interval: p.Interval, Timeout: p.Timeout, TerminateOnClose: t.settings.TerminateOnClose,
	}
}

func (t *Table) deferred(now Now, p *peer, addr netip.Addr) terminator.Deferred {
	return terminator.Deferred{
		Cause: p.DeferredCause, CutOff: p.Deferred, Timeout: p.Timeout, Age: now.Mono.Sub(p.WaitingSince),
		Others:           t.others(now, p, addr),
		TerminateOnClose: t.settings.TerminateOnClose,
		Covered:          t.covered(p, addr),
	}
}

// addresses is what counts of each of p's addresses.
func (t *Table) addresses(now Now, p *peer) (all []terminator.Address) {
	for _, a := range p.Proved.All() {
		all = append(all, terminator.Address{Others: t.others(now, p, a.Addr), Covered: t.covered(p, a.Addr)})
	}
	return all
}

// others are the other conmgrs of an address of p's. One of the same machine is, wherever it has
// connected from last; of another machine, which may have had the address before, only if it is
// there now. When each was heard of is what this or an earlier worker has received, not when its
// deadline was last set. One of another boot that was forgotten is there as long as p is silent.
func (t *Table) others(now Now, p *peer, addr netip.Addr) (others []terminator.Other) {
	for _, o := range t.byHost[hostOf(addr)] {
		if o != p && o.weighs(p.KeyID) && (o.Boot == p.Boot || hostOf(o.Addr()) == hostOf(addr)) {
			others = append(others, p.other(now, o, addr))
		}
	}
	since, taken := t.taken[p][hostOf(addr)]
	if taken && terminator.Rebooted(false, since, terminator.Time(p.LastReceived.Mono)) {
		others = append(others, terminator.Other{Left: terminator.NotNeeded, Since: since, Rebooted: true})
	}
	return others
}

// other is what counts of o when it is asked for an address of p.
func (p *peer) other(now Now, o *peer, addr netip.Addr) terminator.Other {
	since := o.since(addr)
	return terminator.Other{Left: o.Closed, Standing: o.standing(), Since: since, SameBoot: o.Boot == p.Boot,
		Rebooted: terminator.Rebooted(o.Boot == p.Boot, since, terminator.Time(p.LastReceived.Mono)),
		Senior:   o.Since < p.Since, Silent: now.Mono.Sub(o.LastReceived.Mono),
		Interval: o.Interval, Timeout: o.Timeout}
}

func (p *peer) standing() terminator.Standing {
	switch {
	case p.Remembered:
		return terminator.Remembered
	case p.Deferred != 0:
		return terminator.PutOff
	}
	return terminator.Awaited
}
