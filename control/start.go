package control

// cm_ctl start. Blocks until conmgr is as far as was asked for, or has ended, for at most the
// timeout.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

const (
	logFileName = "conmgr.log"
	// noWaitLimit is how long start -W waits for the pid file.
	noWaitLimit = 5 * time.Second
	askInterval = 500 * time.Millisecond
	maxLogCopy  = 64 * 1024
)

// noWaitGrace is how long start -W then watches for an early end; tests have their own.
var noWaitGrace = 200 * time.Millisecond

func (r *run) start(ctx context.Context) int {
	info, running, err := Running(r.dir)
	var unknown *UnidentifiedError
	switch {
	case running && err == nil:
		r.fail("%v", &RunningError{Pid: info.Pid})
		return exitFailure
	case errors.As(err, &unknown):
		r.fail("%v", &RunningError{})
		r.hint(unknown.Error())
		return exitFailure
	case err != nil:
		r.fail("%v", err)
		return exitFailure
	case info.Pid != 0:
		r.say("replacing the stale PID file of conmgr process (PID %d), which is gone\n", info.Pid)
	default:
		if _, err := os.Lstat(r.pidPath()); err == nil {
			r.say("replacing the stale PID file \"%s\"\n", r.pidPath())
		}
	}
	program, err := r.program()
	if err != nil {
		r.fail("%v", err)
		return exitFailure
	}
	out, err := r.openOutput()
	if err != nil {
		r.fail("%v", err)
		return exitFailure
	}
	defer out.close()

	keepDescriptors()
	r.say("starting conmgr process\n")
	cmd := exec.Command(program, "-D", r.dir)
	cmd.Dir = r.dir // conmgr must not hold the caller's directory busy
	cmd.Stdout, cmd.Stderr = out.stdout, out.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		r.fail("could not start \"%s\": %v", program, cause(err))
		return exitFailure
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with conmgr, or with cm_ctl
	return r.await(ctx, cmd.Process, ended, out)
}

// await waits for the started conmgr.
func (r *run) await(ctx context.Context, conmgr *os.Process, ended <-chan error, out *output) int {
	goal, limit := StatusReady, r.limit(defaultTimeout)
	if r.complete {
		goal = StatusComplete
	}
	if r.wait {
		r.say("waiting conmgr process to connect to watchdog")
	} else {
		goal, limit = StatusStarting, min(limit, noWaitLimit)
	}
	newline := func() {
		if r.wait {
			r.say("\n")
		}
	}
	dots := r.progress()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	var grace <-chan time.Time
	var asked time.Time
	for {
		select {
		case err := <-ended:
			newline()
			out.copyLog(r.Stderr)
			r.fail("could not start conmgr process%s", describeEnd(err))
			r.hint(out.advice())
			return exitFailure
		case <-ctx.Done():
			_ = conmgr.Signal(modeFast.signal)
			newline()
			r.fail("interrupted, telling conmgr process (PID %d) to end", conmgr.Pid)
			return exitInterrupted
		case <-grace:
			return exitOK
		case <-timeout.C:
			if !r.wait {
				return exitOK
			}
			r.say(" stopped waiting\n")
			r.fail("could not start conmgr process in time")
			r.hint(fmt.Sprintf("conmgr process (PID %d) goes on trying. %s", conmgr.Pid, out.advice()))
			return exitFailure
		case <-ticker.C:
		}
		if r.wait {
			dots.tick()
		}
		info, err := ReadPidFile(r.dir)
		if err != nil || info.Pid != conmgr.Pid || !info.matches() || info.Status == StatusStopping ||
			info.Status.rank() < goal.rank() {
			continue
		}
		if !r.wait {
			if grace == nil {
				grace = time.After(noWaitGrace)
			}
			continue
		}
		switch {
		case goal != StatusReady || info.Status != StatusComplete:
		case info.Presence.Known: // all were there: with a primary among them?
			if !info.Presence.Primary {
				continue
			}
		default: // of version 1.0, whose pid file does not tell
			if time.Since(asked) < askInterval {
				continue
			}
			asked = time.Now()
			if !hasPrimary(ctx, info) {
				continue
			}
		}
		r.say("\nconmgr process is ready\nstarted conmgr process successfully\n")
		return exitOK
	}
}

// hasPrimary asks conmgr. One that has no time or room to answer is believed to have: all its
// instances are established.
func hasPrimary(ctx context.Context, info Info) bool {
	answers, err := ask(ctx, info, 2*askInterval, "SHOW INSTANCES")
	if err != nil {
		return true
	}
	for i := range answers[0].values {
		f := answers[0].row(i)
		if role, state := f.text(cm.ColRole), f.text(cm.ColState); role != nil && *role == "primary" && state != nil &&
			*state == "established" {
			return true
		}
	}
	return false
}

func describeEnd(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return " (" + exit.Error() + ")"
	}
	return ""
}

// program finds conmgr beside cm_ctl, so that the two are of one version, else in PATH.
func (r *run) program() (string, error) {
	if r.Conmgr != "" {
		return r.Conmgr, nil
	}
	self, err := os.Executable()
	if err == nil {
		beside := filepath.Join(filepath.Dir(self), "conmgr")
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	if path, err := exec.LookPath("conmgr"); err == nil {
		return filepath.Abs(path)
	}
	return "", fmt.Errorf("program \"conmgr\" is needed by cm_ctl but was not found in the same directory as \"%s\" nor in PATH", self)
}

// output is where conmgr's standard output and standard error go.
type output struct {
	stdout, stderr *os.File
	file           *os.File // opened here
	instead        bool     // file stands in for a pipe
	offset         int64    // of what conmgr has written since then
}

// openOutput: the file of -l, else what cm_ctl has itself. But a pipe or socket is not handed on:
// whoever reads from it waits for its end, and conmgr would hold it open for ever (out=$(cm_ctl
// start), ssh host cm_ctl start).
func (r *run) openOutput() (*output, error) {
	o := &output{stdout: r.Stdout, stderr: r.Stderr}
	name := r.log
	if name == "" {
		if !isPipe(r.Stdout) && !isPipe(r.Stderr) {
			return o, nil
		}
		o.instead = true
		name = filepath.Join(r.dir, logFileName)
		r.say("messages of conmgr process go to \"%s\"\n", name)
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("could not open log file \"%s\": %w", name, cause(err))
	}
	if st, err := file.Stat(); err == nil {
		o.offset = st.Size()
	}
	o.file, o.stdout, o.stderr = file, file, file
	return o, nil
}

// keepDescriptors keeps what cm_ctl has inherited beyond standard error from conmgr, which would
// hold it for ever: the lock of flock(1), the pipes of the caller.
func keepDescriptors() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // without /proc there is no conmgr either: it needs its own start time
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

func isPipe(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

func (o *output) close() {
	if o.file != nil {
		_ = o.file.Close()
	}
}

// copyLog shows the caller what it would have seen without the file.
func (o *output) copyLog(w io.Writer) {
	if o.instead {
		_, _ = io.Copy(w, io.NewSectionReader(o.file, o.offset, maxLogCopy))
	}
}

func (o *output) advice() string {
	if o.file != nil {
		return fmt.Sprintf("Examine the log output in \"%s\".", o.file.Name())
	}
	return "Examine the log output."
}
