package watchdog

// Who is admitted, and as whom: docs/protocol.md 1.4. Called within Step; pure.

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// repeatLog is how often the same complaint is logged.
const repeatLog = 1 * time.Minute

// admission is what became of a HELLO.
type admission struct {
	peer      *peer // nil: nothing is to be heard of it
	flags     heartbeat.WelcomeFlags
	replaced  []*conn // its older connections that end by that: to be closed
	displaced []*conn // of another conmgr, that has lost its slot: to be refused
}

// hello admits a conmgr, or another connection of one. The error is a *heartbeat.ProtocolError, and
// then nothing has changed.
func (t *Table) hello(now Now, c *conn, h heartbeat.Hello) (a admission, err error) {
	p, err := t.owner(now, c, h)
	if err != nil {
		return a, err
	}
	if p == nil {
		p = t.returned(c, h)
	}
	cause := terminator.None
	connected := false
	if p != nil {
		if err := t.fits(p, h); err != nil {
			return a, err
		}
		if p.outrun(h) {
			return a, nil
		}
		if p.succeeds(h) {
			t.succeed(now, p, h)
		}
		cause = terminator.AtHello(p.Generation, h.Generation)
		connected = len(p.conns) > 0
		t.resumes(p)
		switch {
		case p.Deferred != 0: // what carried its label has ended: it begins anew
			p.ConnectedAt, p.Since = now.Wall, now.Mono
		case cause == terminator.None:
			a.flags |= heartbeat.Resumed
		}
		t.proves(p, c.addr, t.arrival(now, c.addr, h.Boot))
	} else {
		heir, since := t.heir(h.ID), t.arrival(now, c.addr, h.Boot)
		if err := withinLimits(h, t.settings.Access.minInterval(), t.settings.MaxTimeout); err != nil {
			return a, err
		}
		slot, displaced, err := t.place(now, c, h)
		if err != nil {
			return a, err
		}
		a.displaced = displaced
		p = &peer{slot: slot, heapIndex: -1, Slot: Slot{ID: h.ID, KeyID: t.keyID(c), Incarnation: c.of.incarnation,
			Heir: heir, ConnectedAt: now.Wall, Since: now.Mono}}
		p.proves(c.addr, since)
		t.add(p)
	}
	a.peer = p
	t.doubtEvidence(c.addr, h.Boot)
	a.replaced = p.join(c, h.Attempt, cause != terminator.None)
	t.admit(now, p, h, connected)
	switch {
	case cause != terminator.None:
		t.back(now, p, cause)
		t.tellEstablished(now, p, "established again, after conmgr had declared this instance lost")
	case a.flags&heartbeat.Resumed != 0:
		t.tellResumed(now, p)
	default:
		t.tellEstablished(now, p, "established")
	}
	return a, nil
}

// resumes counts that p has connected again.
func (t *Table) resumes(p *peer) {
	p.Resumed++
	t.store.Count(ConmgrsResumed)
}

// doubtEvidence: another boot of the machine of addr is there, and what was heard of sessions
// without a label may have been of that. What was before is judged by its frames, and the kernel
// asked again.
func (t *Table) doubtEvidence(addr netip.Addr, boot heartbeat.ID) {
	for _, p := range t.byHost[hostOf(addr)] {
		if p.Boot != boot && p.Deferred == 0 && p.heard != 0 && p.pulse.LastReceived() == p.heard {
			p.pulse = heartbeat.ResumePulse(p.Interval, p.Timeout, p.LastReceived.Mono, p.pulse.LastReceived())
			p.pulse.Await(p.Until)
			p.witnessed, p.heard = 0, 0
			t.timers.set(p, p.pulse.Deadline())
		}
	}
}

// admit records what a HELLO has said. What it says of the connection counts if it is the latest
// one's.
func (t *Table) admit(now Now, p *peer, h heartbeat.Hello, connected bool) {
	if p.Deferred != 0 {
		t.deferrals--
	}
	p.State, p.Closed, p.Remembered, p.Deferred, p.DeferredCause = Connected, Broken, false, 0, terminator.None
	p.Boot, p.Generation, p.Interval, p.Timeout = h.Boot, h.Generation, h.Interval, h.Timeout
	p.Grace, p.Until = min(h.Grace, t.settings.MaxGrace), 0
	p.Port = p.latest().port
	if h.Attempt == 0 || h.Attempt > p.Attempt {
		p.Attempt = h.Attempt
	}
	if connected {
		p.pulse.Received(now.Mono) // and the BEATs keep their time
	} else {
		p.pulse = heartbeat.NewPulse(h.Interval, h.Timeout, now.Mono)
	}
	p.Received++
	p.Sent++
	t.store.Count(FramesReceived)
	t.store.Count(FramesSent)
	p.LastReceived = now
	t.store.Put(p.slot, &p.Slot)
	t.timers.set(p, p.pulse.Wake())
	if t.deferrals > 0 {
		t.settle(now, p.Addr())
	}
}

func (t *Table) tellEstablished(now Now, p *peer, what string) {
	t.log.routine(now, p.Addr(), Line{Level: Log,
		Message: fmt.Sprintf("heartbeat connection is %s: conmgr %s", what, p.remote()), Detail: p.schedule()})
}

// proves records that p has connected from an address, where its machine has been since at.
func (t *Table) proves(p *peer, addr netip.Addr, at terminator.Time) {
	if lost := p.Slot.proves(addr, at); lost.IsValid() {
		t.delist(p, lost)
	}
	t.enlist(p, addr)
}

// arrival is since when a machine is at an address: its conmgr may have been started again there.
func (t *Table) arrival(now Now, addr netip.Addr, boot heartbeat.ID) terminator.Time {
	first := now.cutOff()
	for _, p := range t.byHost[hostOf(addr)] {
		if p.Boot == boot && hostOf(p.Addr()) == hostOf(addr) {
			first = min(first, p.since(addr))
		}
	}
	return first
}

// bequeath forgets p, whose sessions stay: they are those of another conmgr of its host from now
// on.
func (t *Table) bequeath(now Now, p *peer, heir heartbeat.ID) {
	replaced := p.State == Waiting
	p.State, p.Heir = Free, heartbeat.LabelID(heir)
	t.store.Put(p.slot, &p.Slot)
	t.left[heartbeat.LabelID(p.ID)] = legacy{p.slot, now.Mono, t.verdicts, replaced, p.CutOff != 0}
	t.drop(p, Free)
}

// heir is the label of who has the sessions of a conmgr which comes back. Until it is heard of after
// its HELLO it may only have looked: they are left to that one again if it falls silent.
func (t *Table) heir(id heartbeat.ID) (label heartbeat.ID) {
	if l, left := t.left[heartbeat.LabelID(id)]; left {
		return t.store.Load(l.slot).Heir
	}
	return label
}

// hasLooked leaves what p had left before, and has not asked for, to one of its host that lives: the
// heir, or whoever that one has left it to.
func (t *Table) hasLooked(now Now, p *peer) bool {
	if p.Heir == (heartbeat.ID{}) {
		return false
	}
	for _, o := range t.byHost[hostOf(p.Addr())] {
		if o == p || o.standing() != terminator.Awaited || !p.leavesTo(o.KeyID) ||
			!p.absent(o.Boot, o.KeyID).LeftTo(o.Timeout, terminator.Time(p.WaitingSince), terminator.Time(o.LastReceived.Mono)) {
			continue
		}
		t.log.routine(now, p.Addr(), Line{Level: Log,
			Message: fmt.Sprintf("conmgr %s, which did not resume, has left its sessions to another one of its host", p.remote())})
		t.bequeath(now, p, o.ID)
		return true
	}
	return false
}

// legacy is what a conmgr has left to an heir.
type legacy struct {
	slot     int // that says so
	at       heartbeat.Mono
	verdicts uint64 // on anybody, until then
	replaced bool   // it had only closed its connection
	verdict  bool   // the slot has one, too
}

// returned is the conmgr of h if another one of its host was taken for its successor, wrongly: it
// had closed its connection, and not ended. Its sessions are its own again, if none can have been
// ended: by a verdict on the heir, or, where that has gone without one, by any.
func (t *Table) returned(c *conn, h heartbeat.Hello) *peer {
	l, ok := t.left[heartbeat.LabelID(h.ID)]
	if !ok || !l.replaced {
		return nil
	}
	p := &peer{slot: l.slot, heapIndex: -1, Slot: t.store.Load(l.slot)}
	heir := t.peers[p.Heir]
	answers := heir != nil && heir.standing() == terminator.Awaited && heir.Since <= l.at && heir.CutOff < terminator.Time(l.at)
	if !answers && t.verdicts != l.verdicts || p.KeyID != t.keyID(c) || t.fits(p, h) != nil || p.outrun(h) {
		return nil
	}
	i := slices.Index(t.free, l.slot)
	if i < 0 { // the terminator is not done with it
		return nil
	}
	t.free = slices.Delete(t.free, i, i+1)
	delete(t.left, heartbeat.LabelID(h.ID))
	t.add(p)
	return p
}

// same tells whether h can be of the conmgr that is known as p. What a conmgr says of itself does
// not change while its process lives. Somebody else with its id must neither take its place nor
// have it refused from then on.
func (p *peer) same(h heartbeat.Hello) error {
	if h.Boot != p.Boot {
		return &heartbeat.ProtocolError{Code: heartbeat.RefusedMalformed,
			Text: "this conmgr id is known with another boot id"}
	}
	if h.Interval != p.Interval || h.Timeout != p.Timeout {
		return &heartbeat.ProtocolError{Code: heartbeat.RefusedMalformed,
			Text: fmt.Sprintf("this conmgr id is known with heartbeat_interval %d ms and heartbeat_timeout %d ms",
				p.Interval.Milliseconds(), p.Timeout.Milliseconds())}
	}
	return nil
}

// accepts tells whether the generation of h can be its next one: it moves by small steps, and has
// risen by a later attempt only.
func (p *peer) accepts(h heartbeat.Hello) error {
	early := h.Attempt != 0 && h.Attempt <= p.Attempt
	if h.Generation < p.Generation || early && h.Generation > p.Generation ||
		!p.Remembered && !terminator.Rises(p.Generation, h.Generation) {
		return &heartbeat.ProtocolError{Code: heartbeat.RefusedMalformed,
			Text: fmt.Sprintf("generation %d after %d", h.Generation, p.Generation)}
	}
	return nil
}

// withinLimits holds a new conmgr's settings against watchdog.min_heartbeat_interval and
// watchdog.max_heartbeat_timeout. One that is known keeps its settings when these are changed: to
// refuse it would end its sessions.
func withinLimits(h heartbeat.Hello, least, limit time.Duration) error {
	if h.Interval < least {
		return &heartbeat.ProtocolError{Code: heartbeat.RefusedSetting,
			Text: fmt.Sprintf("heartbeat_interval is %d ms: this server allows no less than %d (watchdog.min_heartbeat_interval)",
				h.Interval.Milliseconds(), least.Milliseconds())}
	}
	for _, s := range [...]struct {
		name string
		v    time.Duration
	}{{"heartbeat_interval", h.Interval}, {"heartbeat_timeout", h.Timeout}} {
		if s.v > limit && limit > 0 {
			return &heartbeat.ProtocolError{Code: heartbeat.RefusedSetting,
				Text: fmt.Sprintf("%s is %d ms: this server allows %d to %d (watchdog.max_heartbeat_timeout)",
					s.name, s.v.Milliseconds(), heartbeat.MinInterval.Milliseconds(), limit.Milliseconds())}
		}
	}
	return nil
}

// place makes room for a new conmgr.
func (t *Table) place(now Now, c *conn, h heartbeat.Hello) (slot int, displaced []*conn, err error) {
	addr, port := c.addr, c.port
	replaces := t.supersede(now, c, h)
	slot, displaced = t.allocate(now, c, h, replaces)
	if slot >= 0 {
		return slot, displaced, nil
	}
	if t.fullTold == 0 || now.Mono.Sub(t.fullTold) >= repeatLog { // a conmgr tries again every second
		t.fullTold = now.Mono
		t.write(Line{Level: Warning, Message: "could not accept heartbeat connection from " + HostPort(addr, port),
			Detail: sentence(t.shortage()), Hint: hintSlots})
	} else {
		t.log.repeated(now, addr)
	}
	return -1, nil, &heartbeat.ProtocolError{Code: heartbeat.RefusedFull, Text: t.shortage()}
}

// supersede frees the slots of conmgrs that closed their connection and left this address to a new
// one.
func (t *Table) supersede(now Now, c *conn, h heartbeat.Hello) (any bool) {
	addr := c.addr
	t.collect()
	for _, p := range slices.Clone(t.byHost[hostOf(addr)]) {
		a := p.absent(h.Boot, t.keyID(c))
		if p.State == Waiting && p.leavesTo(t.keyID(c)) && a.ReplacedBy(h.Timeout, len(t.free) <= t.reserved()) {
			t.log.routine(now, addr, Line{Level: Log,
				Message: fmt.Sprintf("conmgr %s is replaced by another one of its host", p.remote())})
			t.bequeath(now, p, h.ID)
			any = true
		}
	}
	return any
}
