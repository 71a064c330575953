package test

// Draining as a client host sees it, with real servers: nobody new is sent to the primary, whoever is
// there stays, and after its end the standby takes over.

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

func TestDrainOfOneHost(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	second := w.primary.Standby("second", pgtest.Host(db2))
	c := newCtl(t, client, fmt.Sprintf("backend_hostaddr0 = '%s'\nbackend_port0 = %d\nbackend_hostaddr1 = '%s'\nbackend_port1 = %d\n"+
		"heartbeat_interval = 500ms\nheartbeat_timeout = 2s\n", w.db.Addr4, w.primary.Port, db2.Addr4, second.Port)+relayConf)
	c.run(0, "start", "--complete")
	t.Cleanup(func() { _ = c.command("stop", "-m", "immediate").Run() })
	app := c.application()
	relayed := w.sessionAt(client, relayDSN(relayReadWrite), "BEGIN")

	c.says(0, []string{"drain", "-i", "0"}, "instance 0 is draining; 2 applications are bound to it")
	in := c.report(0).Instances[0]
	if in.Role != "primary" || in.UsedFor != nil || in.Draining == nil || *in.Draining != "here" || in.Bound == nil || *in.Bound != 2 {
		t.Errorf("status: %s", said(in))
	}
	if out := c.run(1, "drain", "-i", "0", "--wait", "-t", "1"); !contains(out, "2 applications are bound to it still") {
		t.Errorf("it said\n%s", out)
	}
	db := w.primary.OpenAt(client, relayDSN(relayReadWrite))
	defer db.Close()
	if err := db.Ping(); err == nil || !contains(err.Error(), "no target server address") {
		t.Errorf("a new relayed connection: %v", err)
	}
	w.alive(relayed, "a relayed session with a transaction")
	if said := app.told(10 * time.Millisecond); said != "" {
		t.Errorf("the application was told %q", said)
	}

	// Whoever has done his work leaves, and the server can be stopped.
	waited := make(chan string, 1)
	go func() { out, _ := c.command("drain", "--wait", "-i", "0").CombinedOutput(); waited <- string(out) }()
	if _, err := relayed.conn.ExecContext(t.Context(), "COMMIT"); err != nil {
		t.Error(err)
	}
	relayed.conn.Close()
	relayed.db.Close()
	app.Close()
	select {
	case out := <-waited:
		if !contains(out, "no application is bound to") {
			t.Errorf("it said\n%s", out)
		}
	case <-time.After(patience):
		t.Fatal("cm_ctl waits though nobody is left")
	}
	w.primary.Stop(pgtest.Fast)
	second.Promote()
	eventually(t, "the new primary is used", func() (bool, string) {
		in := c.report(0).Instances[1]
		return in.Role == "primary" && in.UsedFor != nil, said(in)
	})
	if v := second.Value("SELECT pg_is_in_recovery()"); v != "false" {
		t.Errorf("in recovery: %s", v)
	}

	// The old one is drained here until somebody says otherwise.
	c.run(0, "restart")
	if in := c.report(0).Instances[0]; in.Draining == nil || *in.Draining != "here" {
		t.Errorf("after a restart of conmgr: %s", said(in))
	}
	c.says(0, []string{"undrain", "-i", "0"}, "instance 0 is not draining any more")
	if in := c.report(0).Instances[0]; in.Draining != nil {
		t.Errorf("status: %s", said(in))
	}
	c.run(0, "stop")
}

// A whole switchover, ordered on the server: conmgr hears of it at once, and tells those who listen;
// who asks meanwhile waits for the new primary.
func TestDrainByServer(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.check_attr_interval", "1h"))
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	second := w.primary.Standby("second", pgtest.Host(db2))
	cm := cmtest.Start(w, client, cmtest.Config{Interval: "500ms", Timeout: "2s",
		Clusters: []*pgtest.Cluster{w.primary, second}, Extra: "target_wait = 1min\n"})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	listens, silent := cm.Bind("primary NOTIFY"), cm.Bind("primary")
	for _, x := range []struct {
		on     bool
		notice string
		column string
	}{{true, "draining", "server"}, {false, "serving", ""}, {true, "draining", "server"}} {
		begin := testnet.Monotonic()
		w.drain(w.primary, x.on, x.on)
		if got, err := listens.Notice(patience); err != nil || got != x.notice {
			t.Fatalf("watchdog_drain(%v): told %q, %v", x.on, got, err)
		}
		t.Logf("told %q after %v", x.notice, testnet.Monotonic()-begin)
		row := cm.Show("SHOW INSTANCES")[0]
		if row["draining"] != x.column || row["bound"] != "2" || row["role"] != "primary" || (row["used_for"] == "") != x.on {
			t.Errorf("watchdog_drain(%v): SHOW INSTANCES: %v", x.on, row)
		}
	}
	if got := cm.Bind("any").Target["instance"]; got != "1" {
		t.Errorf("any is instance %s", got)
	}
	late := make(chan string, 1)
	go func() {
		rows, err := cm.Try("SHOW TARGET primary")
		late <- fmt.Sprint(rows, err)
	}()
	eventually(t, "one waits", func() (bool, string) { n := len(cm.Show("SHOW WAITING")); return n == 1, fmt.Sprint(n) })
	listens.Close()
	if got := silent.Wait(10 * time.Millisecond); got != nil {
		t.Errorf("who does not listen was told: %v", got)
	}
	silent.Close()
	cm.WaitInstance(0, "bound", "0")
	w.primary.Stop(pgtest.Fast)
	second.Promote()
	begin := testnet.Monotonic()
	select {
	case got := <-late:
		if !contains(got, "instance:1 ", "primary,read-write") {
			t.Errorf("who has waited got %s", got)
		}
		t.Logf("who has waited has the new primary %v after its promotion", testnet.Monotonic()-begin)
	case <-time.After(patience):
		t.Fatal("who waits has no primary")
	}
	w.primary.Follow(second)
	eventually(t, "the old primary is used as a standby", func() (bool, string) {
		row := cm.Show("SHOW INSTANCES")[0]
		return contains(row["used_for"], "prefer-standby") && row["draining"] == "", fmt.Sprint(row)
	})
}
