package pgxcm_test

// The tests of the adapter run against a real primary and standby, and a fake conmgr that knows both.

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/pgwatchdog/watchdog/driver/internal/fakeconmgr"
	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

var pair *livepg.Pair

func TestMain(m *testing.M) {
	code := 1
	err := testkit.Program(context.Background(), os.Stderr, func(r *testkit.Run) {
		pair = livepg.Start(r)
		code = m.Run()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
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
