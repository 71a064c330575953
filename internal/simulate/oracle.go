package simulate

// What is true, and the two rules. R1: whose host and conmgr live, and were disturbed for no longer
// than the protocol bears, loses nothing. R2: of a host that is dead no session is left when its
// time is over.

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/terminator"
)

// mark is a disturbance of what lies between a conmgr and a database: of all, where one is nil.
type mark struct {
	from, to Mono
	// hard: packets are lost. Else a process did not run; frozen: nor did its kernel.
	hard, frozen bool
	// always: what was before is gone, however short it took.
	always bool
	// half: the other end of a connection learns of its end by its next BEAT only. With anything
	// else beside it, nothing is promised.
	half bool
	away bool // there was no worker
	what string
	c    *client
	m    *conmgr
	d    *database
}

// failure is a rule that was broken.
type failure struct {
	rule string
	at   Mono
	text string
}

type oracle struct {
	ids     uint32
	marks   []mark
	failure *failure
	strict  bool // R1 as it will be, with no regard to what the protocol bears today
	ends    int  // sessions that were ended
	losses  int
	closed  int // times that no connection stood any more, which is no verdict
	extra   int // connections that were dialled beside one, and questions to the kernel
	checks  int // dead hosts' sessions that were looked for
}

func (w *world) fail(rule, format string, args ...any) {
	if w.failure == nil {
		w.failure = &failure{rule, w.now, fmt.Sprintf(format, args...)}
		w.note("BROKEN %s: %s", rule, w.failure.text)
	}
}

// disturb records a disturbance.
func (w *world) disturb(k mark) {
	w.note("-- %s until %.3f", k.what, time.Duration(k.to).Seconds())
	if len(w.marks) > 200 {
		kept := w.marks[:0]
		for _, o := range w.marks {
			if o.to.Add(5*time.Minute) > w.now {
				kept = append(kept, o)
			}
		}
		w.marks = kept
	}
	w.marks = append(w.marks, k)
}

// needed is how long packets have to pass both ways, and both processes to run, in every window of
// the length that can be borne.
func (w *world) needed(d *database, c *client) time.Duration {
	return 60*time.Millisecond + 4*(w.path(c.h.addr, d.h.addr).delay+w.path(d.h.addr, c.h.addr).delay)
}

// bearable is how long a disturbance may last: what heartbeat_timeout leaves, but for what is
// needed.
func (w *world) bearable(set settings, d *database, c *client) time.Duration {
	return max(0, set.timeout-set.interval-w.needed(d, c))
}

// worst is the longest disturbance of late: of several that lie close together, from the first's
// begin to the last's end. What lies between is long enough if it is found by one of the attempts,
// which are an eighth of what is left apart. excuses: it was too long.
func (w *world) worst(m *conmgr, d *database, since time.Duration) (longest time.Duration, excuses bool) {
	for _, set := range m.lately() {
		l, e := w.worstFor(set, m, d, since)
		longest, excuses = max(longest, l), excuses || e
	}
	return longest, excuses
}

func (w *world) worstFor(set settings, m *conmgr, d *database, since time.Duration) (longest time.Duration, excuses bool) {
	limit := w.bearable(set, d, m.c)
	gap := w.needed(d, m.c) + heartbeat.Spacing(limit, 1)
	var of []mark
	for _, k := range w.marks {
		if (k.c == nil || k.c == m.c) && (k.m == nil || k.m == m) && (k.d == nil || k.d == d) &&
			k.to.Add(since) >= w.now && k.from <= w.now {
			of = append(of, k)
		}
	}
	slices.SortFunc(of, func(a, b mark) int { return cmp.Compare(a.from, b.from) })
	for i := 0; i < len(of); {
		from, to := of[i].from, of[i].to
		j := i + 1
		excuses = excuses || of[i].always
		half := of[i].half
		for ; j < len(of) && of[j].from <= to.Add(gap); j++ {
			to, excuses, half = max(to, of[j].to), excuses || of[j].always, half || of[j].half
		}
		excuses = excuses || half && j > i+1
		length := min(to, w.now).Sub(from)
		if of[i].frozen && length > limit && length < 3*set.interval/2+time.Millisecond {
			excuses = true // no timer may have been so late that the process has noticed
		}
		longest = max(longest, length)
		excuses = excuses || length > limit
		i = j
	}
	return longest, excuses
}

// steady tells whether the connection between m and d has stood, and had a right to stand, for so
// long that it counts as proof of life within a time.
func (w *world) steady(m *conmgr, d *database, within time.Duration, own bool) bool {
	if !m.running || !m.c.h.up || m.set.timeout < 3*m.set.interval/2 {
		return false
	}
	in := m.instance(d)
	settled := m.set.interval
	if in == nil || in.up == 0 || w.now.Sub(in.up) < settled {
		return false
	}
	longest, excused := w.worst(m, d, 3*m.set.timeout)
	if excused || !own && w.halfReset(m, d) {
		return false
	}
	return own || m.set.interval+2*longest+500*time.Millisecond < within
}

// ended: the terminator ends a session.
func (w *world) ended(s *session, r *watchdog.MemorySlot) {
	w.ends++
	w.removedInPeace(s, r)
	w.declared(s, r)
	if s.left || s.dead() {
		return
	}
	if r.Cause == terminator.Silence && w.heardOf(s.c, s.d, r) {
		w.fail("R1", "%s ends a session of %s, of whose sessions it hears", s.d.h.name, s.c.h.name)
	}
	if m := s.m; r.Cause == terminator.Closed && s.label != (heartbeat.ID{}) && m.mayReturn(r.ID, s.d) {
		w.fail("R1", "%s ends a session of %s %v after its conmgr %x, which may come back for %v, has ended", s.d.h.name,
			s.c.h.name, w.now.Sub(m.away), m.id[:2], m.granted())
	}
	if in := s.m.entry(r.ID); in != nil && !in.duplicate && !s.plain && terminator.Time(in.up) <= r.CutOff {
		w.mustTell(in, 3*s.m.set.timeout)
	}
	_, carried := s.d.owner(s.label)
	exact := slices.Contains(carried, heartbeat.LabelID(r.ID))
	for _, m := range s.c.conmgrs {
		own := m.entry(r.ID) != nil
		if !own && exact { // it is not m's, whatever m's life proves for others
			continue
		}
		// m has declared the server lost: that was looked at then; or it is there since it has fallen.
		if own && (r.Cause == terminator.GivenUp || s.d.falls < m.entry(r.ID).up) {
			continue
		}
		if w.steady(m, s.d, r.Timeout, own) && (exact || !w.takenForItsBoot(s, m, r)) {
			w.fail("R1", "%s ends a session of %s, which lives, by cause %d; conmgr %x is connected", s.d.h.name, s.c.h.name,
				r.Cause, m.id[:2])
		}
	}
}

// heardBefore is when its socket was last heard of when the verdict fell.
func (s *session) heardBefore(verdict Mono) Mono {
	if s.last > verdict {
		return s.prior
	}
	return s.last
}

// heardOf tells whether a host, of one conmgr, was heard of by a session within its timeout.
func (w *world) heardOf(c *client, d *database, r *watchdog.MemorySlot) bool {
	for i := range d.mem.Len() {
		o := d.mem.Slot(i)
		if hasProved(&o, c.h.seen()) && (o.State == watchdog.Connected || o.State == watchdog.Waiting) {
			return false
		}
	}
	return len(c.conmgrs) == 1 && !c.neighbours() && c.conmgrs[0].entry(r.ID) != nil &&
		slices.ContainsFunc(d.sessions, func(s *session) bool {
			return s.c == c && s.busy != 0 && s.began <= d.falls && s.witness() && !s.dead() && terminator.Time(s.heard) <= r.CutOff &&
				s.heardBefore(w.now.Add(-2*ms)).Add(r.Timeout) > w.now
		})
}

// takenForItsBoot: of two hosts that are seen as one, one has died, and then m has connected for
// the first time: to the watchdog, that is the next boot of the dead one. A known limit of an
// address that stands for a host, for a session that carries no label that counts, and that began
// before.
func (w *world) takenForItsBoot(s *session, m *conmgr, r *watchdog.MemorySlot) bool {
	up := m.instance(s.d).up
	owner, _ := s.d.owner(s.label)
	return owner == nil && m.c.neighbours() && r.Boot != m.c.h.boot && up >= r.LastReceived.Mono &&
		s.heard <= up
}

// schedule is within what time a conmgr is heard of if it lives; stated here anew, as the policy is
// what is tried.
func schedule(interval time.Duration) time.Duration {
	return interval + max(interval/2, terminator.MinJourney)
}

// dead: the machine, or the address, that the session came from is no more.
func (s *session) dead() bool { return !s.c.h.up || s.c.h.boots != s.boots || s.c.h.addr != s.addr }

// mustTell looks, after a time, whether a conmgr has told that its sessions at a server have ended.
func (w *world) mustTell(in *instance, within time.Duration) {
	if in == nil || in.up == 0 {
		return
	}
	since := w.now.Add(-2 * in.m.set.timeout)
	if s := w.held(in, since); s > 0 {
		within += s + in.m.set.timeout
	}
	p := in.m.p
	look := func() {
		if !p.dead && in.told < since {
			w.fail("R3", "conmgr %x of %s does not tell that its sessions at %s have ended", in.m.id[:2], in.m.c.h.name,
				in.d.h.name)
		}
	}
	w.in(within+500*time.Millisecond, func() {
		if s := w.held(in, since); s > 0 { // it was not running, and is allowed for
			w.in(2*s+in.m.set.timeout, look)
			return
		}
		look()
	})
}

// held is for how long a conmgr was held up.
func (w *world) held(in *instance, since Mono) (sum time.Duration) {
	for _, k := range w.marks {
		if !k.hard && k.d == nil && (k.c == nil || k.c == in.m.c) && (k.m == nil || k.m == in.m) && k.to >= since {
			sum += k.to.Sub(k.from)
		}
	}
	return sum
}

// gone: all sessions of a database have ended with it.
func (w *world) gone(d *database) {
	for _, c := range w.clients {
		for _, m := range c.conmgrs {
			in := m.instance(d)
			if in == nil || !m.running || in.up == 0 || in.mon.State() == heartbeat.Stopping || d.stopping {
				continue
			}
			within := m.set.timeout
			if w.disturbed(c, d, 2*within) { // a kernel may deliver old BEATs still
				within *= 3
			}
			w.mustTell(in, within)
		}
	}
}

// back: a conmgr that has told its applications that a server is lost has reached it again. The
// sessions that they have given up must end.
func (w *world) back(in *instance) {
	c, d := in.m.c, in.d
	// Another one's life protects what does not carry our label, be it another entry that has
	// looked just then.
	protected := len(c.conmgrs) > 1 || c.neighbours() || slices.Contains(in.m.again, d)
	now, boots := w.now, c.h.boots
	w.in(time.Second, func() {
		for _, s := range d.sessions {
			if s.lost == in && !s.over && (s.reportedAt == 0 || s.reportedAt < in.told) && (!protected || s.label == heartbeat.LabelID(in.id())) && s.began < now && s.boots == boots && c.h.boots == boots && !s.dead() &&
				d.h.frozen < now {
				w.fail("R4", "%s still has a session of %s, whose application was told that it is lost", d.h.name, c.h.name)
			}
		}
	})
}

// told: a conmgr tells its applications that d is lost.
func (w *world) told(in *instance, loss *heartbeat.Loss) {
	w.losses++
	m, d := in.m, in.d
	in.told = w.now
	w.didTell(in, loss)
	alive := d.running && !d.stopping && d.changed < in.up
	if loss.Reason == heartbeat.LossStopping {
		// One SYN that is lost costs a second: the questions to the SQL port bear less.
		alive = d.running && d.h.up && d.changed.Add(m.set.timeout/2) < w.now && !w.disturbed(m.c, d, 2*m.set.timeout) &&
			d.still.Add(m.set.timeout) < w.now // it is the postmaster that answers there
	}
	if in.up != 0 && alive {
		since := m.set.timeout
		if loss.Reason == heartbeat.LossForgotten {
			since = 3 * m.set.timeout
		}
		if _, excused := w.worst(m, d, since); !excused {
			w.fail("R1", "conmgr %x of %s tells its applications that %s is lost: %s", m.id[:2], m.c.h.name,
				d.h.name, loss)
		}
	}
	for _, s := range d.all() {
		if s.m == m && !s.plain {
			s.tell(in)
		}
	}
	d.leave()
}

// conmgrEnded: applications that have asked it end their sessions.
func (w *world) conmgrEnded(m *conmgr) {
	for _, d := range w.databases {
		for _, s := range d.all() {
			if s.m == m && s.aware && !s.plain {
				s.left = true
			}
		}
		d.leave()
	}
}

// leave lets the sessions end that their applications have given up, where the server can learn of
// it.
func (d *database) leave() {
	for _, s := range d.all() {
		if s.left && !s.dead() {
			if _, ok := d.w.passes(s.addr, d.h.addr); ok {
				s.over = true
			}
		}
	}
	d.sweep()
}

// died: a machine, or an address, is about to be no more. Its sessions have to end.
func (w *world) died(c *client) {
	for _, d := range w.databases {
		timeout, interval, longest := w.promise(c, d)
		if !w.strict && w.disturbed(c, d, 2*longest) {
			continue
		}
		death := w.now
		for _, s := range d.all() {
			if s.c != c || s.over || s.dead() {
				continue
			}
			t, i := timeout, interval
			owner, _ := d.owner(s.label)
			if owner != nil && d.spares(owner) { // by the setting: as if it had no label
				owner = nil
			}
			switch {
			case owner != nil && c.awaited(owner, d) != nil: // its own, for its kernel has closed
				m := c.awaited(owner, d)
				granted := m.granted()
				if !d.onClose && owner.State == watchdog.Connected {
					continue // by the setting, too, should that still arrive
				}
				if !w.strict && w.disturbed(c, d, granted+2*owner.Timeout) {
					continue
				}
				if s.heard > m.away && s.m != m { // it was left to that one when that was away: nobody monitors its host
					continue
				}
				if _, removed := m.removed[owner.ID]; removed { // nor does the next process, until it has reached the server
					continue
				}
				s.owing = true
				t, i = max(owner.Timeout, granted), owner.Interval
				if m.running { // its last word may be the next process's
					t, i = max(t, m.set.timeout), max(i, m.set.interval)
				}
			case timeout == 0:
				continue
			case owner != nil: // its own conmgr's, be it that one waits for it
				t, i = owner.Timeout, owner.Interval
			case c.neighbours(): // one that lives protects what carries no label that counts: a known limit
				continue
			}
			by := death.Add(t + w.path(c.h.addr, d.h.addr).delay + 200*ms)
			if s.waits {
				by = max(by, d.still.Add(200*ms))
			}
			w.mustEnd(s, death, by, t, i)
		}
	}
}

// promise is within what time the sessions of a host that dies now have to end: the shortest
// heartbeat_timeout, but not less than the schedule of another conmgr, which may stand in for it.
func (w *world) promise(c *client, d *database) (timeout, interval, longest time.Duration) {
	another := time.Duration(0)
	for _, m := range c.conmgrs {
		in := m.instance(d)
		if in == nil || !m.running {
			continue
		}
		set, known := m.slowest(in), w.knows(d, in)
		if !known && in.up != 0 {
			continue
		}
		if known && (timeout == 0 || set.timeout < timeout) { // else its HELLO may be on its way
			timeout, interval = set.timeout, set.interval
		}
		longest = max(longest, set.timeout)
		another = max(another, schedule(set.interval))
	}
	if timeout != 0 && timeout < longest {
		timeout = max(timeout, another)
	}
	return timeout, interval, longest
}

// disturbed tells whether anything was disturbed of late: a silence that was judged by one
// connection does not cover the sessions that began after it, whatever becomes of their host.
func (w *world) disturbed(c *client, d *database, since time.Duration) bool {
	return slices.ContainsFunc(w.marks, func(k mark) bool {
		return (k.hard || k.frozen || k.c == c) && (k.c == nil || k.c == c) && (k.d == nil || k.d == d) &&
			k.to.Add(since) >= w.now
	})
}

// knows tells whether a server has the conmgr's connection, or has heard of its host without it.
func (w *world) knows(d *database, in *instance) bool {
	if !d.running || d.stopping {
		return false
	}
	for i := range d.mem.Len() {
		s := d.mem.Slot(i)
		if (s.State == watchdog.Connected || s.State == watchdog.Waiting && s.Suspended > 0) && s.ID == in.id() {
			return true
		}
	}
	return false
}

// mustEnd looks at a time whether a session is over, which has to be.
func (w *world) mustEnd(s *session, death, by Mono, timeout, interval time.Duration) {
	w.at(by, func() {
		if s.over || s.reportedAt >= death || s.owing && s.d.toggled >= death || w.failure != nil {
			return
		}
		d := s.d
		if d.stopping {
			return
		}
		if s.waits { // it has not begun yet
			w.mustEnd(s, death, max(w.now, d.still).Add(200*ms), timeout, interval)
			return
		}
		w.checks++
		latest := death.Add(timeout + w.path(s.addr, d.h.addr).delay + 200*time.Millisecond)
		silence := death.Add(-interval) // since then at the latest
		for _, k := range w.marks {     // what has held the judge up
			if k.d == d && k.c == nil && !k.hard && k.to >= silence {
				length := k.to.Sub(max(k.from, silence))
				later := max(latest.Add(length+interval), k.to.Add(timeout+200*time.Millisecond))
				if k.away { // it tells that it lives once a second at least
					later = min(later, latest.Add(length+time.Second))
				}
				latest = later
			}
		}
		if last := d.heardBeside(s); last > death { // what has no label may be of any of them
			latest = max(latest, last.Add(timeout+200*ms))
		}
		if s.waits { // the postmaster stood still once more
			latest = max(latest, d.still.Add(200*ms))
		}
		if d.away != 0 {
			latest = w.now.Add(timeout + time.Second)
		}
		if latest > w.now {
			w.mustEnd(s, death, latest, timeout, interval)
			return
		}
		w.fail("R2", "%s still has a session of %s, which is dead since %.3f", d.h.name, s.addr,
			time.Duration(death).Seconds())
	})
}
