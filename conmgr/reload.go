package conmgr

// A reload: conmgr.conf is read again. What can change at once does; for the rest the process goes
// on in place (restart.go), with its ports and what is relayed, and applications are bound again: no
// session ends. What applications know conmgr by changes at a restart only. Run by the main
// goroutine.

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/console"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// answerTime is for the answer to RELOAD to be written before the process goes on in place.
const answerTime = time.Second

// reloadRequest is a RELOAD.
type reloadRequest struct {
	answer  chan console.Reloaded
	written chan struct{} // closed when the answer is
	stays   chan struct{} // closed if this process goes on
}

// askReload is RELOAD's: the main goroutine does it. ok is false if conmgr ends.
func (d *daemon) askReload() (answer console.Reloaded, written func(), ok bool) {
	r := reloadRequest{make(chan console.Reloaded, 1), make(chan struct{}), make(chan struct{})}
	written = func() { close(r.written) }
	select {
	case d.reloads <- r:
		return <-r.answer, written, true
	case <-d.endless:
		return console.Reloaded{}, written, false
	}
}

// reload reads the file again, and does what can be done at once. again: the process has to go on in
// place for the rest.
func (d *daemon) reload() (result console.Reloaded, again bool) {
	running := d.current.Load()
	next, changes, diags := conf.Reload(running)
	inPlace := slices.ContainsFunc(changes, func(c conf.Change) bool { return c.Context == conf.InPlace })
	keeps := running.Keep(changes)
	if next != nil && inPlace {
		for _, w := range unfit(running, keeps, changes) {
			next, diags = nil, append(diags, w)
		}
	}
	for _, w := range diags {
		d.events.Emit(event.Configured{Warning: w.Warning, Said: w.String(), Hint: w.Hint})
	}
	if next == nil {
		d.events.Emit(event.NotReloaded{})
		result.Err = reloadError(diags)
		return result, false
	}
	if inPlace {
		why := d.mayBecome()
		if why == nil {
			again = true
		} else {
			d.events.Emit(event.NotInPlace{Err: why})
		}
	}
	merged := running.With(next, changes)
	d.current.Store(merged)
	d.log.SetLevel(merged.LogMinMessages)
	d.watching.hook.Set(merged.EventCommand, merged.EventCommandTimeout)
	d.board.Reconfigured()
	for _, c := range changes {
		row := console.Changed{Name: c.Name, Value: c.Value, Effect: cm.EffectNow}
		switch {
		case c.Context == conf.Postmaster, c.Context == conf.InPlace && !again:
			row.Effect = cm.EffectRestart
		case c.Context == conf.InPlace:
			row.Effect = cm.EffectInPlace
		}
		result.Changes = append(result.Changes, row)
		d.events.Emit(event.ParameterChanged{Name: c.Name, Value: c.Value, Pending: row.Effect == cm.EffectRestart})
	}
	if d.keeps = nil; again {
		d.keeps = keeps
	}
	d.events.Emit(event.Reloaded{})
	return result, again
}

// reloadError is all that is wrong with the file: the first error, and the others behind it, as
// conmgr --check writes them.
func reloadError(diags []conf.Diagnostic) *backend.Error {
	diags = slices.DeleteFunc(slices.Clone(diags), func(w conf.Diagnostic) bool { return w.Warning })
	e := &backend.Error{Code: cm.ConfigFileError, Text: diags[0].String(), Hint: "Nothing was changed."}
	if diags[0].Hint != "" {
		e.Hint = diags[0].Hint + " " + e.Hint
	}
	var others strings.Builder
	conf.Report(diags[1:], &others)
	e.Detail = strings.TrimSuffix(others.String(), "\n")
	return e
}

// reloaded is a reload by signal or by RELOAD. The error is that of become.
func (d *daemon) reloaded(r *reloadRequest, cancel func()) error {
	result, again := d.reload()
	if r != nil {
		if again {
			result.Stays = r.stays
		}
		r.answer <- result
	}
	if !again {
		return nil
	}
	if r != nil {
		select {
		case <-r.written:
		case <-time.After(answerTime):
		}
	}
	err := d.become(nil, cancel) // it was looked at
	if r != nil && err == nil {
		close(r.stays)
	}
	return err
}

// loadAfter is the configuration of a process, which may go on in place.
func loadAfter(dir string, before *handover.Record) (*conf.Config, []conf.Diagnostic) {
	if before == nil {
		return conf.Load(dir)
	}
	return conf.LoadKept(dir, before.Kept)
}

// again is a restart in place, or a reload.
func (d *daemon) again(sig os.Signal, cancel func()) error {
	if sig == syscall.SIGHUP {
		return d.reloaded(nil, cancel)
	}
	d.keeps = nil
	why := d.mayBecome()
	if why == nil {
		why = d.fits()
	}
	return d.become(why, cancel)
}
