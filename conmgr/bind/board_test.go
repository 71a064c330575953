package bind

// Tests of the board without its goroutine.

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// A new primary says so and is gone, before the next table is made: its word counts.
func TestLastWordsCount(t *testing.T) {
	c, _ := conf.Parse("conmgr.conf", []byte("backend_host0 = a\nbackend_host1 = b"))
	primary, promoted := hb.Attributes{Timeline: 1}, hb.Attributes{Timeline: 2}
	standby := hb.Attributes{Flags: hb.InRecovery, Timeline: 1}
	server := func(i int, a hb.Attributes) Status {
		return Status{State: hb.Established, Known: true, Attributes: a, SystemIdentifier: 7, PostmasterStart: int64(101 + i)}
	}
	for _, gone := range []hb.State{hb.Lost, hb.Connecting, hb.Stopping} {
		b := NewBoard(conf.NewCurrent(c), nil, NewRegistry(2, 10), nil, route.Known{})
		b.Post(0, server(0, primary), nil)
		b.Post(1, server(1, standby), nil)
		b.rebuild()
		last := server(1, promoted)
		b.Post(1, last, nil)
		for range 2 * maxSaid {
			last.Detail += "."
			b.Post(1, last, nil)
		}
		last.State = gone
		b.Post(1, last, nil)
		b.rebuild()
		if tab := b.Table.Load(); tab.Known.Timeline != 2 || tab.Choose(Request{Want: cm.ReadWrite}, Load{}) != -1 ||
			!tab.Verdicts[0].Superseded {
			t.Errorf("%s: %s; %+v", gone, tab.Known, tab.Verdicts)
		}
	}
}

// What is there is told at the start and when it changes, and not else.
func TestPresence(t *testing.T) {
	c, _ := conf.Parse("conmgr.conf", []byte("backend_host3 = a\nbackend_host5 = b"))
	var told []event.Presence
	events := &event.Hub{}
	events.Subscribe(func(e event.Event) {
		if p, is := e.(event.PresenceChanged); is {
			told = append(told, p.Presence)
		}
	})
	b := NewBoard(conf.NewCurrent(c), events, NewRegistry(2, 10), nil, route.Known{})
	primary := Status{State: hb.Established, Known: true, Attributes: hb.Attributes{Timeline: 1}, SystemIdentifier: 7,
		PostmasterStart: 1}
	standby := primary
	standby.Attributes.Flags, standby.PostmasterStart = hb.InRecovery, 2
	duplicate, lost, foreign := primary, primary, primary
	duplicate.State, lost.State, foreign.SystemIdentifier = hb.Duplicate, hb.Lost, 8
	for i, x := range []struct {
		index          int
		s              Status
		want           event.Presence
		primary, whole bool
	}{
		{0, Status{}, event.Presence{Primary: -1, Instances: 2}, false, false},
		{1, standby, event.Presence{Primary: -1, Established: 1, Instances: 2}, false, false},
		{0, primary, event.Presence{Primary: 3, Established: 2, Instances: 2}, true, true},
		{1, duplicate, event.Presence{Primary: 3, Established: 2, Instances: 2}, true, true},
		{1, lost, event.Presence{Primary: 3, Established: 1, Instances: 2}, true, false},
		{1, standby, event.Presence{Primary: 3, Established: 2, Instances: 2}, true, true},
		{0, foreign, event.Presence{Primary: -1, Established: 2, Instances: 2}, false, true},
	} {
		before := slices.Clone(told)
		b.Post(x.index, x.s, nil)
		b.rebuild()
		b.rebuild()
		if len(before) == 0 || before[len(before)-1] != x.want {
			before = append(before, x.want)
		}
		if !slices.Equal(told, before) {
			t.Errorf("%d: told %+v, want %+v", i, told, before)
		}
		if p := told[len(told)-1]; p.HasPrimary() != x.primary || p.IsComplete() != x.whole {
			t.Errorf("%d: %+v: primary %v, complete %v", i, p, p.HasPrimary(), p.IsComplete())
		}
	}
}

// The disk stands still: a promotion waits for it, whatever else there is to tell, until an instance is
// lost. That is told at once.
func TestLossDoesNotWaitForDisk(t *testing.T) {
	for _, news := range []bool{false, true} {
		c, _ := conf.Parse("conmgr.conf", []byte("backend_host0 = a\nbackend_host1 = b"))
		k, known := NewKeeper(t.TempDir(), nil, time.Now()) // nobody writes
		known.SystemIdentifier, known.Timeline = 7, 1
		b := NewBoard(conf.NewCurrent(c), nil, NewRegistry(2, 10), k, known)
		b.KeepLimit = time.Hour
		promoted := Status{State: hb.Established, Known: true, Attributes: hb.Attributes{Timeline: 2}, SystemIdentifier: 7,
			PostmasterStart: 101}
		b.Post(1, promoted, nil)
		<-b.wake
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.rebuild()
		}()
		testkit.Eventually(t, 10*time.Second, "it is to be written", func() (bool, string) {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.latest.Timeline == 2, k.latest.String()
		})
		if news {
			b.Post(1, promoted, nil)
			testkit.Eventually(t, 10*time.Second, "news are looked at", func() (bool, string) { return len(b.wake) == 0, "" })
		}
		if tab := b.Table.Load(); tab.Known.Timeline != 1 {
			t.Errorf("it is offered before it is on disk: %s", tab.Known)
		}
		b.Post(0, Status{State: hb.Lost}, &hb.Loss{Reason: hb.LossSilence})
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the loss waits")
		}
		if len(b.wake) == 0 {
			t.Fatal("the loss is forgotten")
		}
		if b.rebuild(); b.Table.Load().Entries[0].Losses != 1 {
			t.Error("the loss is not told")
		}
	}
}

// destroy_sockets applies to what a newer timeline has superseded, and not to one of two primaries of
// one timeline, of which it is not proved that it is the wrong one.
func TestSupersededIsDestroyed(t *testing.T) {
	c, _ := conf.Parse("conmgr.conf", []byte("backend_host0 = a\nbackend_host1 = b"))
	for _, x := range []struct {
		timeline uint32 // of the second primary
		want     int
	}{{2, 1}, {1, 0}} {
		b := NewBoard(conf.NewCurrent(c), nil, NewRegistry(2, 10), nil, route.Known{})
		var destroyed []int
		b.OnLost = func(_ []Entry, index int) { destroyed = append(destroyed, index) }
		for i, a := range []hb.Attributes{{Timeline: 1}, {Flags: hb.InRecovery, Timeline: 1}, {Timeline: x.timeline}} {
			b.Post(min(i, 1), Status{State: hb.Established, Known: true, Attributes: a, SystemIdentifier: 7,
				PostmasterStart: int64(101 + min(i, 1))}, nil)
			b.rebuild()
		}
		if len(destroyed) != x.want || x.want == 1 && destroyed[0] != 0 {
			t.Errorf("timeline %d: %v", x.timeline, destroyed)
		}
	}
}

// Nobody knows the role of an instance that is lost or stopped; what it was is shown apart.
func TestRole(t *testing.T) {
	for state, want := range map[hb.State]string{hb.Established: "standby", hb.Connecting: "standby",
		hb.Stopping: "standby", hb.Stopped: "unknown", hb.Lost: "unknown"} {
		e := Entry{Status: Status{State: state, Known: true, Attributes: hb.Attributes{Flags: hb.InRecovery}}}
		if got := e.Role(); got != want {
			t.Errorf("%s: %s, want %s", state, got, want)
		}
	}
	if got := (&Entry{Status: Status{State: hb.Established}}).Role(); got != "unknown" {
		t.Errorf("not told yet: %s", got)
	}
}

// A routing table that does not do its work does not say that it does.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := conf.Parse("conmgr.conf", []byte("backend_host0 = a"))
		b := NewBoard(conf.NewCurrent(c), nil, NewRegistry(1, 10), nil, route.Known{})
		stop, answered := make(chan struct{}), false
		go func() {
			b.Ping()
			answered = true
		}()
		synctest.Wait()
		if answered {
			t.Error("answered before Run runs")
		}
		go b.Run(stop)
		synctest.Wait()
		if !answered {
			t.Error("not answered by Run")
		}
		close(stop)
		synctest.Wait()
		b.Ping() // the end of Run is no hang
	})
}
