package test

// The life of a conmgr in the hands of its administrator: one directory, a primary and a standby.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// TestCmCtl: each action, with each of its options and exit statuses, in one directory.
func TestCmCtl(t *testing.T) {
	w := newWorld(t)
	db2, client := w.net.Host("db2"), w.net.Host("client")
	standby := w.primary.Standby("standby", pgtest.Host(db2))
	standby.Stop(pgtest.Fast)
	all := newCtl(t, client, fmt.Sprintf("backend_hostaddr0 = '%s'\nbackend_port0 = 5432\nbackend_hostaddr1 = '%s'\nbackend_port1 = 5432\nheartbeat_interval = 500ms\nheartbeat_timeout = 2s\n"+
		"log_min_messages = INFO\n", w.db.Addr4, db2.Addr4))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("conmgr's log:\n%s", all.log())
		}
	})

	t.Run("refusals", func(t *testing.T) {
		c := all.in(t)
		out, err := client.Command(context.Background(), filepath.Join(c.bin, "cm_ctl"), "status", "-D",
			c.dir).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !contains(string(out), "cannot be run as root") {
			t.Errorf("as root: %v\n%s", err, out)
		}
		c.says(4, []string{"status", "-D", c.dir + "/none"}, "does not exist")
		c.says(4, []string{"status", "-D", c.bin}, "there is no conmgr.conf")
		c.says(1, []string{"start", "-D", c.dir + "/none"}, "does not exist")
		c.says(3, []string{"status"}, "no conmgr process running")
		c.says(1, []string{"stop"}, "conmgr.pid", "does not exist", "Is conmgr process running?")
		c.says(1, []string{"stop", "-m", "gentle"}, "unrecognized shutdown mode")
		if r := c.report(3); r.State != "not running" || r.Pid != nil || len(r.Instances)+len(r.Applications) != 0 {
			t.Errorf("--json: %+v", r)
		}
	})
	t.Run("start waits for the primary", func(t *testing.T) {
		c := all.in(t)
		c.says(0, []string{"start"}, "starting conmgr process", "waiting conmgr process to connect to watchdog",
			"conmgr process is ready",
			"started conmgr process successfully")
		if r := c.report(0); *r.Instances[0].State != "established" || r.Instances[0].Role != "primary" ||
			*r.Instances[1].State != "connecting" {
			t.Errorf("--json: %+v", r)
		}
		c.says(1, []string{"start"}, fmt.Sprintf("another conmgr process(PID %d) is running", c.pid()))
		c.says(0, []string{"stop"}, "conmgr process shutting down", "stopped conmgr process successfully")
		c.says(3, []string{"status"})
		if _, err := os.Stat(filepath.Join(c.dir, "conmgr.pid")); !os.IsNotExist(err) {
			t.Errorf("conmgr.pid after a clean stop: %v", err)
		}
	})
	t.Run("start --complete waits for all", func(t *testing.T) {
		c := all.in(t)
		c.says(1, []string{"start", "--complete", "-t", "1"}, "could not start conmgr process in time")
		c.says(0, []string{"status"}, "conmgr process is running", "connecting")
		c.run(0, "stop")
		type result struct {
			out string
			err error
		}
		done := make(chan result, 1)
		cmd := c.command("start", "--complete")
		go func() {
			out, err := cmd.CombinedOutput()
			done <- result{string(out), err}
		}()
		eventually(t, "conmgr has the primary", func() (bool, string) {
			return c.pid() != 0 && contains(c.run(0, "status"), "established"), ""
		})
		select {
		case r := <-done:
			t.Fatalf("start --complete ended without the standby: %v\n%s", r.err, r.out)
		default:
		}
		standby.Start()
		select {
		case r := <-done:
			if r.err != nil || !contains(r.out, "started conmgr process successfully") {
				t.Errorf("start --complete: %v\n%s", r.err, r.out)
			}
		case <-time.After(patience):
			t.Fatalf("start --complete does not end")
		}
	})
	t.Run("status", func(t *testing.T) { statusOf(all.in(t), w, standby) })
	t.Run("stop modes", func(t *testing.T) { stopModes(all.in(t)) })
	t.Run("killed", func(t *testing.T) {
		c := all.in(t)
		old := c.pid()
		if old == 0 { // kill(2) would take that for all processes of this test
			t.Fatal("no conmgr process is running")
		}
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.waitStatus(3)
		c.says(3, []string{"status"}, fmt.Sprintf("is stale: conmgr process (PID %d) is gone", old))
		c.says(1, []string{"stop"}, "is stale")
		c.says(0, []string{"start"}, "replacing the stale PID file", "started conmgr process successfully")
		if c.pid() == old {
			t.Errorf("the process is still %d", old)
		}
	})
	t.Run("without a primary", func(t *testing.T) {
		c := all.in(t)
		c.run(0, "stop")
		w.admin.Close()
		w.primary.Stop(pgtest.Fast)
		c.says(1, []string{"start", "-t", "1"}, "could not start conmgr process in time", "goes on trying")
		r := c.report(0)
		if r.Pid == nil || *r.Pid != c.pid() {
			t.Errorf("conmgr is not up: %+v", r)
		}
		c.run(0, "stop")
		c.run(0, "start", "-W")
		eventually(t, "conmgr answers, and has no primary", func() (bool, string) { // nobody has waited for its answers
			s := c.run(0, "status")
			return contains(s, "connecting"), s
		})
		w.primary.Start()
		eventually(t, "the primary is established", func() (bool, string) {
			r := c.report(0)
			return *r.Instances[0].State == "established", fmt.Sprintf("%+v", r)
		})
		c.run(0, "stop")
	})
	t.Run("output to a file", func(t *testing.T) {
		c := all.in(t)
		file, err := os.Create(filepath.Join(c.dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cmd := c.command("start")
		cmd.Stdout, cmd.Stderr = file, file
		if err := cmd.Run(); err != nil {
			t.Fatalf("start: %v", err)
		}
		c.run(0, "restart", "-l", filepath.Join(c.dir, "own.log"))
		c.run(0, "stop", "-m", "immediate")
		for name, want := range map[string]string{"out": "received restart request",
			"own.log": "received immediate shutdown request"} {
			b, err := os.ReadFile(filepath.Join(c.dir, name))
			if err != nil || !contains(string(b), "heartbeat connection is established", want) {
				t.Errorf("%s: %v\n%s", name, err, b)
			}
		}
	})
}

// statusOf checks what status tells of a conmgr with two instances and an application, to people
// and to programs.
func statusOf(c *ctl, w *world, standby *pgtest.Cluster) {
	app := c.application()
	r := c.report(0)
	if r.Pid == nil || *r.Pid != c.pid() || r.State != "running" || r.Port == nil || *r.Port != 27546 ||
		len(r.Instances) != 2 {
		c.Fatalf("--json: %+v", r)
	}
	for i, want := range []struct {
		cluster  *pgtest.Cluster
		role     string
		readOnly bool
	}{{w.primary, "primary", false}, {standby, "standby", true}} {
		got, addr := r.Instances[i], want.cluster.Addr().String()
		if *got.Instance != int64(i) || *got.Host != addr || got.Hostaddr == nil || *got.Hostaddr != addr ||
			*got.Port != pgtest.Port ||
			*got.WatchdogPort != pgtest.WatchdogPort || *got.State != "established" || got.Role != want.role ||
			got.ReadOnly == nil ||
			*got.ReadOnly != want.readOnly || got.Timeline == nil || *got.Timeline != 1 || got.LastHeartbeatMs == nil ||
			*got.LastHeartbeatMs > 2000 {
			c.Errorf("--json, instance %d: %s", i, said(got))
		}
	}
	if len(r.Applications) != 1 {
		c.Fatalf("--json, applications: %+v", r.Applications)
	}
	a := r.Applications[0]
	if age := time.Since(a.ConnectedAt); a.ClientAddr != "127.0.0.1" || a.ClientPort == 0 || a.Target != "primary" ||
		a.Instance != 0 || age < -time.Second || age > time.Minute {
		c.Errorf("--json, application: %+v", a)
	}
	c.says(0, []string{"status"}, fmt.Sprintf("conmgr process is running (PID: %d)", c.pid()), "Instances:",
		"Applications:", "primary", "standby",
		w.db.Addr4.String(), "established", strconv.Itoa(a.ClientPort))
	if out := c.run(0, "status", "-i", "instance"); !contains(out, "Instances:") || contains(out, "Applications:") {
		c.Errorf("status -i instance:\n%s", out)
	}
	if out := c.run(0, "status", "-i", "application"); contains(out, "Instances:") || !contains(out, "Applications:") {
		c.Errorf("status -i application:\n%s", out)
	}
	app.Close()
}

// stopModes: what an application with a target sees in each mode. conmgr runs before and after.
func stopModes(c *ctl) {
	c.Run("smart waits", func(t *testing.T) {
		c := c.in(t)
		app := c.application()
		c.says(1, []string{"stop", "-m", "smart", "-t", "1"}, "conmgr process does not shut down", "-m fast")
		c.says(0, []string{"status"})
		port := app.LocalAddr().(*net.TCPAddr).Port
		if r := c.report(0); r.State != "stopping" || len(r.Applications) != 1 || r.Applications[0].ClientPort != port {
			t.Errorf("--json, while port %d holds up the shutdown: %+v", port, r)
		}
		if said := app.told(10 * time.Millisecond); said != "" {
			t.Errorf("the application was told: %s", said)
		}
		app.Close()
		c.waitStatus(3)
		c.run(0, "start", "--complete")
	})
	c.Run("fast tells", func(t *testing.T) {
		c := c.in(t)
		app := c.application()
		c.run(0, "stop", "-m", "fast")
		if said := app.told(patience); said != "FATAL 57P01: the Connection Manager is shutting down" {
			t.Errorf("the application was told: %q", said)
		}
		c.run(0, "start", "--complete")
	})
	c.Run("immediate closes", func(t *testing.T) {
		c := c.in(t)
		app := c.application()
		c.run(0, "stop", "-m", "immediate")
		if said := app.told(patience); said != "closed" {
			t.Errorf("the application was told: %q", said)
		}
		c.run(0, "start", "--complete")
	})
	c.Run("restart", func(t *testing.T) {
		c := c.in(t)
		old := c.pid()
		app := c.application()
		c.says(0, []string{"restart", "--complete"}, "restarted conmgr process successfully")
		if now := c.pid(); now != old {
			t.Errorf("the process was %d, and is %d", old, now)
		}
		if said := app.told(patience); !contains(said, "FATAL 57P01") {
			t.Errorf("the application was told: %q", said)
		}
		c.says(0, []string{"restart", "--complete", "-m", "fast"}, "stopped conmgr process successfully",
			"started conmgr process successfully")
		if now := c.pid(); now == old || now == 0 {
			t.Errorf("the process was %d, and is %d", old, now)
		}
	})
}

// TestCmCtlRestartIsRefused: a conmgr that cannot become what conmgr.conf asks for says why, cm_ctl does not
// wait for what does not come, and a later restart, when it can, is none that was refused.
func TestCmCtlRestartIsRefused(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	conf := fmt.Sprintf("backend_hostaddr0 = '%s'\nbackend_port0 = 5432\nheartbeat_interval = 500ms\nheartbeat_timeout = 2s\n",
		w.db.Addr4)
	c := newCtl(t, client, conf)
	c.says(0, []string{"start"}, "started conmgr process successfully")
	before := c.report(0)
	l, err := client.Listen("tcp", "127.0.0.1:27990")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.write("conmgr.conf", conf+"relay_port_any = 27990\n")
	for range 2 {
		begun := time.Now()
		c.says(1, []string{"restart", "-t", "600"}, "goes on as it is: ", "conmgr.conf:5: parameter \"relay_port_any\": could not listen")
		if took := time.Since(begun); took > patience {
			t.Errorf("it took %v", took)
		}
	}
	if r := c.report(0); *r.Pid != *before.Pid || *r.Instances[0].State != "established" {
		t.Errorf("process %d is %s, it was %d", *r.Pid, *r.Instances[0].State, *before.Pid)
	}
	l.Close()
	c.says(0, []string{"restart"}, "restarted conmgr process successfully")
	c.says(0, []string{"stop"})
}
