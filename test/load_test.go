package test

// An application with a pool: this test program, run again on a client host. Sixteen clients run
// one short transaction after the other by the Go client; what has failed, how many there were, and
// how long none was committed, is told when the test asks.

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/pgxcm"
	"github.com/pgwatchdog/watchdog/driver/pqcm"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// The variables make this test program a load, with the pool of that name.
const (
	loadVariable     = "WATCHDOG_TEST_LOAD"
	loadPoolVariable = "WATCHDOG_TEST_LOAD_POOL"
)

const (
	loadClients  = 16
	loadInterval = 10 * time.Millisecond // of each client, if the machine has the time
	addOne       = "UPDATE counters SET n = n + 1 WHERE name = $1 AND client = $2"
)

// loadPools run one transaction.
var loadPools = map[string]func(conninfo string) (do func(client int) error, close func(), err error){
	"pgxpool": func(conninfo string) (func(int) error, func(), error) {
		config, err := pgxcm.ParsePoolConfig(conninfo)
		if err != nil {
			return nil, nil, err
		}
		config.MaxConns, config.MinConns = loadClients, loadClients
		pool, err := pgxpool.NewWithConfig(context.Background(), config)
		return func(client int) error {
			tx, err := pool.Begin(context.Background())
			if err != nil {
				return err
			}
			if _, err := tx.Exec(context.Background(), addOne, "pgxpool", client); err != nil {
				return errors.Join(err, tx.Rollback(context.Background()))
			}
			return tx.Commit(context.Background())
		}, func() { pool.Close() }, err
	},
	"database/sql": func(conninfo string) (func(int) error, func(), error) {
		connector, err := pqcm.NewConnector(conninfo)
		if err != nil {
			return nil, nil, err
		}
		db := sql.OpenDB(connector)
		db.SetMaxOpenConns(loadClients)
		db.SetMaxIdleConns(loadClients)
		return func(client int) error {
			tx, err := db.Begin()
			if err != nil {
				return err
			}
			if _, err := tx.Exec(addOne, "database/sql", client); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		}, func() { db.Close() }, nil
	},
}

// loadReport is what has happened since the one before.
type loadReport struct {
	Committed    int
	Failed       int           // transactions, by any error after their begin
	LastFailed   time.Time     // when the last of these to begin began
	NotConnected int           // transactions that could not begin
	Pause        time.Duration // the longest time without a commit
	Slowest      time.Duration // transaction
	Time         time.Duration
	Errors       []string
}

// loadMain runs until its input ends; each line asks for a report.
func loadMain(pool, conninfo string) error {
	do, end, err := loadPools[pool](conninfo)
	if err != nil {
		return err
	}
	defer end()
	l := &loading{begun: time.Now(), last: time.Now()}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for client := range loadClients {
		group.Add(1)
		go func() {
			defer group.Done()
			for pace := time.NewTicker(loadInterval); ; {
				select {
				case <-stop:
					pace.Stop()
					return
				case <-pace.C:
				}
				begun := time.Now()
				l.note(begun, do(client))
			}
		}()
	}
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		if s.Text() == "end" {
			close(stop) // what is under way ends, and counts
			group.Wait()
		}
		if err := json.NewEncoder(os.Stdout).Encode(l.take()); err != nil {
			return err
		}
	}
	return nil
}

type loading struct {
	mu          sync.Mutex
	report      loadReport
	begun, last time.Time // of the report; the last commit
}

func (l *loading) note(begun time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, r := time.Now(), &l.report
	if err == nil {
		r.Committed++
		r.Pause, l.last = max(r.Pause, now.Sub(l.last)), now
		r.Slowest = max(r.Slowest, now.Sub(begun))
		return
	}
	var walk *driver.ConnectError
	var login *pgconn.ConnectError
	if errors.As(err, &walk) || errors.As(err, &login) {
		r.NotConnected++
	} else {
		r.Failed++
		if begun.After(r.LastFailed) {
			r.LastFailed = begun
		}
	}
	if len(r.Errors) < 2*loadClients {
		r.Errors = append(r.Errors, err.Error())
	}
}

func (l *loading) take() loadReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, r := time.Now(), l.report
	r.Pause, r.Time = max(r.Pause, now.Sub(l.last)), now.Sub(l.begun)
	l.report, l.begun, l.last = loadReport{}, now, now
	return r
}

// load is one that runs.
type load struct {
	pool  string
	in    io.WriteCloser
	out   *json.Decoder
	total int // committed
}

// startLoads starts one of each kind on a client host; they end with the test. The table counters
// has a row for each of their clients.
func startLoads(t *testing.T, from *testnet.Host, cm *cmtest.Conmgr, options string) (all []*load) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	conninfo := fmt.Sprintf("host=127.0.0.1 port=%d target_session_attrs=read-write user=postgres dbname=postgres "+
		"sslmode=disable options='%s'", cm.Addr().Port(), options)
	for _, pool := range []string{"pgxpool", "database/sql"} {
		cmd := from.Command(context.Background(), self)
		cmd.Env = append(os.Environ(), "PGCMUSER=*", loadVariable+"="+conninfo, loadPoolVariable+"="+pool)
		cmd.Stderr = os.Stderr
		l := &load{pool: pool}
		if l.in, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		l.out = json.NewDecoder(out)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			l.in.Close()
			time.AfterFunc(patience, func() { cmd.Process.Kill() })
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s: %v", l.pool, err)
			}
		})
		all = append(all, l)
	}
	return all
}

// report asks for one; the last one ends the load.
func (l *load) report(t *testing.T, last bool) (r loadReport) {
	t.Helper()
	if _, err := io.WriteString(l.in, map[bool]string{false: "report\n", true: "end\n"}[last]); err != nil {
		t.Fatal(err)
	}
	if err := l.out.Decode(&r); err != nil {
		t.Fatalf("%s: %v", l.pool, err)
	}
	l.total += r.Committed
	return r
}

func (r loadReport) String() string {
	return fmt.Sprintf("%d transactions (%.0f/s), %d failed, %d without a connection, longest pause %v, slowest %v",
		r.Committed, float64(r.Committed)/r.Time.Seconds(), r.Failed, r.NotConnected, r.Pause.Round(time.Millisecond),
		r.Slowest.Round(time.Millisecond))
}

// counted is what the server has of a load's transactions.
func (w *world) counted(l *load) int {
	w.Helper()
	n, err := strconv.Atoi(w.primary.Value("SELECT sum(n) FROM counters WHERE name = $1", l.pool))
	if err != nil {
		w.Fatal(err)
	}
	return n
}
