package simulate

import (
	"slices"
	"testing"
)

// keptAttacked are seeds that have found a fault. 53: a conmgr whose connection somebody had broken
// was forgotten for the sake of another one with its key. 1176: the same, by another of its
// entries.
var keptAttacked = []uint64{53, 1176}

// TestAttacked: with keys both rules hold whatever somebody on the way changes, replays and makes
// up; without keys he breaks them.
func TestAttacked(t *testing.T) {
	seeds := slices.Clone(keptAttacked)
	for i := range uint64(*runs) {
		seeds = append(seeds, *first+i)
	}
	for _, seed := range seeds {
		if r := RunAttacked(seed, length, false, true); r.Rule != "" {
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
