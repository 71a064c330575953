package conmgr

// The monotonic clock of heartbeats. Any goroutine; never blocks.

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// clock tells the time; tests have their own.
type clock func() heartbeat.Mono

func monotonic() heartbeat.Mono {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("clock_gettime(CLOCK_MONOTONIC): " + err.Error())
	}
	return heartbeat.Mono(time.Duration(ts.Sec)*time.Second + time.Duration(ts.Nsec))
}
