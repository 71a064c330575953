package bind

// What is known of the set of instances, in conmgr.state: read at the start by the main goroutine,
// written by one goroutine of its own, as a disk may be slow when a loss has to be told. A file
// that cannot be written is said, and tried again; conmgr goes on by what it has in memory.

import (
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/control"
)

// saveAgain is the time until a failed write is tried again.
const saveAgain = time.Minute

// Keeper writes the file. A nil one, of tests without a directory, has nothing to save.
type Keeper struct {
	dir    string
	events *event.Hub

	wake chan struct{}

	mu     sync.Mutex
	latest route.Known   // to be written
	kept   chan struct{} // closed when that outlives this process, or cannot; nil: it does

	writing sync.Mutex // held while writing, either file
	written route.Known
	failure string // the last one that was told; guarded by writing
}

// NewKeeper reads what was kept.
func NewKeeper(dir string, events *event.Hub, now time.Time) (*Keeper, route.Known) {
	k := &Keeper{dir: dir, events: events, wake: make(chan struct{}, 1)}
	s, err := control.LoadState(dir)
	if err != nil {
		events.Emit(event.StateUnreadable{Err: err, Hint: setAside(dir, cm.StateFile)})
	}
	known := knownOf(s)
	if known.Since.After(now) { // the clock was put back
		known.Since = now
	}
	for i := range known.Earlier {
		if e := &known.Earlier[i]; e.Since.After(now) {
			e.Since = now
		}
	}
	k.latest, k.written = known, known
	if known.SystemIdentifier != 0 {
		events.Emit(event.KnownBefore{Known: known})
	}
	return k, known
}

// setAside renames a file that cannot be used, and says so.
func setAside(dir, name string) string {
	aside, err := control.SetAside(dir, name)
	if err != nil {
		return err.Error() + "."
	}
	return "It was renamed to \"" + aside + "\"."
}

// Put leaves what is to be written, and returns what is closed when that outlives this process, or
// could not be written. It never blocks.
func (k *Keeper) Put(known route.Known) (kept <-chan struct{}) {
	k.mu.Lock()
	k.latest = known
	if k.kept == nil {
		k.kept = make(chan struct{})
	}
	kept = k.kept
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return kept
}

// Save writes what put has left, unless the file has it already.
func (k *Keeper) Save() error {
	if k == nil {
		return nil
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	known := k.latest
	kept := func() {}
	if c := k.kept; c != nil {
		kept = sync.OnceFunc(func() { close(c) })
		k.kept = nil
	}
	k.mu.Unlock()
	defer kept()
	if known.Equal(k.written) {
		return nil
	}
	err := control.SaveState(k.dir, stateOf(known), kept)
	switch {
	case err == nil:
		k.written, k.failure = known, ""
	case err.Error() != k.failure:
		k.failure = err.Error()
		k.events.Emit(event.StateUnwritten{Why: k.failure})
	}
	return err
}

// Run writes until stop is closed, and then once more.
func (k *Keeper) Run(stop <-chan struct{}) {
	again := time.NewTimer(saveAgain)
	defer again.Stop()
	for {
		select {
		case <-k.wake:
		case <-again.C:
		case <-stop:
			k.Save()
			return
		}
		if k.Save() == nil {
			again.Stop()
		} else {
			again.Reset(saveAgain)
		}
	}
}

func knownOf(s control.State) route.Known {
	k := route.Known{SystemIdentifier: s.SystemIdentifier, Timeline: s.Timeline, Since: s.Since, Held: s.Holds,
		At: route.Place{Instance: s.Instance, Host: s.Host, Address: s.HostAddr, Port: s.Port,
			PostmasterStart: s.PostmasterStart}}
	for _, e := range s.Earlier {
		k.Earlier = append(k.Earlier, route.Step(e))
	}
	for _, o := range s.Successions {
		k.Takeovers = append(k.Takeovers, route.Takeover{From: o.From, To: o.To, Timeline: o.Timeline})
	}
	return k
}

func stateOf(k route.Known) control.State {
	s := control.State{SystemIdentifier: k.SystemIdentifier, Timeline: k.Timeline, Since: k.Since, Holds: k.Held,
		Instance: k.At.Instance, Host: k.At.Host,
		HostAddr: k.At.Address, Port: k.At.Port, PostmasterStart: k.At.PostmasterStart}
	for _, e := range k.Earlier {
		s.Earlier = append(s.Earlier, control.Step(e))
	}
	for _, o := range k.Takeovers {
		s.Successions = append(s.Successions, control.Succession{From: o.From, To: o.To, Timeline: o.Timeline})
	}
	return s
}
