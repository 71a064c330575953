package test

// cm_ctl forget, and what cm_ctl status says of an old primary, with real servers.

import (
	"fmt"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

func TestForget(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	second := w.primary.Standby("second", pgtest.Host(db2))
	c := newCtl(t, client, fmt.Sprintf("backend_hostaddr0 = '%s'\nbackend_port0 = %d\nbackend_hostaddr1 = '%s'\nbackend_port1 = %d\n"+
		"heartbeat_interval = 500ms\nheartbeat_timeout = 2s\n", w.db.Addr4, w.primary.Port, db2.Addr4, second.Port))
	c.run(0, "start", "--complete")
	t.Cleanup(func() { _ = c.command("stop", "-m", "immediate").Run() })
	used := func(want ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("used for read-write: %v", want), func() (bool, string) {
			var ports []string
			r := c.report(0)
			for _, in := range r.Instances { // the example of cm_ctl(1)
				if in.Role == "primary" && in.UsedFor != nil {
					ports = append(ports, fmt.Sprintf("%d", *in.Instance))
				}
			}
			return fmt.Sprint(ports) == fmt.Sprint(want), said(r.Instances)
		})
	}
	used("0")
	second.Promote()
	used("1")
	second.Stop(pgtest.Immediate)
	used()
	eventually(t, "the new primary is lost", func() (bool, string) {
		in := c.report(0).Instances[1]
		return *in.State == "lost" && in.Role == "unknown" && *in.LastRole == "primary", said(in)
	})
	c.says(0, []string{"status"}, "not used: it is a primary of timeline 1: a newer timeline is known, 2,")
	c.says(1, []string{"forget"}, "standard input is not a terminal")
	c.says(0, []string{"forget", "--yes", "-i", "0"}, "timeline 2 of instance 1")
	used()

	// By the running conmgr.
	pid := c.pid()
	c.says(0, []string{"forget", "--yes", "-i", "1"}, "timeline 1 of instance 0")
	used("0")
	if c.pid() != pid {
		t.Error("conmgr was restarted")
	}
	second.Start()
	used("1")

	// While none runs: the file is what is left.
	c.run(0, "stop")
	second.Stop(pgtest.Immediate)
	c.run(0, "start", "-W")
	eventually(t, "the old primary is established", func() (bool, string) {
		all := c.report(0).Instances
		if len(all) == 0 { // nobody has waited for its answers
			return false, "no answer"
		}
		in := all[0]
		return *in.State == "established" && in.NotUsed != nil, said(in)
	})
	c.run(0, "stop")
	c.says(0, []string{"forget", "--yes"}, "known now: nothing")
	c.run(0, "start")
	used("0")
	c.run(0, "stop")
}
