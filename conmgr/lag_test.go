package conmgr

// Tests of standby_max_lag, and of the clause LAG: who is offered, and what is said of the others.

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// lag posts that of a standby, and waits until it counts.
func (r *rig) lag(i int, l hb.Lag) {
	r.t.Helper()
	s := up(standby)
	s.Lag = l
	r.d.board.Post(i, s, nil)
	eventually(r.t, "the lag counts", func() bool { return r.entry(i).Lag == l })
}

func TestStandbyMaxLag(t *testing.T) {
	r := static(t, "standby_max_lag = '16MB'\nrelay_port_standby = 1\n", primary, standby, standby)
	current, late := hb.Lag{Known: true}, hb.Lag{Known: true, Bytes: 64 << 20, Time: -1}
	r.lag(1, late)
	r.lag(2, current)
	c := r.connect()
	ask := func(statement, want string) {
		t.Helper()
		if got := c.query(statement); !strings.Contains(got, want) {
			t.Errorf("%s: got %s", statement, got)
		}
	}
	ask("show target standby", "D(2,")
	ask("show target standby lag '1GB' except 2", "D(1,")
	ask("show instances", "it is a standby that is 64 MB behind, since when is not known: standby_max_lag is 16MB,standby,7,,")
	ask("show instances", ",67108864,)")
	r.lag(2, hb.Lag{}) // its walreceiver has ended
	for statement, want := range map[string]string{
		"show target standby":         "it is a standby that is behind by what is not known: standby_max_lag is 16MB",
		"show target standby lag 1kB": "it is a standby that is 64 MB behind, since when is not known: LAG is 1kB",
	} {
		if e := c.refusal(statement); e.Code != cm.CannotEstablish || !strings.Contains(e.Detail, want) {
			t.Errorf("%s: got %+v", statement, e)
		}
	}
	ask("show target prefer-standby", "D(0,")
	ask("show target any", "D(0,")
	relayed := r.relay(0)
	relayed.Write(pgwire.StartupPacket(3<<16, "user", "x"))
	if got, err := io.ReadAll(relayed); err != nil || !strings.Contains(string(got), "standby_max_lag is 16MB") {
		t.Errorf("relayed: %q, %v", got, err)
	}
	// Who waits goes as soon as one has caught up.
	waits := r.connect()
	waits.ask("show target standby wait '1h'")
	eventually(t, "somebody waits", func() bool { return len(r.d.registry.Waiting()) == 1 })
	r.lag(1, current)
	if got := waits.until("Z"); !strings.Contains(got, "D(1,") {
		t.Errorf("who has waited: %s", got)
	}
	r.lag(1, late) // what is bound is left alone
	if got := waits.query("show version"); !strings.Contains(got, "conmgr") {
		t.Errorf("got %s", got)
	}
}

func TestStandbyMaxLagInConfig(t *testing.T) {
	for value, want := range map[string]hb.LagLimit{
		"":       {},
		"16MB":   {By: hb.ByBytes, Max: 16 << 20, Text: "16MB"},
		"0B":     {By: hb.ByBytes, Text: "0B"},
		"5 kB":   {By: hb.ByBytes, Max: 5 << 10, Text: "5kB"},
		"2TB":    {By: hb.ByBytes, Max: 2 << 40, Text: "2TB"},
		"5s":     {By: hb.ByTime, Max: 5000, Text: "5s"},
		"0ms":    {By: hb.ByTime, Text: "0ms"},
		"10 min": {By: hb.ByTime, Max: 600_000, Text: "10min"},
	} {
		if c := parseConf(t, fmt.Sprintf("backend_host0 = a\nstandby_max_lag = '%s'", value)); c.StandbyMaxLag != want {
			t.Errorf("%q: got %+v", value, c.StandbyMaxLag)
		}
	}
	for _, value := range []string{"16", "16mb", "MB", "-1MB", "1.5GB", "9223372036854775807kB", "99999999999999999999B", "2147484s", "5 sec"} {
		c, diags := conf.Parse("f", []byte("backend_host0 = a\nstandby_max_lag = "+"'"+value+"'"))
		if c != nil || len(diags) != 1 || diags[0].Line != 2 || !strings.Contains(diags[0].Text, "standby_max_lag") ||
			!strings.HasSuffix(diags[0].Text, "one of the units B, kB, MB, GB, TB, ms, s, min, h, d, and '' for no limit") {
			t.Errorf("%s: %v", value, diags)
		}
	}
}
