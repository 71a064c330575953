package worker

// What the server says of its port and of its predecessor. The reactor on real sockets; time is the
// test's.

import (
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

func TestWelcomeTellsThePort(t *testing.T) {
	l := start(t, 4).listening()
	if w := l.dial().greet(helloOf(1, 0, time.Hour, time.Hour)); w.PostmasterPort != 5433 ||
		w.Succeeds != (heartbeat.Succession{}) {
		t.Errorf("WELCOME %+v", w)
	}
}

// TestSuccessionIsPushed: a declaration reaches the conmgrs that are connected at once, those that
// come later with their WELCOME, and its withdrawal is a BEAT without it.
func TestSuccessionIsPushed(t *testing.T) {
	l := start(t, 8).listening()
	a, b := l.conmgr(1), l.conmgr(2)
	for i, s := range []heartbeat.Succession{{SystemIdentifier: 7, Timeline: 3}, {SystemIdentifier: 7, Timeline: 4},
		{}} {
		l.host.succession.Store(&s)
		l.host.wake()
		for _, c := range []*remote{a, b} {
			got, err := heartbeat.ParseWatchdogBeat(c.expect(heartbeat.TypeBeat).Payload, 1)
			want := heartbeat.WatchdogBeat{Sequence: uint32(i + 1), Attributes: heartbeat.Attributes{Timeline: 1},
				Succeeds: s}
			if err != nil || got != want {
				t.Fatalf("BEAT %+v, %v; want %+v", got, err, want)
			}
		}
		if w := l.dial().greet(helloOf(byte(10+i), 0, time.Hour, time.Hour)); w.Succeeds != s {
			t.Errorf("WELCOME %+v, want succession %+v", w, s)
		}
	}
}
