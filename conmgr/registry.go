package conmgr

// The registry knows the application connections and which instance each is bound to. Its lock is held for a moment only, and never while
// writing to a client. Called by session goroutines, the board's and the main goroutine.

import (
	"sync"
	"sync/atomic"
	"time"
)

type registry struct {
	max int // most connections

	mu       sync.Mutex
	all      map[*session]struct{}
	bound    []map[*session]struct{} // by index of the instance
	count    int                     // of bound ones
	idle     chan struct{}           // closed when refusing and no binding is left
	refusing atomic.Bool             // shutting down: no new connection, no new binding; set under mu
}

func newRegistry(instances, maxConnections int) *registry {
	r := &registry{max: maxConnections, all: map[*session]struct{}{}, bound: make([]map[*session]struct{}, instances), idle: make(chan struct{})}
	for i := range r.bound {
		r.bound[i] = map[*session]struct{}{}
	}
	return r
}

// add tells whether there is room for one more.
func (r *registry) add(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) >= r.max {
		return false
	}
	r.all[s] = struct{}{}
	return true
}

func (r *registry) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unbind(s)
	delete(r.all, s)
}

// unbind is called with the lock held.
func (r *registry) unbind(s *session) {
	if s.bound >= 0 {
		delete(r.bound[s.bound], s)
		s.bound = -1
		r.count--
		r.checkIdle()
	}
}

func (r *registry) checkIdle() {
	if r.refusing.Load() && r.count == 0 {
		select {
		case <-r.idle:
		default:
			close(r.idle)
		}
	}
}

// bind binds s to the instance that choose returns, or unbinds it for -1. The table is read under the lock: a loss publishes its table first
// and takes the lock afterwards, so that none is missed.
func (r *registry) bind(s *session, target string, load func() *table, choose func(*table) int) (t *table, index int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t = load()
	if r.refusing.Load() {
		return t, -1, false
	}
	index = choose(t)
	r.unbind(s)
	if index >= 0 {
		s.bound, s.target = index, target
		r.bound[index][s] = struct{}{}
		r.count++
	}
	return t, index, true
}

// lose tells all connections that are bound to an instance, and returns them for finishAll.
func (r *registry) lose(index int, message []byte) []*session {
	r.mu.Lock()
	list := make([]*session, 0, len(r.bound[index]))
	for s := range r.bound[index] {
		list = append(list, s)
	}
	for _, s := range list {
		r.unbind(s)
	}
	r.mu.Unlock()
	for _, s := range list {
		s.end(message)
	}
	return list
}

// refuse lets no new connection and binding in. idle is closed as soon as no binding is left.
func (r *registry) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusing.Store(true)
	r.checkIdle()
}

// endEverything ends all connections, and returns how many.
func (r *registry) endEverything(message []byte) int {
	r.mu.Lock()
	list := make([]*session, 0, len(r.all))
	for s := range r.all {
		list = append(list, s)
		r.unbind(s)
	}
	r.mu.Unlock()
	for _, s := range list {
		s.end(message)
	}
	finishAll(list)
	return len(list)
}

// finishAll closes our side of connections that were told: everybody is told first, and this comes second.
func finishAll(list []*session) {
	until := time.Now().Add(drainTime)
	for _, s := range list {
		s.finish(until)
	}
}

// application is a row of SHOW APPLICATIONS.
type application struct {
	client, name, target string
	port                 uint16
	instance             int
	since                time.Time
}

func (r *registry) applications() []application {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]application, 0, r.count)
	for i, m := range r.bound {
		for s := range m {
			out = append(out, application{client: s.peer.Addr().Unmap().String(), port: s.peer.Port(), name: s.application, target: s.target, instance: i, since: s.since})
		}
	}
	return out
}
