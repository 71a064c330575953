package heartbeat

// Tests of lags and of limits of it.

import (
	"math"
	"testing"
	"time"
)

func TestLag(t *testing.T) {
	bytes := func(n int64) LagLimit { return LagLimit{By: ByBytes, Max: n} }
	ms := func(n int64) LagLimit { return LagLimit{By: ByTime, Max: n} }
	for _, x := range []struct {
		lag     Lag
		limit   LagLimit
		exceeds bool
		text    string
	}{
		{Lag{}, LagLimit{}, false, "behind by what is not known"},
		{Lag{}, bytes(math.MaxInt64), true, "behind by what is not known"},
		{Lag{}, ms(math.MaxInt64), true, "behind by what is not known"},
		{Lag{Known: true}, bytes(0), false, "0 bytes and 0 ms behind"},
		{Lag{Known: true}, ms(0), false, "0 bytes and 0 ms behind"},
		{Lag{true, 16, 0}, bytes(16), false, "16 bytes and 0 ms behind"},
		{Lag{true, 17, time.Hour}, bytes(16), true, "17 bytes and 3600 s behind"},
		{Lag{true, math.MaxUint64, 0}, LagLimit{}, false, "16777215 TB and 0 ms behind"},
		{Lag{true, math.MaxUint64, 0}, bytes(math.MaxInt64), true, "16777215 TB and 0 ms behind"},
		{Lag{true, 64 << 20, 5 * time.Second}, ms(5000), false, "64 MB and 5000 ms behind"},
		{Lag{true, 10240, 5001 * time.Millisecond}, ms(5000), true, "10 kB and 5001 ms behind"},
		{Lag{true, 10 << 30, -1}, ms(5000), true, "10 GB behind, since when is not known"},
		{Lag{true, 10<<30 - 1, -1}, bytes(10 << 30), false, "10239 MB behind, since when is not known"},
	} {
		if got := x.limit.Exceeded(x.lag); got != x.exceeds || x.lag.String() != x.text {
			t.Errorf("%+v, limit %+v: %v, %s", x.lag, x.limit, got, x.lag)
		}
	}
	if l := LagOf(5, math.MaxUint32-1); l != (Lag{true, 5, (math.MaxUint32 - 1) * time.Millisecond}) {
		t.Errorf("got %+v", l)
	}
	b := Lag{true, 5, math.MaxInt64}.append(nil)
	if l := parseLag(b, 2, Attributes{Flags: InRecovery}); l != (Lag{true, 5, (math.MaxUint32 - 1) * time.Millisecond}) {
		t.Errorf("got %+v", l)
	}
}
