package terminator

import (
	"testing"
	"time"
)

// TestParting: what each last word means; only a FIN is the conmgr's own close.
func TestParting(t *testing.T) {
	want := map[Parting]Cause{Broken: Silence, Finished: Closed, Reset: Silence, Ends: Goodbye, GivesUp: GivenUp,
		NotNeeded: None}
	for p, cause := range want {
		if got := p.Cause(); got != cause {
			t.Errorf("parting %d: cause %d, want %d", p, got, cause)
		}
	}
}

func TestAtHello(t *testing.T) {
	if AtHello(4, 5) != GivenUp || AtHello(4, 4) != None {
		t.Error("a generation that has risen, or that has not, is taken for the other")
	}
}

// TestReplacedBy: who has left, and stands for nobody any more.
func TestReplacedBy(t *testing.T) {
	gone := func(left Parting) Absent { return Absent{Left: left, SameBoot: true, Timeout: time.Second} }
	for _, c := range []struct {
		name    string
		absent  Absent
		timeout time.Duration
		scarce  bool
		want    bool
	}{
		{"closed", gone(Finished), time.Second, false, true},
		{"another boot", Absent{Left: Finished, Timeout: time.Second}, time.Second, true, false},
		{"to be heard of more often", gone(Finished), 2 * time.Second, true, false},
		{"reset", gone(Reset), time.Second, false, false},
		{"reset, and slots are scarce", gone(Reset), time.Second, true, true},
		{"broken", gone(Broken), time.Second, true, false},
		{"spared", Absent{Left: Finished, Standing: Remembered, SameBoot: true, Timeout: time.Second}, time.Second, true,
			false},
		{"its verdict is put off", Absent{Left: Finished, Standing: PutOff, SameBoot: true, Timeout: time.Second},
			time.Second, true, false},
	} {
		if got := c.absent.ReplacedBy(c.timeout, c.scarce); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
