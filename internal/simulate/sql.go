package simulate

// SQL sessions, and the kernel's backlog, in which the connection of one lies until the postmaster
// accepts it.

import (
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/terminator"
)

// session is an SQL session of an application.
type session struct {
	d     *database
	c     *client
	m     *conmgr    // that has sent the application here, and tells it
	addr  netip.Addr // of the client host
	seen  netip.Addr // by the server
	boots byte       // of the client's machine
	waits bool       // in the backlog
	began Mono
	heard Mono // when the client was last heard, at the start of the session
	busy  Mono // its socket is heard of until then, as long as packets pass
	last  Mono // when it was
	prior Mono // and the time before
	over  bool
	left  bool         // the application has given it up
	lost  *instance    // that has told the application so
	would bool         // or would have, but for notify_loss
	entry int          // of its conmgr, that it is bound by
	moved bool         // from the one whose label it carries
	aware bool         // it ends when its conmgr does
	label heartbeat.ID // zero: none
	plain bool         // its application knows of no conmgr
	token token        // while its conmgr is away
	by    heartbeat.ID // whose verdict has ended it
	owing bool         // to a close, if terminate_on_close stays as it is

	number     int             // at its server
	reported   terminator.Time // the latest cut-off by which it would have ended
	reportedAt Mono
}

// open is an application's connection, which is complete when the kernel has it. A postmaster that
// stands still begins the session later.
func (d *database) open(c *client, m *conmgr, aware bool) *session {
	s := &session{d: d, c: c, m: m, addr: c.h.addr, seen: c.h.seen(), boots: c.h.boots, aware: aware, heard: d.w.now, last: d.w.now}
	if in := m.instance(d); in != nil {
		s.entry = in.index
	}
	labels := d.labels()
	if s.number = d.opened; labels {
		s.label = heartbeat.LabelID(m.instance(d).id())
	}
	if d.still > d.w.now {
		s.began, s.waits = d.w.now, true
		d.waiting = append(d.waiting, s)
		return s
	}
	d.begin(s)
	return s
}

// labels tells whether a session is to carry one: in the scenarios all do, else every other one.
func (d *database) labels() bool {
	d.opened++
	return d.w.strict || d.opened%2 == 0
}

func (d *database) begin(s *session) {
	s.began, s.waits = d.w.now, false
	d.sessions = append(d.sessions, s)
	d.lookUp(s)
}

// lookUp is what a session does that has just got its row: it may have lain in the backlog while
// its host died. It reads what the terminator reads.
func (d *database) lookUp(s *session) {
	if terminator.Time(s.heard) > d.mem.Latest() {
		return
	}
	for i := range d.mem.Len() {
		r := d.mem.Slot(i)
		if cutOff := d.means(&r, s); cutOff != 0 {
			d.w.note("%s: a session of %s ends itself", d.h.name, s.seen)
			d.carryOut(s, i, &r, cutOff, d.only || d.verdicts[i] == r.Verdicts, true)
		}
	}
	d.sweep()
}

// means is the cut-off by which a verdict that stands means a session, 0: it does not:
// extension/verdicts.c.
func (d *database) means(r *watchdog.MemorySlot, s *session) terminator.Time {
	if s.over {
		return 0
	}
	b := terminator.Bond{Heard: terminator.Time(s.heard)}
	owner, carried := d.owner(s.label)
	b.Own = slices.Contains(carried, heartbeat.LabelID(r.ID))
	b.Kept = owner != nil && hasProved(owner, s.seen) &&
		terminator.Keeps(owner.Closed, owner.Boot == r.Boot, owner.Grace, r.Cause)
	fallen := r.CutOff != 0
	for _, a := range r.Proved.All() {
		fallen = fallen || a.Ended
		if a.Addr == s.seen && a.Ended {
			b.Address, b.Falls = true, a.At
		}
	}
	switch {
	case !fallen || !terminator.Means(r.CutOff, b):
		return 0
	case b.Own && b.Heard <= r.CutOff:
		return r.CutOff
	}
	return b.Falls
}

// owner is the conmgr that is awaited and answers for a label, and the labels by which it was
// found.
func (d *database) owner(label heartbeat.ID) (owner *watchdog.MemorySlot, carried []heartbeat.ID) {
	for label != (heartbeat.ID{}) && len(carried) < 16 {
		carried = append(carried, label)
		var heir heartbeat.ID
		for i := range d.mem.Len() {
			x := d.mem.Slot(i)
			if heartbeat.LabelID(x.ID) != label {
				continue
			}
			if (x.State == watchdog.Connected || x.State == watchdog.Waiting) && x.Deferred == 0 && !x.Remembered {
				return &x, carried
			}
			if x.Heir != (heartbeat.ID{}) {
				heir = x.Heir
			}
		}
		label = heir
	}
	return nil, carried
}

func hasProved(x *watchdog.MemorySlot, addr netip.Addr) bool {
	for _, a := range x.Proved.All() {
		if a.Addr == addr {
			return true
		}
	}
	return false
}

// work keeps a session's socket busy. The kernels do that, whoever stands still.
func (s *session) work(length time.Duration) {
	s.busy = s.d.w.now.Add(length)
	s.beat()
}

func (s *session) beat() {
	w := s.d.w
	if s.over || s.dead() || w.now > s.busy || !s.d.running {
		return
	}
	if _, there := w.passes(s.c.h.addr, s.d.h.addr); there && s.c.h.frozen <= w.now {
		if _, back := w.passes(s.d.h.addr, s.c.h.addr); back {
			s.last, s.prior = w.now, s.last
		}
	}
	w.in(50*time.Millisecond, s.beat)
}

// heardOf is the kernel's answer: internal/sockdiag.
func (d *database) heardOf(q *watchdog.Sessions) (last heartbeat.Mono) {
	for _, s := range d.sessions {
		row := watchdog.Session{Remote: netip.AddrPortFrom(s.seen, 1), Label: s.label, Cookie: 1, Heard: s.heard}
		if s.witness() && q.Mean(&row) {
			last = max(last, s.last)
			if owner, _ := d.owner(s.label); owner == nil {
				d.words = append(d.words, word{s.c, s.seen, s.last})
			}
		}
	}
	return last
}

// word is what was heard of a session for which nobody answered, and taken for a word of whoever has
// its address. The session may have ended since.
type word struct {
	c    *client
	seen netip.Addr
	last Mono
}

// heardBeside is when sessions without a label that counts were last heard of from another host
// that is seen as the one of s. A known limit of an address that stands for a host.
func (d *database) heardBeside(s *session) (last Mono) {
	for _, o := range d.words {
		if o.c != s.c && o.seen == s.seen {
			last = max(last, o.last)
		}
	}
	for _, o := range d.sessions {
		if owner, _ := d.owner(o.label); o.c != s.c && o.seen == s.seen && !o.over && owner == nil {
			last = max(last, o.last)
		}
	}
	return last
}

func (d *database) end(s *session, r *watchdog.MemorySlot) {
	d.w.ended(s, r)
	d.w.did(deed{what: endedSession, database: int(d.h.addr.As4()[3]), n: s.number})
	s.over, s.by = true, r.ID
}

// standStill stops the postmaster for a time: it accepts nothing, and starts nothing.
func (d *database) standStill(length time.Duration) {
	d.still = max(d.still, d.w.now.Add(length))
	d.w.note("-- the postmaster of %s is stopped until %.3f", d.h.name, time.Duration(d.still).Seconds())
	d.h.later(length, d.accept)
}

// accept takes what lies in the backlog. Of who has closed it again no session is left.
func (d *database) accept() {
	if d.still > d.w.now {
		return
	}
	for _, s := range d.waiting {
		if !s.over {
			d.w.note("%s: a session of %s begins", d.h.name, s.seen)
			d.begin(s)
		}
	}
	d.waiting = nil
}

// forgetSessions is the end of all of them.
func (d *database) forgetSessions() {
	for _, s := range d.all() {
		s.over = true
	}
	d.sessions, d.waiting = nil, nil
}

// all are the sessions, and those to come.
func (d *database) all() []*session {
	if len(d.waiting) == 0 {
		return d.sessions
	}
	return append(append([]*session(nil), d.sessions...), d.waiting...)
}

// sweep forgets sessions that are over.
func (d *database) sweep() {
	kept := d.sessions[:0]
	for _, s := range d.sessions {
		if !s.over {
			kept = append(kept, s)
		}
	}
	clear(d.sessions[len(kept):])
	d.sessions = kept
}
