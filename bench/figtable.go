package main

// What the extension costs a connect: processor time of the server, with it and without.

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	withTable    = "with watchdog"
	withoutTable = "without"
	withOther    = "with another library: auth_delay, of 0 ms"

	tableCPUName   = "processor time of the server a connect"
	tableFaultName = "page faults of the server a connect"
	tableRatioName = "connects for the same processor time, with and without, of neighbours"
)

var tableSeries = []string{withoutTable, withOther, withTable}

// costs are of a connect: nanoseconds, and page faults.
type costs struct{ used, faults float64 }

// connectOnce begins a session, and ends it when it could be used.
func (b *bench) connectOnce(client *testnet.Host, server *pgtest.Cluster) {
	conn, err := client.Dialer().DialContext(context.Background(), "tcp", fmt.Sprintf("%s:%d", server.Addr(), server.Port))
	if err != nil {
		b.Fatalf("%v", err)
	}
	defer conn.Close()
	f := pgwire.NewFrontend(conn, conn, 1<<16, 1<<20)
	err = f.Startup(map[string]string{"user": "postgres", "database": "postgres"})
	for kind := byte(0); err == nil && kind != 'Z'; { // ReadyForQuery
		kind, _, err = f.Receive()
	}
	if err == nil {
		err = f.Terminate()
	}
	if err != nil {
		b.Fatalf("%v", err)
	}
	_, _ = io.Copy(io.Discard, conn) // until the session has ended
}

var figureTable = figure{
	key:   "table",
	title: "What a connect costs the server",
	run: func(b *bench) {
		net := testnet.New(b)
		db, client := net.Host("db"), net.Host("client")
		quiet := pgtest.Set("autovacuum", "off") // whose workers end, and would be counted
		servers := map[string]*pgtest.Cluster{
			withoutTable: pgtest.New(b, pgtest.Host(db), pgtest.Named("plain"), pgtest.Stopped(), quiet),
			withOther: pgtest.New(b, pgtest.Host(db), pgtest.Named("other"), pgtest.Stopped(), quiet, pgtest.OnPort(5434),
				pgtest.Set("shared_preload_libraries", "auth_delay"), pgtest.Set("auth_delay.milliseconds", "0")),
			withTable: pgtest.New(b, pgtest.Host(db), pgtest.Named("ours"), pgtest.Stopped(), quiet, pgtest.OnPort(5433), pgtest.Watchdog()),
		}
		for range Pick(b, 20, 2) {
			each := b.connectCosts(client, servers, Pick(b, 300, 30))
			for _, series := range tableSeries {
				b.AddTime(tableCPUName, series, "", time.Duration(each[series].used))
				b.Add(tableFaultName, series, "", "", each[series].faults)
				b.Add(tableRatioName, series, "", "", each[withoutTable].used/each[series].used)
			}
		}
	},
	show: func(r *results, p *page) {
		p.Para("Sessions that begin and end by TCP, one after the other, with each of three servers in turn: the processor time of the postmaster and of the sessions that have ended. The server with the extension writes a row of its table of sessions for each, and looks at the verdicts. A library that does next to nothing is there to tell what any costs. " +
			"Each ratio is of servers that have just started, over as many connects to each: where the kernel puts what a postmaster has loaded is worth a per cent or two, for as long as that one lives. Page faults, which most of a session's start is made of, are counted, and have no noise.")
		var rows [][]string
		for _, series := range tableSeries {
			rows = append(rows, []string{series, r.find(p.key, tableCPUName, series, "").spread(), r.find(p.key, tableFaultName, series, "").spread(),
				r.find(p.key, tableRatioName, series, "").confidence()})
		}
		p.Table([]string{"", "processor time a connect, ms", "page faults a connect", "connects, relative to without: median (95 % confidence)"}, rows)
		ratio := r.find(p.key, tableRatioName, withTable, "")
		p.Target("connects with the table of sessions at least 0.99 of those without", ratio.confidence(), ratio.median() >= 0.99)
	},
}

// connectCosts starts the servers, and is what a connect takes each of them.
func (b *bench) connectCosts(client *testnet.Host, servers map[string]*pgtest.Cluster, number int) map[string]costs {
	for _, s := range servers {
		s.Start()
		defer s.Stop(pgtest.Fast)
		for range 20 {
			b.connectOnce(client, s)
		}
	}
	before, rest := map[string]costs{}, map[string]int{}
	for series, s := range servers {
		pid := s.PostmasterPid()
		b.sessionsGone(pid)
		rest[series] = len(b.children(pid))
		before[series] = costs{float64(b.withChildren(pid)), b.faultsWithChildren(pid)}
	}
	for i := range number {
		for j := range tableSeries {
			b.connectOnce(client, servers[tableSeries[(i+j)%len(tableSeries)]])
		}
	}
	each := map[string]costs{}
	for series, s := range servers {
		pid := s.PostmasterPid()
		b.sessionsEnded(pid, rest[series])
		each[series] = costs{(float64(b.withChildren(pid)) - before[series].used) / float64(number),
			(b.faultsWithChildren(pid) - before[series].faults) / float64(number)}
	}
	return each
}

// sessionsGone waits until no child of a postmaster has ended for some time, nor has it done anything.
func (b *bench) sessionsGone(pid int) {
	last, since := -1.0, time.Now()
	testkit.Eventually(b, patience, "the sessions before have ended", func() (bool, string) {
		if n := b.faultsWithChildren(pid); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond, ""
	})
}
