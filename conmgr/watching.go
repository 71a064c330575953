package conmgr

// What others see of a conmgr: its history, metrics and http page, and event_command. All of it
// hangs on events and snapshots; nothing waits for it. Wired by the main goroutine.

import (
	"context"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/console"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/conmgr/history"
	"github.com/pgwatchdog/watchdog/conmgr/hook"
	"github.com/pgwatchdog/watchdog/conmgr/metrics"
	"github.com/pgwatchdog/watchdog/conmgr/web"
)

type watching struct {
	history *history.History
	hook    *hook.Hook
	metrics *metrics.Metrics
	stats   *console.Stats
	web     *web.Server
}

// subscribe begins to take note, before there is anything else.
func (w *watching) subscribe(d *daemon) {
	w.hook = hook.New(d.events)
	w.hook.Dir = d.dir
	w.hook.Set(d.conf.EventCommand, d.conf.EventCommandTimeout)
	w.history = history.New(d.conf.EventHistory, time.Now, w.hook.Take)
	if d.before != nil {
		w.history.Restore(d.before.Events)
	}
	w.metrics = metrics.New(d.conf.Instances)
	w.stats = console.NewStats(d.conf)
	if d.before != nil {
		w.hook.Restore(d.before)
		w.metrics.Restore(d.before)
		w.stats.Restore(d.before.Counts)
	}
	d.events.Subscribe(w.history.Take)
	d.events.Subscribe(w.metrics.Take)
	d.events.Subscribe(w.stats.Take)
}

// leave is what goes on in the process that this one becomes.
func (w *watching) leave(r *handover.Record) {
	r.Events = w.history.Since(0)
	w.hook.Leave(r)
	r.Counts = w.stats.Leave()
	w.metrics.Leave(r)
}

// serve has a server that is shut.
func (w *watching) serve(d *daemon) {
	w.web = web.New(web.Surroundings{Board: d.board, Registry: d.registry, History: w.history, Metrics: w.metrics,
		Events: d.events, Group: d.group, Now: d.now})
}

// start opens the ports, which d.serve serves, and lets event_command run.
func (w *watching) start(ctx context.Context, d *daemon) error {
	if d.before != nil {
		w.web.Inherit(d.before.HTTP)
	}
	if err := w.web.Open(ctx, d.conf); err != nil {
		if d.before == nil {
			return err
		}
		d.events.Emit(event.HTTPNotOpen{Err: err}) // applications would lose their sessions by our end
	}
	d.group.Go("event_command", func() { w.hook.Run(ctx) })
	return nil
}
