package main

// Processor time and memory of processes, from /proc.

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// cpuTime is the processor time of a process.
func (b *bench) cpuTime(pid int) time.Duration { return testkit.ProcessorTime(b, pid) }

// memory is a field of /proc/pid/status such as VmRSS, in bytes.
func (b *bench) memory(pid int, field string) float64 {
	text := procField(fmt.Sprintf("/proc/%d/status", pid), field)
	kb, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		b.Fatalf("process %d: %s %q", pid, field, text)
	}
	return kb * 1024
}
