package relay

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// The policy of the thread follows how many come at a time, and does not change at each turn.
func TestCrowd(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer yieldToSenders(false)
	var c crowd
	for _, step := range []struct {
		ends []int // that come in the waits, in turn
		want uint32
	}{
		{[]int{1}, unix.SCHED_NORMAL},
		{[]int{2, 1}, unix.SCHED_NORMAL},
		{[]int{2}, unix.SCHED_BATCH},
		{[]int{0}, unix.SCHED_BATCH}, // rest
		{[]int{2, 1}, unix.SCHED_BATCH},
		{[]int{1}, unix.SCHED_NORMAL},
		{[]int{3, 3, 1}, unix.SCHED_BATCH},
		{[]int{2, 1, 1, 1, 1}, unix.SCHED_NORMAL},
	} {
		for i := range crowdWaits {
			c.came(step.ends[i%len(step.ends)])
		}
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if attr.Policy != step.want {
			t.Errorf("after waits of %v: policy %d, want %d", step.ends, attr.Policy, step.want)
		}
	}
}
