package simulate

import "testing"

// TestAttacked: with keys both rules hold whatever somebody on the way changes, replays and makes up;
// without keys he breaks them.
func TestAttacked(t *testing.T) {
	n := *runs
	for i := range uint64(n) {
		if r := RunAttacked(*first+i, length, false, true); r.Rule != "" {
			t.Fatalf("seed %d breaks %s %s\n%s", r.Seed, r.Rule, r.Text, RunAttacked(r.Seed, length, true, true).Transcript)
		}
	}
	for i := range uint64(10) {
		if r := RunAttacked(1+i, length, false, false); r.Rule != "" {
			return
		}
	}
	t.Error("without keys nothing is broken: the attacker does not try")
}
