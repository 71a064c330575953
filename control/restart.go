package control

// cm_ctl restart. A conmgr that can becomes the program that is installed now: its process, and what
// is relayed, stay. Else it ends, says that it will be back, and is started; a mode that was asked
// for, and a conmgr that cannot be away, are a stop and a start. Blocks until the new one is as far
// as was asked for, for at most the timeout.

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

func (r *run) restart(ctx context.Context) int {
	info, running, err := Running(r.dir)
	if err != nil {
		r.fail("%v", err)
		return exitFailure
	}
	if r.notRunning(info, running, nil) {
		r.hint("trying to start conmgr process anyway")
		return r.start(ctx)
	}
	if !r.asked && (info.Again.Returns || info.Again.Becomes) {
		becomes, ok := r.fit(ctx)
		switch {
		case !ok:
			return exitFailure
		case becomes && info.Again.Becomes && r.log == "":
			return r.become(ctx, info)
		case info.Again.Returns:
			r.mode = modeReturns
		}
	}
	if code := r.stopProcess(ctx, info, true); code != exitOK {
		return code
	}
	return r.start(ctx)
}

// fit looks at what would run then, before anything is ended. becomes: it can take over from the one
// that runs.
func (r *run) fit(ctx context.Context) (becomes, ok bool) {
	program, err := r.program()
	if err != nil {
		r.fail("%v", err)
		return false, false
	}
	if out, err := checkProgram(ctx, program, r.dir); err != nil {
		_, _ = r.Stderr.Write(out)
		r.fail("conmgr process is not restarted, and goes on as it is: %s cannot be used (%v)", cm.ConfigFile, err)
		return false, false
	}
	_, err = checkProgram(ctx, program, r.dir, cm.HandoverOption)
	return err == nil, true
}

// checkProgram has a program look at a directory. The output is what it says.
func checkProgram(ctx context.Context, program, dir string, more ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, append([]string{"--check", "-D", dir}, more...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}

// become has the process become the program that is installed now.
func (r *run) become(ctx context.Context, info Info) int {
	p, err := openProcess(info)
	if err == nil {
		defer p.close()
		err = p.signal(unix.SIGUSR2)
	}
	if err != nil {
		r.fail("could not send restart signal (PID: %d): %v", info.Pid, err)
		return exitFailure
	}
	r.say("conmgr process restarting\n")
	return r.awaitSuccessor(ctx, p, info, time.Now().Add(r.limit(defaultTimeout)), "restarted conmgr process successfully\n")
}

// awaitSuccessor waits until the process has become another one, as far as was asked for.
func (r *run) awaitSuccessor(ctx context.Context, p *process, info Info, deadline time.Time, done string) int {
	goal := StatusReady
	switch {
	case !r.wait:
		goal = StatusStarting
	case r.complete:
		goal = StatusComplete
	}
	dots := r.progress()
	for ; ; dots.tick() {
		if p.waitExit(ctx, time.Now().Add(pollInterval)) {
			r.fail("conmgr process (PID %d) has ended", info.Pid)
			r.hint("Examine its log output.")
			return exitFailure
		}
		now, err := ReadPidFile(r.dir)
		switch {
		case ctx.Err() != nil:
			return exitInterrupted
		case err == nil && now.Pid == info.Pid && now.Again.Image != info.Again.Image && r.reached(ctx, now, goal):
			r.say("%s", done)
			return exitOK
		case err == nil && now.Again.Image == info.Again.Image && now.Refused.Times > info.Refused.Times:
			why, more, _ := strings.Cut(now.Refused.Why, "\n")
			r.fail("conmgr process (PID %d) has not restarted, and goes on as it is: %s", info.Pid, printable(why))
			r.explain("", more)
			return exitFailure
		case time.Now().After(deadline) && err == nil && now.Again.Image != info.Again.Image:
			r.fail("conmgr process (PID %d) goes on as a new one, and is not connected to the watchdog in time", info.Pid)
			r.hint("\"cm_ctl status\" shows its instances.")
			return exitFailure
		case time.Now().After(deadline):
			r.fail("conmgr process has not restarted in time")
			r.hint("Examine its log output: it goes on as it is if it could not.")
			return exitFailure
		}
	}
}

// reached tells whether a conmgr is as far as was asked for.
func (r *run) reached(ctx context.Context, info Info, goal Status) bool {
	if info.Status == StatusStopping || info.Status.rank() < goal.rank() {
		return false
	}
	return goal != StatusReady || info.Status != StatusComplete || info.Presence.Primary
}

// CheckHandover tells whether a program can take over from a conmgr process: its configuration is
// right, and it knows how.
func CheckHandover(ctx context.Context, program, dir string) error {
	for _, more := range [][]string{nil, {cm.HandoverOption}} {
		if out, err := checkProgram(ctx, program, dir, more...); err != nil {
			text := strings.TrimSpace(string(out))
			if text == "" {
				text = err.Error()
			}
			return fmt.Errorf("\"%s\": %s", program, text)
		}
	}
	return nil
}
