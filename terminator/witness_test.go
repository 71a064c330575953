package terminator

import (
	"testing"
	"time"
)

// TestAsks: the kernel is asked at a silence only, and of what has no label only where that tells
// of one host.
func TestAsks(t *testing.T) {
	f := Facts{Now: 10_000_000_000, LastReceived: 5_000_000_000, Interval: time.Second, Timeout: 5 * time.Second}
	for _, c := range []Cause{None, Goodbye, GivenUp, Closed} {
		if _, ok := Asks(c, f); ok {
			t.Errorf("asked by cause %d", c)
		}
	}
	for _, c := range []struct {
		others []Other
		want   bool
	}{
		{nil, true},
		{[]Other{{Standing: Remembered, SameBoot: true}, {Standing: PutOff, SameBoot: true}}, true},
		{[]Other{{Standing: Remembered, SameBoot: true}, {Standing: Awaited, Left: Finished, SameBoot: true}}, false},
		{[]Other{{Standing: PutOff}}, false},
	} {
		q, ok := Asks(Silence, f, Address{Others: c.others}, Address{Covered: true})
		if !ok || q.Addresses[0] != map[bool]Time{true: 6_500_000_000}[c.want] || q.Addresses[1] != 0 || q.CutOff != 6_500_000_000 {
			t.Errorf("%+v: %v, %+v", c.others, ok, q)
		}
	}
}

// TestSuspends: for its timeout from when it was heard of, and no longer.
func TestSuspends(t *testing.T) {
	const now, timeout = Time(10_000_000_000), 2 * time.Second
	for heard, want := range map[Time]bool{0: false, now: true, now.Add(-timeout) + 1: true, now.Add(-timeout): false} {
		if Suspends(heard, now, timeout) != want {
			t.Errorf("heard at %d: %v", heard, !want)
		}
	}
}
