package conmgr

// Tests of what is kept over restarts of conmgr, of a disk that does not take it, and of FORGET.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/control"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

func keptIn(dir string) func(*rig) { return func(r *rig) { r.dir = dir } }

func (r *rig) primary() int { return r.d.board.Table.Load().Primary }

// What one conmgr has learned bounds what the next one does, also while nobody is there to tell it
// again.
func TestKeptOverARestart(t *testing.T) {
	dir := t.TempDir()
	w0, w1 := newWatchdog(t, "127.0.0.1:0"), newWatchdog(t, "127.0.0.1:0")
	conf := calm + instanceConf(0, w0.port()) + instanceConf(1, w1.port())
	r := newRig(t, conf, keptIn(dir))
	w0.next().welcome(1, 7, primary)
	w1.next().welcome(2, 7, standby)
	r.waitState(0, hb.Established)
	r.published("the primary is used", func() bool { return r.primary() == 0 })
	r.d.board.Post(1, server(1, promoted), nil)
	r.published("the new primary is used", func() bool { return r.primary() == 1 })
	r.stop()

	r = newRig(t, conf, keptIn(dir))
	w0.next().welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	r.published("the old primary is refused", func() bool { return r.d.board.Table.Load().Verdicts[0].Superseded })
	c := r.connect()
	for _, a := range cm.Attributes {
		if m := c.refusal("show target " + string(a)); m.Code != "08001" || !strings.Contains(m.Detail, "a newer timeline is known, 2, seen at instance 1") {
			t.Errorf("%s: got %+v", a, m)
		}
	}
	w1.next().welcome(3, 7, promoted) // restarted
	r.published("the new primary is used again", func() bool { return r.primary() == 1 })
	if n := r.logged(`LOG:  known from before: system identifier 7, timeline 2 of instance 1 (host "127.0.0.1")`); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// Promotions of before are kept as well, and none is in the future.
func TestEarlierPromotionsAreKept(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	k, _ := bind.NewKeeper(dir, nil, now)
	want := route.Known{SystemIdentifier: 7, Timeline: 3, Since: now.Round(0),
		Earlier: []route.Step{{Timeline: 1, Since: now.Add(-time.Hour).Round(0)}, {Timeline: 2, Since: now.Round(0)}}}
	k.Put(want)
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	if _, got := bind.NewKeeper(dir, nil, now); !got.Equal(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	before := now.Add(-time.Minute)
	want.Since, want.Earlier[1].Since = before, before
	if _, got := bind.NewKeeper(dir, nil, before); !got.Equal(want) {
		t.Errorf("with an earlier clock: got %+v, want %+v", got, want)
	}
}

// A new timeline is in the file before an instance is offered by it: conmgr may be killed at once.
func TestKeptBeforeItIsOffered(t *testing.T) {
	dir := t.TempDir()
	r := staticWith(t, "", keptIn(dir), primary, standby)
	for timeline := uint32(2); timeline < 30; timeline++ {
		now := promoted
		now.Timeline = timeline
		r.d.board.Post(1, server(1, now), nil)
		var offered uint32
		eventually(t, "the new timeline is known", func() bool {
			offered = r.d.board.Table.Load().Known.Timeline
			return offered == timeline
		})
		if s, err := control.LoadState(dir); err != nil || s.Timeline != offered {
			t.Fatalf("timeline %d is offered, %d is kept: %v", offered, s.Timeline, err)
		}
	}
}

func TestDamagedFileIsSetAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, cm.StateFile)
	if err := os.WriteFile(path, []byte("timeline = 9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := staticWith(t, "", keptIn(dir), primary)
	r.published("the instance is used", func() bool { return r.primary() == 0 })
	eventually(t, "a new file is written", func() bool { s, err := control.LoadState(dir); return err == nil && s.Timeline == 1 })
	if r.logged("WARNING:  what was known of the instances is lost: could not use file \""+path+"\": it is damaged") != 1 || r.logged(`It was renamed to "`+path+`.damaged".`) != 1 {
		t.Errorf("log: %s", r.log)
	}
}

// A directory that cannot be written: conmgr goes on by what it has in memory, says so once, and
// writes when it can.
func TestStateCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	r := static(t, "", primary, standby)
	k, known := bind.NewKeeper(dir, r.d.events, r.d.board.Table.Load().Known.Since)
	if !known.Equal(route.Known{}) {
		t.Errorf("known: %s", known)
	}
	for timeline := range uint32(3) {
		k.Put(route.Known{SystemIdentifier: 7, Timeline: timeline + 1})
		if err := k.Save(); err == nil {
			t.Error("saved")
		}
	}
	if n := r.logged("WARNING:  could not write file"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.Save(); err != nil {
		t.Error(err)
	}
	if s, err := control.LoadState(dir); err != nil || s.Timeline != 3 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestForget(t *testing.T) {
	dir := t.TempDir()
	r := staticWith(t, "", keptIn(dir), primary, standby)
	for i, a := range []hb.Attributes{primary, promoted} {
		r.d.board.Post(i, server(i, a), nil)
	}
	r.published("the new primary is used", func() bool { return r.primary() == 1 })
	c, bound := r.connect(), r.connect()
	bound.query("show target primary")
	if got := c.query("forget instance 1"); got != `T D(system identifier 7, timeline 2 of instance 1 (host "127.0.0.2")) C(FORGET) Z` {
		t.Errorf("while it still says so: %s", got)
	}
	lost := server(1, promoted)
	lost.State = hb.Lost
	r.d.board.Post(1, lost, &hb.Loss{Reason: hb.LossSilence})
	bound.until("")
	if got := c.query("show target any"); !strings.Contains(got, "08001") {
		t.Errorf("got %s", got)
	}
	if m := c.refusal("forget instance 5"); m.Code != "22023" || m.Message != "instance 5 is not configured" {
		t.Errorf("got %+v", m)
	}
	if got := c.query("forget instance 0"); !strings.Contains(got, "timeline 2 of instance 1") {
		t.Errorf("it has told nothing: %s", got)
	}
	if got := c.query("FORGET;"); got != `T D(system identifier 7, timeline 1 of instance 0 (host "127.0.0.1")) C(FORGET) Z` {
		t.Errorf("got %s", got)
	}
	if s, err := control.LoadState(dir); err != nil || s.Timeline != 1 || s.Instance != 0 {
		t.Errorf("in the file: %+v, %v", s, err)
	}
	if got := c.query("show target any"); !strings.HasPrefix(got, "T D(0,") {
		t.Errorf("got %s", got)
	}
	// Who is bound to what is forgotten stays, and is told when the other one comes back.
	back := server(1, promoted)
	back.PostmasterStart++
	r.d.board.Post(1, back, nil)
	if got := c.until(""); !strings.Contains(got, "superseded by instance 1, timeline 2") {
		t.Errorf("got %s", got)
	}
}

// Another user cannot have it forget.
func TestForgetIsForTheUserOfConmgr(t *testing.T) {
	r := staticWith(t, "", func(r *rig) { r.console.MayForget = func(uint32) bool { return false } }, primary)
	if m := r.connect().refusal("forget"); m.Code != "42501" || !strings.HasPrefix(m.Detail, "This connection is of the user with the number ") {
		t.Errorf("got %+v", m)
	}
}
