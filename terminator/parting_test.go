package terminator

import (
	"testing"
	"time"
)

// TestParting: what each last word means; only a FIN is the conmgr's own close.
func TestParting(t *testing.T) {
	want := map[Parting]Cause{Broken: Silence, Finished: Closed, Reset: Silence, Ends: Goodbye, GivesUp: GivenUp,
		NotNeeded: None, Returns: Closed}
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

// TestAwaits: who was closed by its kernel, or has said so, has its grace; nobody else.
func TestAwaits(t *testing.T) {
	for p := Broken; p <= Returns; p++ {
		want := Time(0)
		if p == Finished || p == Returns {
			want = Time(7 * time.Second)
		}
		if got := p.Awaits(Time(2*time.Second), 5*time.Second); got != want || p.Awaits(1, 0) != 0 {
			t.Errorf("parting %d: until %d, want %d", p, got, want)
		}
	}
}

// TestFollows: who may take over what a conmgr of the same id had.
func TestFollows(t *testing.T) {
	for s, want := range map[Successor]bool{
		{SameBoot: true}: true,
		{SameBoot: true, Known: 3, Generation: 4}:                         true,
		{SameBoot: true, Known: 3, Generation: 2}:                         false,
		{SameBoot: true, Known: 3, Generation: 3 + MaxGenerationStep}:     true,
		{SameBoot: true, Known: 3, Generation: 3 + MaxGenerationStep + 1}: false,
		{Known: 3, Generation: 3}:                                         false,
	} {
		if s.Follows() != want {
			t.Errorf("%+v: %v", s, !want)
		}
	}
	if !Yields(3, 3) || Yields(3, 4) {
		t.Error("of two that live, the wrong one yields")
	}
}

// TestFollowedBy: who was to be back leaves its sessions to one that has come since.
func TestFollowedBy(t *testing.T) {
	a := Absent{Left: Returns, SameBoot: true, Timeout: time.Second, Granted: true}
	finished, reset, rebooted, waits := a, a, a, a
	finished.Left, reset.Left, rebooted.SameBoot, waits.Granted = Finished, Reset, false, false
	if !a.FollowedBy(time.Second, 5, 5) || !finished.FollowedBy(time.Second, 5, 5) || a.FollowedBy(time.Second, 5, 4) ||
		a.FollowedBy(time.Second+1, 5, 5) || reset.FollowedBy(time.Second, 5, 5) || rebooted.FollowedBy(time.Second, 5, 5) ||
		waits.FollowedBy(time.Second, 5, 5) {
		t.Error("the wrong one leaves its sessions to another, or one that should does not")
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
		{"it will be back", gone(Returns), time.Second, true, false},
		{"it may be back", Absent{Left: Finished, SameBoot: true, Timeout: time.Second, Granted: true}, time.Second, true, false},
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
