package pgxcm_test

// The tests of the adapter run against a real primary and standby, and a conmgr that knows
// both. What every adapter has to do is in driver/internal/suite.

import (
	"testing"

	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/driver/internal/suite"
)

var pair *livepg.Pair

func TestMain(m *testing.M) { suite.Main(m, &pair) }
