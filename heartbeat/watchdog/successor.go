package watchdog

// The next process of a conmgr, which has its id: docs/protocol.md 1.4. It takes over what its
// predecessor had. That one may live, as somebody has copied its directory: then it goes on, and
// the later one has to take another id. Called within Step; pure.

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/terminator"
)

// process is what is known of the one at the other end of a connection.
type process struct {
	incarnation uint64
	key         proof.Number // among Table.keys, that it has proved; 0: none
	// proves: another one has said HELLO as its successor. It lives if it echoes what was sent to it
	// since: the BEAT of that sequence, or a later one. 0: there is no other one.
	proves uint32
}

// former: it has a successor.
func (p process) former() bool { return p.proves != 0 }

// followed is a process that another one has followed, as long as any of its connections stands.
type followed struct {
	conns []*conn
	slot  Slot // as it was
}

// incarnation is what is kept of it.
func incarnation(h heartbeat.Hello) uint64 { return binary.BigEndian.Uint64(h.Incarnation[:]) }

var taken = &heartbeat.ProtocolError{Code: heartbeat.RefusedTaken,
	Text: "this conmgr id is that of another process, which lives, or has told more: take another id"}

// succeeds tells whether h is of another process than the one that is known as p.
func (p *peer) succeeds(h heartbeat.Hello) bool { return p.Incarnation != incarnation(h) }

// fits tells whether h can be of the conmgr that is known as p, or of its next process.
func (t *Table) fits(p *peer, h heartbeat.Hello) error {
	if !p.succeeds(h) {
		if err := p.same(h); err != nil || p.outrun(h) { // of which nothing is to be heard
			return err
		}
		return p.accepts(h)
	}
	s := terminator.Successor{SameBoot: p.Boot == h.Boot, Known: p.Generation, Generation: h.Generation}
	if !s.Follows() {
		return taken
	}
	if h.Interval != p.Interval || h.Timeout != p.Timeout {
		return withinLimits(h, t.settings.Access.minInterval(), t.settings.MaxTimeout)
	}
	return nil
}

// succeed makes p the next process's. Its predecessor may live.
func (t *Table) succeed(now Now, p *peer, h heartbeat.Hello) {
	t.forgetFormer(p)
	f := &followed{slot: p.Slot}
	for _, c := range p.leave() {
		if c.ch.Version < 2 || c.blocked { // which could not prove it
			t.close(c)
			continue
		}
		t.beat(now, c)
		c.of.proves = max(1, c.ch.Sent())
		f.conns = append(f.conns, c)
	}
	if len(f.conns) > 0 {
		p.followed = f
	}
	p.Incarnation, p.Attempt = incarnation(h), 0
}

// formerLives takes in a BEAT of a process that another one has followed. If it was sent since, both
// live.
func (t *Table) formerLives(now Now, c *conn) {
	if int32(c.ch.Echo()-c.of.proves) < 0 {
		return
	}
	p := c.peer
	later, f := p.leave(), p.followed
	p.followed = nil
	t.log.routine(now, p.Addr(), Line{Level: Warning,
		Message: fmt.Sprintf("two conmgr processes that live have one id: conmgr %s, and conmgr %s", HostPort(c.addr, c.port),
			p.remote()),
		Detail: "One of them has to take another id. No session is terminated by that.",
		Hint:   "Was the directory of one of them copied?"})
	if !terminator.Yields(f.slot.Generation, p.Generation) {
		p.conns = later
		for _, o := range f.conns {
			o.peer = nil
			t.send(o, o.ch.WatchdogGoodbye(t.bytes, heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrSilent,
				Text: "another process has declared this instance lost with the id of this conmgr"}))
			t.finish(now, o)
		}
		return
	}
	t.restore(now, p, f)
	for _, o := range later {
		o.peer = nil
		t.refuse(now, o, taken)
	}
}

// restore makes p that of the process which it was before, and which lives.
func (t *Table) restore(now Now, p *peer, f *followed) {
	for _, c := range f.conns {
		c.of.proves = 0
	}
	p.conns = f.conns
	for _, a := range p.Proved.All() {
		if f.slot.find(a.Addr) < 0 {
			t.delist(p, a.Addr)
		}
	}
	p.Proved, p.Incarnation, p.Attempt, p.Port = f.slot.Proved, f.slot.Incarnation, f.slot.Attempt, f.slot.Port
	p.Interval, p.Timeout, p.Grace = f.slot.Interval, f.slot.Timeout, f.slot.Grace
	p.State, p.Closed, p.Until = Connected, Broken, 0
	for _, a := range p.Proved.All() {
		t.enlist(p, a.Addr)
	}
	p.pulse = heartbeat.NewPulse(p.Interval, p.Timeout, now.Mono)
	t.received(now, p)
	t.store.Put(p.slot, &p.Slot)
	t.timers.set(p, p.pulse.Wake())
}

// forgetFormer closes what the process has left that p has followed.
func (t *Table) forgetFormer(p *peer) {
	if f := p.followed; f != nil {
		p.followed = nil
		for _, c := range f.conns {
			t.close(c)
		}
	}
}

// leaves forgets a connection of a process that was followed. false: it is of the one that is now.
func (p *peer) leaves(c *conn) bool {
	if !c.of.former() {
		return false
	}
	if f := p.followed; f != nil {
		if f.conns = slices.DeleteFunc(f.conns, func(o *conn) bool { return o == c }); len(f.conns) == 0 {
			p.followed = nil
		}
	}
	return true
}

// followed leaves the sessions of one that was to be back by now to another conmgr of its host that
// has come since, if there is one.
func (t *Table) followed(now Now, p *peer) bool {
	for _, o := range t.byHost[hostOf(p.Addr())] {
		a := p.absent(o.Boot, o.KeyID)
		if o != p && o.standing() == terminator.Awaited && p.leavesTo(o.KeyID) &&
			a.FollowedBy(o.Timeout, terminator.Time(p.WaitingSince), terminator.Time(o.Since)) {
			t.log.routine(now, p.Addr(), Line{Level: Log,
				Message: fmt.Sprintf("conmgr %s, which did not resume, is replaced by another one of its host", p.remote())})
			t.bequeath(now, p, o.ID)
			return true
		}
	}
	return false
}
