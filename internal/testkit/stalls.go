package testkit

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Stalls watches for times in which this machine, or at least this process, stands still: a virtual
// machine's processors are taken away, now and then for long, and one without the others. Timings
// measured meanwhile say nothing.
type Stalls struct {
	stop chan struct{}
	max  chan time.Duration
	all  unix.CPUSet // which are watched
}

// WatchStalls starts watching, by one thread a processor, until Longest is called.
func WatchStalls() *Stalls {
	s := &Stalls{stop: make(chan struct{})}
	if err := unix.SchedGetaffinity(0, &s.all); err != nil {
		panic(err) // a thread may ask that of itself
	}
	s.max = make(chan time.Duration, s.all.Count())
	for cpu, left := 0, s.all.Count(); left > 0; cpu++ {
		if s.all.IsSet(cpu) {
			left--
			go s.watch(cpu)
		}
	}
	return s
}

// watch is one thread, which stays on its processor meanwhile. It lives on after that: a process that
// it has started may be one that is to end with it.
func (s *Stalls) watch(cpu int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	one := unix.CPUSet{}
	one.Set(cpu)
	_ = unix.SchedSetaffinity(0, &one) // one that has gone offline: wherever it runs
	defer unix.SchedSetaffinity(0, &s.all)
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
}

// Longest ends the watching and returns the longest stall.
func (s *Stalls) Longest() (longest time.Duration) {
	close(s.stop)
	for range s.all.Count() {
		longest = max(longest, <-s.max)
	}
	return longest
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
