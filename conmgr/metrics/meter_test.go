package metrics

import (
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
)

// RFC 3550's example of a filter: a difference goes in by a sixteenth.
func TestJitter(t *testing.T) {
	m, in := NewMeter(), &conf.Instance{Number: 2, Host: "db2"}
	if m.Beats(2).Known {
		t.Error("known before the first one")
	}
	for _, x := range []struct{ took, jitter time.Duration }{
		{10 * time.Millisecond, 0}, {26 * time.Millisecond, time.Millisecond}, {26 * time.Millisecond, 937500}, {10 * time.Millisecond, 1878906},
	} {
		m.Measured(in, x.took)
		if b := m.Beats(2); b.RoundTrip != x.took || b.Jitter != x.jitter {
			t.Errorf("after %v: %+v, want %v", x.took, b, x.jitter)
		}
	}
	m.Measured(&conf.Instance{Number: 2, Host: "other"}, time.Second) // by the same number, after a reload
	if b := m.Beats(2); b.Jitter != 0 || b.RoundTrip != time.Second {
		t.Errorf("another instance: %+v", b)
	}
	m.Keep(nil)
	if m.Beats(2).Known {
		t.Error("known of one that is not there any more")
	}
}
