package history

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Tests of what is kept, in which order, and what is counted only.

type world struct {
	*History
	now  time.Time
	told []event.Record
}

func newWorld(size int) *world {
	w := &world{now: time.UnixMilli(100_000_000)}
	w.History = New(size, func() time.Time { return w.now }, func(r event.Record) { w.told = append(w.told, r) })
	return w
}

var db0 = event.Instance{Number: 0, Host: "db0", Port: 5432}

func conflict(n int) event.Event { return event.Conflict{What: fmt.Sprint(n)} }

func texts(all []event.Record) (out []string) {
	for _, r := range all {
		out = append(out, r.Text)
	}
	return out
}

func expect(t *testing.T, what string, got []event.Record, want ...string) {
	t.Helper()
	if fmt.Sprint(texts(got)) != fmt.Sprint(want) {
		t.Errorf("%s: got %q, want %q", what, texts(got), want)
	}
}

func TestRing(t *testing.T) {
	w := newWorld(3)
	for i := range 5 {
		w.Take(conflict(i))
	}
	expect(t, "the last three", w.Since(0), "2", "3", "4")
	expect(t, "the last two", w.Last(2), "3", "4")
	all := w.Since(0)
	expect(t, "those after one", w.Since(all[0].Number), "3", "4")
	if all[0].Number != 100_000_002 || all[2].Number != 100_000_004 {
		t.Errorf("numbers: %d, %d", all[0].Number, all[2].Number)
	}
	w.now = w.now.Add(-time.Hour) // somebody sets the clock
	w.Take(conflict(5))
	if last := w.Last(1)[0]; last.Number != 100_000_005 {
		t.Errorf("the number does not rise: %d", last.Number)
	}
	w.Resize(2)
	expect(t, "two are kept", w.Since(0), "4", "5")
	w.Resize(4)
	for i := range 4 {
		w.Take(conflict(6 + i))
	}
	expect(t, "four are kept", w.Since(0), "6", "7", "8", "9")
	next := newWorld(3)
	next.now = w.now
	next.Restore(w.Since(0))
	next.Take(conflict(10))
	expect(t, "the process after it", next.Since(0), "8", "9", "10")
	if got := next.Last(1)[0].Number; got <= w.Last(1)[0].Number {
		t.Errorf("the number does not rise over a restart: %d", got)
	}
}

// What lasts is kept once, until it is over.
func TestLasting(t *testing.T) {
	w := newWorld(10)
	failed := event.ConnectFailed{Instance: db0, Why: "refused"}
	for range 100 {
		w.Take(failed)
		w.now = w.now.Add(time.Minute)
	}
	if n := len(w.Since(0)); n != 1 {
		t.Errorf("%d are kept of what lasts", n)
	}
	w.Take(event.Established{Instance: db0})
	w.Take(failed)
	if n := len(w.Since(0)); n != 3 {
		t.Errorf("%d are kept when it begins anew", n)
	}
}

// What a peer makes happen again and again pushes nothing else out.
func TestRepeated(t *testing.T) {
	w := newWorld(100)
	w.Take(event.Lost{Instance: db0, Loss: heartbeat.Loss{Reason: heartbeat.LossSilence, Silence: 2 * time.Second}})
	foreign := event.Foreign{Client: event.Client{Peer: db0}}
	for range 5000 {
		w.Take(foreign)
	}
	all := w.Since(0)
	if len(all) != 1+mostOfKind || all[0].Event != "lost" || all[len(all)-1].Repeated != 5000-mostOfKind {
		t.Errorf("%d are kept, the last one %+v", len(all), all[len(all)-1])
	}
	if r := all[0]; r.Reason != "silence" || *r.Instance != 0 || r.Host != "db0" || r.Port != 5432 || r.Level != "WARNING" {
		t.Errorf("got %+v", r)
	}
	w.now = w.now.Add(spell)
	w.Take(foreign)
	if n := len(w.Since(0)); n != 2+mostOfKind {
		t.Errorf("%d are kept in the next spell", n)
	}
	if len(w.told) != len(w.Since(0)) {
		t.Errorf("%d were told", len(w.told))
	}
}

// Nor in the long run, in which there are always some more: they have half of the room, and of it
// each kind its share.
func TestRepeatedForLong(t *testing.T) {
	w := newWorld(100)
	for i := range 50 {
		w.Take(conflict(i))
	}
	w.Take(event.Established{Instance: db0})
	for range 1000 {
		for range 2 * mostOfKind {
			w.Take(event.Foreign{Client: event.Client{Peer: db0}})
		}
		w.now = w.now.Add(spell)
	}
	all := w.Since(0)
	if got := texts(all)[:50]; len(all) != 100 || got[0] != "0" || got[49] != "49" || all[50].Event != "established" {
		t.Errorf("%d are kept: %q", len(all), texts(all))
	}
	if !slices.IsSortedFunc(all, func(a, b event.Record) int { return cmp.Compare(a.Number, b.Number) }) {
		t.Error("they are not in order")
	}
	for i := range 70 { // what matters has all of the room
		w.Take(conflict(100 + i))
	}
	if all := texts(w.Since(0)); all[30] != "100" || all[99] != "169" {
		t.Errorf("%q", all)
	}
}

func TestNotKept(t *testing.T) {
	w := newWorld(10)
	w.Take(event.Bound{Why: func() string { t.Error("asked why"); return "" }})
	w.Take(event.Accepted{})
	w.Take(event.Connecting{})
	if n := len(w.Since(0)); n != 0 {
		t.Errorf("%d are kept", n)
	}
	grown := w.Grown()
	w.Take(event.PresenceChanged{Presence: event.Presence{Primary: -1, Instances: 2}})
	select {
	case <-grown:
	default:
		t.Error("nobody is told")
	}
	expect(t, "presence", w.Since(0), "0 of 2 instances established, no primary")
	w.Take(event.NotRestarted{Err: errors.New("no")})
	if r := w.Last(1)[0]; r.Event != "not_restarted" || r.Detail == "" || r.Instance != nil {
		t.Errorf("got %+v", r)
	}
}
