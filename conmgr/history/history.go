// Package history keeps the last events, for those who come later: SHOW EVENTS, cm_ctl events, the
// http page. It is a subscriber of the hub; its lock is held for a moment, whoever emits. Nothing
// blocks.
package history

import (
	"slices"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/event"
)

const (
	// Of one kind of what peers can cause again and again, as many as mostOfKind are kept in spell:
	// the others are counted. All of them together take half of the room at most, so that in the long
	// run they push nothing else out, either.
	spell      = 10 * time.Second
	mostOfKind = 10

	maxLasting = 16 // texts of an instance that are remembered, until it is established
	maxKinds   = 256
)

// History is made by New.
type History struct {
	now  func() time.Time
	tell func(event.Record)

	mu      sync.Mutex
	ring    []event.Record // the oldest at first
	first   int
	size    int // most of them
	last    uint64
	kinds   map[string]*spellOf
	made    map[string]bool         // names of events that peers can cause
	lasting map[int]map[string]bool // by number of the instance: what was kept, and goes on
	grown   chan struct{}           // closed when there is one more, or one more is counted
}

// spellOf is how many of a kind there were since a time.
type spellOf struct {
	since  time.Time
	n      int
	number uint64 // of the one that is kept and counts the others
}

// New keeps so many events. tell, unless it is nil, gets each that is kept; it does not block.
func New(size int, now func() time.Time, tell func(event.Record)) *History {
	return &History{now: now, tell: tell, size: size, kinds: map[string]*spellOf{}, made: map[string]bool{},
		lasting: map[int]map[string]bool{}, grown: make(chan struct{})}
}

// Resize is how many are kept from now on.
func (h *History) Resize(size int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.since(0)
	if n := len(kept) - size; n > 0 {
		kept = kept[n:]
	}
	h.ring, h.first, h.size = kept, 0, size
}

// Take is the subscriber.
func (h *History) Take(e event.Event) {
	if !event.Kept(e) {
		return
	}
	r := event.RecordOf(e)
	h.mu.Lock()
	defer h.mu.Unlock()
	kind, lasts := event.Repeats(e)
	if _, is := e.(event.Established); is {
		delete(h.lasting, *r.Instance)
	}
	if lasts && h.goesOn(*r.Instance, r.Text) || kind != "" && h.counted(kind) {
		return
	}
	r.Time = h.now().UTC().Truncate(time.Millisecond)
	h.last = max(h.last+1, uint64(r.Time.UnixMilli()))
	r.Number = h.last
	if s := h.kinds[kind]; s != nil {
		s.number = r.Number
	}
	if kind != "" {
		h.made[r.Event] = true
		h.makeRoom()
	}
	h.add(r)
	if h.tell != nil {
		h.tell(r)
	}
	h.rouse()
}

// goesOn tells whether a text was kept already of what lasts.
func (h *History) goesOn(instance int, text string) bool {
	told := h.lasting[instance]
	if told[text] {
		return true
	}
	if told == nil || len(told) >= maxLasting {
		told = map[string]bool{}
		h.lasting[instance] = told
	}
	told[text] = true
	return false
}

// counted counts one of a kind. It tells whether there were so many that it is not kept.
func (h *History) counted(kind string) bool {
	now := h.now()
	s := h.kinds[kind]
	if s == nil || now.Sub(s.since) >= spell || now.Before(s.since) {
		if len(h.kinds) >= maxKinds {
			clear(h.kinds)
		}
		h.kinds[kind] = &spellOf{since: now, n: 1}
		return false
	}
	if s.n++; s.n <= mostOfKind {
		return false
	}
	for i := range h.ring {
		if h.ring[i].Number == s.number {
			h.ring[i].Repeated++
		}
	}
	return true
}

func (h *History) add(r event.Record) {
	if len(h.ring) < h.size {
		h.ring = append(h.ring, r)
		return
	}
	h.ring[h.first] = r
	h.first = (h.first + 1) % len(h.ring)
}

// makeRoom takes the oldest one of the name of which there are most, if there is no room left for what
// peers cause.
func (h *History) makeRoom() {
	if len(h.ring) < h.size {
		return
	}
	total, of, most := 0, map[string]int{}, ""
	for i := range h.ring {
		if name := h.ring[i].Event; h.made[name] {
			total++
			if of[name]++; of[name] > of[most] {
				most = name
			}
		}
	}
	if total < h.size/2 {
		return
	}
	all := h.since(0)
	i := slices.IndexFunc(all, func(r event.Record) bool { return r.Event == most })
	h.ring, h.first = slices.Delete(all, i, i+1), 0
}

func (h *History) rouse() {
	close(h.grown)
	h.grown = make(chan struct{})
}

// Since are the events with higher numbers, the oldest first. A nil History has none.
func (h *History) Since(number uint64) []event.Record {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since(number)
}

// since is called with the lock held.
func (h *History) since(number uint64) (out []event.Record) {
	for i := range h.ring {
		if r := &h.ring[(h.first+i)%len(h.ring)]; r.Number > number {
			out = append(out, *r)
		}
	}
	return out
}

// Last are the last events, so many at most, the oldest first.
func (h *History) Last(most int) []event.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.since(0)
	return all[max(0, len(all)-most):]
}

// Grown is closed when there is another event.
func (h *History) Grown() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.grown
}

// Restore begins with what the process before has kept.
func (h *History) Restore(records []event.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		if r.Number > h.last {
			h.last = r.Number
			h.add(r)
		}
	}
}
