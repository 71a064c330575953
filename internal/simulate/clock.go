package simulate

// The simulated clock: what is to happen, in the order of time. One goroutine.

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

// Mono is a time of the simulated clock.
type Mono = heartbeat.Mono

// happening is something that is to happen.
type happening struct {
	at  Mono
	seq uint64 // of two at one time, the one that was planned first
	do  func()
}

// world is one run.
type world struct {
	now   Mono
	seq   uint64
	heap  []happening
	rng   *rand.Rand
	trace []string // nil unless tracing
	keep  bool

	network
	slots     int // of each server
	twin      twin
	deeds     []deed
	clients   []*client
	databases []*database
	oracle

	attacker *attacker             // nil: nobody
	keys     map[string]*proof.Key // of client hosts; nil: there are none
	required *watchdog.Access      // with keys
	nonces   uint32
}

// in plans something.
func (w *world) in(d time.Duration, do func()) { w.at(w.now.Add(d), do) }

// at plans something for a time. The heap is written out: container/heap takes 1.3 times the
// processor time of a whole run, by calls and allocations.
func (w *world) at(t Mono, do func()) {
	w.seq++
	w.heap = append(w.heap, happening{max(t, w.now), w.seq, do})
	h := w.heap
	i := len(h) - 1
	for i > 0 {
		p := (i - 1) / 2
		if !before(&h[i], &h[p]) {
			break
		}
		h[i], h[p] = h[p], h[i]
		i = p
	}
}

func before(a, b *happening) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

// step lets the next thing happen. ok is false when it would be after the end.
func (w *world) step(end Mono) (ok bool) {
	if len(w.heap) == 0 || w.heap[0].at > end {
		w.now = end
		return false
	}
	h := w.heap
	next := h[0]
	last := len(h) - 1
	h[0], h[last] = h[last], happening{}
	h = h[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && before(&h[c+1], &h[c]) {
			c++
		}
		if !before(&h[c], &h[i]) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	w.heap = h
	w.now = next.at
	next.do()
	return true
}

// note adds a line to the transcript.
func (w *world) note(format string, args ...any) {
	if w.keep {
		w.trace = append(w.trace, fmt.Sprintf("%11.3f  ", time.Duration(w.now).Seconds())+fmt.Sprintf(format, args...))
	}
}

// transcript is the last lines.
func (w *world) transcript() string {
	const most = 400
	lines := w.trace
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	return strings.Join(lines, "\n")
}

// chance is true with a probability.
func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// between is a duration from a to b.
func (w *world) between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + time.Duration(w.rng.Int64N(int64(b-a)))
}

// process is a program of a host: it runs when it is woken, or its time has come; not while it, or
// its host, is held up.
type process struct {
	h       *host
	run     func(late time.Duration, timer bool)
	dead    bool
	stopped Mono // SIGSTOP until then
	planned Mono // when its timer is to fire
	serial  int  // of the timer
	woken   bool // a turn is planned
}

const never = watchdog.Never

// wakeAt sets the process's timer.
func (p *process) wakeAt(t Mono) {
	if t == p.planned {
		return
	}
	p.planned = t
	p.serial++
	if t == never {
		return
	}
	serial := p.serial
	p.h.w.at(t, func() {
		if serial == p.serial {
			p.turn(true)
		}
	})
}

// wake makes the process run soon: something has come in.
func (p *process) wake() {
	if p.woken || p.dead {
		return
	}
	p.woken = true
	p.h.w.in(20*time.Microsecond, func() {
		if p.woken {
			p.turn(false)
		}
	})
}

// turn runs the process, or puts that off while it is held up.
func (p *process) turn(timer bool) {
	w := p.h.w
	if p.dead || !p.h.up {
		return
	}
	if until := max(p.stopped, p.h.frozen); until > w.now {
		w.at(until, func() { p.turn(timer) })
		return
	}
	p.woken = false
	late := time.Duration(0)
	if p.planned != never && p.planned < w.now {
		late, timer = w.now.Sub(p.planned), true
	}
	p.planned = never
	p.serial++
	p.run(late, timer)
}
