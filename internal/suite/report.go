package main

// Running one process, and what is told of it. A goroutine for each process; blocks on that.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// report is what has come of the tests.
type report struct {
	start time.Time
	to    io.Writer

	mu      sync.Mutex
	passed  int // tests, without their parts
	failed  []string
	skipped []string
}

// result is a test's line on its end, whatever it has written before on that line.
var result = regexp.MustCompile(`(?m)^(.*?)--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)$`)

// measured is a line by which a test has logged something.
var measured = regexp.MustCompile(`(?m)^ +\S+_test\.go:\d+: .*$`)

// test runs one job. A test that was listed and has not said how it ended has failed, as has a
// process that ends badly without a test that does.
func (r *report) test(ctx context.Context, j *job, env string) {
	args := []string{"-test.v", "-test.count=1", "-test.timeout=10m", "-test.paniconexit0"}
	if !j.all {
		args = append(args, "-test.run=^("+strings.Join(j.tests, "|")+")$")
	}
	cmd := exec.CommandContext(ctx, j.program, args...)
	cmd.Dir = j.dir
	cmd.Env = append(os.Environ(), env, "PWD="+j.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, took, err := capture(cmd)
	r.judge(j, out, took, err)
}

// capture runs a command; what it leaves running with its output does not hold it up.
func capture(cmd *exec.Cmd) (out string, took time.Duration, err error) {
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	cmd.WaitDelay = 5 * time.Second
	start := time.Now()
	err = cmd.Run()
	return b.String(), time.Since(start), err
}

func (r *report) judge(j *job, out string, took time.Duration, err error) {
	verdicts := map[string]string{}
	for _, m := range result.FindAllStringSubmatch(out, -1) {
		if strings.TrimSpace(m[1]) == "" && len(m[1]) > 0 {
			continue // of a part
		}
		verdicts[m[3]] = m[2]
		if m[2] == "SKIP" {
			r.skip(j.name+" "+m[3], out)
		}
	}
	passed := 0
	var bad []string
	for _, t := range j.tests {
		switch verdicts[t] {
		case "PASS":
			passed++
		case "FAIL":
			bad = append(bad, t)
		case "":
			bad = append(bad, t+" (no result)")
		}
	}
	r.mu.Lock()
	r.passed += passed
	r.mu.Unlock()
	switch {
	case len(bad) > 0 || err != nil:
		if err != nil {
			out += err.Error() + "\n"
		}
		r.fail(j.name, strings.Join(bad, " "), out)
	default:
		r.tell(j, out, took)
	}
}

// tell shows how long it took, what lone tests have logged, and how long tests took in a share.
func (r *report) tell(j *job, out string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.to, "ok   %6.1f s  %s\n", took.Seconds(), j.label())
	switch {
	case len(j.tests) == 1 && !j.all:
		for _, line := range measured.FindAllString(out, -1) {
			fmt.Fprintln(r.to, "             "+strings.TrimSpace(line))
		}
	default:
		for _, m := range result.FindAllStringSubmatch(out, -1) {
			if m[1] == "" && !strings.HasPrefix(m[4], "0.") {
				fmt.Fprintf(r.to, "     %6s s    %s\n", m[4], m[3])
			}
		}
	}
}

// yielding starts a command that has what the tests leave, and does not starve on a busy machine.
var yielding = []string{"nice", "-n", "10"}

// other runs a command that is no test, at a low priority.
func (r *report) other(ctx context.Context, command string) {
	cmd := exec.CommandContext(ctx, yielding[0], append(slices.Clone(yielding[1:]), "sh", "-c", command)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, took, err := capture(cmd)
	if err != nil {
		r.fail(command, "", out+err.Error()+"\n")
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.to, "ok   %6.1f s  %s\n", took.Seconds(), command)
	for line := range strings.Lines(out) {
		fmt.Fprint(r.to, "             "+line)
	}
}

func (r *report) fail(what, tests, out string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := strings.TrimSpace(what + " " + tests)
	r.failed = append(r.failed, name)
	fmt.Fprintf(r.to, "FAIL %s\n%s", name, out)
}

// skip notes why a test has skipped itself.
func (r *report) skip(name, out string) {
	reason := "it does not say why"
	test := name[strings.LastIndex(name, " ")+1:]
	if _, after, found := strings.Cut(out, "=== RUN   "+test+"\n"); found {
		before, _, _ := strings.Cut(after, "--- SKIP: "+test)
		if m := measured.FindString(before); m != "" {
			_, reason, _ = strings.Cut(m, ": ")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skipped = append(r.skipped, name+": "+reason)
}

// summary is the last that is told; whether all is well.
func (r *report) summary() bool {
	for _, s := range r.skipped {
		fmt.Fprintln(r.to, "SKIPPED", s)
	}
	for _, f := range r.failed {
		fmt.Fprintln(r.to, "FAILED", f)
	}
	fmt.Fprintf(r.to, "%d tests passed, %d failures, %d skipped themselves; %.0f s\n", r.passed, len(r.failed), len(r.skipped),
		time.Since(r.start).Seconds())
	return len(r.failed) == 0 && r.passed > 0
}
