package bind

// The line of those who wait for a target: their order, and how many may go at a time. Pure; guarded
// by the registry's lock.

import (
	"container/list"
	"time"
)

// A primary that has just been promoted is not asked for thousands of sessions at once: so many go,
// and then so many a second, a few at a time.
const (
	releaseBurst = 100
	releaseRate  = 1000
	releasePause = 20 * time.Millisecond
)

// Waiter is a connection that waits for a target.
type Waiter struct {
	Member Member
	Target string                 // attribute
	Choose func(*Table, Load) int // as of Bind; or Settled
	Wake   func()                 // there is an answer; never blocks
	Bound  func()                 // it is bound, by an answer that is still to come; under the lock; nil: nothing
	Wait   time.Duration          // how long at most; 0: not at all
	How    Choice                 // is told with the answer; set by Choose
	Notice []byte                 // is sent to it when it is bound, if it has asked for notices; set by Choose

	// Resumes: it is bound already, but for conmgr's knowing of it. It keeps its place among the
	// connections, and is neither counted nor held back with those who wait.
	Resumes bool

	since, until time.Time
	place        *list.Element // in the line; nil: it is not there
	answer       *Answer
}

// Settled is what Choose may return instead of an index: there is nothing to wait for.
const Settled = -2

// Answer is what becomes of a question for a target.
type Answer struct {
	Table    *Table
	Index    int // of the instance, -1: none has it
	How      Choice
	Shutdown bool
	Full     string // there is no place: the reason
}

// line is made by its first use.
type line struct {
	waiters list.List     // of *Waiter, in order
	counted int           // of them, without those that resume
	of      map[Owner]int // whose those are
	room    float64       // how many may go now
	at      time.Time     // as of this time
	behind  bool          // some could go, and there was no room
}

func (l *line) join(w *Waiter) {
	w.place = l.waiters.PushBack(w)
	l.count(w, 1)
}

func (l *line) count(w *Waiter, n int) {
	if w.Resumes {
		return
	}
	if l.of == nil {
		l.of = map[Owner]int{}
	}
	o := w.Member.Place().Owner
	l.counted += n
	if l.of[o] += n; l.of[o] == 0 {
		delete(l.of, o)
	}
}

// isFull tells whether there is no place for one more of an owner: most may wait, and a quarter more of
// those of whom few do. So nobody keeps the others out.
func (l *line) isFull(most int, o Owner) bool {
	return l.counted >= most && (l.counted >= most+most/4 || l.of[o] >= most/16)
}

func (l *line) leave(w *Waiter) {
	if w.place == nil {
		return
	}
	l.waiters.Remove(w.place)
	w.place = nil
	l.count(w, -1)
}

// all are those that are in the line, in order.
func (l *line) all() (list []*Waiter) {
	for e := l.waiters.Front(); e != nil; e = e.Next() {
		list = append(list, e.Value.(*Waiter))
	}
	return list
}

// release asks each, in order, whether it can go. As many as there is room for go, and leave the
// line; next is when there is room again for those who could, zero if there are none.
func (l *line) release(now time.Time, can func(*Waiter) bool, goes func(*Waiter)) (next time.Time) {
	if l.at.IsZero() {
		l.room = releaseBurst
	} else if d := now.Sub(l.at); d > 0 {
		l.room = min(releaseBurst, l.room+d.Seconds()*releaseRate)
	}
	l.at = now
	l.behind = false
	for e := l.waiters.Front(); e != nil; {
		w := e.Value.(*Waiter)
		e = e.Next()
		held := !w.Resumes && l.room < 1
		if held && l.behind || !can(w) {
			continue
		}
		if held {
			l.behind, next = true, now.Add(releasePause)
			continue
		}
		if !w.Resumes {
			l.room--
		}
		l.leave(w)
		goes(w)
	}
	return next
}
