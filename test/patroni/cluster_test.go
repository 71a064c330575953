//go:build patroni

package patroni

// A Patroni cluster: one etcd, three database hosts, all as an unprivileged user in hosts of a
// testnet.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	nobody   = 65534
	patience = 90 * time.Second
	ttl      = 20 // seconds: the least that Patroni accepts
)

type cluster struct {
	*testing.T
	net   *testnet.Net
	dcs   *testnet.Host
	nodes []*node
	bin   string
	dir   string
}

// node is a database host with its Patroni.
type node struct {
	c    *cluster
	name string
	host *testnet.Host
	dir  string
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	for _, tool := range []string{"etcd", "/usr/bin/patroni", "/usr/bin/patronictl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v\nhint: run 'scripts/deps patroni'", err)
		}
	}
	c := &cluster{T: t, net: testnet.New(t)}
	c.bin = pgtest.Install(t)
	dir, err := testkit.TempDir("wdpatroni")
	if err != nil {
		t.Fatal(err)
	}
	c.dir = dir
	t.Cleanup(func() { os.RemoveAll(dir) })
	c.dcs = c.net.Host("dcs")
	url := "http://" + c.dcs.Addr4.String()
	etcd := c.command(c.dcs, "etcd", "--name", "dcs", "--data-dir", c.owned("etcd"), "--listen-client-urls", url+":2379",
		"--advertise-client-urls", url+":2379", "--listen-peer-urls", url+":2380", "--initial-advertise-peer-urls", url+":2380",
		"--initial-cluster", "dcs="+url+":2380", "--logger", "zap", "--unsafe-no-fsync")
	c.background(etcd, filepath.Join(dir, "etcd.log"))
	for i := 1; i <= 3; i++ {
		n := &node{c: c, name: fmt.Sprintf("db%d", i)}
		n.host = c.net.Host(n.name)
		n.dir = c.owned(n.name)
		n.configure()
		c.nodes = append(c.nodes, n)
	}
	t.Cleanup(c.showLogs)
	t.Cleanup(c.endServers)
	for _, n := range c.nodes {
		n.start()
	}
	c.waitHealthy()
	return c
}

func (c *cluster) owned(name string) string {
	path := filepath.Join(c.dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		c.Fatal(err)
	}
	if err := os.Chown(path, nobody, nobody); err != nil {
		c.Fatal(err)
	}
	return path
}

func (c *cluster) command(h *testnet.Host, name string, args ...string) *exec.Cmd {
	cmd := h.CommandWith(context.Background(), testnet.Options{UID: nobody, GID: nobody}, name, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8", "HOME=" + c.dir, "TZ=UTC"}
	cmd.Dir = "/"
	return cmd
}

// background starts a command whose output goes to a file; the channel is closed when it has ended.
func (c *cluster) background(cmd *exec.Cmd, log string) chan struct{} {
	c.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		c.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		f.Close()
		close(done)
	}()
	return done
}

const patroniYaml = `
scope: demo
name: %[1]s
restapi: {listen: "%[2]s:8008", connect_address: "%[2]s:8008"}
etcd3: {hosts: "%[3]s:2379"}
bootstrap:
  dcs:
    ttl: %[4]d
    loop_wait: 2
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
      parameters: {shared_preload_libraries: watchdog, wal_log_hints: "on", max_wal_senders: 10, hot_standby: "on"}
  initdb: [{encoding: UTF8}, {locale: C}, data-checksums]
postgresql:
  listen: "0.0.0.0:5432"
  connect_address: "%[2]s:5432"
  data_dir: %[5]s/data
  bin_dir: %[6]s
  pgpass: %[5]s/pgpass
  authentication:
    superuser: {username: postgres, password: s}
    replication: {username: replicator, password: r}
    rewind: {username: rewinder, password: w}
  parameters:
    unix_socket_directories: %[5]s
    fsync: "off"
    shared_buffers: 16MB
    dynamic_shared_memory_type: mmap
    log_line_prefix: "%%m [%%p] %%b "
  pg_hba:
    - local all all trust
    - host all all all trust
    - host replication all all trust
`

func (n *node) configure() {
	text := fmt.Sprintf(patroniYaml, n.name, n.host.Addr4, n.c.dcs.Addr4, ttl, n.dir, n.c.bin)
	if err := os.WriteFile(n.configFile(), []byte(text), 0o644); err != nil {
		n.c.Fatal(err)
	}
}

func (n *node) configFile() string { return filepath.Join(n.c.dir, n.name+".yml") }
func (n *node) log() string        { return filepath.Join(n.c.dir, n.name+".log") }

// start starts Patroni, which starts or adopts the server.
func (n *node) start() {
	n.c.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cmd = n.c.command(n.host, "/usr/bin/patroni", n.configFile())
	n.done = n.c.background(n.cmd, n.log())
}

// killAgent ends Patroni alone, with SIGKILL; the server lives on.
func (n *node) killAgent() {
	n.c.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = syscall.Kill(n.cmd.Process.Pid, syscall.SIGKILL) // setpriv and nsenter have become patroni
	<-n.done
}

// postmaster is the pid of the node's server, 0 if there is none.
func (n *node) postmaster() (pid int) {
	b, err := os.ReadFile(filepath.Join(n.dir, "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	fmt.Sscan(string(b), &pid)
	if syscall.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

// member is what Patroni's /cluster tells of one.
type member struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	State    string `json:"state"`
	Timeline int    `json:"timeline"`
}

// members asks the first node that answers.
func (c *cluster) members() (list []member) {
	for _, n := range c.nodes {
		client := http.Client{Timeout: 2 * time.Second,
			Transport: &http.Transport{DisableKeepAlives: true, DialContext: c.dcs.Dialer().DialContext}}
		r, err := client.Get("http://" + n.host.Addr4.String() + ":8008/cluster")
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		var answer struct{ Members []member }
		if json.Unmarshal(b, &answer) == nil && len(answer.Members) > 0 {
			return answer.Members
		}
	}
	return nil
}

// waitHealthy waits for a leader from which both others stream, and returns it. Patroni's word
// alone does not do: it calls a replica running that cannot follow, and the next fault would leave
// that for good (a second promotion before the first one's rewind has ended).
func (c *cluster) waitHealthy() *node {
	c.Helper()
	var leader *node
	testkit.Eventually(c, patience, "Patroni has a leader and two replicas", func() (bool, string) {
		list := c.members()
		leader = nil
		for _, m := range list {
			if m.Role == "leader" && m.State == "running" {
				leader = c.node(m.Name)
			}
		}
		if leader == nil {
			return false, fmt.Sprint(list)
		}
		streaming, err := leader.psql("SELECT count(DISTINCT application_name) FROM pg_stat_replication " +
			"WHERE state = 'streaming' AND application_name LIKE 'db_' AND NOT pg_is_in_recovery()")
		return err == nil && streaming == "2", fmt.Sprint(list, " streaming: ", streaming, err)
	})
	return leader
}

func (c *cluster) node(name string) *node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	c.Fatalf("Patroni names a member %q", name)
	return nil
}

// ctl runs patronictl; the cluster's name comes last.
func (c *cluster) ctl(args ...string) string {
	c.Helper()
	args = append(append([]string{"-c", c.nodes[0].configFile()}, args...), "demo")
	out, err := c.command(c.dcs, "/usr/bin/patronictl", args...).CombinedOutput()
	if err != nil {
		c.Fatalf("patronictl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// endServers ends what Patroni has started: a server outlives its agent.
func (c *cluster) endServers() {
	for _, n := range c.nodes {
		n.mu.Lock()
		if n.cmd != nil {
			_ = syscall.Kill(n.cmd.Process.Pid, syscall.SIGKILL)
			<-n.done
		}
		n.mu.Unlock()
		if pid := n.postmaster(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
			if err := testkit.Poll(10*time.Second, func() (bool, string) { return n.postmaster() == 0, n.name }); err != nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

func (c *cluster) showLogs() {
	if !c.Failed() {
		return
	}
	for _, n := range c.nodes {
		b, _ := os.ReadFile(n.log())
		lines := bytes.Split(b, []byte("\n"))
		c.Logf("the end of the log of %s:\n%s", n.name, bytes.Join(lines[max(0, len(lines)-60):], []byte("\n")))
	}
}

// sql runs a statement on a node's server, by its Unix socket, and returns the output of psql.
func (n *node) sql(statement string) string {
	n.c.Helper()
	out, err := n.psql(statement)
	if err != nil {
		n.c.Fatal(err)
	}
	return out
}

func (n *node) psql(statement string) (string, error) {
	cmd := n.c.command(n.host, filepath.Join(n.c.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", n.dir,
		"-U", "postgres", "-d", "postgres", "-c", statement)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w: %s", n.name, statement, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
