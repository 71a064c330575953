package test

// Disturbances after which both ends of the heartbeats still have time: nobody loses anything by them.

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
)

// undisturbed is what such a disturbance must leave as it was.
type undisturbed struct {
	w     *world
	cm    *cmtest.Conmgr
	s     *session
	bound *cmtest.Bound
	mark  int
	since int
}

func (w *world) undisturbed(cm *cmtest.Conmgr, s *session) *undisturbed {
	return &undisturbed{w: w, cm: cm, s: s, bound: cm.Bind("primary"), mark: cm.Mark(), since: w.primary.LogSize()}
}

// check waits until heartbeats arrive again, and looks whether anybody was told, or ended.
func (u *undisturbed) check() {
	u.w.Helper()
	received := u.w.received()
	eventually(u.w, "heartbeats arrive again", func() (bool, string) { return u.w.received() > received+2, "" })
	if l, ok := u.cm.Find(u.mark, `is lost|heartbeat connection is closed`); ok {
		u.w.Errorf("conmgr: %s", l.Text)
	}
	u.w.noLog(u.since, `timed out|terminated connections`)
	u.w.alive(u.s, "the session")
	if err := u.bound.Wait(10 * time.Millisecond); err != nil {
		u.w.Errorf("the application was told: %v", err)
	}
}

// TestOutageInTime: the link is away for as long as heartbeat_timeout leaves after an interval, less the
// little that is needed.
func TestOutageInTime(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "1s", "2s")
	for range 4 {
		u := w.undisturbed(cm, w.session(client, "BEGIN"))
		waitRandom(time.Second)
		cut := w.net.Cut(client, w.db)
		time.Sleep(850 * time.Millisecond) // the fault's length: nothing to wait for
		cut.Heal()
		u.check()
	}
}

// TestForgottenConnection: something between has forgotten the heartbeat connection, and only that. The
// state stays, and the connection that takes its place is another one.
func TestForgottenConnection(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "500ms", "1500ms")
	for range 3 {
		u := w.undisturbed(cm, w.session(client, "BEGIN"))
		old, _ := w.heartbeatEnds()
		hole := w.net.CutPort(client, w.db, old.Port())
		var now netip.AddrPort
		eventually(w, "another connection", func() (bool, string) {
			now, _ = w.heartbeatEnds()
			return now != old, fmt.Sprint(now)
		})
		u.check()
		hole.Heal()
	}
}
