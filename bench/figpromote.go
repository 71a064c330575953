package main

// From the promotion of a standby to the first row that a reconnecting application has written
// there.

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/driver/pqcm"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	promoteName = "from the call of pg_promote to the first row"
	afterName   = "after the server's own first row"

	serverItself = "the server itself, by its Unix socket (floor)"
	conmgrKnows  = "conmgr logs that it is the primary"
	insert       = "INSERT INTO written VALUES (1)"
	promoteLimit = 30 * time.Second
	writePause   = 5 * time.Millisecond // of an application after a failed attempt
)

var promoteSeries = []string{ours, oursGo, oursRelay, multiHost, haproxyTunedS, haproxySampleS}

// batch is rounds that are made ready at the same time, promote in turn, and wait together for what
// is slow.
type batch struct {
	ready sync.WaitGroup
	turn  sync.Mutex
}

// pair is a client host, a primary with a table to write to, and its standby; HAProxy can ask both.
func (b *bench) pair() (client *testnet.Host, primary, standby *pgtest.Cluster) {
	net := testnet.New(b)
	client = net.Host("client")
	primary = pgtest.New(b, pgtest.Host(net.Host("db1")), pgtest.Watchdog())
	primary.Exec("CREATE TABLE written (a int)")
	standby = primary.Standby("standby", pgtest.Host(net.Host("db2")))
	b.Rest(primary)
	b.Rest(standby)
	return client, primary, standby
}

// promotion is one round: a pair of servers, a client host with an application of each kind, a
// switchover.
func (b *bench) promotion(of *batch) {
	ready := sync.OnceFunc(of.ready.Done)
	b.Cleanup(ready) // if it fails
	client, primary, standby := b.pair()
	cm := cmtest.Start(b, client, cmtest.Config{Clusters: []*pgtest.Cluster{primary, standby},
		Extra: fmt.Sprintf("relay_port_read_write = %d\n", relayPort)})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	// the health checks of HAProxy are at any point when the server stops
	b.pause(testnet.Monotonic() + rand.N(3*time.Second))
	const sample, tuned = haproxyPort, haproxyPort + 100
	b.HAProxy(client, sample, haproxySample, primary, standby)
	b.HAProxy(client, tuned, haproxyTuned, primary, standby)
	b.settled(client, primary, sample)
	b.settled(client, primary, tuned)

	const readWrite = " target_session_attrs=read-write"
	events := make(chan event, 3*len(promoteSeries))
	app := func(series, dsn string, env ...string) {
		b.App(client, env, events, "write", series, dsn, fmt.Sprint(writePause.Milliseconds()))
	}
	app(ours, plain("127.0.0.1", conmgrPort)+readWrite, b.Front()...)
	app(oursRelay, plain("127.0.0.1", relayPort))
	app(multiHost, plain(fmt.Sprintf("%s,%s", primary.Addr(), standby.Addr()), pgtest.Port)+readWrite)
	app(haproxySampleS, plain("127.0.0.1", sample))
	app(haproxyTunedS, plain("127.0.0.1", tuned))
	b.goWriter(client, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable",
		conmgrPort)+readWrite, events)
	for range promoteSeries {
		if e, ok := b.next(events, testnet.Monotonic()+patience); !ok || e.what != "ready" {
			b.Fatalf("an application could not write, or has lost its connection: %v", e)
		}
	}
	admin := standby.Admin()
	ctx, stop := context.WithCancel(b.Context())
	b.Cleanup(func() { stop(); admin.Close() })
	admin.SetMaxIdleConns(2)
	if err := admin.Ping(); err != nil {
		b.Fatalf("%v", err)
	}

	ready()
	of.ready.Wait()
	of.turn.Lock()
	yield := sync.OnceFunc(of.turn.Unlock)
	defer yield()
	mark := cm.Mark()
	primary.Stop(pgtest.Immediate)
	b.pause(testnet.Monotonic() + rand.N(100*time.Millisecond)) // of the applications' attempts
	own := make(chan time.Duration, 1)
	go func() {
		for {
			if _, err := admin.ExecContext(ctx, insert); err == nil || ctx.Err() != nil {
				own <- testnet.Monotonic()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	start := testnet.Monotonic()
	if _, err := admin.ExecContext(ctx, "SELECT pg_promote(false)"); err != nil {
		b.Fatalf("pg_promote: %v", err)
	}
	floor := <-own
	b.AddTime(promoteName, serverItself, "", floor-start)
	known := cm.WaitLog(mark, fmt.Sprintf(`host='%s'.* is changed from 'standby,read-only' to 'primary,read-write'`,
		standby.Addr()), patience).At
	b.AddTime(promoteName, conmgrKnows, "", known-start)
	b.AddTime(afterName, conmgrKnows, "", known-floor)
	written := map[string]time.Duration{}
	for len(written) < len(promoteSeries) {
		e, ok := b.next(events, start+promoteLimit)
		if !ok {
			break
		}
		if e.what == "written" {
			written[e.who] = e.at
		}
		if len(written) == len(promoteSeries)-2 {
			yield() // only the applications behind HAProxy are left
		}
	}
	for _, series := range promoteSeries {
		if at, ok := written[series]; ok {
			b.AddTime(promoteName, series, "", at-start)
			b.AddTime(afterName, series, "", at-floor)
		} else {
			b.AddAtLeast(promoteName, series, "", promoteLimit)
			b.AddAtLeast(afterName, series, "", promoteLimit-(floor-start))
		}
	}
}

// settled waits until HAProxy has seen which of its servers is the primary: it takes turns among
// those that it thinks are well.
func (b *bench) settled(client *testnet.Host, primary *pgtest.Cluster, port int) {
	db := primary.OpenAt(client, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable",
		port))
	defer db.Close()
	db.SetMaxIdleConns(0)
	testkit.Eventually(b, patience, "HAProxy knows the primary", func() (bool, string) {
		for range 4 {
			var standby bool
			if err := db.QueryRow("SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
				return false, fmt.Sprint(standby, err)
			}
		}
		return true, ""
	})
}

// goWriter is write.c in Go, on a goroutine of this process.
func (b *bench) goWriter(h *testnet.Host, dsn string, to chan<- event) {
	connector, err := pqcm.NewConnector(dsn)
	if err != nil {
		b.Fatalf("%v", err)
	}
	ctx, stop := context.WithCancel(b.Context())
	b.Cleanup(stop)
	write := func() driver.Conn {
		for ctx.Err() == nil {
			conn, err := connectIn(h, connector)
			if err == nil {
				if err = execute(conn, insert); err == nil {
					return conn
				}
				conn.Close()
			}
			time.Sleep(writePause)
		}
		return nil
	}
	go func() {
		for _, what := range []string{"ready", "written"} {
			conn := write()
			if conn == nil {
				return
			}
			to <- event{oursGo, what, testnet.Monotonic()}
			if what == "ready" {
				_ = execute(conn, "SELECT pg_sleep(600)")
			}
			conn.Close()
		}
	}()
}

var figurePromote = figure{
	key:   "promote",
	title: "Promotion",
	run: func(b *bench) {
		pgtest.New(b, pgtest.Stopped(), pgtest.Watchdog()) // keeps the installation for the rounds
		rounds := Pick(b, 3, 1)
		for range Pick(b, 10, 1) {
			of := &batch{}
			of.ready.Add(rounds)
			b.Parallel(rounds, rounds, func(int) { b.Scope(func(b *bench) { b.promotion(of) }) })
		}
	},
	show: func(r *results, p *page) {
		p.Para("A primary, its standby, and a client host with an application of each kind that waits in a query. The primary is stopped (immediate); up to 100 ms later, at random, the standby is promoted. Each application, whose connection is broken by the stop, "+
			"tries to connect and insert a row, again and again, with %v of pause after a failure, until it has succeeded. conmgr and watchdog are at their defaults; HAProxy asks each host's REST server, as with Patroni. "+
			"Milliseconds from the call of pg_promote; and how much later than the promoted server itself took a row by its Unix socket, which is what nobody can do better.", writePause)
		var rows [][]string
		for _, s := range append([]string{serverItself, conmgrKnows}, promoteSeries...) {
			c, after := r.find(p.key, promoteName, s, ""), r.find(p.key, afterName, s, "")
			if c == nil {
				continue
			}
			row := []string{s, fmt.Sprint(len(c.values)), c.spread(), c.at(1), "", "", ""}
			if after != nil {
				row = append(row[:4], after.spread(), after.at(0.99), after.at(1))
			}
			rows = append(rows, row)
		}
		p.Table([]string{"", "n", "from the call: median", "longest", afterName + ": median", "p99", "longest"}, rows)
		for _, s := range []string{ours, oursGo, oursRelay} {
			if c := r.find(p.key, afterName, s, ""); c != nil {
				p.Target(s+": within 300 ms of the promoted server's own first row (p99)", c.at(0.99)+" ms",
					c.quantile(0.99) <= 300)
			}
		}
	},
}
