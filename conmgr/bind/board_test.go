package bind

// Tests of the board without its goroutine.

import (
	"testing"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
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
		b := NewBoard(c, nil, NewRegistry(2, 10), nil, nil, route.Known{})
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
		if tab := b.Table.Load(); tab.Known.Timeline != 2 || tab.Choose(cm.ReadWrite, nil) != -1 ||
			!tab.Verdicts[0].Superseded {
			t.Errorf("%s: %s; %+v", gone, tab.Known, tab.Verdicts)
		}
	}
}
