package pgxcm_test

// What pgx makes of a connection that breaks while a statement without arguments, or a batch, is
// under way: nothing of it is repeated. Runs against the pair; blocks on the servers.

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	cmdriver "github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const sleepLong = "SELECT pg_sleep(60)"

// sent holds an error to what is known: the statement was sent, and so is not safe to repeat.
func sent(t *testing.T, how string, err error) {
	t.Helper()
	if err == nil || pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, pgconn.ErrConnClosed) {
		t.Errorf("%s: got %T %v (safe to retry: %v)", how, err, err, pgconn.SafeToRetry(err))
	}
}

func sleepers(t *testing.T) (n int) {
	t.Helper()
	c, err := pgx.ConnectConfig(within(t), parse(t, "host=127.0.0.1 port=%d user=postgres", pair.Primary))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	err = c.QueryRow(within(t), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func endSleepers(t *testing.T) {
	t.Helper()
	c, err := pgx.ConnectConfig(within(t), parse(t, "host=127.0.0.1 port=%d user=postgres", pair.Primary))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	_, err = c.Exec(within(t), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the end of the queries", func() (bool, string) {
		n := sleepers(t)
		return n == 0, fmt.Sprintf("%d queries", n)
	})
}

func TestLossOfWhatIsUnderWay(t *testing.T) {
	batch := &pgx.Batch{}
	batch.Queue("SELECT 1")
	batch.Queue(sleepLong)
	for name, run := range map[string]func(context.Context, *pgx.ConnConfig) error{
		"Exec": func(ctx context.Context, c *pgx.ConnConfig) error {
			conn, err := pgx.ConnectConfig(ctx, c)
			if err != nil {
				return err
			}
			defer conn.Close(context.Background())
			_, err = conn.Exec(ctx, sleepLong)
			return err
		},
		"Batch": func(ctx context.Context, c *pgx.ConnConfig) error {
			conn, err := pgx.ConnectConfig(ctx, c)
			if err != nil {
				return err
			}
			defer conn.Close(context.Background())
			return conn.SendBatch(ctx, batch).Close()
		},
		"database/sql": func(ctx context.Context, c *pgx.ConnConfig) error {
			db := stdlib.OpenDB(*c)
			defer db.Close()
			_, err := db.ExecContext(ctx, sleepLong)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			s := newConmgr(t)
			failed := make(chan error, 1)
			go func() { failed <- run(within(t), parse(t, "host=localhost port=%d user=postgres", s.Port())) }()
			testkit.Eventually(t, patience, "the blocked query", func() (bool, string) {
				n := sleepers(t)
				return n == 1, fmt.Sprintf("%d queries", n)
			})
			s.Lose(0)
			err := <-failed
			var lost *cmdriver.LostError
			if !errors.As(err, &lost) || lost.SafeToRetry() {
				t.Errorf("got %T %v, want a LostError", err, err)
			}
			sent(t, name, err)
			endSleepers(t)
		})
	}
}
