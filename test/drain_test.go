package test

// cm_ctl drain on one client host, with real servers: nobody new is sent to the primary, whoever is
// there stays, and after its end the standby takes over.

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
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
		t.Errorf("status: %+v", in)
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
	if said := app.told(0); said != "" {
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
		return in.Role == "primary" && in.UsedFor != nil, fmt.Sprintf("%+v", in)
	})
	if v := second.Value("SELECT pg_is_in_recovery()"); v != "false" {
		t.Errorf("in recovery: %s", v)
	}

	// The old one is drained here until somebody says otherwise.
	c.run(0, "restart")
	if in := c.report(0).Instances[0]; in.Draining == nil || *in.Draining != "here" {
		t.Errorf("after a restart of conmgr: %+v", in)
	}
	c.says(0, []string{"undrain", "-i", "0"}, "instance 0 is not draining any more")
	if in := c.report(0).Instances[0]; in.Draining != nil {
		t.Errorf("status: %+v", in)
	}
	c.run(0, "stop")
}
