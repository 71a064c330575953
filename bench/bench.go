package main

// What a figure has at hand while it is measured.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	nobody   = 65534
	patience = 30 * time.Second
)

// sample is one measured value.
type sample struct {
	figure   string
	what     string // that was measured: "time to the error"
	series   string // whose it is: "HAProxy, tuned"
	when     string // under which condition: "16 clients"
	unit     string
	value    float64
	censored bool // a lower bound: the observation ended there
}

// results are the samples of a run, in the order in which they were taken. Any goroutine may add.
type results struct {
	mu      sync.Mutex
	samples []sample
	stalls  map[string]time.Duration // by figure: the longest time for which this machine stood still
}

// bench is a figure being measured. As in a test, Fatalf ends the figure, and Cleanup is done at
// its end.
type bench struct {
	*testkit.Run
	quick   bool
	root    string // of the project
	figure  string
	results *results
}

// measure runs a figure.
func measure(ctx context.Context, root string, quick bool, f figure, into *results) error {
	stalls := testkit.WatchStalls()
	err := testkit.Program(ctx, os.Stdout, func(r *testkit.Run) {
		f.run(&bench{Run: r, quick: quick, root: root, figure: f.key, results: into})
	})
	into.mu.Lock()
	defer into.mu.Unlock()
	if into.stalls == nil {
		into.stalls = map[string]time.Duration{}
	}
	into.stalls[f.key] = stalls.Longest()
	return err
}

// Add records a value.
func (b *bench) Add(what, series, when, unit string, value float64) {
	b.add(sample{what: what, series: series, when: when, unit: unit, value: value})
}

// AddTime records a duration, in milliseconds.
func (b *bench) AddTime(what, series, when string, d time.Duration) {
	b.Add(what, series, when, "ms", float64(d)/float64(time.Millisecond))
}

// AddAtLeast records that something had not happened after a duration.
func (b *bench) AddAtLeast(what, series, when string, d time.Duration) {
	b.add(sample{what: what, series: series, when: when, unit: "ms", value: float64(d) / float64(time.Millisecond),
		censored: true})
}

func (b *bench) add(s sample) {
	s.figure = b.figure
	b.results.mu.Lock()
	defer b.results.mu.Unlock()
	b.results.samples = append(b.results.samples, s)
}

// Pick returns the first value in a full run, the second in a quick one.
func Pick[T any](b *bench, full, quick T) T {
	if b.quick {
		return quick
	}
	return full
}

// TempDir makes a directory that is removed at the end of the figure; nobody may write to it.
func (b *bench) TempDir() string {
	dir, err := testkit.TempDir("wdbench")
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		b.Fatalf("%v", err)
	}
	return dir
}

// Program is the path of a C program of bench/c, as built.
func (b *bench) Program(name string) string { return filepath.Join(b.root, "build", "bench", name) }

// Front is the environment of a program that is to use the libpq front, and the conmgr here, which
// runs as nobody in particular.
func (b *bench) Front() []string {
	return []string{"LD_LIBRARY_PATH=" + filepath.Join(b.root, "build", "connmgr"), "PGCMUSER=*"}
}

// As returns a command that runs as nobody inside a host, with a small environment and what is
// added to it.
func (b *bench) As(h *testnet.Host, env []string, name string, args ...string) *exec.Cmd {
	cmd := h.CommandWith(b.Context(), testnet.Options{UID: nobody, GID: nobody}, name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/nonexistent"}, env...)
	return cmd
}

// Output runs a command and returns what it writes to standard output.
func (b *bench) Output(cmd *exec.Cmd) string {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v: %v: %s%s", cmd.Args, err, out, stderr.String())
	}
	return string(out)
}

// Start starts a command that is to run until the end of the figure.
func (b *bench) Start(cmd *exec.Cmd) {
	var log bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &log
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &log
	}
	if err := cmd.Start(); err != nil {
		b.Fatalf("%v: %v", cmd.Args, err)
	}
	b.Cleanup(func() {
		_ = cmd.Cancel()
		_ = cmd.Wait()
		if b.Failed() {
			b.Logf("%v:\n%s", cmd.Args, log.String())
		}
	})
}

// Write writes a file that nobody may read.
func (b *bench) Write(path, format string, args ...any) {
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o644); err != nil {
		b.Fatalf("%v", err)
	}
}
