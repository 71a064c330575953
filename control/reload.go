package control

// cm_ctl reload: the running conmgr reads conmgr.conf again. Blocks on its answer, and, where it goes
// on in place for that, until it is as far as it was, for at most the timeout.

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

func (r *run) reload(ctx context.Context) int {
	info, running, err := Running(r.dir)
	if r.notRunning(info, running, err) {
		return exitFailure
	}
	p, err := openProcess(info)
	if err != nil {
		r.fail("%v", err)
		return exitFailure
	}
	defer p.close()
	deadline := time.Now().Add(r.limit(defaultTimeout))
	answers, err := ask(ctx, info, time.Until(deadline), "RELOAD")
	if ctx.Err() != nil {
		return exitInterrupted
	}
	if err != nil {
		r.fail("conmgr process (PID %d) goes on as it is: %s", info.Pid, strings.TrimPrefix(err.Error(), "RELOAD: "))
		if why := (*refusal)(nil); errors.As(err, &why) {
			r.explain("DETAIL:  ", why.said.Detail)
			r.explain("HINT:  ", why.said.Hint)
		}
		return exitFailure
	}
	inPlace, pending := false, 0
	for i := range answers[0].values {
		f := answers[0].row(i)
		name, value, effect := f.shown("name"), f.shown("setting"), f.shown("effect")
		inPlace = inPlace || effect == cm.EffectInPlace
		if effect == cm.EffectRestart {
			pending++
			r.say("parameter \"%s\" cannot be changed without restarting conmgr\n", name)
			continue
		}
		r.say("parameter \"%s\" changed to \"%s\"\n", name, value)
	}
	if pending > 0 {
		r.hint("\"cm_ctl restart\" ends no session, but applications that know conmgr by its port or socket lose it if these change.")
	}
	if inPlace {
		if info.Status.rank() < StatusReady.rank() {
			r.wait = false // for a primary that was not there before
		}
		return r.awaitSuccessor(ctx, p, info, deadline, "reloaded conmgr process successfully\n")
	}
	r.say("reloaded conmgr process successfully\n")
	return exitOK
}

// explain writes what conmgr has said besides, which may have several lines.
func (r *run) explain(what, text string) {
	for line := range strings.Lines(text) {
		r.hint(what + printable(strings.TrimSuffix(line, "\n")))
		what = ""
	}
}
