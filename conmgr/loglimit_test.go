package conmgr

// Tests of the limiter of log lines, in time of their own.

import (
	"strings"
	"testing"
	"time"
)

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
	sink := &memorySink{}
	log := newTestLogger(t, WARNING, sink)
	var timers limitTimers
	l := newLogLimiter(log)
	l.after = func(d time.Duration, f func()) {
		if d != limitWindow {
			t.Errorf("a window of %v", d)
		}
		timers = append(timers, f)
	}
	text := func() string { log.Flush(patience); return sink.String() }

	for i := range limitBurst + 3 {
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
	for range limitBurst {
		l.Log("a", ERROR, "last")
	}
	l.end()
	timers.fire()
	if got := text(); !strings.HasSuffix(got, "ERROR:  last\nERROR:  1 messages like this one were left out: last\n") {
		t.Errorf("got\n%s", got)
	}
}

// Whatever peers do that is logged, it is a few lines.
func TestFloodOfConnectionsIsAFewLines(t *testing.T) {
	r := static(t, "max_connections = 1\n", primary)
	r.connect()
	const n = 50
	for range n {
		if got := r.dial().until(""); got != "EOF" {
			t.Fatalf("got %s", got)
		}
	}
	r.stop()
	r.d.log.Flush(patience)
	if got := r.logged("closed a connection from application"); got != limitBurst+1 {
		t.Errorf("%d lines", got)
	}
	if r.logged("45 messages like this one were left out: closed a connection from application: 127.0.0.1:") != 1 {
		t.Errorf("the count is not told:\n%s", r.log)
	}
}
