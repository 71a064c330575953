package cmlog

// Tests of the limiter of log lines, in time of their own.

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// kept is a log in memory.
type kept struct {
	mu   sync.Mutex
	text strings.Builder
}

func (k *kept) Write(m *Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.text.WriteString(strings.Join(m.Lines(), "\n") + "\n")
}

func (k *kept) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String()
}

// limitTimers are the calls that a limiter has asked for.
type limitTimers []func()

func (l *limitTimers) fire() {
	due := *l
	*l = nil
	for _, f := range due {
		f()
	}
}

func TestLogLimit(t *testing.T) {
	sink := &kept{}
	log := newTestLogger(t, WARNING, sink)
	var timers limitTimers
	l := NewLimiter(log)
	l.after = func(d time.Duration, f func()) {
		if d != limitWindow {
			t.Errorf("a window of %v", d)
		}
		timers = append(timers, f)
	}
	text := func() string { log.Flush(10 * time.Second); return sink.String() }

	for i := range LimitBurst + 3 {
		l.Log("a", LOG, "a%d", i)
	}
	l.Log("b", LOG, "b")
	l.Log("a", INFO, "below the level")
	if got, want := text(), "LOG:  a0\nLOG:  a1\nLOG:  a2\nLOG:  a3\nLOG:  a4\nLOG:  b\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// The count comes although nothing else does.
	timers.fire()
	if got := text(); !strings.HasSuffix(got, "LOG:  b\nLOG:  3 messages like this one were left out: a7\n") {
		t.Errorf("got\n%s", got)
	}
	// A flood that goes on is one line a window.
	for range 1000 {
		l.Log("a", LOG, "again")
	}
	timers.fire()
	if got := text(); strings.Count(got, "again") != 1 ||
		!strings.HasSuffix(got, "LOG:  1000 messages like this one were left out: again\n") {
		t.Errorf("got\n%s", got)
	}
	// After a window of silence the kind is as new.
	timers.fire()
	if len(timers) != 0 || len(l.kinds) != 0 {
		t.Errorf("%d timers, %d kinds", len(timers), len(l.kinds))
	}
	l.Log("a", LOG, "new")
	if got := text(); !strings.HasSuffix(got, "LOG:  new\n") {
		t.Errorf("got\n%s", got)
	}
	// The end tells what is open; old timers do no harm.
	for range LimitBurst {
		l.Log("a", ERROR, "last")
	}
	l.End()
	timers.fire()
	if got := text(); !strings.HasSuffix(got, "ERROR:  last\nERROR:  1 messages like this one were left out: last\n") {
		t.Errorf("got\n%s", got)
	}
}
