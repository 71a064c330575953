package bind

// The board gathers what the instances' goroutines tell, and one goroutine (run) makes the routing
// table of it, keeps what is known of the set, and tells applications of a loss. post never blocks:
// heartbeats do not wait for anything here.

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// settleTime is how long, where nothing is known yet, the first instance that answers waits for the
// others: together they tell which database cluster the set is.
const settleTime = time.Second

// keepLimit bounds the time for which a table waits until what it is made of is in the file.
const keepLimit = 100 * time.Millisecond

type update struct {
	Status
	fresh  bool
	losses uint64
	loss   *heartbeat.Loss // the last one
	said   []Status        // of before status, while it was established
}

// maxSaid bounds what is kept of an instance between two tables; its last words are.
const maxSaid = 16

// Board is made by NewBoard.
type Board struct {
	conf      *conf.Current
	events    *event.Hub
	registry  *Registry
	OnLost    func(entries []Entry, index int) // called by run at each loss, if it is not nil
	keeper    *Keeper                          // nil: nothing is kept
	KeepLimit time.Duration                    // keepLimit; tests have their own

	Table atomic.Pointer[Table]
	Heard []atomic.Int64 // Mono of the last reception; 0: none

	mu      sync.Mutex
	pending []update
	wake    chan struct{}
	forgets chan forgetRequest
	drains  chan drainRequest
	pings   chan struct{}
	ended   chan struct{} // closed when run has ended
	run     uint64        // names this process in the tokens of RESUME
	started time.Time
	joined  chan struct{} // somebody waits for a target

	released event.WaitersServed // since there were some; owned by run, as are the next
	told     []string            // conflicts that were told
	presence *event.Presence     // that was told
	first    time.Time           // when the first instance has answered, while nothing is known
}

// NewBoard makes the first table; known is what was kept.
func NewBoard(current *conf.Current, events *event.Hub, r *Registry, k *Keeper, known route.Known) *Board {
	conf := current.Load()
	b := &Board{conf: current, events: events, registry: r, keeper: k, KeepLimit: keepLimit,
		Heard: make([]atomic.Int64, len(conf.Instances)), pending: make([]update, len(conf.Instances)),
		wake:    make(chan struct{}, 1),
		forgets: make(chan forgetRequest), drains: make(chan drainRequest), pings: make(chan struct{}), ended: make(chan struct{}),
		joined: make(chan struct{}, 1)}
	r.joined = func() { signal(b.joined) }
	var run [8]byte
	rand.Read(run[:])
	b.run, b.started = binary.BigEndian.Uint64(run[:]), time.Now()
	entries := make([]Entry, len(conf.Instances))
	for i := range entries {
		entries[i].Config = &conf.Instances[i]
	}
	k.drained(entries)
	b.Table.Store(newTable(entries, known, false, b.rules(), time.Now()))
	return b
}

func (b *Board) rules() route.Rules {
	c := b.conf.Load()
	return route.Rules{StandbyGrace: c.StandbyTimelineGrace, MaxLag: c.StandbyMaxLag}
}

// Heartbeats are the times of conmgr.conf.
func (b *Board) Heartbeats() (interval, timeout time.Duration) {
	c := b.conf.Load()
	return c.HeartbeatInterval, c.HeartbeatTimeout
}

// Received records a reception, without a new table.
func (b *Board) Received(index int, t clock.Mono) { b.Heard[index].Store(int64(t)) }

// Post leaves an instance's new status, and perhaps a loss. A status that run has not seen yet is
// replaced, but neither a loss nor what the instance has said is dropped: it may have told of its
// promotion, and be gone.
func (b *Board) Post(index int, s Status, loss *heartbeat.Loss) {
	b.mu.Lock()
	u := &b.pending[index]
	if u.fresh && u.Established() {
		if len(u.said) == maxSaid {
			u.said = u.said[1:]
		}
		u.said = append(u.said, u.Status)
	}
	u.Status, u.fresh = s, true
	if loss != nil {
		u.losses++
		u.loss = loss
	}
	b.mu.Unlock()
	b.rouse()
}

func (b *Board) rouse() { signal(b.wake) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run makes tables, and serves those who wait for one, until stop is closed.
func (b *Board) Run(stop <-chan struct{}) {
	defer close(b.ended)
	timer, line := time.NewTimer(0), time.NewTimer(0)
	defer timer.Stop()
	defer line.Stop()
	for {
		select {
		case <-b.wake:
			b.rebuild()
		case <-timer.C:
			b.rebuild()
		case f := <-b.forgets:
			b.forget(f)
		case d := <-b.drains:
			b.drain(d)
		case <-b.pings:
		case <-b.joined:
		case <-line.C:
		case <-stop:
			return
		}
		arm(line, b.serve(time.Now()))
		arm(timer, b.next())
	}
}

// Reconfigured has a table be made by what the configuration says now.
func (b *Board) Reconfigured() { signal(b.wake) }

// Ping returns when Run does its work, or has ended.
func (b *Board) Ping() { b.PingUntil(nil) }

// PingUntil is Ping that ends by a time, too. It tells whether Run does its work.
func (b *Board) PingUntil(end <-chan time.Time) bool {
	select {
	case b.pings <- struct{}{}:
		return true
	case <-b.ended:
	case <-end:
	}
	return false
}

// arm has a timer fire at a time; zero: never.
func arm(timer *time.Timer, at time.Time) {
	if at.IsZero() {
		timer.Stop()
	} else {
		timer.Reset(max(0, time.Until(at)))
	}
}

// serve has those go who have waited for this table, as many as may at a time. It returns when there
// is more to do.
func (b *Board) serve(now time.Time) (next time.Time) {
	next, n, longest := b.registry.serve(b.Table.Load(), now)
	b.released.N, b.released.Longest = b.released.N+n, max(b.released.Longest, longest)
	if next.IsZero() && b.released.N > 0 {
		b.events.Emit(b.released)
		b.released = event.WaitersServed{}
	}
	return next
}

// next is when a table has to be made though nothing has happened.
func (b *Board) next() time.Time {
	if !b.first.IsZero() && time.Since(b.first) < settleTime {
		return b.first.Add(settleTime)
	}
	return b.Table.Load().Next
}

// settled tells whether the instances that have answered may tell which database cluster the set
// is.
func (b *Board) settled(known route.Known, entries []Entry, now time.Time) bool {
	heard := slices.ContainsFunc(entries, func(e Entry) bool { return e.Established() && e.Known })
	switch {
	case known.SystemIdentifier != 0 || !heard:
		b.first = time.Time{}
	case b.first.IsZero():
		b.first = now
	}
	return known.SystemIdentifier != 0 || heard && now.Sub(b.first) >= settleTime
}

// rebuild takes in what the instances have posted.
func (b *Board) rebuild() {
	b.mu.Lock()
	updates := slices.Clone(b.pending)
	for i := range b.pending {
		b.pending[i] = update{}
	}
	b.mu.Unlock()

	entries := slices.Clone(b.Table.Load().Entries)
	now := time.Now()
	known := b.Table.Load().Known
	for i := range updates {
		if u := &updates[i]; u.fresh {
			e := &entries[i]
			for _, e.Status = range u.said {
				known = known.Learn(factsOf(entries), false, now)
			}
			e.Status = u.Status
			e.Losses += u.losses
		}
	}
	settled := b.settled(known, entries, now)
	b.publish(entries, updates, known.Learn(factsOf(entries), settled, now), settled, now)
}

// publish publishes a new table, and then ends the bindings that a loss, or what is known now, has
// made void. In this order: an application that binds meanwhile either is found here, or finds the
// new table (registry.bind).
func (b *Board) publish(entries []Entry, updates []update, known route.Known, settled bool, now time.Time) {
	before := b.Table.Load()
	t := newTable(entries, known, settled, b.rules(), now)
	lost := func(i int) bool { return updates != nil && updates[i].loss != nil }
	left := func(i int) bool { return !lost(i) && t.Verdicts[i].Void && !before.Verdicts[i].Void }
	for i := range entries {
		if left(i) {
			entries[i].Losses++
		}
	}
	b.keep(known, before.Known, slices.ContainsFunc(updates, func(u update) bool { return u.loss != nil }))
	b.Table.Store(t)
	var told []Member
	for i := range entries {
		switch {
		case lost(i):
			told = append(told, b.lost(t, i, LossText(&entries[i], updates[i].loss), true)...)
		case left(i):
			told = append(told, b.superseded(t, i)...)
		}
	}
	finishAll(append(told, b.tellRoles(before, t)...))
	b.tellDrains(before, t)
	if known.SystemIdentifier != before.Known.SystemIdentifier || known.Timeline != before.Known.Timeline {
		b.events.Emit(event.KnownChanged{Known: known})
	}
	b.warn(t)
	if p := t.Presence(); b.presence == nil || *b.presence != p {
		b.presence = &p
		b.events.Emit(event.PresenceChanged{Presence: p})
	}
}

// keep has what is known written. Of a new timeline or cluster that is awaited (not the disk: some
// 0.1 ms): who is killed right after offering it must not come back without it, and offer the one
// before. A loss does not wait, nor one that comes meanwhile.
func (b *Board) keep(known, before route.Known, loss bool) {
	if b.keeper == nil || known.Equal(before) {
		return
	}
	kept := b.keeper.Put(known)
	if loss || known.SystemIdentifier == before.SystemIdentifier && known.Timeline <= before.Timeline {
		return
	}
	limit := time.NewTimer(b.KeepLimit)
	defer limit.Stop()
	defer b.rouse() // there may be something new for the next table
	for {
		select {
		case <-kept:
			return
		case <-limit.C:
			return
		case <-b.wake:
			if b.hasLoss() {
				return
			}
		}
	}
}

// hasLoss tells whether one is to be told.
func (b *Board) hasLoss() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.pending, func(u update) bool { return u.loss != nil })
}

// lost ends what is bound to an instance, and returns it for finishAll. With notify_loss = off it
// only reports.
func (b *Board) lost(t *Table, i int, text string, destroy bool) []Member {
	e := &t.Entries[i]
	if !b.conf.Load().NotifyLoss {
		apps, relayed := b.registry.bySort(i)
		b.onlyReport(e, apps, relayed, destroy && b.OnLost != nil)
		return nil
	}
	if destroy && b.OnLost != nil {
		b.OnLost(t.Entries, i)
	}
	list := b.registry.lose(i, lossMessage(text))
	relayed := 0
	for _, c := range list {
		if c.Place().Relay {
			relayed++
		}
	}
	if n := len(list) - relayed; n > 0 {
		b.events.Emit(event.ApplicationsTold{Instance: event.Of(e.Config), N: n})
	}
	if relayed > 0 {
		b.events.Emit(event.RelaysReset{Instance: event.Of(e.Config), N: relayed})
	}
	return list
}

// onlyReport is what is done of a loss with notify_loss = off.
func (b *Board) onlyReport(e *Entry, applications, relayed int, destroy bool) {
	b.events.Emit(event.WouldHaveTold{Instance: event.Of(e.Config), Applications: applications, Relayed: relayed, Destroy: destroy})
}

// superseded ends what is bound to an instance from whose writes nothing will remain. Its
// heartbeats go on. Only where that is proved are connections destroyed that did not come by way of
// conmgr.
func (b *Board) superseded(t *Table, i int) []Member {
	e, v := &t.Entries[i], &t.Verdicts[i]
	if v.Superseded {
		b.events.Emit(event.Superseded{Instance: event.Of(e.Config), By: v.By})
	}
	return b.lost(t, i, e.lostText("superseded by "+v.By), v.Superseded)
}

// warn tells what an administrator should look into, once for as long as it goes on.
func (b *Board) warn(t *Table) {
	conflicts := t.Conflicts()
	for _, c := range conflicts {
		if !slices.Contains(b.told, c) {
			b.events.Emit(event.Conflict{What: c})
		}
	}
	b.told = conflicts
}

// LossText is what the application's error message says.
func LossText(e *Entry, loss *heartbeat.Loss) string {
	s := loss.String()
	if loss.Reason != heartbeat.LossSilence {
		s += fmt.Sprintf(" (last heartbeat %d ms ago)", loss.Silence.Milliseconds())
	}
	return e.lostText(s)
}

func (e *Entry) lostText(why string) string {
	return fmt.Sprintf("instance %d (host %q, address %s, port %d) is lost: %s", e.Config.Number, e.Config.Name(),
		e.Address(), e.Config.Port, why)
}
