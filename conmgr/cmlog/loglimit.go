package cmlog

// The limiter of every line that a peer can cause: of one kind, a few lines come as they are; what
// follows within the window is counted, and told at its end, whether or not another line comes. Log
// may be called by any goroutine, and never blocks.

import (
	"fmt"
	"sync"
	"time"
)

const (
	limitWindow = 10 * time.Second
	// LimitBurst is how many lines of a kind come out in a window.
	LimitBurst = 5
)

// Limiter is made by NewLimiter. A nil one lets nothing out, as a nil Logger does.
type Limiter struct {
	log   *Logger
	after func(time.Duration, func()) // calls f later, in a goroutine of its own; tests have their own

	mu    sync.Mutex
	kinds map[string]*limitedKind // with a window that is open
	ended bool
}

// limitedKind is what one window has seen.
type limitedKind struct {
	lines   int
	leftOut int
	level   Level
	last    string // text of the last line that was left out
}

// NewLimiter makes one for a log.
func NewLimiter(log *Logger) *Limiter {
	return &Limiter{log: log, kinds: map[string]*limitedKind{},
		after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
}

// Log outputs a line of a kind, or counts it. Kinds are few: names in the source, with an
// instance's number at most.
func (l *Limiter) Log(kind string, level Level, format string, args ...any) {
	if l == nil || l.log == nil || level < Level(l.log.min.Load()) {
		return
	}
	text := fmt.Sprintf(format, args...)
	if l.admit(kind, level, text) {
		l.log.Message(Message{Level: level, Text: text})
	}
}

// admit tells whether a line may come out.
func (l *Limiter) admit(kind string, level Level, text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return true
	}
	k := l.kinds[kind]
	if k == nil {
		k = &limitedKind{}
		l.kinds[kind] = k
		l.after(limitWindow, func() { l.close(kind, k) })
	}
	if k.lines < LimitBurst {
		k.lines++
		return true
	}
	k.leftOut++
	k.level, k.last = level, text
	return false
}

// close ends a window. If lines were left out, the next one follows at once, and begins with none
// to spare: a flood is a line a window.
func (l *Limiter) close(kind string, k *limitedKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds[kind] != k {
		return
	}
	if k.leftOut == 0 {
		delete(l.kinds, kind)
		return
	}
	l.tell(k)
	next := &limitedKind{lines: LimitBurst}
	l.kinds[kind] = next
	l.after(limitWindow, func() { l.close(kind, next) })
}

// End tells what was left out so far; what comes afterwards is not limited. Called once, at
// shutdown, when no peer can cause lines any more.
func (l *Limiter) End() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, k := range l.kinds {
		if k.leftOut > 0 {
			l.tell(k)
		}
	}
	clear(l.kinds)
}

// tell is called with the lock held; the logger never blocks.
func (l *Limiter) tell(k *limitedKind) {
	l.log.Message(Message{Level: k.level, Text: fmt.Sprintf("%d messages like this one were left out: %s", k.leftOut,
		k.last)})
}
