// Command demo shows on this machine what heartbeats are for: `make demo`. It makes a throwaway
// primary and a streaming standby, conmgr, and an application that writes all the time; it freezes
// the primary, later the client host, and tells what happened when, by the clock of this run.
//
//	main.go         flags, signals, exit status
//	script.go       the stage: servers, conmgr, sessions; what is told at the end
//	acts.go         what happens, and what has to be seen
//	application.go  the application that writes all the time
//	conmgr.go       conmgr, started by cm_ctl
//	session.go      plain sessions of a client host
//	servers.go      what servers and conmgr say: logs, pg_stat_activity
//	ports.go        ports to listen at
//	timeline.go     the output
//	guard.go        a process that cleans up when this one is killed
//
// The main goroutine waits for the script, which runs on a goroutine of its own (testkit.Program).
// Needs no root; as root, PostgreSQL and conmgr run as nobody. It uses loopback addresses only.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// atMost is when the demo gives up: it is to end by itself in any case.
const atMost = 110 * time.Second

const (
	exitOK          = 0
	exitFailure     = 1 // something that should have been seen was not, or not in time
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	if pid := os.Getenv(guardVariable); pid != "" {
		os.Exit(runGuard(pid, os.Stdin))
	}
	os.Exit(run())
}

func run() int {
	interval := flag.Duration("interval", time.Second, "heartbeat_interval")
	timeout := flag.Duration("timeout", 2*time.Second, "heartbeat_timeout")
	build := flag.String("build", "", "directory of conmgr and cm_ctl (default: build/ of the project)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: unexpected argument %q\n", flag.Arg(0))
		return exitUsage
	}
	if *interval < heartbeat.MinInterval || *timeout <= *interval || *timeout > 15*time.Second {
		fmt.Fprintf(os.Stderr, "demo: -interval %v, -timeout %v: the interval must be at least %v, the timeout longer than the interval and at most 15s\n",
			*interval, *timeout, heartbeat.MinInterval)
		return exitUsage
	}

	syscall.Umask(0o022) // as root: nobody has to read what is made here
	// As root, conmgr runs as nobody, who is not trusted by the applications of others.
	os.Setenv("PGCMUSER", "*")

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, atMost, fmt.Errorf("the demo is not at its end after %v", atMost))
	defer cancel()
	// A reader of the output that goes away (`make demo | head`) is an interruption, not a death
	// without cleaning up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	out := &output{w: os.Stdout, broken: cancel}

	silent := context.AfterFunc(ctx, func() {
		if ctx.Err() == context.Canceled {
			fmt.Fprintln(os.Stderr, "\ndemo: interrupted, cleaning up ...")
		}
	})

	defer silent() // before the context's own end, which is no interruption
	guard, err := startGuard()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		return exitFailure
	}
	s := &script{interval: *interval, timeout: *timeout, build: *build, out: out,
		timeline: newTimeline(out, isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "")}
	err = testkit.Program(ctx, &tailWriter{w: os.Stderr, lines: 25}, s.run)
	if leftover := guard.end(); err == nil {
		err = leftover
	}
	switch {
	case err == nil && ctx.Err() == nil:
		return exitOK
	case errors.Is(ctx.Err(), context.Canceled):
		fmt.Fprintln(os.Stderr, "demo: everything is cleaned up")
		return exitInterrupted
	case err == nil:
		err = context.Cause(ctx)
	}
	fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
	return exitFailure
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// output is standard output; when nobody reads it any more, the demo ends.
type output struct {
	w      io.Writer
	broken func()
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		o.broken()
	}
	return n, err
}

// tailWriter shortens each message, such as a server's whole log, to its last lines.
type tailWriter struct {
	w     io.Writer
	lines int
}

func (t *tailWriter) Write(b []byte) (int, error) {
	_, err := t.w.Write(tail(b, t.lines))
	return len(b), err
}

// tail keeps the first line, which says what it is, and the last ones.
func tail(b []byte, lines int) []byte {
	all := bytes.SplitAfter(bytes.TrimRight(b, "\n"), []byte{'\n'})
	if len(all) > lines+1 {
		left := fmt.Sprintf("[%d lines left out]\n", len(all)-lines-1)
		all = append([][]byte{all[0], []byte(left)}, all[len(all)-lines:]...)
	}
	return append(bytes.Join(all, nil), '\n')
}
