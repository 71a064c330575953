package main

// Processor time and memory of processes, from /proc.

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuTime is the processor time that all threads of a process have used, in nanoseconds of the scheduler's own clock; those of threads that have ended are lost.
func (b *bench) cpuTime(pid int) time.Duration {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum time.Duration
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		used, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.ParseInt(used, 10, 64)
		sum += time.Duration(n)
	}
	if len(threads) == 0 {
		b.Fatalf("process %d has ended", pid)
	}
	return sum
}

// memory is a field of /proc/pid/status such as VmRSS, in bytes.
func (b *bench) memory(pid int, field string) float64 {
	text := procField(fmt.Sprintf("/proc/%d/status", pid), field)
	kb, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		b.Fatalf("process %d: %s %q", pid, field, text)
	}
	return kb * 1024
}
