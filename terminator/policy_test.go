package terminator

import (
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	const now = Time(1_000_000_000_000)
	ago := func(d time.Duration) Time { return now.Add(-d) }
	alive := []Other{{Silent: time.Second, Timeout: time.Hour}}
	base := Facts{Now: now, LastReceived: ago(2 * time.Second), ClosedAt: ago(700 * time.Millisecond),
		Interval: time.Second, Timeout: 2 * time.Second, TerminateOnClose: true}
	with := func(change func(*Facts)) Facts { f := base; change(&f); return f }
	for _, c := range []struct {
		name   string
		cause  Cause
		facts  Facts
		action Action
		cutOff Time
	}{
		{"silence: half an interval after the missing beat", Silence, base, End, ago(500 * time.Millisecond)},
		{"silence: never later than the verdict", Silence,
			with(func(f *Facts) { f.LastReceived = ago(300 * time.Millisecond); f.Interval = 100 * time.Millisecond }),
			End, now},
		{"silence: short intervals still leave time to fork", Silence,
			with(func(f *Facts) { f.LastReceived = ago(time.Second); f.Interval = 100 * time.Millisecond }), End,
			ago(400 * time.Millisecond)},
		{"silence ends whatever terminate_on_close says", Silence, with(func(f *Facts) { f.TerminateOnClose = false }),
			End, ago(500 * time.Millisecond)},
		{"silence of one of two conmgrs", Silence, with(func(f *Facts) { f.Others = alive }), Defer,
			ago(500 * time.Millisecond)},
		{"goodbye", Goodbye, base, End, now},
		{"goodbye, terminate_on_close off", Goodbye, with(func(f *Facts) { f.TerminateOnClose = false }), Spare, 0},
		{"goodbye of one of two conmgrs", Goodbye, with(func(f *Facts) { f.Others = alive }), Defer, now},
		{"given up", GivenUp, base, End, now},
		{"given up, whatever terminate_on_close says", GivenUp, with(func(f *Facts) { f.TerminateOnClose = false }),
			End, now},
		{"given up by one of two conmgrs", GivenUp, with(func(f *Facts) { f.Others = alive }), Defer, now},
		{"closed: as of the close", Closed, base, End, ago(700 * time.Millisecond)},
		{"closed: never later than the verdict, whatever is told", Closed,
			with(func(f *Facts) { f.ClosedAt = now + 1 }), End, now},
		{"closed, terminate_on_close off", Closed, with(func(f *Facts) { f.TerminateOnClose = false }), Remember, 0},
		{"no cause", None, base, Spare, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := Decide(c.cause, c.facts)
			if d.Action != c.action || d.CutOff != c.cutOff {
				t.Errorf("got action %d, cut-off %d before now, want %d, %d", d.Action, now-d.CutOff, c.action,
					now-c.cutOff)
			}
			if (d.Action == End || c.cause == None) == (d.Why != "") {
				t.Errorf("reason %q with action %d", d.Why, d.Action)
			}
		})
	}
}
