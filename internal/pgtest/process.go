package pgtest

// Server processes: started as an unprivileged user, found and ended by what they are, not by name.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// PostgreSQL refuses to run as root: then it runs as nobody.
const nobody = 65534

func serverUser() (uid, gid int) {
	if os.Geteuid() == 0 {
		return nobody, nobody
	}
	return os.Geteuid(), os.Getegid()
}

// makeOwned makes a directory for the server's user, and for nobody else, as PostgreSQL wants it.
// Its parent stays the test's own: that is by what a later run knows whose it was.
func makeOwned(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	uid, gid := serverUser()
	return os.Chown(dir, uid, gid)
}

// asServerUser makes cmd run as the server's user. Go sets the death signal after the change of
// user, which clears it.
func asServerUser(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

// environment is small, so that no PG* variable of the caller changes a test.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}
}

// Command returns a command that runs as the server's user, in the cluster's host if it has one. A
// bare name that is an executable of PostgreSQL is taken from the cluster's installation.
func (c *Cluster) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return command(ctx, c.inst, c.host, name, args...)
}

func command(ctx context.Context, inst *installation, host *testnet.Host, name string, args ...string) *exec.Cmd {
	if p := filepath.Join(inst.bin, name); !strings.Contains(name, "/") {
		if _, err := os.Stat(p); err == nil {
			name = p
		}
	}
	var cmd *exec.Cmd
	if host != nil {
		uid, gid := serverUser()
		cmd = host.CommandWith(ctx, testnet.Options{UID: uid, GID: gid, DeathSignal: syscall.SIGQUIT}, name, args...)
	} else {
		cmd = exec.CommandContext(ctx, name, args...)
		asServerUser(cmd)
	}
	cmd.Env = environment()
	cmd.Dir = inst.dir
	return cmd
}

// PostmasterPid returns the process id of the postmaster, 0 if it is not running.
func (c *Cluster) PostmasterPid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return 0
	}
	select {
	case <-c.proc.done:
		return 0
	default:
		return c.proc.cmd.Process.Pid
	}
}

// Process is a process of the cluster.
type Process struct {
	Pid   int
	Title string // as ps shows it
}

// Processes returns all processes of the cluster, those included that have lost their postmaster:
// all whose working directory is the data directory.
func (c *Cluster) Processes() []Process {
	var found []Process
	entries, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, path := range entries {
		cwd, err := os.Readlink(path)
		if err != nil || cwd != c.DataDir {
			continue
		}
		title, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		title = bytes.TrimRight(bytes.ReplaceAll(title, []byte{0}, []byte{' '}), " ")
		found = append(found, Process{Pid: pid, Title: string(title)})
	}
	return found
}

// WorkerPid returns the process id of the one child of the postmaster whose title contains a text
// such as "watchdog worker"; 0 if there is none.
func (c *Cluster) WorkerPid(title string) int {
	postmaster := c.PostmasterPid()
	for _, p := range c.Processes() {
		if p.Pid != postmaster && strings.Contains(p.Title, title) {
			return p.Pid
		}
	}
	return 0
}

// Worker is WorkerPid when there is one: a server that accepts connections may not have started it
// yet, and what is sent to process 0 comes to the test's own group.
func (c *Cluster) Worker(title string) (pid int) {
	c.t.Helper()
	testkit.Eventually(c.t, patience, c.Name+": "+title, func() (bool, string) {
		pid = c.WorkerPid(title)
		return pid != 0, fmt.Sprint(c.Processes())
	})
	return pid
}

// Signal sends a signal to all processes of the cluster, the postmaster first. SIGSTOP freezes a
// server: its connections stay, and it says nothing.
func (c *Cluster) Signal(sig syscall.Signal) {
	postmaster := c.PostmasterPid()
	if postmaster != 0 {
		_ = syscall.Kill(postmaster, sig)
	}
	for _, p := range c.Processes() {
		if p.Pid != postmaster {
			_ = syscall.Kill(p.Pid, sig)
		}
	}
}

// Freeze stops all processes of the server where they are; Thaw lets them go on.
func (c *Cluster) Freeze() { c.Signal(syscall.SIGSTOP) }

// Thaw is the end of Freeze.
func (c *Cluster) Thaw() { c.Signal(syscall.SIGCONT) }

// destroy ends everything that is left of the server, however it has been left, and frees its
// shared memory.
func (c *Cluster) destroy() error {
	shm := c.sharedMemory()
	c.Thaw()
	if pid := c.PostmasterPid(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGQUIT)
		select {
		case <-c.proc.done:
		case <-time.After(10 * time.Second):
		}
	}
	err := testkit.Poll(10*time.Second, func() (bool, string) {
		left := c.Processes()
		for _, p := range left {
			_ = syscall.Kill(p.Pid, syscall.SIGKILL)
		}
		return len(left) == 0, fmt.Sprint(left)
	})
	if err != nil {
		return fmt.Errorf("processes of the server do not end: %w", err)
	}
	if shm >= 0 {
		_, _ = unix.SysvShmCtl(shm, unix.IPC_RMID, nil) // there only after a kill
	}
	return nil
}

// sharedMemory returns the id of the System V segment that marks a server as running, from line 7
// of postmaster.pid; -1 if there is none.
func (c *Cluster) sharedMemory() int {
	lines := c.pidFile()
	if len(lines) < 7 {
		return -1
	}
	if f := strings.Fields(lines[6]); len(f) == 2 {
		if id, err := strconv.Atoi(f[1]); err == nil {
			return id
		}
	}
	return -1
}

func (c *Cluster) pidFile() []string {
	b, err := os.ReadFile(filepath.Join(c.DataDir, "postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(b), "\n")
}
