package pqcm_test

import (
	"database/sql"
	"errors"
	"fmt"
	"log"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/internal/fakeconmgr"
	"github.com/pgwatchdog/watchdog/driver/pqcm"
)

// One line is new: sql.OpenDB(connector) in place of sql.Open("postgres", ...).
func ExampleNewConnector() {
	conmgr, err := fakeconmgr.New(pair.Instances()...) // for the example; otherwise it is there: cm_ctl start
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
	conmgr.Lose(1, "no heartbeat for 2003 ms")
	db.SetMaxIdleConns(0) // in the example: the verdict needs some microseconds to get here
	query()
	// Output:
	// on a standby: true
	// on a standby: false
}
