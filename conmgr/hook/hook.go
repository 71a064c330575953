// Package hook runs event_command: once for each event that is kept, with the event as JSON on its
// standard input, one at a time, and within a time. Take only queues, and whoever emits an event
// calls it; Run is a goroutine of its own, which blocks on the command. One that runs while this
// process becomes another program (execve) goes on, as its child.
//
//	hook.go     which events wait, and what goes on
//	command.go  a command that runs
package hook

import (
	"context"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
)

// mostQueued events wait for the command; those that come meanwhile are left out, and told.
const mostQueued = 100

// Hook is made by New.
type Hook struct {
	Dir string // in which the command runs; "": that of this process; set before Run

	events *event.Hub
	wake   chan struct{}

	mu      sync.Mutex
	command string // "": none
	limit   time.Duration
	queue   []event.Record
	next    *event.Record // the command is about to run for it
	runs    *command
	goesOn  bool // at the end of Run, what runs does
	leftOut int
}

// New has no command yet.
func New(events *event.Hub) *Hook { return &Hook{events: events, wake: make(chan struct{}, 1)} }

// Set is the command from now on, "": none, and its time.
func (h *Hook) Set(command string, limit time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.command, h.limit = command, limit
	if command == "" {
		h.queue, h.leftOut = nil, 0
	}
}

// Take queues an event. That the command has failed is none for it.
func (h *Hook) Take(r event.Record) {
	if r.Event == failedName {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.command == "":
		return
	case len(h.queue) >= mostQueued:
		h.leftOut++
		return
	}
	h.queue = append(h.queue, r)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

const failedName = "command_failed" // of event.CommandFailed

// take takes one off the queue. ok is false if there is none.
func (h *Hook) take() (r event.Record, command string, limit time.Duration, leftOut int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		return r, "", 0, 0, false
	}
	r, h.queue = h.queue[0], h.queue[1:]
	h.next = &r
	leftOut, h.leftOut = h.leftOut, 0
	return r, h.command, h.limit, leftOut, true
}

// running tells which command runs; nil: none.
func (h *Hook) running(c *command) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next, h.runs = nil, c
}

// GoOn has the command that runs go on when Run ends.
func (h *Hook) GoOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.goesOn = true
}

// Leave is what goes on in the process that this one becomes. It follows GoOn, and the end of Run.
func (h *Hook) Leave(r *handover.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.runs != nil:
		r.Command = h.runs.leave()
	case h.next != nil:
		r.Hooked = append(r.Hooked, *h.next)
	}
	r.Hooked = append(r.Hooked, h.queue...)
}

// Restore goes on with it. It precedes Run, and follows Set.
func (h *Hook) Restore(r *handover.Record) {
	for _, waits := range r.Hooked {
		h.Take(waits)
	}
	if r.Command != nil {
		h.runs = adopt(r.Command)
	}
}

// Run runs the command for what is queued, until ctx ends: then no further one.
func (h *Hook) Run(ctx context.Context) {
	if h.runs != nil && !h.end(ctx, h.runs, 0) {
		return
	}
	for ctx.Err() == nil {
		r, text, limit, leftOut, ok := h.take()
		if !ok {
			select {
			case <-h.wake:
			case <-ctx.Done():
			}
			continue
		}
		c, err := begin(text, h.Dir, limit, r)
		h.running(c)
		if err != nil {
			h.ended(r, err.Error(), leftOut)
		} else if !h.end(ctx, c, leftOut) {
			return
		}
	}
}

// end waits for the end of a command, and tells what went wrong. It returns whether it has ended by
// itself: at the end of ctx it is killed, or goes on.
func (h *Hook) end(ctx context.Context, c *command, leftOut int) bool {
	why, ended := c.wait(ctx)
	if !ended {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.goesOn {
			h.runs = nil
			c.kill()
		}
		return false
	}
	h.ended(c.of, why, leftOut)
	return true
}

// ended tells what went wrong with the command for an event, "": nothing, and how many were left out.
func (h *Hook) ended(of event.Record, why string, leftOut int) {
	h.running(nil)
	if why != "" || leftOut > 0 {
		h.events.Emit(event.CommandFailed{Of: of.Event, Why: why, LeftOut: leftOut})
	}
}
