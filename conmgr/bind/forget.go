package bind

// What is known of the set of instances is forgotten. A session's goroutine asks the board's, and
// then waits for the disk.

import (
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/route"
)

// forgetRequest is a question to the board.
type forgetRequest struct {
	instance int // number; -1: everything
	done     chan route.Known
}

// forget is called by run. What the instances say now counts at once, so that only what nobody says
// any more is really forgotten.
func (b *Board) forget(f forgetRequest) {
	t, now := b.Table.Load(), time.Now()
	all := factsOf(t.Entries)
	known := t.Known.Forget(f.instance, all, now).Learn(all, true, now)
	b.events.Emit(event.Forgotten{Was: t.Known, Now: known})
	b.publish(slices.Clone(t.Entries), nil, known, true, now)
	f.done <- known
}

// Forget has the set, or what an instance of that number has told, forgotten, and returns what
// is known then. ok is false if conmgr is ending; the error is that of the disk.
func (b *Board) Forget(number int) (known route.Known, ok bool, err error) {
	f := forgetRequest{number, make(chan route.Known, 1)}
	select {
	case b.forgets <- f:
	case <-b.ended:
		return route.Known{}, false, nil
	}
	known = <-f.done
	return known, true, b.keeper.Save()
}
