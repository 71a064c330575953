package pqcm_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/internal/fakeconmgr"
	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/driver/pqcm"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const patience = 20 * time.Second // far beyond what anything here takes

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	connector, err := pqcm.NewConnector(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func inRecovery(t *testing.T, db *sql.DB) bool {
	t.Helper()
	var b bool
	if err := db.QueryRowContext(within(t), "SELECT pg_is_in_recovery()").Scan(&b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAttributesByConmgr(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	for attribute, standby := range map[string]bool{"": false, "any": false, "read-write": false, "primary": false,
		"read-only": true, "standby": true, "prefer-standby": true, "prefer-read": true} {
		dsn := fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable target_session_attrs='%s'", s.Port(), attribute)
		db := open(t, dsn)
		if got := inRecovery(t, db); got != standby {
			t.Errorf("%q: got a standby: %v, want %v", attribute, got, standby)
		}
		db.Close()
	}
}

// Servers of the list are verified; here the conmgr of the list is down.
func TestAttributesOfServers(t *testing.T) {
	leak.Check(t)
	hosts := []string{fmt.Sprintf("127.0.0.1:%d", closedPort(t)), fmt.Sprintf("127.0.0.1:%d", pair.Primary), fmt.Sprintf("127.0.0.1:%d", pair.Standby)}
	reversed := slices.Clone(hosts)
	slices.Reverse(reversed)
	for attribute, standby := range map[string]bool{"read-write": false, "primary": false,
		"read-only": true, "standby": true, "prefer-standby": true, "prefer-read": true} {
		for _, list := range [][]string{hosts, reversed} {
			db := open(t, fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable&target_session_attrs=%s", strings.Join(list, ","), attribute))
			if got := inRecovery(t, db); got != standby {
				t.Errorf("%q of %v: got a standby: %v, want %v", attribute, list, got, standby)
			}
			db.Close()
		}
	}
	db := open(t, fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable&target_session_attrs=prefer-standby", strings.Join(hosts[:2], ",")))
	if inRecovery(t, db) {
		t.Error("prefer-standby: got a standby, want the primary, for lack of one")
	}
	db = open(t, fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable&target_session_attrs=standby", strings.Join(hosts[:2], ",")))
	err := db.PingContext(within(t))
	var failed *driver.ConnectError
	if !errors.As(err, &failed) || len(failed.Hosts) != 2 || !strings.Contains(err.Error(), "the server is not standby") {
		t.Errorf("got %v, want a ConnectError of two hosts", err)
	}
}

func TestUnixSocket(t *testing.T) {
	leak.Check(t)
	db := open(t, fmt.Sprintf("host=%s port=%d user=postgres", pair.SocketDir, pair.Primary))
	if inRecovery(t, db) {
		t.Error("got the standby")
	}
}

// The certificate is that of the instance's name, which resolves nowhere; the address is hostaddr's.
func TestVerifyFull(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	dsn := fmt.Sprintf("host=localhost port=%d user=postgres sslmode=verify-full sslrootcert=%s", s.Port(), pair.RootCert)
	db := open(t, dsn)
	var tls bool
	if err := db.QueryRowContext(within(t), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&tls); err != nil || !tls {
		t.Errorf("got %v, %v, want TLS", tls, err)
	}
	wrong := pair.Instances()
	wrong[0].Host = "other.livepg.test"
	s.Set(wrong...)
	other := open(t, dsn)
	if err := other.PingContext(within(t)); err == nil || !strings.Contains(err.Error(), "other.livepg.test") {
		t.Errorf("got %v, want the certificate refused for the other name", err)
	}
	s.Set(pair.Instances()...)
	testLossOf(t, s, db, "SELECT pg_sleep(60)")
}

// A conmgr that is not on a loopback address is not asked by an application that demands TLS: anybody could answer there.
func TestRemoteConmgrIsNotAskedIfTLSIsRequired(t *testing.T) {
	leak.Check(t)
	l, err := net.Listen("tcp", net.JoinHostPort(ownAddress(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first := make(chan []byte, 1)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		b := make([]byte, 64)
		n, _ := nc.Read(b)
		first <- b[:n]
		nc.Write([]byte{'N'})
	}()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	db := open(t, fmt.Sprintf("host=%s port=%s user=postgres sslmode=require", host, port))
	if err := db.PingContext(within(t)); !errors.Is(err, pq.ErrSSLNotSupported) {
		t.Errorf("got %v, want ErrSSLNotSupported", err)
	}
	if got := string(<-first); got != "\x00\x00\x00\x08\x04\xd2\x16\x2f" {
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
	db := open(t, fmt.Sprintf("host=localhost port=%d user=app dbname=postgres sslmode=disable", s.Port()))
	if err := db.PingContext(within(t)); err != nil {
		t.Error(err)
	}
}

// A wrong password is the same everywhere: it ends the walk, and is told in lib/pq's words.
func TestWrongPassword(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	db := open(t, fmt.Sprintf("host=localhost,127.0.0.1 port=%d user=app password=wrong dbname=postgres sslmode=disable", s.Port()))
	err := db.PingContext(within(t))
	var refused *pq.Error
	if !errors.As(err, &refused) || refused.Code != "28P01" {
		t.Errorf("got %v, want 28P01", err)
	}
	if n := len(s.Questions()); n != 1 {
		t.Errorf("conmgr was asked %d times, want once", n)
	}
}

func TestRefusingInstanceIsLeftOut(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	instances := pair.Instances()
	dead := fakeconmgr.Instance{Number: 7, Host: "gone", HostAddr: "127.0.0.1", Port: closedPort(t), Attributes: "standby,read-only"}
	s.Set(append([]fakeconmgr.Instance{dead}, instances...)...)
	db := open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=standby", s.Port()))
	if !inRecovery(t, db) {
		t.Error("got the primary")
	}
	if got := s.Questions(); len(got) != 2 || got[1] != "SHOW TARGET standby EXCEPT 7" {
		t.Errorf("conmgr was asked %q", got)
	}
}

// testLossOf has 200 queries blocked, loses the primary, and promotes the standby in conmgr's eyes.
func testLossOf(t *testing.T, s *fakeconmgr.Server, db *sql.DB, query string) {
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
			_, err := db.ExecContext(ctx, query)
			results <- result{err, time.Now()}
		}()
	}
	testkit.Eventually(t, patience, "blocked queries", func() (bool, string) {
		n := active(t, pair.Primary)
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
		if lost.Instance != 0 || lost.Host != livepg.Name || lost.SQLState != "57P01" || lost.SafeToRetry() || lost.Since.Before(verdict) ||
			!strings.Contains(lost.Reason, "no heartbeat for 2003 ms") {
			t.Fatalf("got %+v", lost)
		}
	}
	t.Logf("%d blocked queries have returned within %v of the verdict", blocked, last)
	testkit.Eventually(t, patience, "the pool", func() (bool, string) {
		n := db.Stats().OpenConnections
		return n == 0, fmt.Sprintf("%d connections", n)
	})
	testkit.Eventually(t, patience, "the backends' end", func() (bool, string) {
		terminate(t)
		n := active(t, pair.Primary)
		return n == 0, fmt.Sprintf("%d queries", n)
	})
}

func TestLossWakesBlockedQueriesAndTheNextGoesElsewhere(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	db := open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=any application_name=shop", s.Port()))
	if inRecovery(t, db) {
		t.Fatal("got the standby first")
	}
	if got := s.Applications(); len(got) != 1 || got[0] != "shop" {
		t.Errorf("conmgr knows the applications %q", got)
	}
	testLossOf(t, s, db, "SELECT pg_sleep(60)")
	if !inRecovery(t, db) {
		t.Error("after the loss of the primary: got it again")
	}
}

// Idle connections that are lost are replaced without the application's noticing.
func TestLossOfIdleConnections(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	db := open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port()))
	db.SetMaxIdleConns(5)
	var wg sync.WaitGroup
	for range 5 {
		c, err := db.Conn(within(t))
		if err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		defer wg.Wait()
		go func() { defer wg.Done(); c.Close() }()
	}
	wg.Wait()
	s.Lose(0, "no heartbeat for 2003 ms")
	testkit.Eventually(t, patience, "the watches' end", func() (bool, string) { return s.Bound(0) == 0, "" })
	for range 7 {
		if !inRecovery(t, db) {
			t.Error("got the lost instance")
		}
	}
}

// In a transaction nothing is repeated. lib/pq's word for "nothing was sent" is ErrBadConn.
func TestLossInTransaction(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	db := open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port()))
	tx, err := db.BeginTx(within(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Lose(0, "no heartbeat for 2003 ms")
	testkit.Eventually(t, patience, "an error in the transaction", func() (bool, string) {
		_, err = tx.Exec("SELECT 1")
		return err != nil, ""
	})
	var lost *driver.LostError
	if !errors.Is(err, sqldriver.ErrBadConn) && !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
	if err := tx.Commit(); err == nil {
		t.Error("the commit on a lost connection succeeded")
	}
}

// Two pools to two instances: each cancel request reaches its own.
func TestCancel(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	for attribute, port := range map[string]int{"primary": pair.Primary, "standby": pair.Standby} {
		db := open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=%s", s.Port(), attribute))
		ctx, cancel := context.WithCancel(within(t))
		failed := make(chan error, 1)
		go func() {
			_, err := db.ExecContext(ctx, "SELECT pg_sleep(60)")
			failed <- err
		}()
		testkit.Eventually(t, patience, "blocked query", func() (bool, string) { return active(t, port) == 1, "" })
		cancel()
		err := <-failed
		var canceled *pq.Error
		if !errors.As(err, &canceled) || canceled.Code != "57014" {
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
		db := open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port()))
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := db.PingContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("connect_timeout, then the next host", func(t *testing.T) {
		db := open(t, fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres sslmode=disable connect_timeout=1", s.Port(), pair.Primary))
		if inRecovery(t, db) {
			t.Error("got the standby")
		}
	})
}

func TestNoTarget(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	s.Set()
	db := open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port()))
	err := db.PingContext(within(t))
	var answer *driver.ConmgrError
	if !errors.As(err, &answer) || !answer.NoTarget() {
		t.Errorf("got %v, want 08001", err)
	}
}

// A conmgr that shuts down says so in its startup; the application gets to see that.
func TestConmgrShutsDown(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	s.Refuse()
	db := open(t, fmt.Sprintf("host=localhost,127.0.0.1 port=%d,%d user=postgres sslmode=disable", s.Port(), pair.Primary))
	if inRecovery(t, db) {
		t.Error("got the standby")
	}
	db = open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port()))
	var refused *driver.ConmgrError
	if err := db.PingContext(within(t)); !errors.As(err, &refused) || refused.SQLState != "57P03" {
		t.Errorf("got %v, want 57P03", err)
	}
}

func TestConmgrCrashes(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	db := open(t, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port()))
	failed := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(within(t), "SELECT pg_sleep(60)")
		failed <- err
	}()
	testkit.Eventually(t, patience, "blocked query", func() (bool, string) { return active(t, pair.Primary) == 1, "" })
	s.Close()
	var lost *driver.LostError
	if err := <-failed; !errors.As(err, &lost) || lost.SQLState != "08006" {
		t.Errorf("got %v", err)
	}
	terminate(t)
}

func TestBadConnString(t *testing.T) {
	for _, dsn := range []string{"host", "target_session_attrs=master", "sslmode=disable client_encoding=latin1", "host=a,b port=1,2,3"} {
		if _, err := pqcm.NewConnector(dsn); err == nil {
			t.Errorf("%q was accepted", dsn)
		}
	}
}

// active counts a server's sleepers, over lib/pq alone.
func active(t *testing.T, port int) (n int) {
	t.Helper()
	admin(t, port, func(db *sql.DB) error {
		return db.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").Scan(&n)
	})
	return n
}

// terminate ends the sleepers, as the terminator worker does.
func terminate(t *testing.T) {
	t.Helper()
	admin(t, pair.Primary, func(db *sql.DB) error {
		_, err := db.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
		return err
	})
}

func admin(t *testing.T, port int, f func(*sql.DB) error) {
	t.Helper()
	db, err := sql.Open("postgres", fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable", port))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := f(db); err != nil {
		t.Fatal(err)
	}
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
