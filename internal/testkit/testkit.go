// Package testkit holds what the test helpers of this project share: the part of *testing.T that
// they need, a way to use them from a program (bench, demo), waiting for conditions, and the
// removal of what a killed run has left behind.
//
// Runs in test processes only, on the caller's goroutine. Eventually blocks up to its deadline.
package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"
)

// TB is the part of testing.TB that the helpers use. *testing.T, *testing.B, *testing.F and *Run
// have it.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// Run stands in for *testing.T in a program.
type Run struct {
	ctx context.Context
	out io.Writer

	mu       sync.Mutex
	cleanups []func()
	err      error
}

var _ TB = (*Run)(nil)

// Program calls fn, then all that it registered with Cleanup, and returns the first failure.
// Cancelling ctx (Ctrl-C) does not stop fn by itself: fn waits with Run.Context, so that the
// cleanups always run.
func Program(ctx context.Context, log io.Writer, fn func(*Run)) error {
	r := &Run{ctx: ctx, out: log}
	r.protect(func() { fn(r) })
	for {
		r.mu.Lock()
		n := len(r.cleanups)
		if n == 0 {
			defer r.mu.Unlock()
			return r.err
		}
		f := r.cleanups[n-1]
		r.cleanups = r.cleanups[:n-1]
		r.mu.Unlock()
		r.protect(f)
	}
}

// protect runs f on a goroutine of its own, so that Fatalf can end it, and turns a panic into a
// failure.
func (r *Run) protect(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				buf := make([]byte, 16<<10)
				r.fail(fmt.Errorf("panic: %v\n%s", p, buf[:runtime.Stack(buf, false)]))
			}
		}()
		f()
	}()
	<-done
}

func (r *Run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// Context is cancelled when the program is to end.
func (r *Run) Context() context.Context { return r.ctx }

// Helper does nothing: a program has no line numbers to report.
func (r *Run) Helper() {}

// Logf writes a line.
func (r *Run) Logf(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// Errorf marks the run as failed and goes on.
func (r *Run) Errorf(format string, args ...any) { r.fail(fmt.Errorf(format, args...)) }

// Fatalf marks the run as failed and ends the calling goroutine.
func (r *Run) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// Failed tells whether Errorf or Fatalf was called.
func (r *Run) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil
}

// Cleanup registers f to be called at the end, last registered first.
func (r *Run) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

// Eventually waits until cond is true, and fails the test at the deadline. What cond returns as
// text is told then.
func Eventually(t TB, deadline time.Duration, what string, cond func() (bool, string)) {
	t.Helper()
	if err := Poll(deadline, cond); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Poll waits until cond is true, and returns an error at the deadline. cond is asked once more
// after the deadline, so that a test process that was stopped for a while judges by the state and
// not by its own delay.
func Poll(deadline time.Duration, cond func() (bool, string)) error {
	start := time.Now()
	pause := time.Millisecond
	for {
		late := time.Since(start) >= deadline
		ok, state := cond()
		if ok {
			return nil
		}
		if late {
			if state == "" {
				return fmt.Errorf("not within %v", deadline)
			}
			return errors.New("not within " + deadline.String() + "; last state: " + state)
		}
		time.Sleep(pause)
		if pause < 20*time.Millisecond {
			pause *= 2
		}
	}
}
