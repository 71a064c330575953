// Package leak fails a test that leaves goroutines or file descriptors behind.
//
// Runs on the test's goroutine; the check at the end waits some seconds for stragglers.
package leak

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// patience is how long stragglers have.
var patience = 3 * time.Second

// Check remembers what is there now, and fails the test if more is there at its end. Call it first:
// its cleanup must run last. A test that uses it must not be parallel to others.
func Check(t testkit.TB) {
	t.Helper()
	goroutines := stacks()
	fds := descriptors()
	t.Cleanup(func() {
		if t.Failed() {
			return // it may have ended half-way; its own error is the one to read
		}
		err := testkit.Poll(patience, func() (bool, string) {
			more := difference(stacks(), goroutines)
			more = append(more, difference(descriptors(), fds)...)
			return len(more) == 0, strings.Join(more, "\n\n")
		})
		if err != nil {
			t.Errorf("the test left something behind: %v", err)
		}
	})
}

func difference(now, before map[string]string) []string {
	var more []string
	for id, text := range now {
		if _, ok := before[id]; !ok {
			more = append(more, text)
		}
	}
	return more
}

// stacks returns the stack of each goroutine but the runtime's and testing's own, by its number.
func stacks() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	found := map[string]string{}
	for _, g := range strings.Split(string(buf), "\n\n") {
		var id int
		if _, err := fmt.Sscanf(g, "goroutine %d ", &id); err != nil {
			continue
		}
		if strings.Contains(g, "testing.(*T).Run(") || strings.Contains(g, "testing.tRunner(") ||
			strings.Contains(g, "testing.(*M).") ||
			strings.Contains(g, "internal/leak.stacks(") || strings.Contains(g, "os/signal.loop") {
			continue
		}
		found[fmt.Sprint(id)] = g
	}
	return found
}

// descriptors returns what each open file descriptor is, by number and target.
func descriptors() map[string]string {
	found := map[string]string{}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return found
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") || strings.HasPrefix(target, "/proc/") {
			continue // the runtime's poller, and this very listing
		}
		found[e.Name()+" "+target] = "descriptor " + e.Name() + ": " + target
	}
	return found
}
