package main

// A planned switchover while applications write: how long nobody can, and what fails.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/driver/pqcm"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	poolWriters = 8                    // of each pool
	poolPause   = 5 * time.Millisecond // of a writer, after a transaction and after a failure

	downName    = "from the stop to the promoted server's own first row"
	pauseName   = "longest time without a commit"
	beyondName  = "longer than the server itself"
	brokenName  = "transactions that failed"
	refusedName = "transactions that could not begin"
	commitsName = "commits"

	oursPool      = "ours: database/sql with pqcm; drained"
	bouncerPaused = "PgBouncer, transaction mode; PAUSE and RESUME"
	haproxyFast   = "HAProxy, tuned; stopped (fast)"
)

var poolSeries = []string{oursPool, bouncerPaused, haproxyFast}

// pool is an application: writers that share a database/sql pool.
type pool struct {
	db *sql.DB

	mu                       sync.Mutex
	last, longest            time.Duration // commit, and the longest time between two
	commits, broken, refused int
}

// write commits transactions of two statements until ctx ends.
func (p *pool) write(ctx context.Context) {
	for ctx.Err() == nil {
		begun, err := p.transact(ctx)
		p.mu.Lock()
		now := testnet.Monotonic()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			p.longest, p.last = max(p.longest, now-p.last), now
			p.commits++
		case begun:
			p.broken++
		default:
			p.refused++
		}
		p.mu.Unlock()
		time.Sleep(poolPause)
	}
}

func (p *pool) transact(ctx context.Context) (begun bool, err error) {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	for range 2 {
		if _, err := tx.Exec(insert); err != nil {
			_ = tx.Rollback()
			return true, err
		}
	}
	return true, tx.Commit()
}

// begin counts anew.
func (p *pool) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.longest, p.commits, p.broken, p.refused = testnet.Monotonic(), 0, 0, 0, 0
}

// since tells whether there was a commit after a time.
func (p *pool) since(at time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last > at
}

// inHost makes a connector connect from a host.
type inHost struct {
	driver.Connector
	host *testnet.Host
}

func (c inHost) Connect(context.Context) (driver.Conn, error) { return connectIn(c.host, c.Connector) }

// pool starts the writers of a series.
func (b *bench) pool(connector driver.Connector) *pool {
	p := &pool{db: sql.OpenDB(connector)}
	p.db.SetMaxOpenConns(poolWriters)
	p.db.SetMaxIdleConns(poolWriters)
	ctx, stop := context.WithCancel(b.Context())
	var ended sync.WaitGroup
	for range poolWriters {
		ended.Go(func() { p.write(ctx) })
	}
	b.Cleanup(func() { stop(); p.db.Close(); ended.Wait() })
	return p
}

// pqIn is lib/pq, from a host.
func (b *bench) pqIn(h *testnet.Host, port int, database string) *pq.Connector {
	c, err := pq.NewConnector(fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=%s sslmode=disable", port, database))
	if err != nil {
		b.Fatalf("%v", err)
	}
	c.Dialer(h.Dialer())
	return c
}

// switchover is one round: a pair of servers, a client host with a pool of each kind.
func (b *bench) switchover() {
	client, primary, standby := b.pair()
	cm := cmtest.Start(b, client, cmtest.Config{Clusters: []*pgtest.Cluster{primary, standby}, Extra: "target_wait = 30s\n"})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	b.HAProxy(client, haproxyPort, haproxyTuned, primary, standby)
	b.settled(client, primary, haproxyPort)
	_, lead := b.PgBouncer(client, primary, bouncerTransactions)
	bouncer := sql.OpenDB(b.pqIn(client, pgbouncerPort, "pgbouncer"))
	b.Cleanup(func() { bouncer.Close() })
	ours, err := pqcm.NewConnector(fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable "+
		"target_session_attrs=read-write", conmgrPort))
	if err != nil {
		b.Fatalf("%v", err)
	}
	pools := map[string]*pool{
		oursPool:      b.pool(inHost{ours, client}),
		bouncerPaused: b.pool(b.pqIn(client, pgbouncerPort, "postgres")),
		haproxyFast:   b.pool(b.pqIn(client, haproxyPort, "postgres")),
	}
	all := func(what string, at time.Duration) {
		testkit.Eventually(b, patience, what, func() (bool, string) {
			for series, p := range pools {
				if !p.since(at) {
					return false, series + " has not"
				}
			}
			return true, ""
		})
	}
	b.pause(testnet.Monotonic() + time.Second)
	all("all write", testnet.Monotonic())
	for _, p := range pools {
		p.begin()
	}
	stopped, floor := b.switchOver(cm, bouncer, lead, primary, standby)
	all("all write again", floor)
	b.pause(testnet.Monotonic() + time.Second)
	b.AddTime(downName, serverItself, "", floor-stopped)
	for _, series := range poolSeries {
		p := pools[series]
		p.mu.Lock()
		b.AddTime(pauseName, series, "", p.longest)
		b.AddTime(beyondName, series, "", p.longest-(floor-stopped))
		b.Add(brokenName, series, "", "", float64(p.broken))
		b.Add(refusedName, series, "", "", float64(p.refused))
		b.Add(commitsName, series, "", "", float64(p.commits))
		p.mu.Unlock()
	}
}

// switchOver does what an administrator does: drain and pause, stop, promote, resume. It returns when
// the stop began, and when the new primary had a row.
func (b *bench) switchOver(cm *cmtest.Conmgr, bouncer *sql.DB, lead func(*pgtest.Cluster), primary, standby *pgtest.Cluster) (
	stopped, floor time.Duration) {
	console, admin := cm.Console(), standby.Admin()
	defer console.Close()
	defer admin.Close()
	must := func(db *sql.DB, statement string) {
		if err := execDB(b.Context(), db, statement); err != nil {
			b.Fatalf("%s: %v", statement, err)
		}
	}
	if err := admin.Ping(); err != nil {
		b.Fatalf("%v", err)
	}
	paused := make(chan error, 1)
	go func() { paused <- execDB(b.Context(), bouncer, "PAUSE postgres") }()
	must(console, "DRAIN INSTANCE 0")
	testkit.Eventually(b, patience, "nobody is bound to the primary", func() (bool, string) {
		for _, row := range cm.Show("SHOW INSTANCES") {
			if row["instance"] == "0" {
				n, err := strconv.Atoi(row["bound"])
				return err == nil && n == 0, row["bound"] + " are"
			}
		}
		return false, "it is not there"
	})
	if err := <-paused; err != nil {
		b.Fatalf("PAUSE: %v", err)
	}
	stopped = testnet.Monotonic()
	primary.Stop(pgtest.Fast)
	must(admin, "SELECT pg_promote(false)") // which would look every 100 ms
	for b.Context().Err() == nil && execDB(b.Context(), admin, insert) != nil {
		time.Sleep(time.Millisecond)
	}
	floor = testnet.Monotonic()
	lead(standby)
	must(bouncer, "RELOAD")
	must(bouncer, "RESUME postgres")
	return stopped, floor
}

func execDB(ctx context.Context, db *sql.DB, statement string) error {
	_, err := db.ExecContext(ctx, statement)
	return err
}

var figureSwitchover = figure{
	key:   "switchover",
	title: "Planned switchover",
	run: func(b *bench) {
		pgtest.New(b, pgtest.Stopped(), pgtest.Watchdog()) // keeps the installation for the rounds
		for range Pick(b, 10, 1) {
			b.Scope(func(b *bench) { b.switchover() })
		}
	},
	show: func(r *results, p *page) {
		down := r.find(p.key, downName, serverItself, "")
		if down == nil {
			return
		}
		p.Para("A primary, its standby, and a client host on which three applications write at the same time, each by %d goroutines that share a pool of as many connections; a transaction has two statements, with %v of pause after it. "+
			"Then the primary is drained by conmgr (`DRAIN INSTANCE`, as `cm_ctl drain` does it) and PgBouncer told to PAUSE; when nobody is bound to it and PAUSE has returned, it is stopped (fast) and the standby promoted, "+
			"and PgBouncer, with the new address, told to RELOAD and RESUME. HAProxy asks each host's REST server, as with Patroni. %d switchovers; the servers themselves took %s ms from the stop to the first row of the new primary. "+
			"Milliseconds.", poolWriters, poolPause, len(down.values), down.spread())
		var rows [][]string
		count := func(n int) string { return thousands(int64(n)) }
		sum := func(what, series string) (n int) {
			if c := r.find(p.key, what, series, ""); c != nil {
				for _, v := range c.values {
					n += int(v)
				}
			}
			return n
		}
		for _, s := range poolSeries {
			c := r.find(p.key, pauseName, s, "")
			if c == nil {
				continue
			}
			beyond := r.find(p.key, beyondName, s, "")
			rows = append(rows, []string{s, c.spread(), c.at(1), beyond.spread(), beyond.at(1),
				count(sum(brokenName, s)), count(sum(refusedName, s)), count(sum(commitsName, s))})
		}
		p.Table([]string{"", pauseName + ": median", "longest", beyondName + ": median", "longest", brokenName, refusedName, commitsName}, rows)
		if c := r.find(p.key, beyondName, oursPool, ""); c != nil {
			p.Target("longest pause at most that of the servers + 100 ms", "+"+c.at(1)+" ms", c.max() <= 100)
			failed := sum(brokenName, oursPool) + sum(refusedName, oursPool)
			p.Target("no transaction fails", count(failed), failed == 0)
		}
	},
}
