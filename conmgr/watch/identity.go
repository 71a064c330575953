package watch

// Who this conmgr is to the watchdogs: an id and generations that outlive the process, in
// conmgr.identity (control.Identity). An entry is used by its instance's goroutine, which waits for
// the file, but not for long: a loss has to be told.

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// raiseLimit bounds the time for which the telling of a loss waits until the file has it; tests have
// their own.
var raiseLimit = 100 * time.Millisecond

// Identity is that of a process. Its zero value is one that is not kept, for a conmgr that asks for
// no grace: its end is the end of its sessions.
type Identity struct {
	Process     heartbeat.ID // of which the ids of the entries are made
	Incarnation heartbeat.ID // of this process; zero: not kept
	spare       heartbeat.ID // for when another process has Process

	dir    string
	events *event.Hub
	group  *group.Group

	mu      sync.Mutex
	kept    control.Identity // to be written
	writing sync.Mutex       // held while writing
	failure string           // the last one that was told; guarded by writing
}

// NewIdentity is one that is not kept.
func NewIdentity(process heartbeat.ID) *Identity { return &Identity{Process: process} }

// LoadIdentity takes over that of the process before, or makes one.
func LoadIdentity(dir string, events *event.Hub, g *group.Group) *Identity {
	i := &Identity{dir: dir, events: events, group: g, Incarnation: randomID(), spare: randomID()}
	kept, found, err := control.LoadIdentity(dir)
	if err != nil {
		aside, aerr := control.SetAside(dir, cm.IdentityFile)
		hint := "It was renamed to \"" + aside + "\"."
		if aerr != nil {
			hint = aerr.Error() + "."
		}
		events.Emit(event.IdentityUnreadable{Err: err, Hint: hint})
	}
	if !found {
		kept.ID = randomID()
	}
	i.kept, i.Process = kept, kept.ID
	return i
}

// begin writes it, when all instances have their entries.
func (i *Identity) begin() {
	if i.Incarnation != (heartbeat.ID{}) {
		i.write()
	}
}

func randomID() (id heartbeat.ID) {
	_, _ = rand.Read(id[:]) // never fails: it would end the process
	return id
}

// entry is what an instance has of it, whose address no other one has.
func (i *Identity) entry(c *conf.Instance) entry {
	if i.Incarnation == (heartbeat.ID{}) {
		return entry{at: -1, id: heartbeat.InstanceID(i.Process, c.Number)}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	at := i.kept.Entry(c.Number, c.Name(), c.Port)
	e := i.kept.Entries[at]
	return entry{who: i, at: at, id: heartbeat.InstanceID(i.Process, e.Number), spare: heartbeat.InstanceID(i.spare, e.Number),
		incarnation: i.Incarnation, generation: e.Generation}
}

// second is what an instance has whose address another one has, too: it is not known again.
func (i *Identity) second(c *conf.Instance) entry {
	if i.Incarnation == (heartbeat.ID{}) {
		return i.entry(c)
	}
	return entry{at: -1, id: heartbeat.InstanceID(i.Incarnation, c.Number)}
}

// entry is an instance's share.
type entry struct {
	who         *Identity
	at          int // index of what is kept, -1: nothing is
	id, spare   heartbeat.ID
	incarnation heartbeat.ID
	generation  uint64 // that was told before
}

// raised writes what applications are about to be told. Who is killed after that must not be
// followed by one that does not know.
func (e *entry) raised(generation uint64) {
	if e.at < 0 || e.generation == generation {
		return
	}
	e.generation = generation
	e.who.mu.Lock()
	e.who.kept.Entries[e.at].Generation = generation
	e.who.mu.Unlock()
	e.who.save()
}

// taken: another process has the id, and lives. The next process is not to begin with it.
func (e *entry) taken() {
	e.id = e.spare
	e.who.mu.Lock()
	e.who.kept.ID = e.who.spare
	e.who.mu.Unlock()
	e.who.save()
}

// save writes, and returns when that is done, or takes too long.
func (i *Identity) save() {
	done := make(chan struct{})
	i.group.Go("identity", func() {
		defer close(done)
		i.write()
	})
	limit := time.NewTimer(raiseLimit)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	}
}

func (i *Identity) write() {
	i.writing.Lock()
	defer i.writing.Unlock()
	i.mu.Lock()
	kept := i.kept.Clone()
	i.mu.Unlock()
	err := control.SaveIdentity(i.dir, kept)
	switch {
	case err == nil:
		i.failure = ""
	case err.Error() != i.failure:
		i.failure = err.Error()
		i.events.Emit(event.IdentityUnwritten{Why: i.failure})
	}
}
