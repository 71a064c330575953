package simulate

import (
	"fmt"
	"time"
)

// Result is what became of a run.
type Result struct {
	Seed                 uint64
	Simulated            time.Duration
	Ends, Losses, Checks int    // sessions ended, losses told, sessions of dead hosts that were looked for
	Rule, Text           string // the rule that was broken, if one was
	Transcript           string // of a run that has kept it
}

// Run lets random things happen for a time.
func Run(seed uint64, length time.Duration, keep bool) Result {
	w := newWorld(seed, keep)
	w.plan(seed)
	return w.run(seed, length)
}

// plan makes what is there, and lets it begin.
func (w *world) plan(seed uint64) {
	if reloading(seed) {
		w.slots = manySlots
	}
	w.people()
	w.rarer(seed)
	w.returning(seed)
	w.reloads(seed)
	w.reportsOnly(seed)
	w.applications()
	w.troubles()
}

func (w *world) run(seed uint64, length time.Duration) Result {
	begin := w.now
	for end := w.now.Add(length); w.failure == nil && w.step(end); {
	}
	for _, d := range w.databases {
		if faults := d.mem.Faults(); len(faults) > 0 {
			w.fail("store", "%s", faults[0])
		}
	}
	r := Result{Seed: seed, Simulated: w.now.Sub(begin), Ends: w.oracle.ends, Losses: w.losses, Checks: w.checks}
	if f := w.failure; f != nil {
		r.Rule, r.Text = f.rule, fmt.Sprintf("at %.3f s: %s", time.Duration(f.at).Seconds(), f.text)
	}
	r.Transcript = w.transcript()
	return r
}
