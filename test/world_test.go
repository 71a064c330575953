package test

// The hosts, servers and sessions that the tests use.

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if conninfo := os.Getenv(goWriterVariable); conninfo != "" {
		fmt.Fprintln(os.Stderr, goWriter(conninfo))
		os.Exit(2)
	}
	if conninfo := os.Getenv(loadVariable); conninfo != "" {
		if err := loadMain(os.Getenv(loadPoolVariable), conninfo); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
	code := m.Run()
	os.Exit(code)
}

// world is one database host, db, with a primary, and client hosts beside it.
type world struct {
	*testing.T
	net     *testnet.Net
	db      *testnet.Host
	primary *pgtest.Cluster
	admin   *sql.DB
}

func newWorld(t *testing.T, options ...pgtest.Option) *world {
	t.Helper()
	w := &world{T: t, net: testnet.New(t)}
	w.db = w.net.Host("db")
	w.primary = pgtest.New(t, append([]pgtest.Option{pgtest.Host(w.db), pgtest.Watchdog()}, options...)...)
	w.admin = w.primary.Admin()
	t.Cleanup(func() { w.admin.Close() })
	w.primary.Exec("CREATE EXTENSION watchdog")
	return w
}

// in is the world for a subtest.
func (w *world) in(t *testing.T) *world {
	c := *w
	c.T = t
	return &c
}

// conmgr starts a conmgr on a client host that watches the primary, and waits until it is
// connected.
func (w *world) conmgr(host *testnet.Host, interval, timeout string) *cmtest.Conmgr {
	w.Helper()
	c := cmtest.Start(w, host, cmtest.Config{Interval: interval, Timeout: timeout, Clusters: []*pgtest.Cluster{w.primary}})
	c.WaitInstance(0, "state", "established")
	return c
}

// sessions counts the sessions of a client host on the primary.
func (w *world) sessions(of *testnet.Host) int {
	w.Helper()
	var n int
	err := w.admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE client_addr IN ($1::inet, $2::inet)", of.Addr4.String(), of.Addr6.String()).Scan(&n)
	if err != nil {
		w.Fatalf("count sessions: %v", err)
	}
	return n
}

// waitSessions waits until a client host has n sessions, and returns the moment.
func (w *world) waitSessions(of *testnet.Host, n int, deadline time.Duration) time.Duration {
	w.Helper()
	testkit.Eventually(w, deadline, fmt.Sprintf("%d sessions of %s", n, of.Name), func() (bool, string) {
		got := w.sessions(of)
		return got == n, fmt.Sprintf("%d sessions", got)
	})
	return testnet.Monotonic()
}

// session is one session from a client host.
type session struct {
	db   *sql.DB
	conn *sql.Conn
	pid  int
}

// session opens a session on the primary, and runs statements in it.
func (w *world) session(from *testnet.Host, statements ...string) *session {
	w.Helper()
	return w.sessionAt(from, w.primary.DSN(), statements...)
}

func (w *world) sessionAt(from *testnet.Host, dsn string, statements ...string) *session {
	w.Helper()
	s := &session{db: w.primary.OpenAt(from, dsn)}
	w.Cleanup(func() { s.db.Close() })
	var err error
	if s.conn, err = s.db.Conn(context.Background()); err != nil {
		w.Fatalf("connect from %v: %v", from, err)
	}
	if err := s.conn.QueryRowContext(context.Background(), "SELECT pg_backend_pid()").Scan(&s.pid); err != nil {
		w.Fatalf("session: %v", err)
	}
	for _, st := range statements {
		if _, err := s.conn.ExecContext(context.Background(), st); err != nil {
			w.Fatalf("%s: %v", st, err)
		}
	}
	return s
}

// start runs a statement in the background; its result comes through the channel.
func (s *session) start(statement string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := s.conn.ExecContext(context.Background(), statement)
		done <- err
	}()
	return done
}

// alive checks that the session still answers.
func (w *world) alive(s *session, what string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var pid int
	if err := s.conn.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil || pid != s.pid {
		w.Errorf("%s: the session is gone: pid %d, was %d: %v", what, pid, s.pid, err)
	}
}

// exists tells whether a backend is still there.
func (w *world) exists(pid int) bool {
	w.Helper()
	var n int
	if err := w.admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid).Scan(&n); err != nil {
		w.Fatalf("look for backend %d: %v", pid, err)
	}
	return n > 0
}

// waitGone waits until a backend has ended, and returns the moment.
func (w *world) waitGone(pid int, deadline time.Duration, what string) time.Duration {
	w.Helper()
	testkit.Eventually(w, deadline, what+" is ended", func() (bool, string) { return !w.exists(pid), fmt.Sprintf("backend %d is there", pid) })
	return testnet.Monotonic()
}

// viewRows counts the rows of pgx_stat_watchdog.
func (w *world) viewRows() int {
	w.Helper()
	var n int
	if err := w.admin.QueryRow("SELECT count(*) FROM pgx_stat_watchdog").Scan(&n); err != nil {
		w.Fatalf("pgx_stat_watchdog: %v", err)
	}
	return n
}

func eventually(t testkit.TB, what string, cond func() (bool, string)) {
	t.Helper()
	testkit.Eventually(t, patience, what, cond)
}

// received is the number of frames from the only conmgr that is connected, 0 if it is not.
func (w *world) received() int {
	w.Helper()
	var n int
	if err := w.admin.QueryRow("SELECT coalesce(max(received_count), 0) FROM pgx_stat_watchdog").Scan(&n); err != nil {
		w.Fatalf("pgx_stat_watchdog: %v", err)
	}
	return n
}

// noLog checks that the server has logged nothing that matches.
func (w *world) noLog(since int, pattern string) {
	w.Helper()
	if m := regexp.MustCompile(`(?m)^.*(?:` + pattern + `).*$`).FindString(w.primary.Log()[since:]); m != "" {
		w.Errorf("the server logged: %s", m)
	}
}

func contains(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// aliveOn is alive for a session of another cluster.
func (w *world) aliveOn(c *pgtest.Cluster, s *session, what string) {
	w.Helper()
	if n := c.Value("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", s.pid); n != "1" {
		w.Errorf("%s: the session on %s is gone", what, c.Name)
	}
	w.alive(s, what)
}

// waitQuiet lets time pass in which nothing may happen.
func waitQuiet(d time.Duration) { <-time.After(d) }
