package conmgr

import (
	"strings"
	"testing"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// SHOW TARGET names the label of sessions: that of the id by which the server knows this conmgr. It
// names none where the server takes none, and where something else may answer at the configured
// port.
func TestLabelOfTarget(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, calm+instanceConf(3, w.port())+"backend_port3 = 6000\n")
	for i, c := range []struct {
		flags hb.WelcomeFlags
		port  uint16
		has   bool
	}{{hb.KnowsLabels, 6000, true}, {0, 6000, false}, {hb.KnowsLabels, 5432, false}, {hb.KnowsLabels, 6000, true},
		{hb.KnowsLabels, 0, false}} {
		conn := w.next()
		a := conn.answer(1, 7, primary)
		a.PostmasterPort, a.Flags = c.port, a.Flags|c.flags
		conn.send(a.Append(nil))
		r.waitState(0, hb.Established)
		want := "D(3,127.0.0.1,127.0.0.1,6000,primary,read-write,)"
		if c.has {
			want = strings.TrimSuffix(want, ")") + hb.LabelID(conn.hello.ID).String() + ")"
		}
		app := r.connect()
		eventually(t, "the set is known", func() bool { return strings.Contains(app.query("SHOW TARGET any"), "D(") })
		if got := app.query("SHOW TARGET any"); got != "T "+want+" C(SHOW) Z" {
			t.Errorf("WELCOME %d: got %s, want %s", i, got, want)
		}
		app.c.Close()
		conn.c.Close()
		r.published("it is closed", func() bool { return r.entry(0).State != hb.Established })
	}
}
