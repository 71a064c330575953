package main

// conmgr in a directory of its own, started and stopped by cm_ctl, as nobody if this is root. Used
// by the script's goroutine; blocks for as long as cm_ctl does.

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const nobody = 65534

type conmgr struct {
	dir  string // with conmgr.conf
	ctl  string
	port int
	pid  int
}

// newConmgr makes the directory and copies the programs: nobody may not be able to read the source
// tree.
func newConmgr(r *testkit.Run, build string) (*conmgr, error) {
	build, err := findBuild(build)
	if err != nil {
		return nil, err
	}
	own, err := testkit.TempDir(ownPrefix)
	if err != nil {
		return nil, err
	}
	r.Cleanup(func() {
		if err := os.RemoveAll(own); err != nil {
			r.Errorf("%v", err)
		}
	})
	c := &conmgr{dir: filepath.Join(own, "cmdata"), ctl: filepath.Join(own, "cm_ctl")}
	for _, name := range []string{"conmgr", "cm_ctl"} {
		program, err := os.ReadFile(filepath.Join(build, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(own, name), program, 0o755)
		}
		if err == nil {
			err = os.Chmod(filepath.Join(own, name), 0o755) // whatever the umask is
		}
		if err != nil {
			return nil, err
		}
	}
	return c, os.Mkdir(c.dir, 0o700)
}

// findBuild finds what make has built: in this directory, or above.
func findBuild(build string) (string, error) {
	if build != "" {
		return build, nil
	}
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "build", "conmgr")); err == nil {
			return filepath.Join(dir, "build"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("build/conmgr is neither in %s nor above it; run \"make\" first, or use -build",
				start)
		}
	}
}

// configure writes conmgr.conf.
func (c *conmgr) configure(port int, interval, timeout time.Duration, instances ...*pgtest.Cluster) error {
	c.port = port
	var b strings.Builder
	fmt.Fprintf(&b, "port = %d\nlisten_addresses = '127.0.0.1'\n", c.port)
	fmt.Fprintf(&b, "heartbeat_interval = %dms\nheartbeat_timeout = %dms\n", interval.Milliseconds(),
		timeout.Milliseconds())
	for i, s := range instances {
		fmt.Fprintf(&b, "backend_hostaddr%d = '%s'\nbackend_port%d = %d\nwatchdog_port%d = %d\n", i, s.Addr(), i,
			s.Port, i, s.WatchdogPort)
	}
	conf := filepath.Join(c.dir, "conmgr.conf")
	if err := os.WriteFile(conf, []byte(b.String()), 0o600); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	for _, path := range []string{conf, c.dir} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			return err
		}
	}
	return nil
}

// control runs cm_ctl and returns its output.
func (c *conmgr) control(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.ctl, append(args, "-D", c.dir)...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("cm_ctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// start returns when heartbeats go to all instances.
func (c *conmgr) start(r *testkit.Run) error {
	r.Cleanup(func() {
		if r.Failed() {
			r.Logf("log of conmgr:\n%s", c.log())
		}
		c.signal(syscall.SIGCONT)
		if _, running, _ := control.Running(c.dir); running {
			if _, err := c.control(context.Background(), "stop", "-m", "immediate", "-t", "10"); err != nil {
				r.Errorf("%v", err)
			}
		}
	})
	if _, err := c.control(r.Context(), "start", "--complete", "-t", "30", "-l", c.logPath()); err != nil {
		return err
	}
	info, err := control.ReadPidFile(c.dir)
	c.pid = info.Pid
	return err
}

func (c *conmgr) stop(ctx context.Context) error {
	_, err := c.control(ctx, "stop", "-t", "10")
	if err == nil {
		c.pid = 0
	}
	return err
}

// signal: SIGSTOP is the death of the client host, as the servers see it: nothing comes any more,
// and no connection is closed.
func (c *conmgr) signal(sig syscall.Signal) {
	if c.pid > 0 {
		_ = syscall.Kill(c.pid, sig)
	}
}

func (c *conmgr) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

func (c *conmgr) logPath() string { return filepath.Join(c.dir, "conmgr.log") }

func (c *conmgr) log() string {
	b, err := os.ReadFile(c.logPath())
	if err != nil {
		return err.Error()
	}
	return string(b)
}
