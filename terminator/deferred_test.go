package terminator

import (
	"testing"
	"time"
)

// TestProtects: only who is heard of within the victim's timeout does, whatever his own is; who was
// there before need not be heard of more often than by his own interval.
func TestProtects(t *testing.T) {
	const timeout = 2 * time.Second
	for _, c := range []struct {
		name string
		o    Other
		want bool
	}{
		{"just heard", Other{Timeout: timeout}, true},
		{"heard within the timeout", Other{Silent: timeout - 1, Timeout: timeout}, true},
		{"silent for the timeout", Other{Silent: timeout, Timeout: timeout}, false},
		{"silent, with a timeout of an hour", Other{Silent: timeout, Timeout: time.Hour}, false},
		{"heard, with a timeout of a millisecond", Other{Silent: time.Second, Timeout: time.Millisecond}, true},
		{"senior, on its schedule", Other{Senior: true, Silent: 15*time.Second - 1, Interval: 10 * time.Second}, true},
		{"senior, late", Other{Senior: true, Silent: 15 * time.Second, Interval: 10 * time.Second}, false},
		{"senior, quick", Other{Senior: true, Silent: timeout - 1, Interval: time.Millisecond}, true},
		{"senior, with a schedule of hours", Other{Senior: true, Silent: timeout, Interval: time.Hour}, false},
		{"senior, closed", Other{Senior: true, Closed: true, Interval: 10 * time.Second}, false},
		{"junior, on its schedule", Other{Silent: timeout, Interval: 10 * time.Second}, false},
		{"closed", Other{Closed: true, Timeout: timeout}, false},
		{"rebooted", Other{Rebooted: true, Timeout: timeout}, false},
	} {
		if got := c.o.Protects(timeout); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestReview(t *testing.T) {
	const cutOff, timeout = Wall(1000), 2 * time.Second
	other := func(silent, timeout time.Duration) Other { return Other{Silent: silent, Timeout: timeout} }
	closed := Other{Closed: true, Timeout: timeout}
	for _, c := range []struct {
		name   string
		cause  Cause
		age    time.Duration
		onoff  bool
		others []Other
		action Action
		wait   time.Duration
	}{
		{"nobody", Silence, time.Second, true, nil, End, 0},
		{"closed", GivenUp, time.Second, true, []Other{closed}, End, 0},
		{"silent", Silence, 2 * time.Second, true, []Other{other(2*time.Second, time.Hour)}, End, 0},
		{"not heard since", Silence, time.Second, true, []Other{other(1500*time.Millisecond, timeout)}, Defer,
			500 * time.Millisecond},
		{"heard since", Silence, time.Second, true, []Other{other(500*time.Millisecond, timeout)}, Spare, 0},
		{"heard since, with a longer timeout", Silence, time.Second, true,
			[]Other{other(500*time.Millisecond, timeout+1)}, Defer, 1500 * time.Millisecond},
		{"heard since, with a longer timeout, senior", Silence, time.Second, true,
			[]Other{{Senior: true, Silent: 500 * time.Millisecond, Interval: time.Second, Timeout: time.Minute}}, Spare, 0},
		{"heard since, senior, with a timeout of hours", Silence, time.Second, true,
			[]Other{{Senior: true, Silent: 500 * time.Millisecond, Interval: time.Second, Timeout: time.Hour}}, Defer,
			1500 * time.Millisecond},
		{"senior, not heard since", Silence, time.Second, true,
			[]Other{{Senior: true, Silent: 5 * time.Second, Interval: 10 * time.Second, Timeout: time.Minute}}, Defer,
			10 * time.Second},
		{"heard since, senior, with a schedule of hours", Silence, time.Second, true,
			[]Other{{Senior: true, Silent: 500 * time.Millisecond, Interval: time.Hour, Timeout: 2 * time.Hour}}, Defer,
			1500 * time.Millisecond},
		{"one of each", Silence, time.Second, true, []Other{closed, other(1900*time.Millisecond, time.Hour),
			other(time.Millisecond, timeout)}, Spare, 0},
		{"the latest of several counts", Silence, time.Second, true,
			[]Other{other(1900*time.Millisecond, time.Hour), other(time.Second, time.Hour)}, Defer, time.Second},
		{"the latest of several counts, in any order", Silence, time.Second, true,
			[]Other{other(time.Second, time.Hour), other(1900*time.Millisecond, time.Hour)}, Defer, time.Second},
		{"close, and the setting was switched off", Closed, time.Second, false, nil, Spare, 0},
		{"goodbye, and the setting was switched off", Goodbye, time.Second, false, nil, Spare, 0},
		{"silence, and the setting was switched off", Silence, time.Second, false, nil, End, 0},
	} {
		d := Review(Deferred{Cause: c.cause, CutOff: cutOff, Timeout: timeout, Age: c.age, Others: c.others,
			TerminateOnClose: c.onoff})
		if d.Action != c.action || d.Wait != c.wait {
			t.Errorf("%s: action %d, wait %v; want %d, %v", c.name, d.Action, d.Wait, c.action, c.wait)
		}
		if d.Action != Spare && (d.Cause != c.cause || d.CutOff != cutOff) {
			t.Errorf("%s: cause %d, cut-off %d", c.name, d.Cause, d.CutOff)
		}
	}
}

func TestMerge(t *testing.T) {
	m := Merge(Deferred{Cause: Goodbye, CutOff: 5}, Deferred{Cause: Silence, CutOff: 3})
	if m.Cause != Silence || m.CutOff != 5 {
		t.Errorf("%+v", m)
	}
	if m = Merge(Deferred{Cause: Silence, CutOff: 3}, Deferred{Cause: Goodbye, CutOff: 5}); m.Cause != Silence ||
		m.CutOff != 5 {
		t.Errorf("%+v", m)
	}
}

// TestWalsenders: only silence is a death of the host.
func TestWalsenders(t *testing.T) {
	f := Facts{Now: 1_000_000_000, LastReceived: 1, Interval: time.Second, Timeout: time.Second, TerminateOnClose: true}
	for _, c := range []Cause{Silence, Goodbye, GivenUp, Closed} {
		d := Decide(c, f)
		if d.Action != End || d.Cause != c || d.Cause.SparesWalsenders() != (c != Silence) {
			t.Errorf("cause %d: %+v", c, d)
		}
	}
	if AtDeadline(true) != Closed || AtDeadline(false) != Silence {
		t.Error("AtDeadline")
	}
	f.Back, f.Others = true, []Other{{}}
	if d := Decide(GivenUp, f); d.Action != Spare {
		t.Errorf("back, and another one is alive: %+v", d)
	}
	if f.Others = nil; Decide(GivenUp, f).Action != End {
		t.Error("back, and nobody else is alive: nothing is ended")
	}
}
