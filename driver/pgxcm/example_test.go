package pgxcm_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/pgxcm"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

// One line is new: pgxcm.ParsePoolConfig in place of pgxpool.ParseConfig.
func ExampleParsePoolConfig() {
	conmgr, err := scripted.New(pair.Instances()...) // for the example; otherwise it is there: cm_ctl start
	if err != nil {
		log.Fatal(err)
	}
	defer conmgr.Close()
	ctx := context.Background()

	config, err := pgxcm.ParsePoolConfig(fmt.Sprintf("host=localhost port=%d target_session_attrs=primary user=postgres", conmgr.Port()))
	if err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	conn, err := pool.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Release()
	fmt.Println("connected to", conn.Conn().Config().Host)

	go conmgr.Lose(0)
	_, err = conn.Exec(ctx, "SELECT pg_sleep(60)")
	var lost *driver.LostError
	if errors.As(err, &lost) {
		fmt.Printf("lost instance %d, %s\n", lost.Instance, lost.Host)
	}
	// Output:
	// connected to db.livepg.test
	// lost instance 0, db.livepg.test
}
