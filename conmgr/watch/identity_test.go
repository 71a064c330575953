package watch

// Tests of what is kept of who this conmgr is.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/control"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

func identityIn(t *testing.T, dir string, take func(event.Event)) *Identity {
	t.Helper()
	events := &event.Hub{}
	events.Subscribe(take)
	g := &group.Group{OnPanic: func(name string, v any, _ []byte) { t.Errorf("%s: %v", name, v) }}
	t.Cleanup(func() { g.Wait(patience) })
	return LoadIdentity(dir, events, g)
}

// The next process has the ids and generations of this one, and another incarnation; an entry that
// was given another number is still the same.
func TestIdentityIsKept(t *testing.T) {
	dir := t.TempDir()
	unexpected := func(e event.Event) { t.Error(e.Text()) }
	db0, db1 := conf.Instance{Number: 0, Host: "db0", Port: 5432}, conf.Instance{Number: 1, Host: "db1", Port: 5432}
	first := identityIn(t, dir, unexpected)
	a, b := first.entry(&db0), first.entry(&db1)
	first.begin()
	b.raised(1)
	db0.Number, db1.Number = 1, 0
	next := identityIn(t, dir, unexpected)
	c, d := next.entry(&db0), next.entry(&db1)
	if a.id != c.id || b.id != d.id || a.id == b.id || c.generation != 0 || d.generation != 1 {
		t.Errorf("%v %v, then %v %v", a, b, c, d)
	}
	if first.Incarnation == next.Incarnation || next.Incarnation == (hb.ID{}) || c.spare == a.spare {
		t.Error("two processes are one")
	}
	d.taken() // by another process
	if last := identityIn(t, dir, unexpected); last.entry(&db1).id != d.id || d.id == b.id {
		t.Error("the next process begins with the id that was taken")
	}
	if unkept := NewIdentity(hb.ID{9}); unkept.entry(&db0).at >= 0 || unkept.entry(&db0).incarnation != (hb.ID{}) {
		t.Error("nothing is to be kept")
	}
}

// A file that is damaged is set aside, and told.
func TestIdentityIsDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, cm.IdentityFile)
	if err := os.WriteFile(path, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var told []string
	i := identityIn(t, dir, func(e event.Event) { told = append(told, e.Text()) })
	i.begin()
	if len(told) != 1 || !strings.Contains(told[0], "do not know this Connection Manager again") {
		t.Errorf("told: %q", told)
	}
	if _, found, err := control.LoadIdentity(dir); !found || err != nil {
		t.Errorf("the new one: %v, %v", found, err)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

// What applications are about to be told stands in the file by then.
func TestGenerationIsWrittenFirst(t *testing.T) {
	defer func(d time.Duration) { raiseLimit = d }(raiseLimit)
	raiseLimit = patience // a slow disk is no other order
	b := newBench(t)
	dir := t.TempDir()
	i := identityIn(t, dir, func(event.Event) {})
	b.Instance.who = i.entry(b.cfg)
	i.begin()
	written := uint64(0)
	b.events.Subscribe(func(e event.Event) {
		if _, lost := e.(event.Lost); lost {
			kept, _, err := control.LoadIdentity(dir)
			if err != nil || len(kept.Entries) != 1 {
				t.Errorf("%+v, %v", kept, err)
				return
			}
			written = kept.Entries[0].Generation
		}
	})
	b.welcome()
	for now := 100 * second; now <= 104*second; now += second / 10 {
		b.at(now)
		b.due()
	}
	b.is(hb.Lost)
	if written != 1 {
		t.Errorf("generation %d stands in the file when the loss is told", written)
	}
}
