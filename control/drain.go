package control

// cm_ctl drain and undrain: the running conmgr sends its applications to an instance no more, or
// again. Blocks on the answers to its questions; with --wait until no application is bound to the
// instance, for at most the timeout.

import (
	"context"
	"fmt"
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

// awaitDrained waits until nobody is bound to the instance.
func (r *run) awaitDrained(ctx context.Context, info Info, left int64, deadline time.Time) int {
	r.say("waiting for applications to leave instance %d", r.instance)
	dots := r.progress()
	ticker := time.NewTicker(drainAskInterval)
	defer ticker.Stop()
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()
	for left > 0 {
		select {
		case <-ticker.C:
		case <-timeout.C:
			r.say(" failed\n")
			r.fail("instance %d: %s still", r.instance, countBound(left))
			r.hint("\"cm_ctl status -i application\" shows them. The instance is draining all the same.")
			return exitFailure
		case <-ctx.Done():
			r.say("\n")
			return exitInterrupted
		}
		dots.tick()
		n, err := r.askLeft(ctx, info, deadline)
		if ctx.Err() == nil && err != nil && time.Now().Before(deadline) {
			r.say(" failed\n")
			r.fail("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
			return exitFailure
		}
		if err == nil {
			left = n
		}
	}
	r.say("\nno application is bound to instance %d any more\n", r.instance)
	return exitOK
}

// askLeft asks how many applications are bound to the instance. It is an error if it is not drained
// here any more.
func (r *run) askLeft(ctx context.Context, info Info, deadline time.Time) (int64, error) {
	answers, err := ask(ctx, info, time.Until(deadline), "SHOW INSTANCES")
	if err != nil {
		return 0, fmt.Errorf("conmgr process (PID %d) does not answer on port %d: %w", info.Pid, info.Port, err)
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
		return *left, nil
	}
	return 0, fmt.Errorf("instance %d is not drained on this host any more: somebody has undrained it", r.instance)
}
