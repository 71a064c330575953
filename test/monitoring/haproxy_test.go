//go:build monitoring

package monitoring

// HAProxy with Patroni's sample configuration, in which only ports and servers are others, follows a
// promotion by conmgr's health checks.

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// sample is Patroni's: one port for the primary, one for its replicas.
const sample = `global
    maxconn 100

defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s

listen batman
    bind *:%[1]d
    option httpchk %[3]s
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
%[5]s
listen replicas
    bind *:%[2]d
    option httpchk %[4]s
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
%[5]s`

// balancer is an HAProxy.
type balancer struct {
	*testing.T
	host            *testnet.Host // nil: on loopback
	addr            string
	primary, others int
	c               *pgtest.Cluster // any: how to dial
}

func newBalancer(t *testing.T, host *testnet.Host, primary, others int, check, checkOthers, servers string) *balancer {
	t.Helper()
	file := filepath.Join(owned(t), "haproxy.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, sample, primary, others, check, checkOthers, servers), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var cmd *exec.Cmd
	if host != nil {
		cmd = host.CommandWith(ctx, testnet.Options{UID: nobody, GID: nobody}, "haproxy", "-db", "-f", file)
	} else {
		cmd = exec.CommandContext(ctx, "haproxy", "-db", "-f", file)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		cmd.Cancel = func() error { return cmd.Process.Kill() }
	}
	run(t, cmd)
	return &balancer{T: t, host: host, primary: primary, others: others}
}

// leads waits until a port leads to that server, and to a primary or not.
func (b *balancer) leads(port int, to *pgtest.Cluster, recovery string) {
	b.Helper()
	in, want := 0, fmt.Sprintf("%s:%d %s", to.Addr(), to.Port, recovery)
	testkit.Eventually(b, patience, fmt.Sprintf("port %d leads to %s, and nowhere else", port, want), func() (bool, string) {
		got := b.where(port, to)
		if in++; got != want { // servers are taken in turn: several in a row are all of them
			in = 0
		}
		return in == 5, got
	})
}

// where is to which server a port leads, and whether that is in recovery.
func (b *balancer) where(port int, dial *pgtest.Cluster) string {
	dsn := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable connect_timeout=5", port)
	var db *sql.DB
	if b.host != nil {
		db = dial.OpenAt(b.host, dsn)
	} else {
		var err error
		if db, err = sql.Open("postgres", dsn); err != nil {
			return err.Error()
		}
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var where string
	if err := db.QueryRowContext(ctx, "SELECT host(inet_server_addr()) || ':' || inet_server_port() || ' ' || pg_is_in_recovery()").Scan(&where); err != nil {
		return err.Error()
	}
	return where
}

// follow has the second server promoted, and sees HAProxy follow.
func (b *balancer) follow(first, second *pgtest.Cluster) {
	b.Helper()
	b.leads(b.primary, first, "false")
	b.leads(b.others, second, "true")
	first.Stop(pgtest.Fast)
	second.Promote()
	begun := time.Now()
	b.leads(b.primary, second, "false")
	b.Logf("HAProxy has followed the promotion after %v", time.Since(begun).Round(100*time.Millisecond))
}

// As in the sample: two servers on loopback, each checked at a port of its own.
func TestHAProxyOnLoopback(t *testing.T) {
	needs(t, "haproxy")
	for check, others := range map[string]string{"": "/replica", "OPTIONS /primary": "OPTIONS /replica?lag=100MB", "GET /read-write": "HEAD /replica"} {
		t.Run(strings.ReplaceAll("check "+check, "/", ""), func(t *testing.T) {
			first := pgtest.New(t, pgtest.Watchdog())
			second := first.Standby("second")
			ports, err := testkit.FreePorts(5)
			if err != nil {
				t.Fatal(err)
			}
			cm := cmtest.Start(t, nil, cmtest.Config{Interval: "200ms", Timeout: "1s", Port: ports[0],
				Clusters: []*pgtest.Cluster{first, second}, Extra: fmt.Sprintf("health_port0 = %d\nhealth_port1 = %d\n", ports[1], ports[2])})
			cm.WaitInstance(0, "role", "primary")
			cm.WaitInstance(1, "role", "standby")
			servers := fmt.Sprintf("    server postgresql_127.0.0.1_%[1]d 127.0.0.1:%[1]d maxconn 100 check port %[2]d\n"+
				"    server postgresql_127.0.0.1_%[3]d 127.0.0.1:%[3]d maxconn 100 check port %[4]d\n", first.Port, ports[1], second.Port, ports[2])
			newBalancer(t, nil, ports[3], ports[4], check, others, servers).follow(first, second)
		})
	}
}

// A conmgr on each database host: each server is checked at its own address, all at one port.
func TestHAProxyChecksDatabaseHosts(t *testing.T) {
	needs(t, "haproxy")
	w := newWorld(t, "")
	clusters := []*pgtest.Cluster{w.primary, w.second}
	servers := ""
	for i, c := range clusters {
		cm := cmtest.Start(t, c.Host(), cmtest.Config{Interval: "200ms", Timeout: "1s", Clusters: clusters,
			Extra: fmt.Sprintf("http_port = %d\nhttp_listen_addresses = '*'\n", httpPort)})
		cm.WaitInstance(0, "role", "primary")
		cm.WaitInstance(1, "role", "standby")
		servers += fmt.Sprintf("    server db%d %s:%d maxconn 100 check port %d\n", i, c.Addr(), c.Port, httpPort)
	}
	newBalancer(t, w.client, 5000, 5001, "", "/replica", servers).follow(w.primary, w.second)
}
