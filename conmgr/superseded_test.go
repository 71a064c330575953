package conmgr

// Tests of what is bound to an instance that a promotion or a succession has left behind, and of
// the moment at which one binds.

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

var promoted = hb.Attributes{Timeline: 2}

// server is what an instance with a server of its own posts.
func server(i int, a hb.Attributes) bind.Status {
	s := up(a)
	s.PostmasterStart = int64(100 + i)
	return s
}

func TestSupersededIsTold(t *testing.T) {
	r := static(t, "relay_port_primary = 1\nrelay_port_standby = 2\n", primary, standby, standby)
	for i, a := range []hb.Attributes{primary, standby, standby} {
		r.d.board.Post(i, server(i, a), nil)
	}
	c, other := r.connect(), r.connect()
	c.query("show target primary")
	other.query("show target standby")
	r.d.board.Post(1, server(1, promoted), nil)
	want := `E(FATAL 57P01 instance 0 (host "127.0.0.1", address 127.0.0.1, port 27500) is lost: superseded by instance 1, timeline 2) EOF`
	if got := c.until(""); got != want {
		t.Errorf("got %s", got)
	}
	if got := other.query("show applications"); strings.Count(got, "D(") != 1 || !strings.Contains(got, ",standby,1,") {
		t.Errorf("its own sessions, and those of standbys, stay: %s", got)
	}
	// It happens once, and again if it was away meanwhile.
	r.d.board.Post(0, server(0, primary), nil)
	r.d.board.Post(2, server(2, hb.Attributes{Flags: hb.InRecovery, Timeline: 2}), nil)
	r.published("the other standby follows", func() bool { return r.entry(2).Attributes.Timeline == 2 })
	r.d.log.Flush(patience)
	if n := r.log.count(`WARNING:  instance 0 (host "127.0.0.1") is superseded by instance 1, timeline 2`); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if e := r.entry(0); e.Losses != 1 || e.State != hb.Established {
		t.Errorf("got %+v, %d losses", e.Status, e.Losses)
	}
	back := server(0, standby)
	back.PostmasterStart++
	r.d.board.Post(0, back, nil)
	r.published("the old primary is a standby", func() bool { return r.d.board.Table.Load().Choose(bind.Request{Want: cm.Standby}, bind.Load{}) == 0 })
	if got := r.connect().query("show target standby"); !strings.HasPrefix(got, "T D(0,") {
		t.Errorf("got %s", got)
	}
}

// A server that declares to succeed the set's cluster leaves all of the predecessor behind.
func TestSuccessionIsTold(t *testing.T) {
	r := static(t, "", primary, standby, standby)
	for i, a := range []hb.Attributes{primary, standby, standby} {
		s := server(i, a)
		if i == 2 {
			s.SystemIdentifier = 8
		}
		r.d.board.Post(i, s, nil)
	}
	r.published("the other cluster is refused", func() bool { return r.d.board.Table.Load().Verdicts[2].Void })
	a, b := r.connect(), r.connect()
	a.query("show target primary")
	b.query("show target standby")
	next := server(2, primary)
	next.SystemIdentifier, next.Succeeds = 8, hb.Succession{SystemIdentifier: 7, Timeline: 1}
	r.d.board.Post(2, next, nil)
	for i, c := range []*client{a, b} {
		want := fmt.Sprintf(`E(FATAL 57P01 instance %d (host "127.0.0.%d", address 127.0.0.%d, port 27500) is lost: `+
			`superseded by instance 2, system identifier 8) EOF`, i, i+1, i+1)
		if got := c.until(""); got != want {
			t.Errorf("got %s", got)
		}
	}
	if got := r.connect().query("show target any"); !strings.HasPrefix(got, "T D(2,") {
		t.Errorf("got %s", got)
	}
}

func TestSupersededRelayedIsReset(t *testing.T) {
	b0, b1 := newBackend(t, 0), newBackend(t, 1)
	r := static(t, "relay_port_primary = 1\nrelay_port_standby = 2\n"+b0.conf(0)+b1.conf(1), primary, standby)
	r.d.board.Post(0, server(0, primary), nil)
	r.d.board.Post(1, server(1, standby), nil)
	writer, _ := r.through(0, b0)
	reader, readerServer := r.through(1, b1)
	r.d.board.Post(1, server(1, promoted), nil)
	if _, err := io.Copy(io.Discard, writer); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("got %v", err)
	}
	readerServer.Write([]byte("still here"))
	expect(t, reader, []byte("still here"))
	r.through(0, b1)
}

// watcher is a member that looks at the table when it is told.
type watcher struct {
	bind.Seat
	told func()
}

func (w *watcher) End([]byte)       { w.told() }
func (w *watcher) Finish(time.Time) {}
func (w *watcher) Note([]byte)      {}
func (w *watcher) Push()            {}

// The new table is published before anybody is told: who asks again at once gets another instance.
func TestTableComesBeforeTheNews(t *testing.T) {
	for _, why := range []string{"lost", "superseded"} {
		r := static(t, "", primary, standby)
		r.d.board.Post(0, server(0, primary), nil)
		r.d.board.Post(1, server(1, standby), nil)
		r.published("both are known", func() bool { return r.entry(1).PostmasterStart == 101 })
		b := r.d.board
		choose := func(t *bind.Table, l bind.Load) int { return t.Choose(bind.Request{Want: cm.Primary}, l) }
		again := make(chan int, 1)
		w := &watcher{Seat: bind.Seat{Bound: -1}}
		w.told = func() {
			_, i, _ := r.d.registry.Bind(w, "primary", b.Table.Load, choose)
			again <- i
		}
		r.d.registry.Add(w)
		t.Cleanup(func() { r.d.registry.Remove(w) })
		if _, i, _ := r.d.registry.Bind(w, "primary", b.Table.Load, choose); i != 0 {
			t.Fatalf("bound to %d", i)
		}
		want := -1
		if why == "lost" {
			r.lose(0)
		} else {
			want = 1
			b.Post(1, server(1, promoted), nil)
		}
		select {
		case i := <-again:
			if i != want {
				t.Errorf("%s: bound again to %d, want %d", why, i, want)
			}
		case <-time.After(patience):
			t.Errorf("%s: not told", why)
		}
		r.d.registry.Remove(w)
		r.stop()
	}
}

// Nobody is told by a table that is older than his binding, and nobody is forgotten: each binding
// was made by a table that a later loss replaced.
func TestLossBetweenTableAndBinding(t *testing.T) {
	r := static(t, "", primary)
	b := r.d.board
	for range 20 {
		if told, published := r.bindBesideALoss(b.Table.Load()); published {
			select {
			case <-told:
			case <-time.After(patience):
				t.Error("an application is bound to a lost instance, and was not told")
			}
			return
		}
		// run has waited for the registry's lock, and publishes now
		r.waitState(0, hb.Lost)
		b.Post(0, up(primary), nil)
		r.waitState(0, hb.Established)
	}
	t.Error("no table was published under the lock")
}

// bindBesideALoss binds by a table that a loss replaces while the registry's lock is held.
func (r *rig) bindBesideALoss(old *bind.Table) (told <-chan struct{}, published bool) {
	c := make(chan struct{}, 1)
	w := &watcher{Seat: bind.Seat{Bound: -1}, told: func() { c <- struct{}{} }}
	r.d.registry.Add(w)
	r.t.Cleanup(func() { r.d.registry.Remove(w) })
	r.d.registry.Bind(w, "primary", func() *bind.Table {
		r.lose(0) // run publishes its table, and then needs the lock
		published = testkit.Poll(time.Second, func() (bool, string) { return r.entry(0).State == hb.Lost, "" }) == nil
		return old
	}, func(t *bind.Table, l bind.Load) int { return t.Choose(bind.Request{Want: cm.Primary}, l) })
	return c, published
}

// refusal is the error that a statement gets.
func (c *client) refusal(statement string) (e pgproto3.ErrorResponse) {
	c.t.Helper()
	c.send(&pgproto3.Query{String: statement})
	for {
		m, err := c.f.Receive()
		if err != nil {
			c.t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			e = *m
		case *pgproto3.ReadyForQuery:
			return e
		}
	}
}

// A conmgr that starts with what an earlier one has learned.
func TestKnownFromBefore(t *testing.T) {
	known := route.Known{SystemIdentifier: 7, Timeline: 2, Held: true, At: route.Place{Instance: 1, Host: "127.0.0.2", Port: 27500, PostmasterStart: 101}}
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, calm+instanceConf(0, w.port()), func(r *rig) { r.known = known })
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	a := r.connect()
	m := a.refusal("show target any")
	if m.Code != "08001" || !strings.Contains(m.Detail, `it is a primary of timeline 1: a newer timeline is known, 2, seen at instance 1 (host "127.0.0.2")`) {
		t.Errorf("got %+v", m)
	}
	if got := a.query("show instances"); !strings.Contains(got, "established,primary,off,1,") || !strings.Contains(got, ",it is a primary of timeline 1: a newer timeline is known") {
		t.Errorf("got %s", got)
	}
}

// The beats of a succession reach the table.
func TestSuccessionInBeat(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, calm+instanceConf(0, w.port()), func(r *rig) { r.known = route.Known{SystemIdentifier: 7, Timeline: 2} })
	c := w.next()
	c.welcome(1, 8, primary)
	r.waitState(0, hb.Established)
	r.published("it is refused", func() bool { return r.d.board.Table.Load().Verdicts[0].Void })
	c.send(hb.WatchdogBeat{Sequence: 1, Attributes: primary, Succeeds: hb.Succession{SystemIdentifier: 7, Timeline: 2}}.Append(nil, 1))
	r.published("it has taken the set over", func() bool { return r.d.board.Table.Load().Primary == 0 })
}
