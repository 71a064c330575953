package watch

// What a standby says of its lag comes to the board, as does how near it is.

import (
	"fmt"
	"testing"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func TestLagComesToTheBoard(t *testing.T) {
	b := newBench(t)
	stop := make(chan struct{})
	defer close(stop)
	go b.board.Run(stop)
	wait := func(want hb.Lag) {
		t.Helper()
		testkit.Eventually(t, patience, "the board knows the lag", func() (bool, string) {
			e := &b.board.Table.Load().Entries[0]
			return e.Lag == want && e.RTT > 0, fmt.Sprintf("%+v", e.Status)
		})
	}
	standby := hb.Attributes{Flags: hb.InRecovery, Timeline: 1}
	lag := hb.Lag{Known: true, Bytes: 5}
	b.brings(hb.Welcome{Version: 2, Flags: hb.Resumed, SystemIdentifier: 7, PostmasterStart: 1, Attributes: standby, Lag: lag}.Append(nil))
	wait(lag)
	for i := range uint32(3) {
		lag.Bytes++
		b.brings(hb.WatchdogBeat{Sequence: i, Attributes: standby, Lag: lag}.Append(nil, 2))
		wait(lag)
	}
	b.brings(hb.WatchdogBeat{Sequence: 9, Attributes: standby}.Append(nil, 2))
	wait(hb.Lag{})
}
