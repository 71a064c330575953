package pgxcm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/driver/internal/suite"
	"github.com/pgwatchdog/watchdog/driver/pgxcm"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const patience = 20 * time.Second // far beyond what anything here takes

func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

var sslModes = []string{"disable", "prefer", "allow", "require"}

func TestPool(t *testing.T) {
	suite.Test(t, pair, suite.Adapter{Open: openPool, SQLState: sqlState, SSLModes: sslModes})
}

// database/sql over pgx, which makes its connections without pgxpool.
func TestStdlib(t *testing.T) {
	suite.Test(t, pair, suite.Adapter{
		Open: func(connString string, most int) (suite.Pool, error) {
			config, err := pgxcm.ParseConfig(connString)
			if err != nil {
				return nil, err
			}
			db := stdlib.OpenDB(*config)
			db.SetMaxOpenConns(most)
			return suite.SQL(db), nil
		},
		SQLState: sqlState, SSLModes: sslModes,
		Untold:    true, // who wants to be takes TestStdlibOverPool's way
		Leftovers: 2,    // database/sql's idle ones: stdlib tells that a connection is closed when it is used next
	})
}

// database/sql over pgxpool, which is told of drains.
func TestStdlibOverPool(t *testing.T) {
	suite.TestDrains(t, pair, suite.Adapter{
		Open: func(connString string, most int) (suite.Pool, error) {
			p, err := openPool(connString, most)
			if err != nil {
				return nil, err
			}
			return overPool{suite.SQL(stdlib.OpenDBFromPool(p.(pool).Pool)), p}, nil
		},
		SQLState: sqlState, SSLModes: sslModes,
	})
}

// overPool leaves idle connections to the pool below.
type overPool struct {
	suite.Pool
	below suite.Pool
}

func (p overPool) Warm(ctx context.Context, n int) error { return p.below.Warm(ctx, n) }
func (p overPool) Connections() int                      { return p.below.Connections() }
func (p overPool) Close()                                { p.Pool.Close(); p.below.Close() }

type pool struct{ *pgxpool.Pool }

func openPool(connString string, most int) (suite.Pool, error) {
	config, err := pgxcm.ParsePoolConfig(connString)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(most)
	p, err := pgxpool.NewWithConfig(context.Background(), config)
	return pool{p}, err
}

func (p pool) Value(ctx context.Context, query string) (v string, err error) {
	err = p.QueryRow(ctx, query).Scan(&v)
	return v, err
}

func (p pool) Begin(ctx context.Context) (suite.Tx, error) {
	t, err := p.Pool.Begin(ctx)
	return tx{t}, err
}

func (p pool) Warm(ctx context.Context, n int) error {
	var all []*pgxpool.Conn
	var err error
	for range n {
		var c *pgxpool.Conn
		if c, err = p.Acquire(ctx); err != nil {
			break
		}
		all = append(all, c)
	}
	for _, c := range all {
		c.Release()
	}
	if err != nil {
		return err
	}
	return testkit.Poll(patience, func() (bool, string) { // it gets them back in the background
		idle := int(p.Stat().IdleConns())
		return idle == n, fmt.Sprintf("%d idle connections, want %d", idle, n)
	})
}

func (p pool) Connections() int { return int(p.Stat().TotalConns()) }

type tx struct{ pgx.Tx }

func (t tx) Value(ctx context.Context, query string) (v string, err error) {
	err = t.QueryRow(ctx, query).Scan(&v)
	return v, err
}

func (t tx) Exec(ctx context.Context, statement string) error {
	_, err := t.Tx.Exec(ctx, statement)
	return err
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func newConmgr(t *testing.T) *scripted.Conmgr {
	t.Helper()
	s, err := scripted.New(pair.Instances()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func parse(t *testing.T, format string, args ...any) *pgx.ConnConfig {
	t.Helper()
	config, err := pgxcm.ParseConfig(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestConfigOfAConnection(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	c, err := pgx.ConnectConfig(within(t), parse(t, "host=localhost port=%d user=postgres sslmode=verify-full sslrootcert=%s", s.Port(), pair.RootCert))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if c := c.Config(); c.Host != livepg.Name || int(c.Port) != pair.Primary {
		t.Errorf("Config says %s:%d, want the instance", c.Host, c.Port)
	}
}

// A password that the application has put into the configuration is not replaced by that of the
// password file.
func TestPasswordOfTheApplication(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	file := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(file, []byte("*:*:*:app:"+livepg.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", file)
	config := parse(t, "host=localhost port=%d user=app dbname=postgres", s.Port())
	config.Password = "set by the application"
	c, err := pgx.ConnectConfig(within(t), config)
	if err == nil {
		c.Close(context.Background())
	}
	if sqlState(err) != "28P01" {
		t.Errorf("got %v, want 28P01", err)
	}
}

// pgx tells that the statement was not sent; the application may repeat it at once.
func TestWatchAndSafeToRetry(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	c, err := pgx.ConnectConfig(within(t), parse(t, "host=localhost port=%d user=postgres", s.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	s.Lose(0)
	select {
	case <-pgxcm.Watch(c.PgConn()).Lost():
	case <-time.After(patience):
		t.Fatal("the loss was not told")
	}
	_, err = c.Exec(within(t), "SELECT 1")
	var lost *driver.LostError
	if !errors.As(err, &lost) || !lost.SafeToRetry() || !pgconn.SafeToRetry(err) {
		t.Errorf("got %v, want a LostError that is safe to retry", err)
	}
	direct, err := pgx.ConnectConfig(within(t), parse(t, "host=127.0.0.1 port=%d user=postgres", pair.Primary))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(context.Background())
	if pgxcm.Watch(direct.PgConn()) != nil {
		t.Error("a server of the connection string has a watch")
	}
}

// The application's own CancelRequest, without the end of a context: the session lives.
func TestCancelRequest(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	for _, host := range []string{fmt.Sprintf("localhost port=%d", s.Port()),
		fmt.Sprintf("%s port=%d", pair.SocketDir, pair.Primary)} {
		c, err := pgx.ConnectConfig(within(t), parse(t, "host=%s user=postgres", host))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(context.Background())
		failed := make(chan error, 1)
		begun := make(chan struct{})
		go func() {
			close(begun)
			_, err := c.Exec(within(t), "SELECT pg_sleep(60)")
			failed <- err
		}()
		<-begun
		for err = nil; ; { // one that comes before the query cancels nothing
			if e := c.PgConn().CancelRequest(within(t)); e != nil {
				t.Fatal(e)
			}
			select {
			case err = <-failed:
			case <-time.After(10 * time.Millisecond):
				continue
			}
			break
		}
		if sqlState(err) != "57014" {
			t.Errorf("%s: got %v, want 57014", host, err)
		}
		var one int
		if err := c.QueryRow(within(t), "SELECT 1").Scan(&one); err != nil {
			t.Errorf("%s: the session after the cancel: %v", host, err)
		}
	}
}

// A context that ends while a conmgr, or an instance, is silent, with pgx's handler that sends
// cancel requests.
func TestCancelRequestWhileConnecting(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	s.Freeze(true)
	config := parse(t, "host=localhost port=%d user=postgres", s.Port())
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		c.Close(context.Background())
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestBadConnString(t *testing.T) {
	for _, s := range []string{"service=x", "sslmode=sometimes"} {
		if _, err := pgxcm.ParseConfig(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
		if _, err := pgxcm.ParsePoolConfig(s); err == nil {
			t.Errorf("%q was accepted for a pool", s)
		}
	}
}

// An error quotes the connection string: without its passwords, whatever quotes they have.
func TestBadConnStringHidesPasswords(t *testing.T) {
	for _, s := range []string{
		"postgresql://app:it%27s%20sesame@localhost/shop?sslmode=sometimes",
		`host=localhost password='it\'s sesame' sslmode=sometimes`,
		"postgresql://app@localhost/shop?sslpassword=it%27s%20sesame&sslmode=sometimes",
	} {
		_, err := pgxcm.ParseConfig(s)
		if err == nil || strings.Contains(fmt.Sprintf("%+v", err), "sesame") || !strings.Contains(err.Error(), "xxxxx") {
			t.Errorf("%s: got %+v", s, err)
		}
	}
}

// A service may tell anything but the hosts, which the core has to know.
func TestService(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pg_service.conf")
	if err := os.WriteFile(file, []byte("[shop]\nhost=db0\ndbname=shop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGSERVICEFILE", file)
	if _, err := pgxcm.ParseConfig("service=shop"); err == nil ||
		!strings.Contains(err.Error(), "a service does not tell the hosts") {
		t.Errorf("got %v", err)
	}
	if c := parse(t, "service=shop host=localhost user=postgres"); c.Database != "shop" || c.Host != "localhost" {
		t.Errorf("got database %q at %q", c.Database, c.Host)
	}
}
