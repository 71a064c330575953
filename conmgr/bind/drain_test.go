package bind

// Tests of drains: what they change in the table, who is told, and what is kept of them.

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// desk is a board without its goroutine, in a directory, with what it says.
type desk struct {
	*Board
	said []string
}

func newDesk(t *testing.T, dir, text string) *desk {
	c, diags := conf.Parse("conmgr.conf", []byte(text))
	if c == nil {
		t.Fatal(diags)
	}
	d, events := &desk{}, &event.Hub{}
	events.Subscribe(func(e event.Event) {
		if _, is := e.(event.PresenceChanged); !is {
			d.said = append(d.said, e.Text())
		}
	})
	k, known := NewKeeper(dir, events, time.Now())
	if known.SystemIdentifier == 0 {
		known = route.Known{SystemIdentifier: 7, Timeline: 1}
	}
	d.Board = NewBoard(conf.NewCurrent(c), events, NewRegistry(len(c.Instances), 10), k, known)
	d.KeepLimit = 0 // nobody writes
	return d
}

// is posts what an instance says of itself.
func (d *desk) is(i int, flags hb.AttributeFlags) {
	d.Post(i, Status{State: hb.Established, Known: true, SystemIdentifier: 7, PostmasterStart: int64(101 + i),
		Attributes: hb.Attributes{Flags: flags, Timeline: 1}}, nil)
	d.rebuild()
}

// order drains an instance, or ends that, as Drain does.
func (d *desk) order(t *testing.T, i int, on bool) {
	t.Helper()
	d.drain(drainRequest{i, on, make(chan struct{})})
	if err := d.keeper.saveDrained(func() []Entry { return d.Table.Load().Entries }); err != nil {
		t.Error(err)
	}
}

// bind binds another application to the primary, and returns the index of that.
func (d *desk) bind(s Seat) (m *place, index int) {
	m = &place{Seat: s}
	m.Bound = -1
	d.registry.Add(m)
	_, index, _ = d.registry.Bind(m, "primary", d.Table.Load, func(t *Table, l Load) int { return t.Choose(Request{Want: cm.Primary}, l) })
	return m, index
}

// told checks what a member was told since the last call.
func (p *place) told(t *testing.T, what string, want ...string) {
	t.Helper()
	for i := range want {
		want[i] = string(backend.ParameterStatus(cm.NoticeParameter, want[i]))
	}
	if !slices.Equal(p.noted, want) {
		t.Errorf("%s: told %q, want %q", what, p.noted, want)
	}
	p.noted, p.pushed = nil, 0
}

// heard returns what was said since the last call.
func (d *desk) heard() []string {
	said := d.said
	d.said = nil
	return said
}

const twoInstances = "backend_host0 = a\nbackend_host1 = b\nbackend_port1 = 5433\n"

func TestDrain(t *testing.T) {
	d := newDesk(t, t.TempDir(), twoInstances)
	d.is(0, 0)
	d.is(1, hb.InRecovery)
	for _, relay := range []bool{false, true} {
		if _, i := d.bind(Seat{Relay: relay}); i != 0 {
			t.Fatalf("bound to %d", i)
		}
	}
	d.heard()
	check := func(what string, offered int, draining string, said ...string) {
		t.Helper()
		tab := d.Table.Load()
		if got := d.heard(); !slices.Equal(got, said) {
			t.Errorf("%s: said %q, want %q", what, got, said)
		}
		if i := tab.Choose(Request{Want: cm.Primary}, Load{}); i != offered || tab.Draining(0) != draining || tab.Presence().Primary != 0 {
			t.Errorf("%s: offered is %d, drained by %q", what, i, tab.Draining(0))
		}
		if n := d.registry.BoundTo(0); n != 2 || tab.Primary != 0 {
			t.Errorf("%s: %d are bound, the primary is %d", what, n, tab.Primary)
		}
	}
	d.order(t, 0, true)
	check("here", -1, "here", `instance 0 (host "a") is draining, by cm_ctl drain on this host: 2 connections are bound to it, 0 of them have been told`)
	d.order(t, 0, true)
	check("again", -1, "here")
	d.is(0, hb.Draining)
	check("by the server, too", -1, "server,here")
	d.order(t, 0, false)
	check("by the server", -1, "server")
	d.is(0, 0)
	check("not any more", 0, "", `instance 0 (host "a") is not draining any more: 2 connections are bound to it, 0 of them have been told`)
	d.is(0, hb.Draining)
	check("anew", -1, "server", `instance 0 (host "a") is draining, by its server: 2 connections are bound to it, 0 of them have been told`)
	if _, i := d.bind(Seat{}); i != -1 {
		t.Errorf("bound to %d", i)
	}
}

// Whoever is bound and has asked for it is told, and so is who comes back to an instance that drains.
func TestDrainIsTold(t *testing.T) {
	d := newDesk(t, t.TempDir(), twoInstances)
	d.is(0, 0)
	d.is(1, hb.InRecovery)
	asked, _ := d.bind(Seat{Notified: true})
	silent, _ := d.bind(Seat{})
	d.heard()
	d.is(0, hb.Draining)
	asked.told(t, "begin", cm.NoticeDraining)
	d.order(t, 0, true)
	d.is(0, 0)
	asked.told(t, "another reason for it")
	resume := func(m *place, i int) {
		d.registry.Seek(&Waiter{Member: m, Target: "primary", Choose: func(*Table, Load) int { return i }}, d.Table.Load)
	}
	back := &place{Seat: Seat{Bound: -1, Notified: true}}
	resume(back, 0)
	back.told(t, "who comes back", cm.NoticeDraining)
	resume(back, 0)
	resume(back, 1)
	back.told(t, "who goes elsewhere before that is sent")
	resume(back, 0)
	back.told(t, "who comes back", cm.NoticeDraining)
	d.order(t, 0, false)
	asked.told(t, "end", cm.NoticeServing)
	back.told(t, "end", cm.NoticeServing)
	resume(back, 0)
	back.told(t, "who comes back afterwards")
	silent.told(t, "who has not asked")
	want := []string{`instance 0 (host "a") is draining, by its server: 2 connections are bound to it, 1 of them have been told`,
		`instance 0 (host "a") is not draining any more: 3 connections are bound to it, 2 of them have been told`}
	if got := d.heard(); !slices.Equal(got, want) {
		t.Errorf("said %q", got)
	}
}

// What is drained here outlives conmgr, and follows its entry.
func TestDrainIsKept(t *testing.T) {
	dir := t.TempDir()
	d := newDesk(t, dir, twoInstances)
	d.order(t, 1, true)
	drained := func(text string) (numbers []int, said string) {
		d := newDesk(t, dir, text)
		for i := range d.Table.Load().Entries {
			if d.Table.Load().Draining(i) != "" {
				numbers = append(numbers, d.Table.Load().Entries[i].Config.Number)
			}
		}
		return numbers, strings.Join(d.heard(), "; ")
	}
	const kept = `instance 1 (host "b") is drained on this host, since before this start`
	for _, x := range []struct {
		conf string
		want []int
		said string
	}{
		{twoInstances, []int{1}, kept},
		{"backend_host5 = b\nbackend_port5 = 5433\nbackend_host1 = a\n", []int{5},
			`instance 5 (host "b") is drained on this host, since before this start`},
		{"backend_host0 = b\nbackend_port0 = 5433\nwatchdog_port0 = 1\n" + twoInstances[len("backend_host0 = a\n"):], []int{1}, kept},
		{"backend_host1 = b\n", nil, `instance 1 (host "b", port 5433) was drained on this host, and is not configured any more`},
	} {
		if got, said := drained(x.conf); !slices.Equal(got, x.want) || said != x.said {
			t.Errorf("%s: drained are %v, said %q", x.conf, got, said)
		}
	}
	d.order(t, 1, false)
	if got, said := drained(twoInstances); got != nil || said != "" {
		t.Errorf("drained are %v, said %q", got, said)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

// A file that is damaged is set aside, and said; nothing is drained by it.
func TestDamagedDrainFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, cm.DrainFile)
	if err := os.WriteFile(path, []byte("instance = 0 5432 \"a\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, dir, twoInstances)
	if said := d.heard(); len(said) != 1 || !strings.HasPrefix(said[0], `which instances are drained on this host is lost: could not use file "`+path+`": it is damaged`) {
		t.Errorf("said %q", said)
	}
	if by := d.Table.Load().Draining(0); by != "" {
		t.Errorf("drained by %q", by)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
	d.order(t, 0, true)
	if by := newDesk(t, dir, twoInstances).Table.Load().Draining(0); by != "here" {
		t.Errorf("drained by %q", by)
	}
}
