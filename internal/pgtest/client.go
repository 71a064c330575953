package pgtest

// A cluster seen by its clients: connections, queries, the server's log.

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// Addr returns the IPv4 address at which the server listens.
func (c *Cluster) Addr() netip.Addr {
	if c.host != nil {
		return c.host.Addr4
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// DSN returns a connection string for database postgres over TCP, for libpq and lib/pq alike.
func (c *Cluster) DSN() string { return c.DSNOf(c.Addr().String(), "postgres") }

// DSNOf is DSN with another of the server's addresses, or the directory of its Unix socket, and
// another database.
func (c *Cluster) DSNOf(host, database string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", host, c.Port, database)
}

// Open returns a pool whose connections come from a host, or from the test process itself if that
// is nil. extra is appended to the DSN.
func (c *Cluster) Open(from *testnet.Host, extra string) *sql.DB {
	c.t.Helper()
	return c.open(from, c.DSN()+" "+extra)
}

// Admin returns a pool over the Unix socket: no network fault reaches it, and no terminator ends
// it.
func (c *Cluster) Admin() *sql.DB {
	c.t.Helper()
	return c.open(nil, c.DSNOf(c.SocketDir, "postgres")+" application_name=admin")
}

func (c *Cluster) open(from *testnet.Host, dsn string) *sql.DB {
	c.t.Helper()
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		c.t.Fatalf("%s: %v", dsn, err)
	}
	if from != nil {
		connector.Dialer(from.Dialer())
	}
	return sql.OpenDB(connector)
}

// Query runs a query over the Unix socket and returns its rows as text, NULL as "".
func (c *Cluster) Query(query string, args ...any) [][]string {
	c.t.Helper()
	rows, err := c.TryQuery(query, args...)
	if err != nil {
		c.t.Fatalf("%s: %s: %v", c.Name, query, err)
	}
	return rows
}

// TryQuery is Query for one that may fail.
func (c *Cluster) TryQuery(query string, args ...any) ([][]string, error) {
	db := c.Admin()
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var found [][]string
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		targets := make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		row := make([]string, len(columns))
		for i, v := range values {
			row[i] = v.String
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

// Value runs a query of one row and one column over the Unix socket.
func (c *Cluster) Value(query string, args ...any) string {
	c.t.Helper()
	rows := c.Query(query, args...)
	if len(rows) != 1 || len(rows[0]) != 1 {
		c.t.Fatalf("%s: %s: got %v, want one value", c.Name, query, rows)
	}
	return rows[0][0]
}

// Exec runs a statement over the Unix socket.
func (c *Cluster) Exec(statement string, args ...any) {
	c.t.Helper()
	c.Query(statement, args...)
}

// Backend is a client's session, or a walsender.
type Backend struct {
	Pid         int
	ClientAddr  string // "" : by Unix socket
	Application string
	State       string // as pg_stat_activity says
	Type        string
}

// Backends returns the sessions of clients, all but those of the helpers themselves.
func (c *Cluster) Backends() []Backend {
	c.t.Helper()
	var found []Backend
	for _, r := range c.Query(`select pid, host(client_addr), application_name, state, backend_type from pg_stat_activity
		where backend_type in ('client backend', 'walsender') and pid <> pg_backend_pid() order by pid`) {
		b := Backend{ClientAddr: r[1], Application: r[2], State: r[3], Type: r[4]}
		if _, err := fmt.Sscan(r[0], &b.Pid); err != nil {
			c.t.Fatalf("process id %q: %v", r[0], err)
		}
		if b.Application != "admin" || b.ClientAddr != "" {
			found = append(found, b)
		}
	}
	return found
}

func (c *Cluster) logPath() string { return filepath.Join(c.dir, "log") }

// Log returns the server's log up to now.
func (c *Cluster) Log() string {
	b, err := os.ReadFile(c.logPath())
	if err != nil && !os.IsNotExist(err) {
		return err.Error()
	}
	return string(b)
}

// LogSize is a position in the log, for WaitLog.
func (c *Cluster) LogSize() int { return len(c.Log()) }

// WaitLog waits until a line after a position of the log (0: its start) matches, and returns the
// match and its groups.
func (c *Cluster) WaitLog(since int, pattern string, deadline time.Duration) []string {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	var match []string
	testkit.Eventually(c.t, deadline, fmt.Sprintf("%s: log line that matches %q", c.Name, pattern),
		func() (bool, string) {
			log := c.Log()[since:]
			match = re.FindStringSubmatch(log)
			return match != nil, "log:\n" + log
		})
	return match
}
