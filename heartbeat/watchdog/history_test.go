package watchdog

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/transcript"
)

// TestRecords: what is kept of each end of a conmgr, for those who ask later.
func TestRecords(t *testing.T) {
	const setting = " watchdog.terminate_on_close is off"
	for _, c := range []struct {
		name, script string
		records      []string // cause, whether the terminator is asked, why sessions stay
		totals       map[Counter]uint64
	}{
		{"silence", "0s server\n0s hello 1 192.0.2.1:1000 id=1\n10s until", []string{"1 true "},
			map[Counter]uint64{verdicts: 1, VerdictsSpared: 0, ConmgrsAdmitted: 1, ConmgrsResumed: 0, FramesReceived: 1}},
		{"goodbye", "0s server\n0s hello 1 192.0.2.1:1000 id=1\n1s goodbye 1 1", []string{"2 true "},
			map[Counter]uint64{verdicts + 1: 1}},
		{"given up", "0s server\n0s hello 1 192.0.2.1:1000 id=1\n1s hello 2 192.0.2.1:1000 id=1 gen=1", []string{"3 true "},
			map[Counter]uint64{verdicts + 2: 1, ConmgrsAdmitted: 1, ConmgrsResumed: 1}},
		{"goodbye, and the setting is off", "0s server keep\n0s hello 1 192.0.2.1:1000 id=1\n1s goodbye 1 1",
			[]string{"2 false" + setting}, map[Counter]uint64{verdicts + 1: 0, VerdictsSpared: 1}},
		{"closed, and the setting is off", "0s server keep\n0s hello 1 192.0.2.1:1000 id=1\n1s fin 1\n10s until",
			[]string{"4 false" + setting}, map[Counter]uint64{verdicts + 3: 0, VerdictsSpared: 1}},
		{"it is another entry of its conmgr", "0s server\n0s hello 1 192.0.2.1:1000 id=1\n1s goodbye 1 3", nil, nil},
		{"another one of its address lives", "0s server\n0s hello 1 192.0.2.1:1000 id=1\n0s hello 2 192.0.2.1:1000 id=2 timeout=30s\n" +
			"1s goodbye 1 1", []string{"2 true another conmgr of this address is alive"}, map[Counter]uint64{VerdictsPutOff: 1}},
		{"a stranger", "0s server\n0s open 1 192.0.2.1:1000\n0s bytes 1 GET_/_HTTP", nil, map[Counter]uint64{refused: 1}},
		{"a stall", "0s server\n0s held 1s", nil, map[Counter]uint64{OwnStalls: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &script{settings: Settings{TerminateOnClose: true, MaxTimeout: time.Hour}}
			if _, err := transcript.Play(c.script, s.step); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range s.store.Records() {
				got = append(got, fmt.Sprintf("%d %v %s", r.Cause, r.Asked, r.Why))
			}
			if !slices.Equal(got, c.records) {
				t.Errorf("records: %q, want %q", got, c.records)
			}
			for n, want := range c.totals {
				if total := s.store.Total(n); total != want {
					t.Errorf("counter %d: %d, want %d", n, total, want)
				}
			}
		})
	}
}
