package control

// cm_ctl stop and restart. Blocks until conmgr has ended, for at most the timeout.

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

type shutdownMode struct {
	name   string
	signal unix.Signal
}

var (
	modeSmart     = shutdownMode{"smart", unix.SIGINT}
	modeFast      = shutdownMode{"fast", unix.SIGTERM}
	modeImmediate = shutdownMode{"immediate", unix.SIGQUIT}
	modeReturns   = shutdownMode{"", unix.SIGUSR1} // of restart only: it will be back
	shutdownModes = []shutdownMode{modeSmart, modeFast, modeImmediate}
)

func (r *run) stop(ctx context.Context) int {
	info, running, err := Running(r.dir)
	if r.notRunning(info, running, err) {
		return exitFailure
	}
	return r.stopProcess(ctx, info, r.wait)
}

// stopProcess signals the process that info describes, and no other.
func (r *run) stopProcess(ctx context.Context, info Info, wait bool) int {
	p, err := openProcess(info)
	if err == nil {
		defer p.close()
		if r.mode != modeReturns {
			r.warnOfSessions(ctx, info)
		}
		err = p.signal(r.mode.signal)
	}
	if errors.Is(err, errGone) {
		r.fail("conmgr process (PID %d) has just ended", info.Pid)
		return exitFailure
	}
	if err != nil {
		r.fail("could not send stop signal (PID: %d): %v", info.Pid, err)
		return exitFailure
	}
	r.say("conmgr process shutting down")
	if !wait {
		r.say("\n")
		return exitOK
	}
	dots := r.progress()
	for deadline := time.Now().Add(r.limit(defaultTimeout)); ; {
		now := time.Now()
		step := now.Add(time.Second)
		if step.After(deadline) {
			step = deadline
		}
		if p.waitExit(ctx, step) {
			break
		}
		dots.tick()
		if ctx.Err() != nil {
			r.say("\n")
			return exitInterrupted
		}
		if !step.Before(deadline) {
			r.say(" failed\n")
			r.fail("conmgr process does not shut down")
			if r.mode == modeSmart {
				r.hint("HINT: The \"-m fast\" option immediately disconnects applications rather than\nwaiting for them to disconnect.")
			}
			return exitFailure
		}
	}
	r.say("\nstopped conmgr process successfully\n")
	return exitOK
}
