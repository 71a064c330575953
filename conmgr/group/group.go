// Package group starts all goroutines of the daemon: it has the only `go` statement. A panic in one
// is logged with its stack, and ends the daemon in order.
package group

import (
	"runtime/debug"
	"sync"
	"time"
)

// Group is a set of goroutines that end together.
type Group struct {
	mu      sync.Mutex
	running int
	idle    chan struct{} // closed when running falls to 0; renewed on demand
	OnPanic func(name string, value any, stack []byte)
}

// Go runs f in a goroutine.
func (g *Group) Go(name string, f func()) {
	g.mu.Lock()
	g.running++
	g.mu.Unlock()
	go func() {
		defer g.done()
		defer func() {
			if v := recover(); v != nil {
				g.OnPanic(name, v, debug.Stack())
			}
		}()
		f()
	}()
}

func (g *Group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.running == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Wait waits until no goroutine is left, at most for the given time. It tells whether none is.
func (g *Group) Wait(most time.Duration) bool {
	g.mu.Lock()
	if g.running == 0 {
		g.mu.Unlock()
		return true
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-idle:
		return true
	case <-t.C:
		return false
	}
}
