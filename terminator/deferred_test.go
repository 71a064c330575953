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
		{"senior, closed", Other{Senior: true, Left: Finished, Interval: 10 * time.Second}, false},
		{"junior, on its schedule", Other{Silent: timeout, Interval: 10 * time.Second}, false},
		{"closed", Other{Left: Finished, Timeout: timeout}, false},
		{"reset", Other{Left: Reset, Timeout: timeout}, false},
		{"its verdict is put off", Other{Standing: PutOff, Timeout: timeout}, false},
		{"spared", Other{Standing: Remembered, Timeout: timeout}, false},
		{"rebooted", Other{Rebooted: true, Timeout: timeout}, false},
	} {
		if got := c.o.Protects(timeout); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestReview(t *testing.T) {
	const cutOff, timeout = Time(1000), 2 * time.Second
	other := func(silent, timeout time.Duration) Other { return Other{Silent: silent, Timeout: timeout} }
	closed := Other{Left: Finished, Timeout: timeout}
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
	for _, c := range []struct {
		a, b, want Deferred
		second     bool
	}{
		{Deferred{Cause: Goodbye, CutOff: 5, Timeout: 2}, Deferred{Cause: Silence, CutOff: 3, Timeout: 2},
			Deferred{Cause: Silence, CutOff: 5, Timeout: 2}, false},
		{Deferred{Cause: Silence, CutOff: 3, Timeout: 2}, Deferred{Cause: Goodbye, CutOff: 5, Timeout: 1},
			Deferred{Cause: Silence, CutOff: 5, Timeout: 1}, true},
		{Deferred{Cause: Goodbye, CutOff: 3, Timeout: 2}, Deferred{Cause: GivenUp, CutOff: 1, Timeout: 3},
			Deferred{Cause: Goodbye, CutOff: 3, Timeout: 2}, false},
	} {
		m, second := Merge(c.a, c.b)
		if m.Cause != c.want.Cause || m.CutOff != c.want.CutOff || m.Timeout != c.want.Timeout || second != c.second {
			t.Errorf("%+v and %+v: %+v, %v", c.a, c.b, m, second)
		}
	}
}

// TestAfterLastWord: a verdict that was put off has its time from when the other one was heard of
// last.
func TestAfterLastWord(t *testing.T) {
	d := Deferred{Timeout: 3 * time.Second}
	for _, c := range []struct {
		name  string
		o     Other
		falls time.Duration
		later bool
	}{
		{"heard of since", Other{Left: Finished, Silent: time.Second}, 1999 * time.Millisecond, true},
		{"as was counted", Other{Left: Finished, Silent: time.Second}, 2 * time.Second, false},
		{"its time is longer", Other{Left: Ends, Silent: time.Second}, 8 * time.Second, false},
		{"rebooted", Other{Left: Finished, Rebooted: true}, time.Second, false},
		{"not needed", Other{Left: NotNeeded}, time.Second, false},
	} {
		wait, later := d.AfterLastWord(c.o, c.falls)
		if later != c.later || later && wait != d.Timeout-c.o.Silent {
			t.Errorf("%s: %v, %v", c.name, wait, later)
		}
	}
}

// TestWalsenders: only silence is a death of the host.
func TestWalsenders(t *testing.T) {
	f := Facts{Now: 1_000_000_000, LastReceived: 1, Interval: time.Second, Timeout: time.Second, TerminateOnClose: true}
	for _, c := range []Cause{Silence, Goodbye, GivenUp, Closed} {
		v := Decide(c, f)
		if v.Own != End || v.Cause != c || v.Cause.SparesWalsenders() != (c != Silence) {
			t.Errorf("cause %d: %+v", c, v)
		}
	}
}

// TestMerges: the verdict on an earlier boot is not dropped with that on the later one.
func TestMerges(t *testing.T) {
	if !Merges(true, 1) || Merges(false, 1) || !Merges(false, MostPutOff) {
		t.Error("verdicts on two boots become one, or those on one boot do not, or there is no limit")
	}
}
