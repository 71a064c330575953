package simulate

import (
	"testing"
	"time"
)

// keptCompared are seeds in which what was done and what would have been differed. 3: sessions that
// would have been gone were still witnesses of their host, and put its next verdict off.
var keptCompared = []uint64{3}

// TestReportOnly: what is done in a schedule is what would be done in the same with report-only on,
// at the servers or at both ends.
func TestReportOnly(t *testing.T) {
	checks := 0
	compare := func(seed uint64) {
		r := Compare(seed, length, false)
		if checks += r.Checks; r.Rule != "" {
			t.Fatalf("seed %d breaks %s %s\n%s", seed, r.Rule, r.Text, Compare(seed, length, true).Transcript)
		}
	}
	for _, seed := range keptCompared {
		compare(seed)
	}
	n := 0
	for begin := time.Now(); n < *runs || time.Since(begin).Seconds() < *seconds/10; n++ {
		compare(*first + uint64(n))
	}
	if checks < n {
		t.Errorf("%d deeds in %d runs", checks, n)
	}
	t.Logf("%d seeds, %d deeds are the same", n, checks)
}
