// Package cmtest runs conmgr, as built in build/, for tests, benchmarks and the like: inside a host
// of a testnet or on loopback, as an unprivileged user. It is gone at the end of the test, and dies
// with the test process.
//
// Runs in test processes only, on the caller's goroutine; one goroutine a conmgr reads its log.
package cmtest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	patience = 30 * time.Second
	uid      = UID
	port     = 27546
)

// UID is the user and the group of conmgr: nobody, as it refuses root.
const UID = 65534

// Line of the log, and when it came.
type Line struct {
	At   time.Duration // CLOCK_MONOTONIC, as testnet.Monotonic
	Text string
}

// Conmgr is a conmgr process.
type Conmgr struct {
	Dir string
	Pid int // of conmgr itself

	t       testkit.TB
	host    *testnet.Host
	command func() *exec.Cmd
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended
	port    int

	mu    sync.Mutex
	lines []Line
	grown chan struct{} // closed and replaced with each line
}

// Config makes the text of a conmgr.conf.
type Config struct {
	Interval, Timeout string            // empty: the default
	Clusters          []*pgtest.Cluster // in the order of their instance numbers
	IPv6              bool              // reach the clusters by IPv6
	Extra             string            // more lines
	Port              int               // 0: the default, inside a host
	NetAdmin          bool              // with CAP_NET_ADMIN, as an ambient capability; inside a host only
	NameServer        string            // the address of its name server; inside a host only
	BootID            string            // of its machine, 32 hexadecimal digits; inside a host only, empty: the kernel's
	BuiltIn           string            // the build directory of the conmgr to run; empty: build/
	Owner             uint32            // the user that it runs as, if we are root; 0: nobody
	LogLevel          string            // empty: INFO
}

func (c Config) text() string {
	var b strings.Builder
	for i, cl := range c.Clusters {
		addr := cl.Addr()
		if c.IPv6 {
			addr = cl.Host().Addr6
		}
		fmt.Fprintf(&b, "backend_hostaddr%d = '%s'\nbackend_port%d = %d\nwatchdog_port%d = %d\n", i, addr, i, cl.Port,
			i, cl.WatchdogPort)
	}
	if c.Interval != "" {
		fmt.Fprintf(&b, "heartbeat_interval = %s\n", c.Interval)
	}
	if c.Timeout != "" {
		fmt.Fprintf(&b, "heartbeat_timeout = %s\n", c.Timeout)
	}
	if c.Port != 0 {
		fmt.Fprintf(&b, "port = %d\n", c.Port)
	}
	fmt.Fprintf(&b, "log_min_messages = %s\n", cmp.Or(c.LogLevel, "INFO"))
	b.WriteString(c.Extra)
	return b.String()
}

// binaries are copies of conmgr that nobody may read, by build directory.
var binaries struct {
	mu    sync.Mutex
	paths map[string]string
}

func binary(buildDir string) (string, error) {
	root, err := pgtest.SourceRoot()
	if err != nil {
		return "", err
	}
	if buildDir == "" {
		buildDir = filepath.Join(root, "build")
	}
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	if path, ok := binaries.paths[buildDir]; ok {
		return path, nil
	}
	data, err := os.ReadFile(filepath.Join(buildDir, "conmgr"))
	if err != nil {
		return "", fmt.Errorf("conmgr is not built: %w; run \"make\" first", err)
	}
	dir, err := testkit.TempDir("watchdog-conmgr-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "conmgr")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		return "", err
	}
	if binaries.paths == nil {
		binaries.paths = map[string]string{}
	}
	binaries.paths[buildDir] = path
	return path, nil
}

// Start starts a conmgr inside host, or on loopback if that is nil, and waits until it listens.
func Start(t testkit.TB, host *testnet.Host, config Config) *Conmgr {
	t.Helper()
	path, err := binary(config.BuiltIn)
	if err != nil {
		t.Fatalf("%v", err)
	}
	dir, err := testkit.TempDir("watchdog-cm-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "conmgr.conf"), []byte(config.text()), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	c := &Conmgr{Dir: dir, t: t, host: host, port: port, grown: make(chan struct{})}
	if config.Port != 0 {
		c.port = config.Port
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, int(config.owner()), int(config.owner())); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if config.NameServer != "" {
		resolv := "nameserver " + config.NameServer + "\noptions timeout:1 attempts:2\n"
		if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(resolv), 0o644); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if config.BootID != "" {
		if err := os.WriteFile(filepath.Join(dir, "boot_id"), []byte(config.BootID+"\n"), 0o644); err != nil {
			t.Fatalf("%v", err)
		}
	}
	c.command = func() *exec.Cmd { return config.command(host, path, dir) }
	t.Cleanup(c.end)
	c.launch()
	return c
}

// command runs conmgr as an unprivileged user.
func (c Config) command(host *testnet.Host, path, dir string) *exec.Cmd {
	ctx, uid := context.Background(), c.owner()
	switch {
	case os.Geteuid() != 0:
		cmd := exec.CommandContext(ctx, path, "-D", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		return cmd
	case c.NetAdmin && host != nil:
		return host.Command(ctx, "setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid),
			"--clear-groups",
			"--inh-caps=+net_admin", "--ambient-caps=+net_admin", "--pdeathsig=KILL", "--", path, "-D", dir)
	case (c.NameServer != "" || c.BootID != "") && host != nil:
		mounts := ""
		if c.NameServer != "" {
			mounts += `mount --bind "$1/resolv.conf" /etc/resolv.conf && `
		}
		if c.BootID != "" {
			mounts += `mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id && `
		}
		return host.Command(ctx, "unshare", "--mount", "sh", "-c",
			mounts+fmt.Sprintf(`exec setpriv --reuid=%d --regid=%d --clear-groups --pdeathsig=KILL -- "$0" -D "$1"`, uid, uid),
			path, dir)
	case host != nil:
		return host.CommandWith(ctx, testnet.Options{UID: int(uid), GID: int(uid)}, path, "-D", dir)
	}
	cmd := exec.CommandContext(ctx, path, "-D", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: false}}
	return cmd
}

func (c Config) owner() uint32 {
	if c.Owner != 0 {
		return c.Owner
	}
	return uid
}

// launch starts the process, and waits until it listens.
func (c *Conmgr) launch() {
	c.t.Helper()
	c.cmd, c.done, c.Pid = c.command(), make(chan struct{}), 0
	c.cmd.Env = append(os.Environ(), "HOME=/")
	stderr, err := c.cmd.StderrPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		close(c.done)
		c.t.Fatalf("start conmgr: %v", err)
	}
	go c.follow(c.cmd, c.done, bufio.NewScanner(stderr))
	testkit.Eventually(c.t, patience, "conmgr listens", func() (bool, string) {
		// Who answers has written its own record; before, it may be that of
		// one that was killed.
		if c.tryConsole() != nil {
			return false, c.Log()
		}
		record, err := os.ReadFile(filepath.Join(c.Dir, "conmgr.pid"))
		first, _, _ := bytes.Cut(record, []byte("\n"))
		c.Pid, _ = strconv.Atoi(string(first))
		return err == nil && c.Pid != 0, c.Log()
	})
}

// Restart ends conmgr by a signal, and starts it again in its directory.
func (c *Conmgr) Restart(sig syscall.Signal) {
	c.t.Helper()
	c.Signal(sig)
	c.Again()
}

// Again starts conmgr in its directory, when it has ended.
func (c *Conmgr) Again() {
	c.t.Helper()
	c.Wait(patience)
	c.launch()
}

// Become has conmgr become the program that is installed now, itself here, and waits until that
// listens. It is the same process.
func (c *Conmgr) Become() {
	c.t.Helper()
	mark := c.Mark()
	c.Signal(syscall.SIGUSR2)
	c.WaitLog(mark, `starting Connection Manager`, patience)
	testkit.Eventually(c.t, patience, "conmgr listens again", func() (bool, string) {
		return c.tryConsole() == nil, c.Log()
	})
}

func (c *Conmgr) follow(cmd *exec.Cmd, done chan<- struct{}, s *bufio.Scanner) {
	for s.Scan() {
		c.mu.Lock()
		c.lines = append(c.lines, Line{testnet.Monotonic(), s.Text()})
		close(c.grown)
		c.grown = make(chan struct{})
		c.mu.Unlock()
	}
	_ = cmd.Wait()
	close(done)
}

func (c *Conmgr) end() {
	if c.cmd == nil || c.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGCONT)
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	<-c.done
	if c.t.Failed() {
		c.t.Logf("conmgr in %s:\n%s", c.Dir, c.Log())
	}
}

// Mark is the number of log lines so far.
func (c *Conmgr) Mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lines)
}

// Log is all of the log.
func (c *Conmgr) Log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, l := range c.lines {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

// Find returns the first log line from a mark on that matches.
func (c *Conmgr) Find(mark int, pattern string) (Line, bool) {
	re := regexp.MustCompile(pattern)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lines[mark:] {
		if re.MatchString(l.Text) {
			return l, true
		}
	}
	return Line{}, false
}

// WaitLog waits for a log line from a mark on.
func (c *Conmgr) WaitLog(mark int, pattern string, deadline time.Duration) Line {
	c.t.Helper()
	timeout := time.After(deadline)
	for {
		c.mu.Lock()
		grown := c.grown
		c.mu.Unlock()
		if l, ok := c.Find(mark, pattern); ok {
			return l
		}
		select {
		case <-grown:
		case <-timeout:
			if l, ok := c.Find(mark, pattern); ok {
				return l
			}
			c.t.Fatalf("conmgr logged no %q within %v", pattern, deadline)
		}
	}
}

// Signal sends a signal to conmgr.
func (c *Conmgr) Signal(sig syscall.Signal) {
	c.t.Helper()
	if err := syscall.Kill(c.Pid, sig); err != nil {
		c.t.Fatalf("signal conmgr: %v", err)
	}
}

// Wait waits until conmgr has ended and returns its exit status, -1 if a signal ended it.
func (c *Conmgr) Wait(deadline time.Duration) int {
	c.t.Helper()
	select {
	case <-c.done:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(deadline):
		c.t.Fatalf("conmgr has not ended within %v", deadline)
		return 0
	}
}

// Running tells whether conmgr has not ended.
func (c *Conmgr) Running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// Addr is where applications connect, from inside its host.
func (c *Conmgr) Addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(c.port))
}

// Console is a pool of connections to conmgr.
func (c *Conmgr) Console() *sql.DB {
	c.t.Helper()
	connector, err := pq.NewConnector(fmt.Sprintf("host=127.0.0.1 port=%d user=test dbname=conmgr sslmode=disable connect_timeout=5", c.port))
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	if c.host != nil {
		connector.Dialer(c.host.Dialer())
	}
	return sql.OpenDB(connector)
}

func (c *Conmgr) tryConsole() error {
	db := c.Console()
	defer db.Close()
	_, err := rows(db, "SHOW VERSION")
	return err
}

// Show runs a SHOW statement and returns a map a row.
func (c *Conmgr) Show(statement string) []map[string]string {
	c.t.Helper()
	db := c.Console()
	defer db.Close()
	r, err := rows(db, statement)
	if err != nil {
		c.t.Fatalf("%s: %v", statement, err)
	}
	return r
}

func rows(db *sql.DB, statement string) (result []map[string]string, err error) {
	r, err := db.Query(statement)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	names, err := r.Columns()
	if err != nil {
		return nil, err
	}
	for r.Next() {
		values := make([]sql.NullString, len(names))
		targets := make([]any, len(names))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := r.Scan(targets...); err != nil {
			return nil, err
		}
		row := make(map[string]string)
		for i, n := range names {
			row[n] = values[i].String
		}
		result = append(result, row)
	}
	return result, r.Err()
}

// WaitInstance waits until a column of SHOW INSTANCES has a value.
func (c *Conmgr) WaitInstance(instance int, column, value string) {
	c.t.Helper()
	testkit.Eventually(c.t, patience, fmt.Sprintf("instance %d: %s is %s", instance, column, value),
		func() (bool, string) {
			for _, row := range c.Show("SHOW INSTANCES") {
				if row["instance"] == strconv.Itoa(instance) {
					return row[column] == value, fmt.Sprint(row)
				}
			}
			return false, "not there"
		})
}
