package bind

// The registry knows the application connections and which instance each is bound to. Its lock is
// held for a moment only, and never while writing to a client. Called by session goroutines,
// relays, the board's and the main goroutine.

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// Member is an application connection: a *session, or a *relayed.
type Member interface {
	Place() *Seat
	// End ends the connection, for good or because its instance is lost, and never blocks. A
	// session sends message if it can.
	End(message []byte)
	// Finish gives a connection that was ended until a time to complete it. It never blocks.
	Finish(until time.Time)
	// Note leaves a message that ends nothing, and Push sends it as soon as that is possible. Of
	// several that could not be sent yet the last one counts; nil takes it back. They never block.
	Note(message []byte)
	Push()
}

// Seat is what the registry knows of a member.
type Seat struct {
	Peer        netip.AddrPort // not valid of a Unix socket
	Local       *unix.Ucred    // of a Unix socket: the process at the other end
	Owner       Owner
	Since       time.Time
	Application string
	Relay       bool   // a relayed connection, else one that asks for its target
	Bound       int    // index of the instance, -1: none; guarded by registry.mu, as is target
	target      string // attribute that it asked for
	Notified    bool   // it has asked to be told what is no loss; guarded by registry.mu, as are the next
	rests       bool   // it waits for a target, and has no place meanwhile
	asking      bool   // it has waited for a target, and was not told yet what has become of it
	arrived     bool   // its first question is answered
}

// Place makes whoever embeds a seat half a Member.
func (s *Seat) Place() *Seat { return s }

// String is the peer, for messages.
func (s *Seat) String() string {
	switch {
	case s.Peer.IsValid():
		return netip.AddrPortFrom(s.Peer.Addr().Unmap(), s.Peer.Port()).String()
	case s.Local != nil:
		return fmt.Sprintf("[local] user %d, process %d", s.Local.Uid, s.Local.Pid)
	}
	return "[local]"
}

// relayKey counts relayed connections for CancelRequests.
type relayKey struct {
	target   string
	instance int
}

// Registry is made by NewRegistry.
type Registry struct {
	Max   int          // most connections, without those that wait for a target
	Share int          // most of one owner; 0: no limit but max
	Most  int          // with those that wait, as descriptors allow; 0: no limit
	Group *group.Group // nil: no goroutines of its own
	// Random is what a choice among several leaves to chance; tests have their own.
	Random func() uint64

	MaxWaiting int // most that wait for a target

	mu       sync.Mutex
	all      map[Member]struct{}
	owners   map[Owner]int         // how many of all are whose
	bound    []map[Member]struct{} // by index of the instance
	count    int                   // of bound ones
	relayed  map[relayKey]int      // how many of these are relayed
	line     line
	resting  int           // of all: those that wait, and have no place
	joined   func()        // somebody waits; never blocks; nil: nobody hears of it
	Idle     chan struct{} // closed when refusing and no binding is left
	refusing atomic.Bool   // shutting down: no new binding; set under mu
	ending   atomic.Bool   // all have been ended: no new connection either; set under mu
}

// NewRegistry is for so many instances, and so many connections at most.
func NewRegistry(instances, maxConnections int) *Registry {
	r := &Registry{Max: maxConnections, Random: rand.Uint64, all: map[Member]struct{}{}, owners: map[Owner]int{},
		relayed: map[relayKey]int{}, bound: make([]map[Member]struct{}, instances), Idle: make(chan struct{})}
	for i := range r.bound {
		r.bound[i] = map[Member]struct{}{}
	}
	return r
}

// Remove forgets a connection, and its binding.
func (r *Registry) Remove(c Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unbind(c)
	if _, is := r.all[c]; !is {
		return
	}
	delete(r.all, c)
	if s := c.Place(); s.rests {
		s.rests = false
		r.resting--
	} else {
		r.disown(s)
	}
}

// IsRefusing tells whether conmgr is shutting down: there is no new binding.
func (r *Registry) IsRefusing() bool { return r.refusing.Load() }

// IsEnding tells whether all have been ended: there is no new connection.
func (r *Registry) IsEnding() bool { return r.ending.Load() }

// Rename changes the name of an application.
func (r *Registry) Rename(c Member, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.Place().Application = name
}

// Members are all connections.
func (r *Registry) Members() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.all))
}

// Owned is how many connections an owner has.
func (r *Registry) Owned(o Owner) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owners[o]
}

// IsBound tells whether a connection has a target.
func (r *Registry) IsBound(c Member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.Place().Bound >= 0
}

// unbind is called with the lock held.
func (r *Registry) unbind(c Member) {
	s := c.Place()
	if s.Bound >= 0 {
		delete(r.bound[s.Bound], c)
		if s.Relay {
			k := relayKey{s.target, s.Bound}
			if r.relayed[k]--; r.relayed[k] == 0 {
				delete(r.relayed, k)
			}
		}
		s.Bound = -1
		c.Note(nil) // of what it leaves
		r.count--
		r.checkIdle()
	}
}

func (r *Registry) checkIdle() {
	if r.refusing.Load() && r.count == 0 {
		select {
		case <-r.Idle:
		default:
			close(r.Idle)
		}
	}
}

// load is what a choice among several depends on: c's own binding does not count, as it ends by the
// next. The lock is held.
func (r *Registry) load(c Member) Load {
	own := c.Place().Bound
	return Load{Random: r.Random(), Bound: func(i int) int {
		n := len(r.bound[i])
		if i == own {
			n--
		}
		return n
	}}
}

// Bind is Seek for one who does not wait.
func (r *Registry) Bind(c Member, target string, load func() *Table, choose func(*Table, Load) int) (t *Table, index int,
	ok bool) {
	a, _ := r.Seek(&Waiter{Member: c, Target: target, Choose: choose}, load)
	return a.Table, a.Index, !a.Shutdown
}

// bindTo is called with the lock held.
func (r *Registry) bindTo(c Member, target string, t *Table, index int) {
	r.unbind(c)
	s := c.Place()
	s.Bound, s.target = index, target
	r.bound[index][c] = struct{}{}
	if s.Relay {
		r.relayed[relayKey{target, index}]++
	}
	r.count++
	if message := firstNotice(t, s); message != nil {
		c.Note(message)
	}
}

// Notify tells those that are bound to an instance, and have asked for it, a value of conmgr.notice,
// and returns how many they are. Called by the board's goroutine.
func (r *Registry) Notify(index int, value string) (told int) {
	return r.notifySome(index, value, func(*Seat) bool { return true })
}

// notifySome is Notify for some of those that are bound to the instance.
func (r *Registry) notifySome(index int, value string, which func(*Seat) bool) (told int) {
	message := backend.ParameterStatus(cm.NoticeParameter, value)
	r.mu.Lock()
	var list []Member
	for c := range r.bound[index] {
		if s := c.Place(); s.Notified && which(s) {
			c.Note(message) // under the lock: one that is noted by Bind meanwhile is not the older one
			list = append(list, c)
		}
	}
	r.mu.Unlock()
	r.each(list, Member.Push)
	return len(list)
}

// bySort is how many applications are bound to an instance, and how many connections are relayed to
// it.
func (r *Registry) bySort(index int) (applications, relayed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.bound[index] {
		if c.Place().Relay {
			relayed++
		}
	}
	return len(r.bound[index]) - relayed, relayed
}

// lose tells all connections that are bound to an instance, and returns them for finishAll.
func (r *Registry) lose(index int, message []byte) []Member {
	return r.endSome(index, message, func(*Seat) bool { return true })
}

// endSome is lose for some of them.
func (r *Registry) endSome(index int, message []byte, which func(*Seat) bool) []Member {
	r.mu.Lock()
	list := make([]Member, 0, len(r.bound[index]))
	for c := range r.bound[index] {
		if which(c.Place()) {
			list = append(list, c)
		}
	}
	for _, c := range list {
		r.unbind(c)
	}
	r.mu.Unlock()
	r.tell(list, message)
	return list
}

// tell ends all connections of a list, and returns when that is done.
func (r *Registry) tell(list []Member, message []byte) {
	r.each(list, func(c Member) { c.End(message) })
}

// tellChunk is how many connections a goroutine of each takes at a time.
const tellChunk = 64

// each does something with all connections of a list, and returns when that is done. Each costs a
// send(2), which any processor can do: if they are many, all do.
func (r *Registry) each(list []Member, do func(Member)) {
	var taken atomic.Int64
	work := func() {
		for {
			end := int(taken.Add(tellChunk))
			if end-tellChunk >= len(list) {
				return
			}
			for _, c := range list[end-tellChunk : min(end, len(list))] {
				do(c)
			}
		}
	}
	var others sync.WaitGroup
	if r.Group != nil {
		for range min(runtime.GOMAXPROCS(0)-1, len(list)/tellChunk) {
			others.Add(1)
			r.Group.Go("notification", func() {
				defer others.Done()
				work()
			})
		}
	}
	work()
	others.Wait()
}

// Refuse lets no new binding in; who only looks is welcome. idle is closed as soon as no binding is
// left.
func (r *Registry) Refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusing.Store(true)
	r.refuseAll()
	r.checkIdle()
}

// Adopt registers a connection that was bound to an instance by the process before this one. There is
// room: it had a place there.
func (r *Registry) Adopt(c Member, index int, target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := c.Place()
	r.all[c] = struct{}{}
	r.owners[s.Owner]++
	r.bindTo(c, target, nil, index) // a relayed one asks for no notices
}

// move binds those of a list that are bound to an instance to the one that where returns; not if that
// is -1. where is called with the lock held, and reads the table: as of Seek, no loss is missed.
func (r *Registry) move(all []Member, from int, where func() int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to := where()
	if to < 0 || to == from {
		return
	}
	for _, c := range all {
		if s := c.Place(); s.Bound == from {
			r.count++ // it is bound all the time
			r.bindTo(c, s.target, nil, to)
			r.count--
		}
	}
}

// TargetOf is the instance that a connection is bound to, -1: none.
func (r *Registry) TargetOf(c Member) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.Place().Bound
}

// EndEverything ends all connections, and returns how many.
func (r *Registry) EndEverything(message []byte) int { return r.EndForNow(message, nil, true) }

// EndForNow ends all connections. Who is bound, and has asked to be told what is no loss, gets away
// for the last message, unless that is nil. relayed: those that are relayed are ended as well.
func (r *Registry) EndForNow(message, away []byte, relayed bool) int {
	r.mu.Lock()
	r.ending.Store(true)
	list := make([]Member, 0, len(r.all))
	asking, waits := map[Member]bool{}, map[Member]bool{}
	for c := range r.all {
		s := c.Place()
		if s.Relay && s.Bound >= 0 && !relayed {
			continue
		}
		if away != nil && s.Bound >= 0 && s.Notified {
			waits[c] = true
		}
		list = append(list, c)
	}
	for _, c := range list {
		r.unbind(c)
		if c.Place().asking {
			asking[c] = true
		}
	}
	r.mu.Unlock()
	r.each(list, func(c Member) {
		switch {
		case waits[c]:
			c.End(away)
		case asking[c]:
			c.End(shutdownMessage())
		default:
			c.End(message)
		}
	})
	finishAll(list)
	return len(list)
}

// finishAll closes our side of connections that were told: everybody is told first, and this comes
// second.
func finishAll(list []Member) {
	until := time.Now().Add(DrainTime)
	for _, c := range list {
		c.Finish(until)
	}
}

// DrainTime is for the client to close after a FATAL.
const DrainTime = time.Second

// ShutdownText is what is said to those whom conmgr leaves.
const ShutdownText = cm.ShutdownText

// Application is a row of SHOW APPLICATIONS.
type Application struct {
	Peer              netip.AddrPort // not valid of a Unix socket
	Name, Target, Via string
	Instance          int
	Since             time.Time
	Owner             Owner
}

// Applications are the rows of SHOW APPLICATIONS.
func (r *Registry) Applications() []Application {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Application, 0, r.count)
	for i, m := range r.bound {
		for c := range m {
			s, via := c.Place(), "bind"
			if s.Relay {
				via = "relay"
			}
			out = append(out, Application{Peer: s.Peer, Name: s.Application, Target: s.target, Via: via,
				Instance: i, Since: s.Since, Owner: s.Owner})
		}
	}
	return out
}

// RelayedTo returns the instances that relayed connections of an attribute are bound to.
func (r *Registry) RelayedTo(target string) (instances []int) {
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
