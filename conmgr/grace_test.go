package conmgr

// Tests of standby_timeline_grace: what may be written, and that it ends without any event.

import (
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

func TestStandbyTimelineGraceInConfig(t *testing.T) {
	for value, want := range map[string]time.Duration{"0": 0, "-1": -1, "90s": 90 * time.Second, "5": 5 * time.Second, "0ms": 0} {
		if c := parseConf(t, "backend_host0 = a\nstandby_timeline_grace = "+value); c.StandbyTimelineGrace != want {
			t.Errorf("%s: got %v", value, c.StandbyTimelineGrace)
		}
	}
	for _, value := range []string{"-2", "-1s", "always", "''"} {
		c, diags := conf.Parse("f", []byte("backend_host0 = a\nstandby_timeline_grace = "+value))
		if c != nil || len(diags) != 1 || !strings.HasSuffix(diags[0].Text, "or with one of the units ms, s, min, h, d, and -1") {
			t.Errorf("%s: %v", value, diags)
		}
	}
}

func TestStandbyTimelineGraceEnds(t *testing.T) {
	r := static(t, "standby_timeline_grace = 200ms\n", hb.Attributes{Timeline: 1}, standby)
	c := r.connect()
	c.query("show target standby")
	start := time.Now()
	r.d.board.Post(0, up(hb.Attributes{Timeline: 2}), nil)
	r.published("the standby is no longer offered", func() bool { return r.d.board.Table.Load().Choose(bind.Request{Want: cm.Standby}, bind.Load{}) < 0 })
	if d := time.Since(start); d < 200*time.Millisecond {
		t.Errorf("not offered after %v", d)
	}
	if got := c.query("show applications"); !strings.Contains(got, ",standby,1,") {
		t.Errorf("who reads from it was told: %s", got)
	}
	r.d.board.Post(1, up(hb.Attributes{Flags: hb.InRecovery, Timeline: 2}), nil)
	r.published("the standby has followed", func() bool { return r.d.board.Table.Load().Choose(bind.Request{Want: cm.Standby}, bind.Load{}) == 1 })
}
