package main

// What the extension costs a connect: processor time of the server, with it and without.

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	withTable    = "with watchdog"
	withoutTable = "without"

	tableCPUName   = "processor time of the server a connect"
	tableRatioName = "connects for the same processor time, with and without, of neighbours"
)

// withChildren is the processor time of a process, and of its children that have ended.
func (b *bench) withChildren(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatalf("%v", err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	ticks := 0
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatalf("process %d: %s", pid, text)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

func (b *bench) children(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		b.Fatalf("%v", err)
	}
	return len(strings.Fields(string(text)))
}

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
		servers := map[string]*pgtest.Cluster{
			withoutTable: pgtest.New(b, pgtest.Host(db), pgtest.Named("plain")),
			withTable:    pgtest.New(b, pgtest.Host(db), pgtest.Named("ours"), pgtest.OnPort(5433), pgtest.Watchdog()),
		}
		measure := func(series string, number int) float64 {
			server := servers[series]
			pid := server.PostmasterPid()
			rest := b.children(pid)
			used := b.withChildren(pid)
			for range number {
				b.connectOnce(client, server)
			}
			testkit.Eventually(b, patience, "all sessions have ended", func() (bool, string) { return b.children(pid) <= rest, "" })
			return float64(b.withChildren(pid)-used) / float64(number)
		}
		number := Pick(b, 500, 50)
		measure(withTable, number)
		measure(withoutTable, number)
		for round := range Pick(b, 10, 2) {
			order := []string{withoutTable, withTable}
			if round%2 == 1 {
				order = []string{withTable, withoutTable}
			}
			each := map[string]float64{}
			for _, series := range order {
				each[series] = measure(series, number)
				b.AddTime(tableCPUName, series, "", time.Duration(each[series]))
			}
			b.Add(tableRatioName, withTable, "", "", each[withoutTable]/each[withTable])
		}
	},
	show: func(r *results, p *page) {
		p.Para("Sessions that begin and end, one after the other, by TCP: the processor time of the postmaster and of the sessions that have ended. The server with the extension writes a row of its table of sessions for each, and looks at the verdicts. The ratio is that of two series of connects that follow each other, in turn.")
		with, without := r.find(p.key, tableCPUName, withTable, ""), r.find(p.key, tableCPUName, withoutTable, "")
		p.Table([]string{"", "processor time a connect, ms"}, [][]string{{withoutTable, without.spread()}, {withTable, with.spread()}})
		ratio := r.find(p.key, tableRatioName, withTable, "")
		p.Target("connects with the table of sessions at least 0.99 of those without", fmt.Sprintf("%.3f (%.3f to %.3f)", ratio.median(),
			ratio.quantile(0.25), ratio.quantile(0.75)), ratio.median() >= 0.99)
	},
}
