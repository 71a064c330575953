package test

// Two database hosts: promotion, two primaries at a time, demotion, and the workers of a standby.

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// TestFailover goes through the roles that two servers can have.
func TestFailover(t *testing.T) {
	w := newWorld(t)
	client, dying := w.net.Host("client"), w.net.Host("dying")
	db2 := w.net.Host("db2")
	second := w.primary.Standby("second", pgtest.Host(db2))
	config := cmtest.Config{Interval: "500ms", Timeout: "2s", Clusters: []*pgtest.Cluster{w.primary, second}}
	cm := cmtest.Start(t, client, config)
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	targets := func(t *testing.T, want map[string]string) {
		t.Helper()
		for attribute, instance := range want {
			if row := cm.Show("SHOW TARGET " + attribute)[0]; row["instance"] != instance {
				t.Errorf("SHOW TARGET %s: %v, want instance %s", attribute, row, instance)
			}
		}
	}

	t.Run("standby", func(t *testing.T) {
		targets(t, map[string]string{"read-write": "0", "primary": "0", "standby": "1", "prefer-standby": "1",
			"read-only": "1", "any": "0"})
		for _, title := range []string{workerTitle, terminatorTitle} {
			second.Worker(title)
		}
		deadHostOfStandby(w.in(t), second, dying, config)
	})

	bound := cm.Bind("read-write")
	t.Run("promotion beside the old primary", func(t *testing.T) {
		mark := cm.Mark()
		second.Promote()
		promoted := testnet.Monotonic()
		eventually(t, "read-write is the new primary", func() (bool, string) {
			row := cm.Show("SHOW TARGET read-write")[0]
			return row["instance"] == "1", fmt.Sprint(row)
		})
		routed := testnet.Monotonic() - promoted
		t.Logf("read-write moved %v after the promotion", routed)
		// check_attr_interval, and room for this machine
		if limit := time.Second + 1500*time.Millisecond; routed > limit {
			t.Errorf("read-write moved %v after the promotion, want at most %v", routed, limit)
		}
		cm.WaitLog(mark, `attribute of the instance\(host='`+db2.Addr4.String()+`', port=5432\) is changed from 'standby,read-only' to 'primary,read-write'`, patience)
		cm.WaitLog(mark, `WARNING:.*more than one instance is a primary: instance 0 \(timeline 1\), instance 1 \(timeline 2\); instance 1 is used`, patience)
		targets(t, map[string]string{"primary": "1"})
		if _, err := cm.Try("SHOW TARGET read-write EXCEPT 1"); err == nil {
			t.Errorf("writes go to the primary of the older timeline")
		}
		if l, ok := cm.Find(mark, `is lost`); ok {
			t.Errorf("conmgr: %s", l.Text)
		}
	})
	t.Run("the old primary becomes a standby", func(t *testing.T) {
		kept, mark := cm.Bind("read-write"), cm.Mark()
		w.admin.Close()
		w.primary.Stop(pgtest.Fast)
		if err := bound.Wait(patience); err == nil || !contains(err.Error(), "57P01", "instance 0") {
			t.Errorf("the application of the old primary was told: %v", err)
		}
		first := second.Standby("first", pgtest.Host(w.db))
		cm.WaitInstance(0, "state", "established")
		cm.WaitInstance(0, "role", "standby")
		cm.WaitInstance(0, "timeline", "2")
		targets(t, map[string]string{"read-write": "1", "primary": "1", "standby": "0", "read-only": "0"})
		if err := kept.Wait(10 * time.Millisecond); err != nil {
			t.Errorf("the application of the new primary was told: %v", err)
		}

		// And back, planned: the primary is stopped, the standby promoted, the old primary started
		// as its standby.
		second.Stop(pgtest.Fast)
		first.Promote()
		if err := os.WriteFile(filepath.Join(second.DataDir, "standby.signal"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		second.Start() // its primary_conninfo still names the first host
		cm.WaitInstance(0, "role", "primary")
		cm.WaitInstance(0, "timeline", "3")
		cm.WaitInstance(1, "state", "established")
		cm.WaitInstance(1, "role", "standby")
		cm.WaitInstance(1, "timeline", "3")
		targets(t, map[string]string{"read-write": "0", "standby": "1"})
		cm.WaitLog(mark, `attribute of the instance\(host='`+db2.Addr4.String()+`', port=5432\) is changed from 'primary,read-write(,shutting-down)?' to 'standby,read-only'`, patience)
	})
}

// deadHostOfStandby: a standby ends the sessions of a dead client host, too.
func deadHostOfStandby(w *world, standby *pgtest.Cluster, dying *testnet.Host, config cmtest.Config) {
	w.Helper()
	cm := cmtest.Start(w, dying, config)
	cm.WaitInstance(1, "state", "established")
	s := w.sessionAt(dying, standby.DSN(), "BEGIN READ ONLY")
	other := w.sessionAt(w.db, standby.DSN())
	cut := w.net.Isolate(dying)
	testkit.Eventually(w, patience, "the standby ends the session of a dead host", func() (bool, string) {
		return standby.Value("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", s.pid) == "0", standby.Log()
	})
	standby.WaitLog(0, `terminator: terminated connections: ipaddress="`+dying.Addr4.String()+`", count=1`, patience)
	w.alive(other, "another host's session on the standby")
	cm.Signal(9)
	cut.Heal()
}
