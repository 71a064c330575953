package main

// Processor time and memory of processes, from /proc.

import (
	"fmt"
	"os"
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

// withChildren is the processor time of a process, and of its children that have ended.
func (b *bench) withChildren(pid int) time.Duration {
	return time.Duration(b.statSum(pid, 11, 15)) * 10 * time.Millisecond // utime to cstime; USER_HZ is 100
}

// faultsWithChildren is the number of page faults of a process, and of its children that have ended.
func (b *bench) faultsWithChildren(pid int) float64 { return float64(b.statSum(pid, 7, 9)) } // minflt, cminflt

// statSum adds up fields of /proc/pid/stat, counted from the state.
func (b *bench) statSum(pid, from, to int) (sum int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatalf("%v", err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	for _, f := range fields[from:to] {
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatalf("process %d: %s", pid, text)
		}
		sum += n
	}
	return sum
}

func (b *bench) children(pid int) (pids []string) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		b.Fatalf("%v", err)
	}
	return strings.Fields(string(text))
}

// withSessions is the processor time of a postmaster, and of its children, those that are there and
// those that have ended.
func (b *bench) withSessions(pid int) time.Duration {
	sum := b.withChildren(pid)
	for _, child := range b.children(pid) {
		var used time.Duration
		text, err := os.ReadFile("/proc/" + child + "/schedstat")
		if err == nil { // it may just have ended
			_, err = fmt.Sscan(string(text), &used)
		}
		if err == nil {
			sum += used
		}
	}
	return sum
}

// sessionsEnded waits until a postmaster has no more children than before, so that their processor
// time is part of its.
func (b *bench) sessionsEnded(pid, before int) {
	testkit.Eventually(b, patience, "all sessions have ended", func() (bool, string) { return len(b.children(pid)) <= before, "" })
}
