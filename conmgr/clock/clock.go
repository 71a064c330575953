// Package clock is the monotonic clock of heartbeats. Any goroutine reads it; it never blocks.
package clock

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Mono is heartbeat.Mono.
type Mono = heartbeat.Mono

// Clock tells the time; tests have their own.
type Clock func() heartbeat.Mono

// Monotonic is CLOCK_MONOTONIC, which all processes of the host share.
func Monotonic() heartbeat.Mono {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("clock_gettime(CLOCK_MONOTONIC): " + err.Error())
	}
	return heartbeat.Mono(time.Duration(ts.Sec)*time.Second + time.Duration(ts.Nsec))
}
