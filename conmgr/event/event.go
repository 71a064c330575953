// Package event has what happens in a conmgr, a type each, and the hub that brings it to whoever
// wants to know. Each event is emitted at one place, where the state changes (internal/rules holds
// that); the log, sd_notify and the pid file hang on the hub, and so can whatever else is to know.
//
//	event.go     events in general, and the hub
//	instance.go  what happens to one instance
//	set.go       to the set of instances, and to what is bound to them
//	client.go    to applications and their connections
//	process.go   to conmgr itself
//	reload.go    to its configuration
//	record.go    an event for programs
//	log.go       the subscriber that writes the log
//
// Emit may be called by any goroutine. It runs the subscribers there and then, and never blocks.
package event

import (
	"sync"

	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

// Event is one of this package's types.
type Event interface {
	Level() cmlog.Level // in the log
	Text() string
}

// An event has some of these, too.
type (
	// explained has a detail or a hint; verbose: whatever it costs.
	explained interface {
		Explain(verbose bool) (detail, hint string)
	}
	// peerMade can be caused by a peer again and again: of a kind, the log has only so many lines.
	peerMade interface{ Kind() string }
	// lasting is repeated for as long as something goes on: the log has it once a minute.
	lasting interface {
		peerMade
		instance() Instance
		lasts()
	}
)

// The levels, to be embedded.
type (
	debug   struct{}
	info    struct{}
	warning struct{}
	failure struct{}
	notable struct{}
	fatal   struct{}
)

// Level of each.
func (debug) Level() cmlog.Level   { return cmlog.DEBUG }
func (info) Level() cmlog.Level    { return cmlog.INFO }
func (warning) Level() cmlog.Level { return cmlog.WARNING }
func (failure) Level() cmlog.Level { return cmlog.ERROR }
func (notable) Level() cmlog.Level { return cmlog.LOG }
func (fatal) Level() cmlog.Level   { return cmlog.FATAL }

// Hub brings events to subscribers. A nil one drops them.
//
// Its lock is held while the subscribers run: so all of them see one order, which is that of each
// emitter as well, and when Emit returns everybody has the event. It is the innermost lock but for
// the subscribers' own. A subscriber takes a note, and does what may block in a goroutine of its
// own; it emits nothing.
type Hub struct {
	mu          sync.Mutex
	subscribers []func(Event)
}

// Subscribe adds a subscriber, behind the others.
func (h *Hub) Subscribe(take func(Event)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers = append(h.subscribers, take)
}

// Emit tells all subscribers of an event.
func (h *Hub) Emit(e Event) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, take := range h.subscribers {
		take(e)
	}
}
