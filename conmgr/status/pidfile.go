package status

// What cm_ctl reads in the pid file. Tell blocks on the file system.

import (
	"sync"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/control"
)

// PidFile is a subscriber. The zero value is ready, but for File and Wake.
type PidFile struct {
	File interface{ SetProgress(control.Progress) error }
	Wake chan<- struct{} // gets one when Tell has something to tell

	mu   sync.Mutex
	last control.Progress // that was noted
	due  bool
}

// Take notes what an event means to cm_ctl. That something has been there is not taken back when an
// instance is lost later.
func (f *PidFile) Take(e event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.last
	switch e := e.(type) {
	case event.PresenceChanged:
		p.Now = control.Presence{Known: true, Primary: e.HasPrimary(), All: e.IsComplete()}
		p.Been.Primary = p.Been.Primary || p.Now.Primary
		p.Been.All = p.Been.All || p.Now.All
	case event.ShutdownRequested:
		p.Stopping = true
	case event.NotRestarted:
		p.Refused = control.Refused{Times: p.Refused.Times + 1, Why: e.Err.Error()}
	}
	if p == f.last {
		return
	}
	f.last, f.due = p, true
	rouse(f.Wake)
}

// Tell writes what is due. What could not be written is not tried again before the next change.
func (f *PidFile) Tell() error {
	f.mu.Lock()
	p, due := f.last, f.due
	f.due = false
	f.mu.Unlock()
	if !due {
		return nil
	}
	return f.File.SetProgress(p)
}
