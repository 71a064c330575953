package pgxcm_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/internal/fakeconmgr"
	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/driver/pgxcm"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const patience = 20 * time.Second // far beyond what anything here takes

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, connString string) (*pgx.Conn, error) {
	t.Helper()
	config, err := pgxcm.ParseConfig(connString)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.ConnectConfig(within(t), config)
	if err == nil {
		t.Cleanup(func() { c.Close(context.Background()) })
	}
	return c, err
}

// role is "standby", "primary", or why there is no connection.
func role(t *testing.T, connString string) string {
	t.Helper()
	c, err := connect(t, connString)
	if err != nil {
		return err.Error()
	}
	defer c.Close(context.Background())
	var standby bool
	if err := c.QueryRow(within(t), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return err.Error()
	}
	if standby {
		return "standby"
	}
	return "primary"
}

func open(t *testing.T, connString string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxcm.ParsePoolConfig(connString)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(within(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func poolRole(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var standby bool
	if err := pool.QueryRow(within(t), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return err.Error()
	}
	if standby {
		return "standby"
	}
	return "primary"
}

func TestAttributesByConmgr(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	for attribute, want := range map[string]string{"any": "primary", "read-write": "primary", "primary": "primary",
		"read-only": "standby", "standby": "standby", "prefer-standby": "standby", "prefer-read": "standby"} {
		if got := role(t, fmt.Sprintf("host=localhost port=%d user=postgres target_session_attrs=%s", s.Port(), attribute)); got != want {
			t.Errorf("%q: got %s, want %s", attribute, got, want)
		}
	}
}

// The conmgr of the list is down; pgx verifies the servers.
func TestAttributesOfServers(t *testing.T) {
	leak.Check(t)
	hosts := []string{fmt.Sprintf("127.0.0.1:%d", closedPort(t)), fmt.Sprintf("127.0.0.1:%d", pair.Primary), fmt.Sprintf("127.0.0.1:%d", pair.Standby)}
	reversed := slices.Clone(hosts)
	slices.Reverse(reversed)
	uri := func(list []string, attribute, sslmode string) string {
		return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=%s&target_session_attrs=%s", strings.Join(list, ","), sslmode, attribute)
	}
	for attribute, want := range map[string]string{"read-write": "primary", "primary": "primary",
		"read-only": "standby", "standby": "standby", "prefer-standby": "standby", "prefer-read": "standby"} {
		for _, list := range [][]string{hosts, reversed} {
			for _, sslmode := range []string{"disable", "prefer", "allow", "require"} {
				if got := role(t, uri(list, attribute, sslmode)); got != want {
					t.Errorf("%q of %v, %s: got %s, want %s", attribute, list, sslmode, got, want)
				}
			}
		}
	}
	if got := role(t, uri(hosts[:2], "prefer-standby", "disable")); got != "primary" {
		t.Errorf("prefer-standby: got %s, want the primary, for lack of a standby", got)
	}
	if got := role(t, uri(hosts[:2], "standby", "disable")); !strings.Contains(got, "not in hot standby mode") {
		t.Errorf("got %s", got)
	}
}

func TestMixedList(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	s.Set(pair.Instances()[0])
	list := fmt.Sprintf("host=localhost,127.0.0.1 port=%d,%d user=postgres target_session_attrs=", s.Port(), pair.Standby)
	for attribute, want := range map[string]string{"primary": "primary", "standby": "standby", "prefer-standby": "standby"} {
		if got := role(t, list+attribute); got != want {
			t.Errorf("%q: got %s, want %s", attribute, got, want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	leak.Check(t)
	if got := role(t, fmt.Sprintf("host=%s port=%d user=postgres", pair.SocketDir, pair.Primary)); got != "primary" {
		t.Errorf("got %s", got)
	}
}

func TestVerifyFull(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	connString := fmt.Sprintf("host=localhost port=%d user=postgres sslmode=verify-full sslrootcert=%s", s.Port(), pair.RootCert)
	c, err := connect(t, connString)
	if err != nil {
		t.Fatal(err)
	}
	var tls bool
	if err := c.QueryRow(within(t), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&tls); err != nil || !tls {
		t.Errorf("got %v, %v, want TLS", tls, err)
	}
	if c := c.Config(); c.Host != livepg.Name || int(c.Port) != pair.Primary {
		t.Errorf("Config says %s:%d, want the instance", c.Host, c.Port)
	}
	wrong := pair.Instances()
	wrong[0].Host = "other.livepg.test"
	s.Set(wrong...)
	if got := role(t, connString); !strings.Contains(got, "other.livepg.test") {
		t.Errorf("got %v, want the certificate refused for the other name", got)
	}
	s.Set(pair.Instances()...)
	testLossOf(t, s, open(t, connString+" pool_max_conns=200"))
}

// Anybody could answer on an address that is not a loopback one: nothing is sent to it in the clear.
func TestRemoteConmgrIsNotAskedIfTLSIsRequired(t *testing.T) {
	leak.Check(t)
	l, err := net.Listen("tcp", net.JoinHostPort(ownAddress(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first := make(chan string, 1)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		b := make([]byte, 64)
		n, _ := nc.Read(b)
		first <- string(b[:n])
		nc.Write([]byte{'N'})
	}()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	// A Unix socket first: what holds for it must not hold for the second host.
	got := role(t, fmt.Sprintf("host=/nonexistent,%s port=%s user=postgres sslmode=require", host, port))
	if !strings.Contains(got, "server refused TLS connection") {
		t.Errorf("got %s", got)
	}
	if got := <-first; got != "\x00\x00\x00\x08\x04\xd2\x16\x2f" {
		t.Errorf("the first message was %q, want an SSLRequest", got)
	}
}

func TestPasswordFileByInstanceName(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	file := filepath.Join(t.TempDir(), "pgpass")
	line := fmt.Sprintf("localhost:*:*:*:wrong\n%s:%d:*:app:%s\n", livepg.Name, pair.Primary, livepg.Password)
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", file)
	connString := fmt.Sprintf("host=localhost port=%d user=app dbname=postgres", s.Port())
	if got := role(t, connString); got != "primary" {
		t.Error(got)
	}
	if got := role(t, connString+" password=wrong"); !strings.Contains(got, "28P01") {
		t.Errorf("got %s, want 28P01", got)
	}
	config, err := pgxcm.ParseConfig(connString)
	if err != nil {
		t.Fatal(err)
	}
	config.Password = "set by the application"
	if c, err := pgx.ConnectConfig(within(t), config); err == nil {
		c.Close(context.Background())
		t.Error("the application's password was replaced")
	}
}

func TestRefusingInstanceIsLeftOut(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	dead := fakeconmgr.Instance{Number: 7, Host: "gone", HostAddr: "127.0.0.1", Port: closedPort(t), Attributes: "standby,read-only"}
	s.Set(append([]fakeconmgr.Instance{dead}, pair.Instances()...)...)
	if got := role(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=require target_session_attrs=standby", s.Port())); got != "standby" {
		t.Errorf("got %s", got)
	}
	if got := s.Questions(); len(got) != 2 || got[1] != "SHOW TARGET standby EXCEPT 7" {
		t.Errorf("conmgr was asked %q", got)
	}
}

// testLossOf has 200 queries blocked when the primary is lost.
func testLossOf(t *testing.T, s *fakeconmgr.Server, pool *pgxpool.Pool) {
	t.Helper()
	const blocked = 200
	type result struct {
		err error
		at  time.Time
	}
	results := make(chan result, blocked)
	ctx := within(t)
	for range blocked {
		go func() {
			_, err := pool.Exec(ctx, "SELECT pg_sleep(60)")
			results <- result{err, time.Now()}
		}()
	}
	testkit.Eventually(t, patience, "blocked queries", func() (bool, string) {
		n := sleepers(t, pair.Primary)
		return n == blocked, fmt.Sprintf("%d queries", n)
	})
	verdict := time.Now()
	s.Lose(0, "no heartbeat for 2003 ms")
	var last time.Duration
	for range blocked {
		r := <-results
		last = max(last, r.at.Sub(verdict))
		var lost *driver.LostError
		if !errors.As(r.err, &lost) {
			t.Fatalf("got %v, want a LostError", r.err)
		}
		if lost.Instance != 0 || lost.Host != livepg.Name || lost.SQLState != "57P01" || lost.SafeToRetry() || pgconn.SafeToRetry(r.err) ||
			!strings.Contains(lost.Reason, "no heartbeat for 2003 ms") {
			t.Fatalf("got %+v", lost)
		}
	}
	t.Logf("%d blocked queries have returned within %v of the verdict", blocked, last)
	testkit.Eventually(t, patience, "the pool", func() (bool, string) {
		n := pool.Stat().TotalConns()
		return n == 0, fmt.Sprintf("%d connections", n)
	})
	testkit.Eventually(t, patience, "the backends' end", func() (bool, string) {
		admin(t, pair.Primary, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
		n := sleepers(t, pair.Primary)
		return n == 0, fmt.Sprintf("%d queries", n)
	})
}

func TestLossWakesBlockedQueriesAndTheNextGoesElsewhere(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	pool := open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable application_name=shop pool_max_conns=200", s.Port()))
	if got := poolRole(t, pool); got != "primary" {
		t.Fatalf("got %s", got)
	}
	if got := s.Applications(); len(got) == 0 || got[0] != "shop" {
		t.Errorf("conmgr knows the applications %q", got)
	}
	testLossOf(t, s, pool)
	if got := poolRole(t, pool); got != "standby" {
		t.Errorf("after the loss of the primary: got %s", got)
	}
}

// pgx tells that the statement was not sent; the application may repeat it at once.
func TestLossOfIdleConnection(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	pool := open(t, fmt.Sprintf("host=localhost port=%d user=postgres pool_max_conns=1", s.Port()))
	c, err := pool.Acquire(within(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Lose(0, "no heartbeat for 2003 ms")
	waitLost(t, c)
	_, err = c.Exec(within(t), "SELECT 1")
	var lost *driver.LostError
	if !errors.As(err, &lost) || !lost.SafeToRetry() || !pgconn.SafeToRetry(err) {
		t.Errorf("got %v, want a LostError that is safe to retry", err)
	}
	c.Release()
	if got := poolRole(t, pool); got != "standby" {
		t.Errorf("got %s", got)
	}
}

func TestPoolThrowsAwayIdleConnectionsThatAreLost(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	pool := open(t, fmt.Sprintf("host=localhost port=%d user=postgres pool_max_conns=3", s.Port()))
	var conns []*pgxpool.Conn
	for range 3 {
		c, err := pool.Acquire(within(t))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	s.Lose(0, "no heartbeat for 2003 ms")
	for _, c := range conns {
		waitLost(t, c)
		c.Release()
	}
	for range 5 {
		if got := poolRole(t, pool); got != "standby" {
			t.Errorf("got %s", got)
		}
	}
}

func TestCancel(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	for attribute, port := range map[string]int{"primary": pair.Primary, "standby": pair.Standby} {
		c, err := connect(t, fmt.Sprintf("host=localhost port=%d user=postgres target_session_attrs=%s", s.Port(), attribute))
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		go func() {
			_, err := c.Exec(within(t), "SELECT pg_sleep(60)")
			failed <- err
		}()
		testkit.Eventually(t, patience, "blocked query", func() (bool, string) { return sleepers(t, port) == 1, "" })
		if err := c.PgConn().CancelRequest(within(t)); err != nil {
			t.Error(err)
		}
		var canceled *pgconn.PgError
		if err := <-failed; !errors.As(err, &canceled) || canceled.Code != "57014" {
			t.Errorf("%s: got %v, want 57014 from the server", attribute, err)
		}
	}
	if n := len(s.Questions()); n != 2 {
		t.Errorf("conmgr was asked %d times, want twice: %q", n, s.Questions())
	}
}

func TestContextAndTimeout(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	s.Mute()
	t.Run("context", func(t *testing.T) {
		config, err := pgxcm.ParseConfig(fmt.Sprintf("host=localhost port=%d user=postgres", s.Port()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if _, err := pgx.ConnectConfig(ctx, config); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("connect_timeout, then the next host", func(t *testing.T) {
		if got := role(t, fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres sslmode=disable connect_timeout=1", s.Port(), pair.Primary)); got != "primary" {
			t.Errorf("got %s", got)
		}
	})
}

func TestNoTarget(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	s.Set()
	_, err := connect(t, fmt.Sprintf("host=localhost port=%d user=postgres", s.Port()))
	var answer *driver.ConmgrError
	if !errors.As(err, &answer) || !answer.NoTarget() {
		t.Errorf("got %v, want 08001", err)
	}
}

// database/sql over pgx.
func TestStdlib(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	config, err := pgxcm.ParseConfig(fmt.Sprintf("host=localhost port=%d user=postgres target_session_attrs=standby", s.Port()))
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	var standby bool
	if err := db.QueryRowContext(within(t), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || !standby {
		t.Errorf("got %v, %v", standby, err)
	}
	// An idle connection that is lost is replaced without the application's noticing.
	promoted := pair.Instances()[0]
	promoted.Attributes = "standby,read-only"
	s.Lose(1, "no heartbeat for 2003 ms")
	s.Set(promoted)
	testkit.Eventually(t, patience, "the watches' end", func() (bool, string) { return s.Bound(1) == 0, "" })
	if err := db.QueryRowContext(within(t), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
		t.Errorf("after the loss: got %v, %v", standby, err)
	}
	var _ *sql.DB = db
}

func TestBadConnString(t *testing.T) {
	for _, s := range []string{"host", "target_session_attrs=master", "host=a,b port=1,2,3", "service=x", "sslmode=sometimes"} {
		if _, err := pgxcm.ParseConfig(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
		if _, err := pgxcm.ParsePoolConfig(s); err == nil {
			t.Errorf("%q was accepted for a pool", s)
		}
	}
}

func waitLost(t *testing.T, c *pgxpool.Conn) {
	t.Helper()
	select {
	case <-pgxcm.Watch(c.Conn().PgConn()).Lost():
	case <-time.After(patience):
		t.Fatal("the loss was not told")
	}
}

// sleepers counts a server's blocked queries.
func sleepers(t *testing.T, port int) int {
	t.Helper()
	return admin(t, port, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
}

// admin runs a query that returns a number, over pgx alone.
func admin(t *testing.T, port int, query string) (n int) {
	t.Helper()
	ctx := within(t)
	c, err := pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if err := c.QueryRow(ctx, query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// closedPort was free a moment ago.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// ownAddress is an address of this machine that is not a loopback one.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Fatal("this machine has no address but loopback")
	return ""
}
