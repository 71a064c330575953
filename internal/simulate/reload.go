package simulate

// A reload: conmgr reads its file again, and becomes a process with what stands there, as
// conmgr/watch does. An entry that is not in it any more says GOODBYE 3: that server ends nothing, and
// forgets it (docs/protocol.md 1.2, 1.5).

import (
	"maps"
	"math/rand/v2"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/terminator"
)

// reloaded is what a conmgr has of its reloads.
type reloaded struct {
	quiet    bool             // notify_loss is off
	was      settings         // before the last reload
	agreed   map[int]settings // by which the server of an entry knows it, at least until its next HELLO
	removed  map[heartbeat.ID]removal
	declared map[int]uint64 // times that applications of an entry were told of a loss in silence
}

// removal is the end of an entry.
type removal struct {
	at       Mono
	d        *database
	peaceful bool // it could say so, and no disturbance is in sight
}

// newReloaded is that of a conmgr with another id.
func newReloaded(before reloaded) reloaded {
	return reloaded{quiet: before.quiet, was: before.was, agreed: map[int]settings{},
		removed: map[heartbeat.ID]removal{}, declared: map[int]uint64{}}
}

// change is what a reload finds in the file.
type change struct {
	set     settings
	without map[int]bool
	again   []*database // more entries
	quiet   bool
}

// unchanged is the file as it is.
func (m *conmgr) unchanged() change {
	return change{set: m.set, without: maps.Clone(m.without), quiet: m.quiet}
}

// reload has the process read the file, and the next one begin after a time.
func (m *conmgr) reload(next change, after time.Duration) {
	if !m.running || m.grace == 0 || max(m.p.stopped, m.c.h.frozen) > m.c.w.now {
		return
	}
	m.without = next.without
	m.c.w.note("%s: conmgr %x reads its file again", m.c.h.name, m.id[:2])
	left := map[heartbeat.ID]removal{}
	for _, in := range m.instances {
		if in.isLeft() {
			left[in.id()] = removal{m.c.w.now, in.d,
				in.serves && in.up != 0 && m.calm(in.d, m.c.w.now.Add(-3*m.slowest(in).timeout))}
		}
	}
	m.ends(returns)
	for id, r := range left {
		m.removed[id] = r
		m.c.w.mustForget(m, id, r)
	}
	m.was, m.set, m.quiet = m.set, next.set, next.quiet
	m.again = append(m.again, next.again...)
	m.c.h.later(after, m.start)
}

// isLeft tells whether the next process has no such entry.
func (in *instance) isLeft() bool { return in.m.without[in.index] }

// removedApplications are told that their instance is not configured any more.
func (m *conmgr) removedApplications() {
	kept := m.waiting[:0]
	for _, s := range m.waiting {
		if !m.without[s.token.index] {
			kept = append(kept, s)
			continue
		}
		m.c.w.note("%s: an application of %s is told that it is not configured any more", m.c.h.name, s.d.h.name)
		s.token, s.left = token{}, true
		s.d.leave()
	}
	m.waiting = kept
}

// counts counts what was told, by itself: a server must not know of more.
func (m *conmgr) counts(in *instance, loss *heartbeat.Loss) {
	if loss.TimedOut() && !in.quiet {
		m.declared[in.index]++
	}
}

// slowest is what a server may know an entry by: until it is established, that of a process before.
func (m *conmgr) slowest(in *instance) settings {
	set := m.set
	if k, ok := m.agreed[in.index]; ok && in.up == 0 {
		set.interval, set.timeout = max(set.interval, k.interval), max(set.timeout, k.timeout)
	}
	return set
}

// lately are the settings that count for what has happened of late.
func (m *conmgr) lately() []settings {
	if m.was.timeout == 0 || m.began.Add(3*max(m.was.timeout, m.set.timeout)) < m.c.w.now {
		return []settings{m.set}
	}
	return []settings{m.set, m.was}
}

// calm tells whether nothing has been disturbed between a conmgr and a database since then.
func (m *conmgr) calm(d *database, since Mono) bool {
	for _, k := range m.c.w.marks {
		if (k.c == nil || k.c == m.c) && (k.m == nil || k.m == m) && (k.d == nil || k.d == d) && k.to >= since {
			return false
		}
	}
	return d.running && !d.stopping && d.worker != nil && d.changed < since && d.serving < since && m.c.h.up
}

// sayFor is within what time a last word has arrived, if nothing is disturbed.
const sayFor = time.Second

// removal is the peaceful one of the entry with that id.
func (w *world) removal(id heartbeat.ID) (m *conmgr, r removal) {
	for _, c := range w.clients {
		for _, m := range c.conmgrs {
			if r := m.removed[id]; r.peaceful && m.calmThen(r) {
				return m, r
			}
		}
	}
	return nil, removal{}
}

// calmThen tells whether nothing was disturbed while its last word was on its way.
func (m *conmgr) calmThen(r removal) bool {
	for _, k := range m.c.w.marks {
		if (k.c == nil || k.c == m.c) && (k.d == nil || k.d == r.d) && k.from >= r.at && k.from <= r.at.Add(sayFor) {
			return false
		}
	}
	return r.d.running && !r.d.stopping && r.d.changed < r.at
}

// removedInPeace: GOODBYE 3 ends nothing.
func (w *world) removedInPeace(s *session, v *watchdog.MemorySlot) {
	if m, r := w.removal(v.ID); m != nil && v.CutOff >= terminator.Time(r.at) {
		w.fail("R1", "%s ends a session of %s by cause %d, though conmgr %x of %s has told it that it is not monitored any more",
			s.d.h.name, s.c.h.name, v.Cause, m.id[:2], m.c.h.name)
	}
}

// mustForget looks, after a time, whether a server has forgotten an entry that was removed, and left
// its sessions to another conmgr of its host, if there is one.
func (w *world) mustForget(m *conmgr, id heartbeat.ID, r removal) {
	if !r.peaceful {
		return
	}
	heir := m.neighbour(r.d, r.at)
	w.in(sayFor, func() {
		if !m.c.h.up || m.entry(id) != nil || !m.calmThen(r) || m.removed[id] != r {
			return
		}
		for i := range r.d.mem.Len() {
			if s := r.d.mem.Slot(i); s.ID == id && (s.State == watchdog.Connected || s.State == watchdog.Waiting) {
				w.fail("R5", "%s still awaits conmgr %x of %s, which has told it that it is not monitored any more",
					r.d.h.name, m.id[:2], m.c.h.name)
			}
		}
		if owner, _ := r.d.owner(heartbeat.LabelID(id)); owner == nil && heir != nil && heir == m.neighbour(r.d, r.at) {
			w.fail("R5", "%s takes the sessions of conmgr %x of %s for nobody's, though another one of its host lives",
				r.d.h.name, m.id[:2], m.c.h.name)
		}
	})
}

// neighbour is another conmgr of the host that the database has known since then.
func (m *conmgr) neighbour(d *database, since Mono) *instance {
	for _, o := range m.c.conmgrs {
		in := o.instance(d)
		if o != m && o.running && in != nil && in.serves && in.up != 0 && in.up.Add(o.set.interval) < since &&
			o.calm(d, since.Add(-3*o.slowest(in).timeout)) {
			return in
		}
	}
	return nil
}

// reloading tells whether conmgrs of that seed read their files again.
func reloading(seed uint64) bool { return seed%3 == 2 }

// manySlots are enough for all ids that entries have there within minutes: a slot that names an heir
// is needed by another conmgr otherwise, and the heir forgotten.
const manySlots = 32

// reloads makes some of the conmgrs of some seeds read their file again now and then: by random
// numbers of its own, and not of the seeds that are kept for what they mean without it.
func (w *world) reloads(seed uint64) {
	if !reloading(seed) {
		return
	}
	r := rare{rand.New(rand.NewPCG(seed, 81))}
	for _, c := range w.clients {
		for _, m := range c.conmgrs {
			if !r.chance(0.8) {
				continue
			}
			if m.grace == 0 {
				m.running, m.p.dead, m.grace = false, true, r.between(500*ms, 20*time.Second)
				m.start()
			}
			m.reloadsAgain(r)
		}
	}
}

func (m *conmgr) reloadsAgain(r rare) {
	m.c.w.in(r.between(2*time.Second, 150*time.Second), func() {
		m.reload(m.edit(r), r.between(20*ms, 1200*ms))
		m.reloadsAgain(r)
	})
}

// mostEntries is how many entries one conmgr has had at most.
const mostEntries = 5

// edit changes the file.
func (m *conmgr) edit(r rare) change {
	next := m.unchanged()
	if next.without == nil {
		next.without = map[int]bool{}
	}
	if r.chance(0.4) {
		next.set = timings[1+r.IntN(len(timings)-1)]
	}
	entries := m.entries()
	for range r.IntN(3) {
		switch i := r.IntN(len(entries)); {
		case next.without[i]:
			delete(next.without, i)
		case len(entries)+len(next.again) < mostEntries && r.chance(0.15):
			next.again = append(next.again, m.c.w.databases[r.IntN(len(m.c.w.databases))])
		case len(next.without) < len(entries)-1: // one is left
			next.without[i] = true
		}
	}
	if r.chance(0.2) {
		next.quiet = !next.quiet
	}
	return next
}
