package main

// The peers, configured as their documentation's samples are, and as somebody does who has read the
// manual.

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// Health checks of HAProxy.
const (
	haproxyNone   = ""                                    // plain TCP forwarding
	haproxySample = "inter 3s fall 3 rise 2"              // the sample file of Patroni, timeout check 5s
	haproxyTuned  = "inter 1s fastinter 1s fall 2 rise 2" // with timeout check 1s
	restPort      = 8008                                  // of Patroni
	markedDown    = " on-marked-down shutdown-sessions check port 8008"
)

// HAProxy starts one in a host, in TCP mode, that forwards connections to a port of 127.0.0.1 to
// those of the clusters that are healthy. It returns its process.
func (b *bench) HAProxy(h *testnet.Host, port int, checks string, clusters ...*pgtest.Cluster) (pid int) {
	timeout := "5s"
	if checks == haproxyTuned {
		timeout = "1s"
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, `global
    maxconn 4000
defaults
    mode tcp
    maxconn 2000
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check %s
listen postgres
    bind 127.0.0.1:%d
`, timeout, port)
	if checks != haproxyNone {
		fmt.Fprintf(&conf, "    option httpchk GET /primary\n    http-check expect status 200\n    default-server %s%s\n", checks, markedDown)
	}
	for i, c := range clusters {
		fmt.Fprintf(&conf, "    server db%d %s:%d\n", i+1, c.Addr(), c.Port)
	}
	path := filepath.Join(b.TempDir(), "haproxy.cfg")
	b.Write(path, "%s", conf.String())
	cmd := b.As(h, nil, "haproxy", "-db", "-f", path)
	b.Start(cmd)
	b.Listening(h, port)
	return cmd.Process.Pid
}

// Rest answers HAProxy's health checks for a cluster as Patroni does: 200 if it is a primary, else
// 503.
func (b *bench) Rest(c *pgtest.Cluster) {
	l, err := c.Host().Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", restPort))
	if err != nil {
		b.Fatalf("%v", err)
	}
	db := c.Admin()
	server := &http.Server{ReadTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var standby bool
			if err := db.QueryRowContext(r.Context(), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})}
	go server.Serve(l)
	b.Cleanup(func() { server.Close(); db.Close() })
}

// What PgBouncer is told beside the addresses.
const (
	bouncerSessions     = "pool_mode = session\ndefault_pool_size = 1000\nmax_client_conn = 2000\n"
	bouncerTransactions = "pool_mode = transaction\nadmin_users = postgres\nignore_startup_parameters = extra_float_digits\n"
)

// PgBouncer starts one in a host that serves pgbouncerPort of 127.0.0.1 with connections to a
// cluster. It returns its process, and what writes the file anew, for another cluster.
func (b *bench) PgBouncer(h *testnet.Host, c *pgtest.Cluster, settings string) (pid int, lead func(*pgtest.Cluster)) {
	dir := b.TempDir()
	users, path := filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")
	b.Write(users, "\"postgres\" \"\"\n")
	lead = func(c *pgtest.Cluster) {
		b.Write(path, `[databases]
postgres = host=%s port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
%s`, c.Addr(), c.Port, pgbouncerPort, users, settings)
	}
	lead(c)
	cmd := b.As(h, nil, "pgbouncer", path)
	b.Start(cmd)
	b.Listening(h, pgbouncerPort)
	return cmd.Process.Pid, lead
}

// Listening waits until somebody listens at a port of a host's loopback address.
func (b *bench) Listening(h *testnet.Host, port int) {
	testkit.Eventually(b, 20*time.Second, fmt.Sprintf("port %d in %s", port, h.Name), func() (bool, string) {
		conn, err := h.Dialer().DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err != nil {
			return false, err.Error()
		}
		conn.Close()
		return true, ""
	})
}
