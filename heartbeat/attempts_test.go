package heartbeat

import (
	"testing"
	"time"
)

const second = Mono(time.Second)

// rhythm is an instance at second 100; heartbeat_interval is 1 s, heartbeat_timeout 3 s.
type rhythm struct {
	*Monitor
	Attempts
	t   *testing.T
	now Mono
}

func newRhythm(t *testing.T, interval time.Duration) *rhythm {
	return &rhythm{NewMonitor(ID{1}, time.Second, 3*time.Second),
		Attempts{Interval: interval, Timeout: 10 * time.Second, DuplicateCheck: 10 * time.Second}, t, 100 * second}
}

// welcome establishes the instance now.
func (r *rhythm) welcome() {
	r.t.Helper()
	w := Welcome{Version: 1, Flags: Resumed, SystemIdentifier: 7, PostmasterStart: 1}
	if loss, err := r.Monitor.Welcome(r.now, w, r.Generation()); err != nil || loss != nil {
		r.t.Fatal(err, loss)
	}
	r.Attempts.Established(r.now)
}

// pauses makes n attempts that come to nothing, each of no length, and returns when.
func (r *rhythm) pauses(o Outcome, n int) (at []time.Duration) {
	for range n {
		r.now = r.now.Add(r.Pause(r.now, r.Monitor, o))
		r.Judge(r.now)
		at = append(at, r.now.Sub(100*second).Round(time.Millisecond))
		o = Unreached
	}
	return at
}

func checkTimes(t *testing.T, what string, got []time.Duration, want ...int) {
	t.Helper()
	for i, w := range want {
		if i >= len(got) || got[i] != time.Duration(w)*time.Millisecond {
			t.Errorf("%s: attempts at %v, want %v ms", what, got, want)
			return
		}
	}
}

// A connection that has broken is wanted back soon; near the deadline no pause takes what is left;
// after a loss heartbeat_connect_interval holds, whatever it is.
func TestPauses(t *testing.T) {
	r := newRhythm(t, 5*time.Second)
	checkTimes(t, "never reached", r.pauses(Unreached, 3), 5000, 10000, 15000)

	r = newRhythm(t, 5*time.Second)
	r.welcome()
	r.Attempts.Established(90 * second)
	r.Closed()
	at := r.pauses(Severed, 12)
	checkTimes(t, "broken", at, 0, 50, 150, 350, 750, 1313, 1734)
	if last := at[len(at)-1]; last > 3*time.Second {
		t.Errorf("the twelfth attempt is made after %v: %v", last, at)
	}
	for i := 1; i < len(at); i++ {
		if left := 3*time.Second - at[i-1]; left > 0 && at[i]-at[i-1] > max(left/4+time.Millisecond, FirstPause) {
			t.Errorf("a pause of %v when %v are left", at[i]-at[i-1], left)
		}
	}
	for r.State() != Lost {
		r.pauses(Unreached, 1)
	}
	r.now = 110 * second
	checkTimes(t, "lost", r.pauses(Unreached, 3), 15000, 20000, 25000)

	r = newRhythm(t, 5*time.Second)
	r.welcome()
	r.now = 103 * second
	r.Judge(r.now)
	checkTimes(t, "lost while connected", r.pauses(AtOnce, 3), 3000, 8000, 13000)

	r = newRhythm(t, 20*time.Millisecond) // shorter than what it begins with
	r.welcome()
	r.Attempts.Established(90 * second)
	checkTimes(t, "short interval", r.pauses(Severed, 4), 0, 20, 40, 60)

	r = newRhythm(t, 200*time.Millisecond)
	r.welcome()
	at = nil
	for range 5 { // a watchdog that welcomes and closes again and again is not flooded
		at = append(at, r.Pause(r.now, r.Monitor, Severed))
	}
	checkTimes(t, "welcomed and closed", at, 50, 100, 200, 200, 200)
}

// An attempt ends in time for another one before the deadline.
func TestAttemptLimit(t *testing.T) {
	r := newRhythm(t, time.Second)
	limit := func(now Mono) Mono { return r.Limit(now, r.Monitor) }
	if d := limit(100 * second); d != 110*second {
		t.Errorf("never reached: %v", d)
	}
	r.welcome()
	r.Closed()
	for now, want := range map[Mono]time.Duration{100 * second: 1500 * time.Millisecond, 102 * second: 500 * time.Millisecond,
		103*second - 1: LeastAttempt} {
		if d := limit(now).Sub(now); d != want {
			t.Errorf("%v before the deadline: %v, want %v", (103 * second).Sub(now), d, want)
		}
	}
	r.Judge(103 * second)
	if d := limit(103 * second); d != 113*second {
		t.Errorf("lost: %v", d)
	}
}
