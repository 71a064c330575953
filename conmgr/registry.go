package conmgr

// The registry knows the application connections and which instance each is bound to. Its lock is
// held for a moment only, and never while writing to a client. Called by session goroutines,
// relays, the board's and the main goroutine.

import (
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/group"
)

// member is an application connection: a *session, or a *relayed.
type member interface {
	place() *seat
	// end ends the connection, for good or because its instance is lost, and never blocks. A
	// session sends message if it can.
	end(message []byte)
	// finish gives a connection that was ended until a time to complete it. It never blocks.
	finish(until time.Time)
}

// seat is what the registry knows of a member.
type seat struct {
	peer        netip.AddrPort // not valid of a Unix socket
	local       *unix.Ucred    // of a Unix socket: the process at the other end
	owner       owner
	since       time.Time
	application string
	relay       bool   // a relayed connection, else one that asks for its target
	bound       int    // index of the instance, -1: none; guarded by registry.mu, as is target
	target      string // attribute that it asked for
}

func (s *seat) place() *seat { return s }

// String is the peer, for messages.
func (s *seat) String() string {
	switch {
	case s.peer.IsValid():
		return netip.AddrPortFrom(s.peer.Addr().Unmap(), s.peer.Port()).String()
	case s.local != nil:
		return fmt.Sprintf("[local] user %d, process %d", s.local.Uid, s.local.Pid)
	}
	return "[local]"
}

// relayKey counts relayed connections for CancelRequests.
type relayKey struct {
	target   string
	instance int
}

type registry struct {
	max   int          // most connections
	share int          // most of one owner; 0: no limit but max
	group *group.Group // nil: no goroutines of its own

	mu       sync.Mutex
	all      map[member]struct{}
	owners   map[owner]int         // how many of all are whose
	bound    []map[member]struct{} // by index of the instance
	count    int                   // of bound ones
	relayed  map[relayKey]int      // how many of these are relayed
	idle     chan struct{}         // closed when refusing and no binding is left
	refusing atomic.Bool           // shutting down: no new binding; set under mu
	ending   atomic.Bool           // all have been ended: no new connection either; set under mu
}

func newRegistry(instances, maxConnections int) *registry {
	r := &registry{max: maxConnections, all: map[member]struct{}{}, owners: map[owner]int{},
		relayed: map[relayKey]int{}, bound: make([]map[member]struct{}, instances), idle: make(chan struct{})}
	for i := range r.bound {
		r.bound[i] = map[member]struct{}{}
	}
	return r
}

func (r *registry) remove(c member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unbind(c)
	if _, is := r.all[c]; !is {
		return
	}
	delete(r.all, c)
	o := c.place().owner
	if r.owners[o]--; r.owners[o] == 0 {
		delete(r.owners, o)
	}
}

// isRefusing tells whether conmgr is shutting down: there is no new binding.
func (r *registry) isRefusing() bool { return r.refusing.Load() }

// isEnding tells whether all have been ended: there is no new connection.
func (r *registry) isEnding() bool { return r.ending.Load() }

// members are all connections.
func (r *registry) members() []member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.all))
}

// owned is how many connections an owner has.
func (r *registry) owned(o owner) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owners[o]
}

// isBound tells whether a connection has a target.
func (r *registry) isBound(c member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.place().bound >= 0
}

// unbind is called with the lock held.
func (r *registry) unbind(c member) {
	s := c.place()
	if s.bound >= 0 {
		delete(r.bound[s.bound], c)
		if s.relay {
			k := relayKey{s.target, s.bound}
			if r.relayed[k]--; r.relayed[k] == 0 {
				delete(r.relayed, k)
			}
		}
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

// bind binds c to the instance that choose returns, or unbinds it for -1. The table is read under
// the lock: a loss publishes its table first and takes the lock afterwards, so that none is missed.
func (r *registry) bind(c member, target string, load func() *table, choose func(*table) int) (t *table, index int,
	ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t = load()
	if r.refusing.Load() {
		return t, -1, false
	}
	index = choose(t)
	r.unbind(c)
	if index >= 0 {
		s := c.place()
		s.bound, s.target = index, target
		r.bound[index][c] = struct{}{}
		if s.relay {
			r.relayed[relayKey{target, index}]++
		}
		r.count++
	}
	return t, index, true
}

// lose tells all connections that are bound to an instance, and returns them for finishAll.
func (r *registry) lose(index int, message []byte) []member {
	r.mu.Lock()
	list := make([]member, 0, len(r.bound[index]))
	for c := range r.bound[index] {
		list = append(list, c)
	}
	for _, c := range list {
		r.unbind(c)
	}
	r.mu.Unlock()
	r.tell(list, message)
	return list
}

// tellChunk is how many connections a goroutine of tell takes at a time.
const tellChunk = 64

// tell ends all connections of a list, and returns when that is done. Each costs a send(2), which
// any processor can do: if they are many, all do.
func (r *registry) tell(list []member, message []byte) {
	var taken atomic.Int64
	work := func() {
		for {
			end := int(taken.Add(tellChunk))
			if end-tellChunk >= len(list) {
				return
			}
			for _, c := range list[end-tellChunk : min(end, len(list))] {
				c.end(message)
			}
		}
	}
	var others sync.WaitGroup
	if r.group != nil {
		for range min(runtime.GOMAXPROCS(0)-1, len(list)/tellChunk) {
			others.Add(1)
			r.group.Go("notification", func() {
				defer others.Done()
				work()
			})
		}
	}
	work()
	others.Wait()
}

// refuse lets no new binding in; who only looks is welcome. idle is closed as soon as no binding is
// left.
func (r *registry) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusing.Store(true)
	r.checkIdle()
}

// endEverything ends all connections, and returns how many.
func (r *registry) endEverything(message []byte) int {
	r.mu.Lock()
	r.ending.Store(true)
	list := slices.Collect(maps.Keys(r.all))
	for _, c := range list {
		r.unbind(c)
	}
	r.mu.Unlock()
	r.tell(list, message)
	finishAll(list)
	return len(list)
}

// finishAll closes our side of connections that were told: everybody is told first, and this comes
// second.
func finishAll(list []member) {
	until := time.Now().Add(drainTime)
	for _, c := range list {
		c.finish(until)
	}
}

// drainTime is for the client to close after a FATAL.
const drainTime = time.Second

// shutdownText is what is said to those whom conmgr leaves.
const shutdownText = "the Connection Manager is shutting down"

// application is a row of SHOW APPLICATIONS.
type application struct {
	peer              netip.AddrPort // not valid of a Unix socket
	name, target, via string
	instance          int
	since             time.Time
}

func (r *registry) applications() []application {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]application, 0, r.count)
	for i, m := range r.bound {
		for c := range m {
			s, via := c.place(), "bind"
			if s.relay {
				via = "relay"
			}
			out = append(out, application{peer: s.peer, name: s.application, target: s.target, via: via,
				instance: i, since: s.since})
		}
	}
	return out
}

// relayedTo returns the instances that relayed connections of an attribute are bound to.
func (r *registry) relayedTo(target string) (instances []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.relayed {
		if k.target == target {
			instances = append(instances, k.instance)
		}
	}
	slices.Sort(instances)
	return instances
}
