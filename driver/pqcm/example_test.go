package pqcm_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/pqcm"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

// One line is new: sql.OpenDB(connector) in place of sql.Open("postgres", ...).
func ExampleNewConnector() {
	conmgr, err := scripted.New(pair.Instances()...) // for the example; otherwise it is there: cm_ctl start
	if err != nil {
		log.Fatal(err)
	}
	defer conmgr.Close()

	connector, err := pqcm.NewConnector(fmt.Sprintf(
		"host=localhost port=%d target_session_attrs=prefer-standby user=postgres sslmode=disable", conmgr.Port()))
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	query := func() {
		var standby bool
		err := db.QueryRow("SELECT pg_is_in_recovery()").Scan(&standby)
		var lost *driver.LostError
		switch {
		case errors.As(err, &lost):
			fmt.Println(lost, "safe to retry:", lost.SafeToRetry())
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println("on a standby:", standby)
		}
	}
	query()
	conmgr.Lose(1)
	db.SetMaxIdleConns(0) // in the example: the verdict needs some microseconds to get here
	query()
	// Output:
	// on a standby: true
	// on a standby: false
}

// transaction repeats a transaction as a whole, on another connection, when its instance is lost,
// for as long as the context allows.
func transaction(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		committing, err := once(ctx, db, f)
		var lost *driver.LostError
		var answer *driver.ConmgrError
		switch {
		case errors.Is(err, sqldriver.ErrBadConn): // lost before anything of the statement was sent
		case errors.As(err, &lost) && !committing: // after a lost COMMIT, nobody knows whether it took effect
		case errors.As(err, &answer) && answer.NoTarget(): // nobody has been promoted yet
		default:
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

func once(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) (committing bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback() // does nothing after Commit
	if err := f(tx); err != nil {
		return false, err
	}
	return true, tx.Commit()
}

// A transaction that outlives the loss of its instance.
func ExampleNewConnector_transaction() {
	conmgr, err := scripted.New(pair.Instances()...) // for the example; otherwise it is there: cm_ctl start
	if err != nil {
		log.Fatal(err)
	}
	defer conmgr.Close()
	connector, err := pqcm.NewConnector(fmt.Sprintf(
		"host=localhost port=%d target_session_attrs=read-write user=postgres sslmode=disable", conmgr.Port()))
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	attempts := 0
	err = transaction(ctx, db, func(tx *sql.Tx) error {
		attempts++
		if attempts == 1 {
			go func() {
				conmgr.Lose(0)
				promoted := pair.Instances()[0]
				promoted.Number = 2
				conmgr.Set(promoted)
			}()
			_, err := tx.ExecContext(ctx, "SELECT pg_sleep(60)")
			return err
		}
		_, err := tx.ExecContext(ctx, "CREATE TEMPORARY TABLE t ()")
		return err
	})
	fmt.Println(attempts > 1, err)
	// Output: true <nil>
}
