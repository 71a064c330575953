package testkit

import (
	"time"

	"golang.org/x/sys/unix"
)

// Stalls watches for times in which this machine, or at least this process, stands still: a virtual
// machine's processors are taken away, now and then for long. Timings measured meanwhile say
// nothing.
type Stalls struct {
	stop chan struct{}
	max  chan time.Duration
}

// WatchStalls starts watching, by one goroutine, until Longest is called.
func WatchStalls() *Stalls {
	s := &Stalls{make(chan struct{}), make(chan time.Duration, 1)}
	go func() {
		const tick = 5 * time.Millisecond
		var worst time.Duration
		t := time.NewTicker(tick)
		defer t.Stop()
		last := Monotonic()
		for {
			select {
			case <-t.C:
				now := Monotonic()
				worst = max(worst, now-last-tick)
				last = now
			case <-s.stop:
				s.max <- worst
				return
			}
		}
	}()
	return s
}

// Longest ends the watching and returns the longest stall.
func (s *Stalls) Longest() time.Duration {
	close(s.stop)
	return <-s.max
}

// Monotonic reads CLOCK_MONOTONIC: the time since the boot, the same in all processes and
// namespaces.
func Monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // cannot fail for this clock
	}
	return time.Duration(ts.Nano())
}
