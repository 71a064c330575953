package test

// on_role_change with real servers: what becomes of connections to a standby that is promoted, and to a
// primary that becomes read-only.

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// TestRoleChange: each policy on a client host of its own, with the libpq front, the Go client, a relay
// port, and an application that does not mind the role.
func TestRoleChange(t *testing.T) {
	w := newWorld(t)
	second := w.primary.Standby("second", pgtest.Host(w.net.Host("db2")))
	type host struct {
		policy       string
		cm           *cmtest.Conmgr
		apps         []*app // of the standby
		any          *app
		relayed      *session
		aware        *cmtest.Bound
		ends, isTold bool
	}
	all := []*host{{policy: "ignore"}, {policy: "notify", isTold: true}, {policy: "reset", ends: true}}
	for _, h := range all {
		client := w.net.Host(h.policy)
		h.cm = cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "3s", Clusters: []*pgtest.Cluster{w.primary, second},
			Extra: relayConf + "on_role_change = " + h.policy + "\n"})
		h.cm.WaitInstance(0, "role", "primary")
		h.cm.WaitInstance(1, "role", "standby")
		by := func(attribute string) string {
			return fmt.Sprintf("host=127.0.0.1 port=%d target_session_attrs=%s", h.cm.Addr().Port(), attribute)
		}
		h.apps = []*app{w.app(client, "front", by("standby")), w.app(client, "go", by("read-only"))}
		h.any = w.app(client, "front", by("prefer-standby"))
		h.relayed = w.sessionAt(client, relayDSN(relayStandby))
		h.aware = h.cm.Bind("standby NOTIFY")
	}
	second.Promote()
	for _, h := range all {
		h.cm.WaitInstance(1, "role", "primary")
		err := h.aware.Wait(map[bool]time.Duration{true: patience, false: time.Second}[h.isTold || h.ends])
		told := fmt.Sprint(err)
		if h.isTold != contains(told, "conmgr.notice: role primary,read-write") || h.ends != contains(told, "its role has changed") {
			t.Errorf("%s: an application is told %s", h.policy, told)
		}
		for _, a := range append(h.apps, h.any) {
			if h.ends && a != h.any {
				eventually(t, "the session of "+a.kind+" has ended", func() (bool, string) { // each is told for itself
					_, err := a.ask("SELECT 1")
					return err != nil, ""
				})
			}
			pid, err := a.ask("SELECT pg_backend_pid()::text")
			if ends := h.ends && a != h.any; ends != (err != nil) || !ends && pid != fmt.Sprint(a.pid) {
				t.Errorf("%s, %s: session %s, was %d: %v", h.policy, a.kind, pid, a.pid, err)
			}
		}
		relayed := func() error { _, err := h.relayed.conn.ExecContext(context.Background(), "SELECT 1"); return err }
		if h.ends {
			eventually(t, "the relayed session has ended", func() (bool, string) { return relayed() != nil, "" })
		} else if err := relayed(); err != nil {
			t.Errorf("%s, relayed: %v", h.policy, err)
		}
	}
}
