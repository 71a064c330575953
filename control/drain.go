package control

// cm_ctl drain and undrain: the running conmgr sends its applications to an instance no more, or
// again. Blocks on the answers to its questions; with --wait until no application is bound to the
// instance, for at most the timeout.

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// drainAskInterval is how often conmgr is asked who is left.
const drainAskInterval = 4 * pollInterval

func (r *run) drain(ctx context.Context) int {
	info, running, err := Running(r.dir)
	if r.notRunning(info, running, err) {
		return exitFailure
	}
	limit := defaultStatusTimeout
	if r.waits && r.action == "drain" {
		limit = defaultTimeout
	}
	deadline := time.Now().Add(r.limit(limit))
	left, code := r.orderDrain(ctx, info, deadline)
	if code != exitOK || left == 0 || !r.waits || r.action != "drain" {
		return code
	}
	return r.awaitDrained(ctx, info, left, deadline)
}

// orderDrain has conmgr begin or end it, and returns how many applications are bound.
func (r *run) orderDrain(ctx context.Context, info Info, deadline time.Time) (left int64, code int) {
	statement := fmt.Sprintf("%s INSTANCE %d", strings.ToUpper(r.action), r.instance)
	answers, err := ask(ctx, info, time.Until(deadline), statement)
	if ctx.Err() != nil {
		return 0, exitInterrupted
	}
	if err == nil && len(answers[0].values) != 1 {
		err = fmt.Errorf("%s: an answer of %d rows", statement, len(answers[0].values))
	}
	if err != nil {
		r.fail("conmgr process (PID %d) has not done so: %s", info.Pid, strings.ReplaceAll(err.Error(), "\n", "; "))
		return 0, exitFailure
	}
	f := answers[0].row(0)
	by := f.shown(cm.ColDraining)
	if n := f.number(cm.ColBound); n != nil {
		left = *n
	}
	switch {
	case r.action == "drain":
		r.say("instance %d is draining; %s\n", r.instance, countBound(left))
	case by != "":
		r.say("instance %d is not drained on this host any more, but by its server\n", r.instance)
	default:
		r.say("instance %d is not draining any more; %s\n", r.instance, countBound(left))
	}
	return left, exitOK
}

// awaitDrained waits until nobody is bound to the instance. A conmgr that is restarted meanwhile knows
// of nobody at first: applications have its application_grace to come back to it, so that none of them
// being there says nothing before that.
func (r *run) awaitDrained(ctx context.Context, info Info, left int64, deadline time.Time) int {
	r.say("waiting for applications to leave instance %d", r.instance)
	dots := r.progress()
	ticker := time.NewTicker(drainAskInterval)
	defer ticker.Stop()
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()
	var returning time.Time
	for left > 0 || time.Now().Before(returning) {
		select {
		case <-ticker.C:
		case <-timeout.C:
			r.say(" failed\n")
			if left == 0 {
				r.fail("instance %d: conmgr was restarted, and applications may still come back to it", r.instance)
			} else {
				r.fail("instance %d: %s still", r.instance, countBound(left))
			}
			r.hint("\"cm_ctl status -i application\" shows them. The instance is draining all the same.")
			return exitFailure
		case <-ctx.Done():
			r.say("\n")
			return exitInterrupted
		}
		dots.tick()
		n, grace, err := r.askLeft(ctx, info, deadline)
		now, running, _ := Running(r.dir) // after the answer: it is that one's, or of the one before
		switch {
		case err == nil:
			left = n
		case ctx.Err() != nil, !time.Now().Before(deadline):
		case !running, errors.Is(err, errUndone): // else it may be about to be restarted in place
			r.say(" failed\n")
			r.fail("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
			return exitFailure
		}
		if running && now.Again.Image != info.Again.Image {
			if err != nil {
				continue
			}
			info, returning = now, time.Now().Add(grace)
		}
	}
	r.say("\nno application is bound to instance %d any more\n", r.instance)
	return exitOK
}

var errUndone = errors.New("somebody has undrained it")

// askLeft asks how many applications are bound to the instance, and for how long they may be away from
// a conmgr. It is errUndone if the instance is not drained here any more.
func (r *run) askLeft(ctx context.Context, info Info, deadline time.Time) (left int64, grace time.Duration, err error) {
	said, answers, err := askConsole(ctx, info, time.Until(deadline), "SHOW INSTANCES")
	if err != nil {
		return 0, 0, fmt.Errorf("conmgr process (PID %d) does not answer on port %d: %w", info.Pid, info.Port, err)
	}
	if ms, err := strconv.ParseUint(said[cm.GraceParameter], 10, 32); err == nil {
		grace = time.Duration(ms) * time.Millisecond
	}
	for i := range answers[0].values {
		f := answers[0].row(i)
		if n := f.number(cm.ColInstance); n == nil || *n != int64(r.instance) {
			continue
		}
		left := f.number(cm.ColBound)
		if left == nil || !strings.Contains(f.shown(cm.ColDraining), cm.DrainHere) {
			break
		}
		return *left, grace, nil
	}
	return 0, 0, fmt.Errorf("instance %d is not drained on this host any more: %w", r.instance, errUndone)
}
