package bind

// Draining: which instances this conmgr drains (cm_ctl drain), kept over restarts, and what is told
// when a drain begins or ends, whoever has ordered it. Board.Drain is called by sessions'
// goroutines, and waits for the disk; all else by the board's.

import (
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// drainRequest is a question to the board.
type drainRequest struct {
	index int
	on    bool
	done  chan struct{} // closed when the table says so
}

// drain is called by run. Nothing is learned by it.
func (b *Board) drain(d drainRequest) {
	t, now := b.Table.Load(), time.Now()
	entries := slices.Clone(t.Entries)
	entries[d.index].Drained = d.on
	b.publish(entries, nil, t.Known, b.settled(t.Known, entries, now), now)
	close(d.done)
}

// Drain begins or ends the drain of the instance of an index on this host. ok is false if conmgr is
// ending; the error is that of the disk.
func (b *Board) Drain(index int, on bool) (ok bool, err error) {
	d := drainRequest{index, on, make(chan struct{})}
	select {
	case b.drains <- d:
	case <-b.ended:
		return false, nil
	}
	<-d.done
	return true, b.keeper.saveDrained(func() []Entry { return b.Table.Load().Entries })
}

// tellDrains tells of drains that have begun or ended with a table, which is published: whoever binds
// meanwhile is told here, or does not get the instance.
func (b *Board) tellDrains(before, now *Table) {
	for i := range now.Entries {
		was, is := before.Draining(i), now.Draining(i)
		if (was == "") == (is == "") {
			continue
		}
		of, bound := event.Of(now.Entries[i].Config), b.registry.BoundTo(i)
		if is != "" {
			told := b.registry.Notify(i, cm.NoticeDraining)
			b.events.Emit(event.DrainBegun{Instance: of, By: is, Bound: bound, Told: told})
		} else {
			b.events.Emit(event.DrainEnded{Instance: of, Bound: bound, Told: b.tellServing(i, &now.Entries[i])})
		}
	}
}

// tellServing tells of the end of a drain, and returns to how many. "serving" takes back whatever was
// told before: who is to leave because of his instance's role is told that again in its place.
func (b *Board) tellServing(i int, e *Entry) (told int) {
	leaves := func(s *Seat) bool {
		return b.conf.Load().OnRoleChange == conf.RoleNotified && e.Known && !route.Fits(e.Attributes, cm.Attribute(s.target))
	}
	return b.registry.notifySome(i, roleNotice(e), leaves) +
		b.registry.notifySome(i, cm.NoticeServing, func(s *Seat) bool { return !leaves(s) })
}

// drained marks the instances of conmgr.conf that a conmgr before this one has drained. An entry is
// known again by its host and port: its number may have changed.
func (k *Keeper) drained(entries []Entry) {
	if k == nil {
		return
	}
	kept, err := control.LoadDrained(k.dir)
	if err != nil {
		k.events.Emit(event.DrainsUnreadable{Err: err, Hint: setAside(k.dir, cm.DrainFile)})
	}
	for _, d := range kept {
		found := -1
		for i := range entries {
			c := entries[i].Config
			if c.Name() == d.Host && c.Port == d.Port && (found < 0 || c.Number == d.Number) {
				found = i
			}
		}
		if found < 0 {
			k.events.Emit(event.DrainDropped{What: d})
			continue
		}
		entries[found].Drained = true
		k.events.Emit(event.DrainKept{Instance: event.Of(entries[found].Config)})
	}
}

// saveDrained writes what is drained at the time of writing: of two who ask, the second one finds
// both.
func (k *Keeper) saveDrained(now func() []Entry) error {
	if k == nil {
		return nil
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	var all []control.Drained
	for _, e := range now() {
		if e.Drained {
			all = append(all, control.Drained{Number: e.Config.Number, Host: e.Config.Name(), Port: e.Config.Port})
		}
	}
	return control.SaveDrained(k.dir, all)
}

// firstNotice is what a connection is told at once of the instance that it has just been bound to;
// nil: nothing. The registry's lock is held: what ends the drain meanwhile is noted after it.
func firstNotice(t *Table, s *Seat) []byte {
	if s.Bound < 0 || !s.Notified || t.Draining(s.Bound) == "" {
		return nil
	}
	return backend.ParameterStatus(cm.NoticeParameter, cm.NoticeDraining)
}

// BoundTo is how many are bound to the instance of an index, relayed ones included.
func (r *Registry) BoundTo(index int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.bound[index])
}
