// Package pgtest makes throwaway PostgreSQL clusters for tests, benchmarks and the like: run by an
// unprivileged user, inside a host of a testnet or on loopback, with the project's extension or
// without it. They are gone at the end of the test, and die with the test process.
//
//	primary := pgtest.New(t, pgtest.Watchdog())
//	standby := primary.Standby("standby1")
//	primary.Kill9()
//	standby.Promote()
//
// Runs in test processes only, on the caller's goroutine. Methods that start or stop a server block
// until it has done so, at most a minute, and end the test when it does not.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const patience = time.Minute

// Default ports inside a host. On loopback free ones are chosen.
const (
	Port         = 5432
	WatchdogPort = 27545
)

// Cluster is a PostgreSQL cluster and its server.
type Cluster struct {
	Name         string
	DataDir      string
	SocketDir    string // of its Unix socket, which no network fault reaches
	Port         int
	WatchdogPort int // 0 without the extension
	Version      string

	t    testkit.TB
	inst *installation
	host *testnet.Host
	dir  string // parent of DataDir and SocketDir
	hba  []string
	// clock: it runs with a wall clock that can be shifted.
	clock bool

	mu     sync.Mutex
	config map[string]string
	proc   *serverProcess // the latest; nil before the first start
}

type serverProcess struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the postmaster has ended
	err  error         // then: of Wait
}

type settings struct {
	name     string
	host     *testnet.Host
	port     int
	config   map[string]string
	hba      []string
	watchdog bool
	stopped  bool
	fresh    bool
	from     source

	libraries []string // files, of build/ or absolute, for the installation's library directory
	damaged   bool     // the heartbeat library is cut off
	clock     bool     // the server's wall clock can be shifted
}

// Option changes a cluster to be made.
type Option func(*settings)

// Host makes the server run inside a host of a testnet, and listen on all its addresses.
func Host(h *testnet.Host) Option { return func(s *settings) { s.host = h } }

// Named gives the cluster a name, for messages and as application_name of a standby.
func Named(name string) Option { return func(s *settings) { s.name = name } }

// OnPort sets the server's port.
func OnPort(port int) Option { return func(s *settings) { s.port = port } }

// Set sets a parameter of postgresql.conf. The value is quoted as needed.
func Set(name, value string) Option { return func(s *settings) { s.config[name] = value } }

// HBA replaces pg_hba.conf. By default every connection is trusted.
func HBA(lines ...string) Option { return func(s *settings) { s.hba = lines } }

// Watchdog installs the extension as built in build/ into the cluster's private copy of PostgreSQL,
// and preloads it.
func Watchdog() Option { return func(s *settings) { s.watchdog = true } }

// Stopped leaves the server to be started by Start.
func Stopped() Option { return func(s *settings) { s.stopped = true } }

// New makes a cluster and starts its server.
func New(t testkit.TB, options ...Option) *Cluster {
	t.Helper()
	s := &settings{name: "primary", config: map[string]string{}}
	for _, o := range options {
		o(s)
	}
	c := newCluster(t, s)
	if s.fresh {
		err := makeOwned(c.DataDir)
		if err == nil {
			err = c.inst.initdbAt(c.DataDir, c.DataDir)
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
	} else if out, err := exec.Command("cp", "-a", c.inst.template, c.DataDir).CombinedOutput(); err != nil {
		t.Fatalf("copy the template of a cluster: %v: %s", err, out)
	}
	c.hba, c.clock = s.hba, s.clock
	if c.clock {
		c.ShiftClock(0)
	}
	c.writeConfig()
	if !s.stopped {
		c.Start()
	}
	return c
}

// newCluster makes all of a cluster but its data directory.
func newCluster(t testkit.TB, s *settings) *Cluster {
	t.Helper()
	inst, err := acquire(s.from, s.watchdog)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if err := inst.addLibraries(s.libraries); err != nil {
		t.Fatalf("%v; run \"make faults build/test/watchdog_test.so\" first", err)
	}
	if s.damaged {
		if err := os.Truncate(filepath.Join(inst.pkglib, "watchdog_go.so"), 100_000); err != nil {
			t.Fatalf("%v", err)
		}
	}
	c := &Cluster{Name: s.name, Port: s.port, Version: inst.version, t: t, inst: inst, host: s.host}
	c.dir, err = testkit.TempDir("wdpg")
	t.Cleanup(c.close)
	if err != nil {
		t.Fatalf("%v", err)
	}
	c.DataDir, c.SocketDir = filepath.Join(c.dir, "data"), filepath.Join(c.dir, "s")
	if err := makeOwned(c.SocketDir); err != nil {
		t.Fatalf("%v", err)
	}
	if c.Port == 0 {
		if c.Port = Port; c.host == nil {
			c.Port = freePort(t)
		}
	}
	c.config = map[string]string{
		"listen_addresses":             "*",
		"port":                         strconv.Itoa(c.Port),
		"unix_socket_directories":      c.SocketDir,
		"fsync":                        "off",
		"full_page_writes":             "off",
		"shared_buffers":               "16MB",
		"dynamic_shared_memory_type":   "mmap", // in the data directory: a kill leaves nothing in /dev/shm
		"max_wal_size":                 "64MB",
		"log_line_prefix":              "%m [%p] %b ",
		"log_min_messages":             "info",
		"wal_receiver_status_interval": "1s",
		"cluster_name":                 s.name,
	}
	if c.host == nil {
		c.config["listen_addresses"] = "127.0.0.1,::1"
	}
	if s.watchdog {
		c.WatchdogPort = WatchdogPort
		if c.host == nil {
			c.WatchdogPort = freePort(t)
		}
		c.config["shared_preload_libraries"] = "watchdog"
		c.config["watchdog.port"] = strconv.Itoa(c.WatchdogPort)
		if c.host == nil {
			c.config["watchdog.listen_addresses"] = "127.0.0.1,::1"
		}
	}
	for name, value := range s.config {
		c.config[name] = value
	}
	return c
}

func freePort(t testkit.TB) int {
	t.Helper()
	ports, err := testkit.FreePorts(1)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return ports[0]
}

// writeConfig writes test.conf, which postgresql.conf includes at its end, and pg_hba.conf.
func (c *Cluster) writeConfig() {
	c.t.Helper()
	hba := c.hba
	if hba == nil {
		hba = []string{"local all all trust", "host all all all trust", "local replication all trust",
			"host replication all all trust"}
	}
	var b strings.Builder
	names := make([]string, 0, len(c.config))
	for name := range c.config {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(c.config[name], "'", "''"))
	}
	main := filepath.Join(c.DataDir, "postgresql.conf")
	text, err := os.ReadFile(main)
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	const include = "\ninclude 'test.conf'\n"
	if !strings.HasSuffix(string(text), include) {
		c.write(main, string(text)+include)
	}
	c.write(filepath.Join(c.DataDir, "test.conf"), b.String())
	c.write(filepath.Join(c.DataDir, "pg_hba.conf"), strings.Join(hba, "\n")+"\n")
}

func (c *Cluster) write(path, text string) {
	c.t.Helper()
	uid, gid := serverUser()
	err := os.WriteFile(path, []byte(text), 0o600)
	if err == nil {
		err = os.Chown(path, uid, gid)
	}
	if err != nil {
		c.t.Fatalf("%v", err)
	}
}

// Configure sets a parameter in the file; Reload or Restart puts it in force.
func (c *Cluster) Configure(name, value string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.config[name] = value
	c.writeConfig()
}

// Standby makes a streaming standby of this cluster, and returns when it streams. It takes over the
// primary's parameters; options change them.
func (c *Cluster) Standby(name string, options ...Option) *Cluster {
	c.t.Helper()
	s := &settings{name: name, config: map[string]string{}, hba: c.hba, watchdog: c.WatchdogPort != 0}
	c.mu.Lock()
	for name, value := range c.config {
		if !slices.Contains([]string{"port", "watchdog.port", "listen_addresses", "unix_socket_directories",
			"cluster_name"}, name) {
			s.config[name] = value
		}
	}
	c.mu.Unlock()
	for _, o := range options {
		o(s)
	}
	if (s.host == nil) != (c.host == nil) {
		c.t.Fatalf("a primary and its standby are both inside hosts, or both on loopback")
	}
	b := newCluster(c.t, s)
	b.hba = s.hba
	if err := makeOwned(b.DataDir); err != nil {
		c.t.Fatalf("%v", err)
	}
	conninfo := fmt.Sprintf("host=%s port=%d user=postgres application_name=%s sslmode=disable", c.Addr(), c.Port, name)
	out, err := b.Command(context.Background(), "pg_basebackup", "-D", b.DataDir, "-d", conninfo, "-R", "-X", "stream",
		"-c", "fast", "--no-sync").CombinedOutput()
	if err != nil {
		c.t.Fatalf("pg_basebackup of %s: %v: %s", c.Name, err, out)
	}
	b.writeConfig()
	if s.stopped {
		return b
	}
	b.Start()
	c.waitStreaming(b)
	return b
}

// close ends the server, removes the files, and shows the log of a failed test.
func (c *Cluster) close() {
	if c.DataDir != "" {
		if err := c.destroy(); err != nil {
			c.t.Errorf("%s: %v", c.Name, err)
		}
		if c.t.Failed() {
			c.t.Logf("log of %s:\n%s", c.Name, c.Log())
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Errorf("%v", err)
	}
	if err := c.inst.release(); err != nil {
		c.t.Errorf("%v", err)
	}
}
