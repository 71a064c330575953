package simulate

// Report-only: watchdog.terminate = off at a server, as extension/report.c has it, and notify_loss =
// off at a conmgr. All is decided, and nobody ends or is told. The rules hold for what would be done
// as for what is; and a schedule in which it is done, and the same in which it would be, are compared.

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/terminator"
)

// reporting is what a server has of it.
type reporting struct {
	off         bool           // watchdog.terminate, as it is set
	only        bool           // as the terminator has carried it over
	from, until Mono           // when it last was so; until then that goes on while only
	verdicts    map[int]uint32 // of each slot, the last one that was only reported
	fell        map[int]Mono   // when the terminator was last asked for it
	falls       Mono           // when the verdict fell that is carried out
}

// deed is something that was done, or would have been.
type deed struct {
	at          Mono
	what        deedKind
	database, n int // of the server, and which of its sessions; or client, and which conmgr and entry
}

type deedKind uint8

const (
	endedSession deedKind = iota
	toldOther             // of a loss that is not by silence
	toldSilence
)

// twin is one of two runs of a seed that are compared.
type twin uint8

const (
	alone twin = iota
	acts
	reportsServer // watchdog.terminate is off
	actsBoth
	reportsBoth // and notify_loss
)

// quietly tells whether a process of m only reports.
func (m *conmgr) quietly() bool {
	switch m.c.w.twin {
	case actsBoth:
		return false
	case reportsBoth:
		return true
	}
	return m.quiet
}

// newReporting is that of new shared memory.
func (d *database) newReporting() {
	r := &d.reporting
	r.off = r.off || d.w.twin == reportsServer || d.w.twin == reportsBoth
	r.verdicts, r.fell = map[int]uint32{}, map[int]Mono{}
	r.only, r.from, r.until = r.off, d.w.now, 0
	d.mem.Asked = func(i int) { r.fell[i] = d.w.now }
}

// setTerminate is a reload: the terminator serves what has fallen before by what held then.
func (d *database) setTerminate(on bool) {
	d.reporting.off = !on
	d.w.note("-- watchdog.terminate of %s is %v", d.h.name, on)
	d.h.later(time.Millisecond, func() {
		if !d.running {
			return
		}
		d.terminate()
		if r := &d.reporting; r.only != r.off {
			if r.only = r.off; r.only {
				r.from = d.w.now
			} else {
				r.until = d.w.now
			}
		}
	})
}

// carryOut is what a verdict that means a session does. only: it is reported. starts: the session has
// looked it up.
func (d *database) carryOut(s *session, i int, r *watchdog.MemorySlot, cutOff terminator.Time, only, starts bool) {
	d.falls = d.fell[i]
	if !only {
		if cutOff > s.reported || starts {
			d.rightToEnd(s, i)
			d.end(s, r)
		}
		return
	}
	first := s.reported == 0
	s.reported, s.reportedAt = max(s.reported, cutOff), d.w.now
	if !first {
		return
	}
	d.w.note("%s: would have ended a session of %s", d.h.name, s.seen)
	if d.w.twin == alone {
		d.w.ended(s, r)
		return
	}
	d.end(s, r) // to all that is planned it is gone
}

// witness tells whether what is heard of a session counts: while it is only reported, it would be gone.
func (s *session) witness() bool { return !s.over && !(s.d.only && s.reported != 0) }

// rightToEnd: nobody ends while it is off, nor by what has fallen then.
func (d *database) rightToEnd(s *session, i int) {
	r := &d.reporting
	if fell := r.fell[i]; r.only || r.until != 0 && fell >= r.from && fell < r.until {
		d.w.fail("R6", "%s ends a session of %s by a verdict of %.3f, when watchdog.terminate was off", d.h.name, s.c.h.name,
			time.Duration(fell).Seconds())
	}
}

// declared: sessions end by what conmgr has declared only where it has told applications so.
func (w *world) declared(s *session, v *watchdog.MemorySlot) {
	if v.Cause != terminator.GivenUp || w.attacker != nil {
		return
	}
	for _, m := range s.c.conmgrs {
		if in := m.entry(v.ID); in != nil && v.Generation > m.declared[in.index] {
			w.fail("R6", "%s ends a session of %s, as conmgr %x has declared it lost %d times, and has told that %d times",
				s.d.h.name, s.c.h.name, m.id[:2], v.Generation, m.declared[in.index])
		}
	}
}

// tell tells the application that its instance is lost, unless that is only reported.
func (s *session) tell(in *instance) {
	if in.quiet && s.d.w.twin == alone {
		s.would = true
		return
	}
	s.left = true
	if !in.quiet {
		s.lost = in
	}
}

// did records a deed of a run that is compared.
func (w *world) did(x deed) {
	if w.twin != alone {
		x.at = w.now
		w.deeds = append(w.deeds, x)
	}
}

// didTell is that of a loss.
func (w *world) didTell(in *instance, loss *heartbeat.Loss) {
	x := deed{what: toldOther}
	if loss.TimedOut() {
		x.what = toldSilence
	}
	for i, c := range w.clients {
		for k, m := range c.conmgrs {
			if m == in.m {
				x.database, x.n = i, 100*k+in.index
			}
		}
	}
	w.did(x)
}

// Compare runs a seed twice: what is done in one run is what would be done in the other. With both
// ends off that can be said until a loss by silence is told: the server, which is not told so,
// awaits that conmgr.
func Compare(seed uint64, length time.Duration, keep bool) Result {
	as, reports := acts, reportsServer
	if seed%2 == 0 {
		as, reports = actsBoth, reportsBoth
	}
	one, r := runAs(seed, length, false, as)
	other, x := runAs(seed, length, keep, reports)
	if r.Rule != "" {
		return r
	}
	if x.Checks = 0; x.Rule != "" {
		return x
	}
	for i := range max(len(one.deeds), len(other.deeds)) {
		var a, b deed
		if i < len(one.deeds) {
			a = one.deeds[i]
		}
		if i < len(other.deeds) {
			b = other.deeds[i]
		}
		if a != b {
			x.Rule, x.Text = "R6", fmt.Sprintf("%+v is done, %+v would be", a, b)
			return x
		}
		if x.Checks++; as == actsBoth && a.what == toldSilence {
			break
		}
	}
	return x
}

func runAs(seed uint64, length time.Duration, keep bool, as twin) (*world, Result) {
	w := newWorld(seed, keep)
	w.twin = as
	w.plan(seed)
	return w, w.run(seed, length)
}

// reportsNow and then: watchdog.terminate is switched in some seeds, by random numbers of its own.
func (w *world) reportsOnly(seed uint64) {
	if !reloading(seed) || w.twin != alone {
		return
	}
	r := rare{rand.New(rand.NewPCG(seed, 82))}
	for _, d := range w.databases {
		if r.chance(0.5) {
			d.setTerminate(false)
		}
		if r.chance(0.7) {
			d.switches(r)
		}
	}
}

func (d *database) switches(r rare) {
	d.w.in(r.between(time.Second, 200*time.Second), func() {
		d.setTerminate(d.reporting.off)
		d.switches(r)
	})
}
