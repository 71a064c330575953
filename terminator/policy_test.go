package terminator

import (
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	const now = Time(1_000_000_000_000)
	ago := func(d time.Duration) Time { return now.Add(-d) }
	alive := []Other{{Silent: time.Second, Timeout: time.Hour}}
	rebooted := []Other{{Rebooted: true, Since: ago(900 * time.Millisecond)}, {Rebooted: true, Since: ago(time.Second)}}
	late := []Other{{Rebooted: true, Since: ago(100 * time.Millisecond)}}
	base := Facts{Now: now, LastReceived: ago(2 * time.Second), ClosedAt: ago(700 * time.Millisecond),
		Interval: time.Second, Timeout: 2 * time.Second, TerminateOnClose: true}
	with := func(change func(*Facts)) Facts { f := base; change(&f); return f }
	back := with(func(f *Facts) { f.Back = true })
	for _, c := range []struct {
		name    string
		cause   Cause
		facts   Facts
		others  []Other
		own     Action
		cutOff  Time
		address Action
		falls   Time
	}{
		{"silence: half an interval after the missing beat", Silence, base, nil, End, ago(500 * time.Millisecond), End,
			ago(500 * time.Millisecond)},
		{"silence: never later than the verdict", Silence,
			with(func(f *Facts) { f.LastReceived = ago(300 * time.Millisecond); f.Interval = 100 * time.Millisecond }), nil,
			End, now, End, now},
		{"silence: short intervals still leave time to fork", Silence,
			with(func(f *Facts) { f.LastReceived = ago(time.Second); f.Interval = 100 * time.Millisecond }), nil, End,
			ago(400 * time.Millisecond), End, ago(400 * time.Millisecond)},
		{"silence ends whatever terminate_on_close says", Silence, with(func(f *Facts) { f.TerminateOnClose = false }), nil,
			End, ago(500 * time.Millisecond), End, ago(500 * time.Millisecond)},
		{"silence of one of two conmgrs: what carries its label ends, nothing else", Silence, base, alive, End,
			ago(500 * time.Millisecond), Defer, ago(500 * time.Millisecond)},
		{"silence, and another boot has come: what began since is that one's", Silence, base, rebooted, End,
			ago(500 * time.Millisecond), End, ago(time.Second)},
		{"silence, and another boot has come after the cut-off", Silence, base, late, End, ago(500 * time.Millisecond), End,
			ago(500 * time.Millisecond)},
		{"goodbye", Goodbye, base, nil, End, now, End, now},
		{"goodbye, terminate_on_close off", Goodbye, with(func(f *Facts) { f.TerminateOnClose = false }), nil, Spare, 0,
			Spare, 0},
		{"goodbye of one of two conmgrs", Goodbye, base, alive, End, now, Defer, now},
		{"given up", GivenUp, base, nil, End, now, End, now},
		{"given up, whatever terminate_on_close says", GivenUp, with(func(f *Facts) { f.TerminateOnClose = false }), nil,
			End, now, End, now},
		{"given up by one of two conmgrs", GivenUp, base, alive, End, now, Defer, now},
		{"given up by one of two conmgrs, and back", GivenUp, back, alive, End, now, Spare, 0},
		{"given up, and back", GivenUp, back, nil, End, now, End, now},
		{"closed: as of the close", Closed, base, nil, End, ago(700 * time.Millisecond), End, ago(700 * time.Millisecond)},
		{"closed: never later than the verdict, whatever is told", Closed, with(func(f *Facts) { f.ClosedAt = now + 1 }),
			nil, End, now, End, now},
		{"closed, terminate_on_close off", Closed, with(func(f *Facts) { f.TerminateOnClose = false }), nil, Remember, 0,
			Spare, 0},
		{"no cause", None, base, nil, Spare, 0, Spare, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := Decide(c.cause, c.facts, Address{Others: c.others})
			if v.Own != c.own || v.CutOff != c.cutOff {
				t.Errorf("got action %d, cut-off %d before now, want %d, %d", v.Own, now-v.CutOff, c.own, now-c.cutOff)
			}
			if (v.Own == End || c.cause == None) == (v.Why != NoReason) {
				t.Errorf("reason %q with action %d", v.Why, v.Own)
			}
			if v.Own != End {
				if v.Addresses != nil {
					t.Errorf("addresses: %+v", v.Addresses)
				}
				return
			}
			d := v.Addresses[0]
			if d.Action != c.address || d.CutOff != c.falls || len(v.Addresses) != 1 {
				t.Errorf("the address: action %d, cut-off %d before now, want %d, %d", d.Action, now-d.CutOff, c.address,
					now-c.falls)
			}
			if (d.Action == End) == (d.Why != NoReason) {
				t.Errorf("the address: reason %q with action %d", d.Why, d.Action)
			}
		})
	}
}

// TestEachAddress: what protects one address protects no other one.
func TestEachAddress(t *testing.T) {
	f := Facts{Now: 1e12, LastReceived: 9e11, Interval: time.Second, Timeout: 2 * time.Second}
	v := Decide(Silence, f, Address{}, Address{Others: []Other{{Silent: time.Second}}}, Address{})
	if len(v.Addresses) != 3 || v.Addresses[0].Action != End || v.Addresses[1].Action != Defer ||
		v.Addresses[2].Action != End {
		t.Errorf("%+v", v)
	}
}

func TestMeans(t *testing.T) {
	const cutOff = Time(1000)
	for _, c := range []struct {
		name string
		b    Bond
		want bool
	}{
		{"its label", Bond{Heard: 1000, Own: true}, true},
		{"its label, later", Bond{Heard: 1001, Own: true}, false},
		{"its label, whoever else is kept", Bond{Heard: 1000, Own: true, Address: true, Kept: true}, true},
		{"its address", Bond{Heard: 900, Address: true, Falls: 900}, true},
		{"its address, later", Bond{Heard: 901, Address: true, Falls: 900}, false},
		{"its address, with the label of one that lives there", Bond{Heard: 900, Address: true, Falls: 900, Kept: true},
			false},
		{"neither", Bond{Heard: 1}, false},
	} {
		if got := Means(cutOff, c.b); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestKeeps: a conmgr that has closed its connection may be back in a moment, but not if its host
// has died, as another conmgr of the machine tells. If that one has only ended, a grace counts.
func TestKeeps(t *testing.T) {
	for _, cause := range []Cause{Silence, Goodbye} {
		if !Keeps(Broken, true, 0, cause) || !Keeps(Broken, false, 0, cause) || !Keeps(Finished, false, 0, cause) ||
			Keeps(Finished, true, 0, cause) || Keeps(Reset, true, time.Second, cause) {
			t.Error("a closed one keeps sessions of its own machine, or a connected one does not")
		}
		for _, left := range []Parting{Finished, Returns} {
			if got := Keeps(left, true, time.Second, cause); got != (cause == Goodbye) {
				t.Errorf("one that was granted a grace, parting %d, keeps its sessions from a verdict of cause %d: %v", left, cause, got)
			}
		}
	}
}
