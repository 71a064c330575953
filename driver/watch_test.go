package driver

import (
	"testing"
	"time"
)

// TestBackWhileBinding: conmgr is back in the very moment in which a connection is told that it is
// away. What it hears last is that conmgr is back.
func TestBackWhileBinding(t *testing.T) {
	w := &Watch{bound: map[*bound]struct{}{}, awayFor: time.Hour}
	back := false
	var last time.Duration
	release, lost := w.bind(&bound{away: func(grace time.Duration) {
		if grace > 0 && w.mu.TryLock() { // nobody keeps the watch's goroutine from it
			w.mu.Unlock()
			w.setAway(0)
			back = true
		}
		last = grace
	}})
	if lost != nil {
		t.Fatal(lost)
	}
	defer release()
	if !back {
		if last != time.Hour {
			t.Errorf("it was told %v", last)
		}
		w.setAway(0)
	}
	if last != 0 {
		t.Errorf("conmgr is back, and the last that was told is that it is away for %v", last)
	}
}
