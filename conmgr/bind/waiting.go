package bind

// Waiting for a target. Who asks is bound at once, or stands in the line until a new table has an
// instance for him (the board's goroutine goes through the line then), he has waited long enough, or
// his client leaves. Nothing here blocks.

import (
	"fmt"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// Seek binds a connection, or has it wait: w.Wake is called then when there is an answer, and the
// caller takes it by Leave or gives up by Abandon. The table is read under the lock: a loss publishes
// its table first and takes the lock afterwards, so that none is missed.
func (r *Registry) Seek(w *Waiter, load func() *Table) (a Answer, waits bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := load()
	now := time.Now()
	w.since, w.until = now, now.Add(w.Wait)
	if w.Wait <= 0 || w.Resumes || !r.line.behind { // else others who can go come first
		a, waits = r.attempt(w, t)
		if !waits || w.Wait <= 0 {
			return a, false
		}
	} else if r.refusing.Load() {
		return Answer{Table: t, Index: -1, Shutdown: true}, false
	}
	if !w.Resumes && r.line.isFull(r.MaxWaiting, w.Member.Place().Owner) {
		return Answer{Table: t, Index: -1, Full: fmt.Sprintf("too many connections wait for a target: at most %d",
			r.MaxWaiting)}, false
	}
	r.unbind(w.Member)
	if !w.Resumes {
		r.rest(w.Member.Place())
	}
	w.Member.Place().asking = true
	r.line.join(w)
	if r.joined != nil {
		r.joined()
	}
	return Answer{}, true
}

// attempt binds a connection to what it chooses of a table, if it can. The lock is held.
func (r *Registry) attempt(w *Waiter, t *Table) (a Answer, waits bool) {
	a = Answer{Table: t, Index: -1}
	if r.refusing.Load() {
		a.Shutdown = true
		return a, false
	}
	switch i := w.Choose(t, r.load(w.Member)); {
	case i == Settled:
		return a, false
	case i < 0:
		r.unbind(w.Member)
		return a, true
	default:
		if a.Full = r.unrest(w.Member.Place()); a.Full == "" {
			a.Index, a.How = i, w.How
			r.bindTo(w.Member, w.Target, t, i)
			if w.Bound != nil {
				w.Bound()
			}
			if w.Notice != nil && t.Draining(i) == "" {
				w.Member.Note(w.Notice)
			}
		}
		return a, false
	}
}

// serve goes through the line with a table, of which the caller knows that it is the last one. next
// is when to do that again without a new one; n have an instance now, the first of which has waited
// for the longest time.
func (r *Registry) serve(t *Table, now time.Time) (next time.Time, n int, longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next = r.line.release(now, func(w *Waiter) bool {
		i := w.Choose(t, Load{}) // whichever
		return i >= 0 || i == Settled || r.refusing.Load()
	}, func(w *Waiter) {
		a, _ := r.attempt(w, t)
		if !w.Resumes && a.Index >= 0 {
			n, longest = n+1, max(longest, now.Sub(w.since))
		}
		w.answer = &a
		w.Wake()
	})
	return next, n, longest
}

// Leave ends the waiting: with the answer, or, if there is none yet, a last attempt. The seat has its
// place among the connections again, unless the answer says Full.
func (r *Registry) Leave(w *Waiter, load func() *Table) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.answer == nil {
		r.line.leave(w)
		a, _ := r.attempt(w, load())
		w.answer = &a
	}
	full := r.unrest(w.Member.Place())
	switch {
	case full == "":
	case w.answer.Shutdown:
		r.place(w.Member.Place()) // nobody else comes
	default:
		w.answer.Full = full
	}
	return *w.answer
}

// Abandon ends the waiting of a connection that is gone. Remove follows.
func (r *Registry) Abandon(w *Waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line.leave(w)
}

// Answered tells that a connection that has waited was told what has become of it.
func (r *Registry) Answered(c Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.Place().asking = false
}

// rest takes a connection that waits off the places of connections. The lock is held.
func (r *Registry) rest(s *Seat) {
	s.rests = true
	r.resting++
	r.disown(s)
}

// unrest gives it a place again, or says why it has none. The lock is held.
func (r *Registry) unrest(s *Seat) (full string) {
	if !s.rests {
		return ""
	}
	switch r.room(s) {
	case OverAll:
		return fmt.Sprintf("too many connections: at most %d", r.Max)
	case OverShare:
		return fmt.Sprintf("too many connections of %s: at most %d", s.Owner, r.Share)
	}
	r.place(s)
	return ""
}

func (r *Registry) place(s *Seat) {
	s.rests = false
	r.resting--
	r.owners[s.Owner]++
}

func (r *Registry) disown(s *Seat) {
	if r.owners[s.Owner]--; r.owners[s.Owner] == 0 {
		delete(r.owners, s.Owner)
	}
}

// refuseAll answers all who wait. The lock is held.
func (r *Registry) refuseAll() {
	for _, w := range r.line.all() {
		r.line.leave(w)
		w.answer = &Answer{Index: -1, Shutdown: true}
		w.Wake()
	}
}

// shutdownMessage is the last one of a connection that has asked for a target, and has no answer yet.
func shutdownMessage() []byte { return backend.Fatal(cm.CannotConnectNow, ShutdownText, "", "") }

// Waiting is a row of SHOW WAITING.
type Waiting struct {
	Application
	Until time.Time
}

// Waiting are all who wait, in order.
func (r *Registry) Waiting() (rows []Waiting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.line.all() {
		s := w.Member.Place()
		rows = append(rows, Waiting{Application{Peer: s.Peer, Name: s.Application, Target: w.Target, Via: via(w),
			Since: w.since}, w.until})
	}
	return rows
}

func via(w *Waiter) string {
	switch {
	case w.Resumes:
		return "resume"
	case w.Member.Place().Relay:
		return "relay"
	}
	return "bind"
}
