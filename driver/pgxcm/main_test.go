package pgxcm_test

// The tests of the adapter run against a real primary and standby, and a fake conmgr that knows both.

import (
	"fmt"
	"os"
	"testing"

	"github.com/pgwatchdog/watchdog/driver/internal/fakeconmgr"
	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
)

var pair *livepg.Pair

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if pair, err = livepg.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer pair.Stop()
	return m.Run()
}

func newConmgr(t *testing.T) *fakeconmgr.Server {
	t.Helper()
	s, err := fakeconmgr.New(pair.Instances()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
