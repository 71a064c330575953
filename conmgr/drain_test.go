package conmgr

// Tests of DRAIN and UNDRAIN on the wire, and over restarts of conmgr.

import (
	"strings"
	"testing"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

func TestDrainStatement(t *testing.T) {
	dir := t.TempDir()
	r := staticWith(t, "", keptIn(dir), primary, standby)
	admin, app := r.connect(), r.connect()
	app.query("show target primary")
	for _, x := range [][2]string{
		{"DRAIN INSTANCE 0", "T D(0,here,1) C(DRAIN) Z"},
		{"drain instance 0;", "T D(0,here,1) C(DRAIN) Z"},
		{"drain instance 1", "T D(1,here,0) C(DRAIN) Z"},
		{"undrain instance 1", "T D(1,,0) C(UNDRAIN) Z"},
		{"show target any", "T D(1,127.0.0.2,127.0.0.2,27500,standby,read-only,) C(SHOW) Z"},
		{"show target prefer-standby", "T D(1,127.0.0.2,127.0.0.2,27500,standby,read-only,) C(SHOW) Z"},
	} {
		if got := admin.query(x[0]); got != x[1] {
			t.Errorf("%q: got %s, want %s", x[0], got, x[1])
		}
	}
	if m := admin.refusal("show target read-write"); m.Code != "08001" || !strings.Contains(m.Detail,
		`instance 0 (host "127.0.0.1") is established, primary,read-write: it is draining, by cm_ctl drain on this host; `) {
		t.Errorf("got %+v", m)
	}
	if m := admin.refusal("drain instance 5"); m.Code != "22023" || m.Message != "instance 5 is not configured" {
		t.Errorf("got %+v", m)
	}
	if got := app.query("show applications"); !strings.Contains(got, ",primary,0,") {
		t.Errorf("who was bound is not any more: %s", got)
	}
	if n := r.logged(`LOG:  instance 0 (host "127.0.0.1") is draining, by cm_ctl drain on this host: 1 connections are bound to it, 0 of them have been told`); n != 1 {
		t.Errorf("logged %d times", n)
	}
	r.stop()

	r = staticWith(t, "", keptIn(dir), primary, standby)
	if n := r.logged(`HINT:  "cm_ctl undrain -i 0" ends that.`); n != 1 {
		t.Errorf("logged %d times", n)
	}
	c := r.connect()
	if m := c.refusal("show target read-write"); m.Code != "08001" || !strings.Contains(m.Detail, "it is draining") {
		t.Errorf("after a restart: %+v", m)
	}
	if got := c.query("undrain instance 0"); got != "T D(0,,0) C(UNDRAIN) Z" {
		t.Errorf("got %s", got)
	}
	if got := c.query("show target read-write"); got != "T "+row0+" C(SHOW) Z" {
		t.Errorf("got %s", got)
	}
}

// Those that are bound and have asked for it are told, whoever has ordered it.
func TestDrainIsTold(t *testing.T) {
	r := static(t, "", primary, standby)
	admin, app := r.connect(), r.connect()
	app.query("show target primary notify")
	draining := primary
	draining.Flags |= hb.Draining
	for _, x := range []struct {
		order func()
		want  string
	}{
		{func() { admin.query("drain instance 0") }, "S(conmgr.notice=draining)"},
		{func() { admin.query("undrain instance 0") }, "S(conmgr.notice=serving)"},
		{func() { r.d.board.Post(0, up(draining), nil) }, "S(conmgr.notice=draining)"},
		{func() { r.d.board.Post(0, up(primary), nil) }, "S(conmgr.notice=serving)"},
	} {
		x.order()
		if got := app.until(x.want); got != x.want {
			t.Errorf("got %s, want %s", got, x.want)
		}
	}
	if got := app.query("show version"); !strings.HasSuffix(got, "C(SHOW) Z") {
		t.Errorf("it goes on: %s", got)
	}
}

// The only primary drains: who waits for one goes on when that ends, or when there is another one.
func TestDrainIsWaitedFor(t *testing.T) {
	r := static(t, "", primary, standby)
	admin := r.connect()
	for i, x := range []struct {
		order func()
		want  string
	}{
		{func() { admin.query("undrain instance 0") }, row0},
		{func() { r.d.board.Post(1, server(1, promoted), nil) }, "D(1,127.0.0.2,127.0.0.2,27500,primary,read-write,)"},
	} {
		admin.query("drain instance 0")
		app := r.connect()
		app.ask(waitPrimary)
		r.waiting(1)
		x.order()
		if got := app.until("Z"); got != "T "+x.want+" C(SHOW) Z" {
			t.Errorf("%d: got %s", i, got)
		}
	}
}

// Who comes back to an instance that drains has it, and is told right behind the answer.
func TestDrainAndResume(t *testing.T) {
	r := static(t, "", primary, standby)
	admin, c := r.connect(), r.connect()
	c.query("SHOW TARGET primary NOTIFY")
	token := c.token
	c.c.Close()
	eventually(t, "it is gone", func() bool { return r.d.registry.BoundTo(0) == 0 })
	admin.query("drain instance 0")
	c = r.connect()
	c.again(token)
	if got := c.until("Z"); got != "T "+row0+" C(SHOW) Z" {
		t.Errorf("got %s", got)
	}
	if want := "S(conmgr.notice=draining)"; c.until(want) != want {
		t.Error("it is not told right behind")
	}
	if got := admin.query("drain instance 0"); got != "T D(0,here,1) C(DRAIN) Z" {
		t.Errorf("got %s", got)
	}
}

// What the server says is the same to applications, and UNDRAIN does not end it.
func TestDrainByServer(t *testing.T) {
	r := static(t, "", primary, standby)
	draining := primary
	draining.Flags |= hb.Draining
	r.d.board.Post(0, up(draining), nil)
	r.published("it is draining", func() bool { return r.d.board.Table.Load().Draining(0) == "server" })
	c := r.connect()
	if got := c.query("undrain instance 0"); got != "T D(0,server,0) C(UNDRAIN) Z" {
		t.Errorf("got %s", got)
	}
	if m := c.refusal("show target read-write"); !strings.Contains(m.Detail, "it is draining, by its server") {
		t.Errorf("got %+v", m)
	}
}

// Another user cannot have it drain.
func TestDrainIsForTheUserOfConmgr(t *testing.T) {
	r := staticWith(t, "", func(r *rig) { r.console.MayForget = func(uint32) bool { return false } }, primary)
	c := r.connect()
	for _, s := range []string{"drain instance 0", "undrain instance 0"} {
		if m := c.refusal(s); m.Code != "42501" || !strings.HasSuffix(m.Message, "may have it drain instances") {
			t.Errorf("got %+v", m)
		}
	}
	if by := r.d.board.Table.Load().Draining(0); by != "" {
		t.Errorf("drained by %q", by)
	}
}
