package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ProcessorTime is what all threads of a process have used, by the scheduler's own clock; those
// that have ended are lost. It fails the test if the process is not there.
func ProcessorTime(t TB, pid int) (sum time.Duration) {
	t.Helper()
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if len(threads) == 0 {
		t.Fatalf("process %d is not there", pid)
	}
	for _, path := range threads {
		if text, err := os.ReadFile(path); err == nil { // a thread may end
			var used time.Duration
			if _, err := fmt.Sscan(string(text), &used); err == nil {
				sum += used
			}
		}
	}
	return sum
}
