package simulate

// A conmgr that ends and is started again: what its directory keeps, and what its applications do
// meanwhile, as drivers do (docs/protocol.md 2.3).

import (
	"math/rand/v2"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/terminator"
)

// token is what an application has to find its instance again.
type token struct {
	index      int
	start      int64  // of the postmaster
	since      uint64 // by which the server knows the conmgr
	generation uint64
	kept       bool
	at         Mono // when its conmgr left
}

// spare is the id that a process takes if another one has its own.
func (m *conmgr) spare() heartbeat.ID {
	id := m.id
	id[3] = 0x5a
	return id
}

// incarnation is that of the process which is about to start. Without a grace it has an id of its
// own, and so none.
func (m *conmgr) incarnation() heartbeat.ID {
	if m.grace == 0 {
		return heartbeat.ID{}
	}
	n := m.c.w.ids
	return heartbeat.ID{byte(n >> 8), byte(n), 0xca}
}

// granted is the grace that servers give it.
func (m *conmgr) granted() time.Duration { return min(m.grace, time.Minute) }

// left: the process has ended. Applications that have asked it end their sessions, or wait.
func (m *conmgr) left(how ending) {
	w := m.c.w
	m.away = 0
	if m.grace == 0 || how == stops {
		m.waiting = nil
		w.conmgrEnded(m)
		return
	}
	m.away = w.now
	for _, in := range m.instances {
		if in.serves && !in.isLeft() {
			m.stood[in.id()] = w.now
		}
		for _, s := range in.d.all() {
			if s.m == m && s.aware && !s.plain && !s.left && !s.dead() && s.boundBy(in) && !s.token.kept {
				s.token = token{in.index, in.mon.PostmasterStart(), in.since, in.mon.Generation(), true, w.now}
				m.waiting = append(m.waiting, s)
			}
		}
	}
	away := m.away
	m.c.h.later(m.granted(), func() {
		if m.away == away && !m.running {
			m.giveUp("its conmgr is not back")
		}
	})
}

// boundBy tells whether it is bound by an entry, in the way that can be resumed.
func (s *session) boundBy(in *instance) bool {
	return s.entry == in.index && (s.moved || s.label == heartbeat.LabelID(in.id()))
}

// giveUp: nothing has come of what applications have waited for.
func (m *conmgr) giveUp(why string) {
	for _, s := range m.waiting {
		m.c.w.note("%s: an application of %s gives its session up: %s", m.c.h.name, s.d.h.name, why)
		s.token, s.left = token{}, true
	}
	m.waiting = nil
	for _, d := range m.c.w.databases {
		d.leave()
	}
}

// started: the next process is there. Who waits for an instance does so for heartbeat_timeout.
func (m *conmgr) started() {
	p := m.p
	m.removedApplications()
	m.c.h.later(m.set.timeout, func() {
		if m.p == p && m.running {
			m.giveUp("its instance is not back")
		}
	})
}

// resume binds those who wait for an instance, or tells them that it is lost. by is the entry that
// serves it.
func (m *conmgr) resume(in *instance, by int) {
	w := m.c.w
	kept := m.waiting[:0]
	for _, s := range m.waiting {
		t := s.token
		if t.index != in.index {
			kept = append(kept, s)
			continue
		}
		s.token = token{}
		switch valid := t.start == in.mon.PostmasterStart() && t.since == in.since && in.mon.Generation() <= t.generation; {
		case valid && s.by == in.id(): // another entry's verdict on the host is not this one's to know
			w.fail("R3", "conmgr %x of %s binds a session again that %s has ended", m.id[:2], m.c.h.name, s.d.h.name)
		case !valid && !s.over:
			w.note("%s: an application of %s is told that its session is lost", m.c.h.name, s.d.h.name)
			w.neednt(m, s, t.at)
			s.tell(in)
		default:
			s.entry, s.moved = by, s.moved || by != in.index
		}
	}
	m.waiting = kept
	in.d.leave()
}

// neednt looks whether an application had to be told that: its host, its conmgr within the grace, and
// the server have lived.
func (w *world) neednt(m *conmgr, s *session, left Mono) {
	d := s.d
	if s.would || w.now.Sub(left)+w.needed(d, m.c) >= m.granted() || s.dead() || !d.running || d.stopping || d.changed >= left {
		return
	}
	longest, excused := w.worst(m, d, w.now.Sub(left)+3*m.set.timeout)
	if longest > 0 && w.now.Sub(left)+longest > w.bearable(m.set, d, m.c) {
		return // it may not have arrived that it would be back
	}
	if !excused {
		w.fail("R1", "conmgr %x of %s, which is back, tells an application that its session at %s is lost", m.id[:2],
			m.c.h.name, d.h.name)
	}
}

// spares tells whether a conmgr has closed its connection, and its sessions stay if it does not come
// back, as terminate_on_close is off.
func (d *database) spares(owner *watchdog.MemorySlot) bool {
	return !d.onClose && owner.State == watchdog.Waiting && owner.Closed.Cause() == terminator.Closed
}

// awaited is the conmgr of a slot whose sessions, at its host's death, have what is left of the
// grace: its kernel has closed the connection, and it is not back. Else nil.
func (c *client) awaited(owner *watchdog.MemorySlot, d *database) *conmgr {
	for _, m := range c.conmgrs {
		in := m.instance(d)
		_, removed := m.removed[owner.ID]
		if m.away != 0 && (removed || m.has(owner.ID)) && owner.State != watchdog.Ending &&
			(removed || in == nil || !m.running || in.up == 0) {
			return m
		}
	}
	return nil
}

// mayReturn tells whether it has been away for less than its grace, since a connection of an entry
// was closed that had stood undisturbed.
func (m *conmgr) mayReturn(id heartbeat.ID, d *database) bool {
	return m.away != 0 && m.stood[id] == m.away && m.c.w.now < m.away.Add(m.granted()) && m.boot == m.c.h.boot &&
		!m.c.w.disturbed(m.c, d, m.granted()+3*m.set.timeout)
}

// returning makes conmgrs of some seeds come back: by random numbers of its own, and not of the
// seeds that are kept for what they mean without it.
func (w *world) returning(seed uint64) {
	switch seed % 7 {
	case 1, 4, 6:
		return
	}
	r := rare{rand.New(rand.NewPCG(seed, 80))}
	for _, c := range w.clients {
		for _, m := range c.conmgrs {
			if r.chance(0.8) {
				m.running, m.p.dead, m.grace = false, true, r.between(500*ms, 20*time.Second)
				m.start()
				m.restarts(r)
			}
		}
	}
}

// restarts plans the next restart, on purpose or by a crash.
func (m *conmgr) restarts(r rare) {
	w := m.c.w
	w.in(r.between(2*time.Second, 100*time.Second), func() {
		how := returns
		if r.chance(0.4) {
			how = killed
		}
		m.ends(how)
		after := r.between(10*ms, m.grace)
		if r.chance(0.15) {
			after = r.between(m.grace, m.grace+2*m.set.timeout)
		}
		m.c.h.later(after, m.start)
		m.restarts(r)
	})
}
