package control

// cm_ctl events: what has happened, as the running conmgr has kept it. Blocks on its answers; with
// --follow until it is interrupted, also over restarts of conmgr.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

const (
	followInterval = 4 * pollInterval // how often conmgr is asked for more
	followPatience = 60 * time.Second // a conmgr that is away for longer does not come back
)

// numericEventFields are those of cm.EventColumns that are numbers; the others are texts.
var numericEventFields = map[string]bool{"number": true, cm.ColInstance: true, cm.ColPort: true, "repeated": true}

func (r *run) events(ctx context.Context) int {
	info, running, err := Running(r.dir)
	if r.notRunning(info, running, err) {
		return exitFailure
	}
	last := uint64(0)
	err = r.askEvents(ctx, info, &last)
	if err == nil && r.follow {
		err = r.followEvents(ctx, &last)
	}
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case *r.unsaid != nil:
		r.fail("could not write to standard output: %v", cause(*r.unsaid))
		return exitFailure
	case err != nil:
		r.fail("conmgr process (PID %d) does not tell its events: %s", info.Pid, strings.ReplaceAll(err.Error(), "\n", "; "))
		return exitFailure
	}
	return exitOK
}

// followEvents asks for more until ctx ends, or nobody can be told any more. A conmgr that is
// restarted is waited for: the numbers of its events rise over that.
func (r *run) followEvents(ctx context.Context, last *uint64) error {
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	answered := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		info, running, err := Running(r.dir)
		if err == nil && !running {
			err = errors.New("it does not run any more")
		}
		if err == nil {
			err = r.askEvents(ctx, info, last)
		}
		switch {
		case err == nil:
			answered = time.Now()
		case time.Since(answered) > followPatience:
			return err
		}
		if *r.unsaid != nil {
			return nil
		}
	}
}

// askEvents asks for those after the last one, and tells them.
func (r *run) askEvents(ctx context.Context, info Info, last *uint64) error {
	answers, err := ask(ctx, info, r.limit(defaultStatusTimeout), fmt.Sprintf("SHOW EVENTS AFTER %d", *last))
	if err != nil {
		return err
	}
	for i := range answers[0].values {
		f := answers[0].row(i)
		if n, err := strconv.ParseUint(f.shown("number"), 10, 64); err == nil {
			*last = max(*last, n)
		}
		if r.json {
			r.write(eventJSON(answers[0], i))
		} else {
			r.say("%s", eventText(f))
		}
	}
	return nil
}

// eventJSON is a line with the fields in their order; those that do not apply are left out.
func eventJSON(answer rows, i int) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for j, name := range answer.columns {
		v := answer.values[i][j]
		if v == nil {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", name)
		if _, err := strconv.ParseInt(*v, 10, 64); err == nil && numericEventFields[name] {
			b.WriteString(*v)
			continue
		}
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(*v)
		b.Truncate(b.Len() - 1) // its newline
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// eventText is one for people.
func eventText(f fields) string {
	s := fmt.Sprintf("%s  %s:  %s", f.shown("time"), f.shown("level"), f.shown("text"))
	if n := f.number("repeated"); n != nil {
		s += fmt.Sprintf(" (and %d more)", *n)
	}
	for _, name := range []string{"detail", "hint"} {
		if v := f.shown(name); v != "" {
			s += fmt.Sprintf("\n    %s:  %s", strings.ToUpper(name), v)
		}
	}
	return s + "\n"
}
