package testkit

import (
	"testing"

	"golang.org/x/sys/unix"
)

// How many connections there can be. Runs in the benchmark's goroutine; never blocks.

// ManyConnections is how many connections a benchmark with both ends in this process can make.
func ManyConnections(b *testing.B) int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		b.Fatal(err)
	}
	return int(min(10_000, (l.Cur-100)/2))
}
