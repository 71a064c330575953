package pgtest

// The server's life: start, stop, kill, promote.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// Start starts the server, and returns when it accepts connections.
func (c *Cluster) Start() {
	c.t.Helper()
	if err := c.TryStart(); err != nil {
		c.t.Fatalf("%s: %v\n%s", c.Name, err, c.Log())
	}
}

// TryStart is Start for a server that may refuse to start.
func (c *Cluster) TryStart() error {
	if c.PostmasterPid() != 0 {
		return fmt.Errorf("server is running already")
	}
	log, err := os.OpenFile(c.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := c.Command(context.Background(), "postgres", "-D", c.DataDir)
	cmd.Stdout, cmd.Stderr = log, log
	if c.clock {
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+filepath.Join(c.inst.pkglib, clockLibrary), "WATCHDOG_TEST_CLOCK="+c.clockPath())
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	p := &serverProcess{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	c.mu.Lock()
	c.proc = p
	c.mu.Unlock()
	pid := strconv.Itoa(cmd.Process.Pid)
	err = testkit.Poll(patience, func() (bool, string) {
		select {
		case <-p.done:
			return true, ""
		default:
		}
		lines := c.pidFile()
		if len(lines) < 8 || lines[0] != pid {
			return false, "no line with a status in postmaster.pid"
		}
		status := strings.TrimSpace(lines[7])
		return status == "ready" || status == "standby", "status " + status
	})
	if err != nil {
		return fmt.Errorf("server is not ready: %w", err)
	}
	return p.failure()
}

// failure is the reason why a server that was to start has ended.
func (p *serverProcess) failure() error {
	select {
	case <-p.done:
		return fmt.Errorf("server ended at its start: %v", p.err)
	default:
		return nil
	}
}

// Mode is a way to shut the server down.
type Mode syscall.Signal

// The modes of pg_ctl stop.
const (
	Smart     = Mode(syscall.SIGTERM)
	Fast      = Mode(syscall.SIGINT)
	Immediate = Mode(syscall.SIGQUIT)
)

// Stop shuts the server down, and returns when it has ended.
func (c *Cluster) Stop(mode Mode) {
	c.t.Helper()
	pid := c.PostmasterPid()
	if pid == 0 {
		c.t.Fatalf("%s: server is not running", c.Name)
	}
	_ = syscall.Kill(pid, syscall.Signal(mode))
	c.WaitEnd()
}

// WaitEnd waits until the postmaster has ended, and returns how.
func (c *Cluster) WaitEnd() error {
	c.t.Helper()
	c.mu.Lock()
	p := c.proc
	c.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		c.t.Fatalf("%s: server does not end; processes %v\n%s", c.Name, c.Processes(), c.Log())
		return nil
	}
}

// Restart stops the server (fast) and starts it.
func (c *Cluster) Restart() {
	c.t.Helper()
	c.Stop(Fast)
	c.Start()
}

// Kill9 kills the postmaster with SIGKILL, and returns when it and its children have ended.
func (c *Cluster) Kill9() {
	c.t.Helper()
	pid := c.PostmasterPid()
	if pid == 0 {
		c.t.Fatalf("%s: server is not running", c.Name)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_ = c.WaitEnd()
	testkit.Eventually(c.t, patience, c.Name+": end of the processes after their postmaster", func() (bool, string) {
		left := c.Processes()
		return len(left) == 0, fmt.Sprint(left)
	})
}

// Reload makes the server read its files again.
func (c *Cluster) Reload() {
	c.t.Helper()
	c.Exec("select pg_reload_conf()")
}

// Follow starts a primary that was stopped as a standby of the one that has taken its place, and
// returns when it streams. It must have delivered all that it had: nothing is rewound.
func (c *Cluster) Follow(primary *Cluster) {
	c.t.Helper()
	c.write(filepath.Join(c.DataDir, "standby.signal"), "")
	c.Configure("primary_conninfo", fmt.Sprintf("host=%s port=%d user=postgres application_name=%s sslmode=disable",
		primary.Addr(), primary.Port, c.Name))
	c.Start()
	primary.waitStreaming(c)
}

// waitStreaming returns when a standby streams.
func (c *Cluster) waitStreaming(standby *Cluster) {
	c.t.Helper()
	testkit.Eventually(c.t, patience, standby.Name+": streaming", func() (bool, string) {
		return c.Value("select count(*) from pg_stat_replication where application_name = $1 and state = 'streaming'",
			standby.Name) == "1", standby.Log()
	})
}

// Promote makes a standby a primary, and returns when it accepts writes.
func (c *Cluster) Promote() {
	c.t.Helper()
	c.Exec("select pg_promote(false)")
	testkit.Eventually(c.t, patience, c.Name+": promotion", func() (bool, string) {
		return c.Value("select pg_is_in_recovery()") == "false", c.Log()
	})
}
