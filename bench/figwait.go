package main

// Applications that wait for a primary when a standby is promoted; and what it costs conmgr to
// choose among standbys.

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	servedName = "from conmgr's knowing of the new primary until a waiting application has it"
	chooseName = "a question and its answer"
	chooseCPU  = "conmgr's processor time for it"

	anyStandby   = "SHOW TARGET standby"
	recentEnough = "SHOW TARGET standby LAG '16MB'"
	onlyPrimary  = "SHOW TARGET primary"
)

var chooseSeries = []string{onlyPrimary, anyStandby, recentEnough}

// waiters is one round: applications that wait, and the promotion.
func (b *bench) waiters() {
	net := testnet.New(b)
	client := net.Host("client")
	primary := pgtest.New(b, pgtest.Host(net.Host("db1")), pgtest.Watchdog())
	standby := primary.Standby("standby", pgtest.Host(net.Host("db2")))
	cm := cmtest.Start(b, client, cmtest.Config{Clusters: []*pgtest.Cluster{primary, standby}})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	primary.Stop(pgtest.Immediate)
	testkit.Eventually(b, patience, "the primary is lost", func() (bool, string) {
		state := cm.Show("SHOW INSTANCES")[0]["state"]
		return state != "established", state
	})
	n := b.waiting()
	c := crowdThatAsks(b, client, conmgrPort, n, "SHOW TARGET primary WAIT '1min'", n)
	defer c.close()
	testkit.Eventually(b, patience, "all wait", func() (bool, string) {
		waiting := len(cm.Show("SHOW WAITING"))
		return waiting == n, fmt.Sprint(waiting)
	})
	mark := cm.Mark()
	promoted := make(chan error, 1)
	go func() {
		admin := standby.Admin()
		defer admin.Close()
		_, err := admin.ExecContext(b.Context(), "SELECT pg_promote(false)")
		promoted <- err
	}()
	c.wait(patience, 0, func() bool { return c.bound == n })
	if err := <-promoted; err != nil {
		b.Fatalf("pg_promote: %v", err)
	}
	known := cm.WaitLog(mark, "is changed from 'standby,read-only' to 'primary,read-write'", patience)
	d := c.since(b.loggedAt(known.Text), isBound)
	b.AddTime(servedName, theConmgr, firstTold, d[0])
	b.AddTime(servedName, theConmgr, medianTold, d[n/2])
	b.AddTime(servedName, theConmgr, lastTold, d[n-1])
}

// waiting is how many wait: fewer than max_waiting is by default.
func (b *bench) waiting() int { return Pick(b, 900, 100) }

// choices measures questions for standbys, one after the other on one connection.
func (b *bench) choices() {
	net := testnet.New(b)
	client := net.Host("client")
	servers := []*pgtest.Cluster{pgtest.New(b, pgtest.Host(net.Host("db1")), pgtest.Watchdog())}
	for i := 2; i <= 4; i++ {
		name := fmt.Sprintf("db%d", i)
		servers = append(servers, servers[0].Standby(name, pgtest.Host(net.Host(name))))
	}
	cm := cmtest.Start(b, client, cmtest.Config{Clusters: servers, Interval: "500ms", Timeout: "2s"})
	for i := range servers {
		cm.WaitInstance(i, "state", "established")
	}
	testkit.Eventually(b, patience, "it is known how far the standbys are behind", func() (bool, string) {
		rows := cm.Show("SHOW INSTANCES")
		return !slices.ContainsFunc(rows[1:], func(r map[string]string) bool { return r["lag_bytes"] == "" }), fmt.Sprint(rows)
	})
	conn, err := client.Dialer().Dial("tcp", fmt.Sprintf("127.0.0.1:%d", conmgrPort))
	if err != nil {
		b.Fatalf("%v", err)
	}
	defer conn.Close()
	f := pgwire.NewFrontend(conn, conn, 1<<16, 1<<30) // of all answers
	answered := func(err error) {
		for kind := byte(0); err == nil && kind != 'Z'; { // ReadyForQuery
			var body []byte
			if kind, body, err = f.Receive(); kind == 'E' {
				err = fmt.Errorf("refused: %q", body)
			}
		}
		if err != nil {
			b.Fatalf("%v", err)
		}
	}
	answered(f.Startup(map[string]string{"user": "bench"}))
	n := Pick(b, 5000, 200)
	for range Pick(b, 10, 2) {
		for _, s := range chooseSeries {
			used, since := b.cpuTime(cm.Pid), time.Now()
			for range n {
				answered(f.Query(s))
			}
			b.Add(chooseName, s, "", "us", float64(time.Since(since))/float64(n)/1000)
			b.Add(chooseCPU, s, "", "us", float64(b.cpuTime(cm.Pid)-used)/float64(n)/1000)
		}
	}
}

var figureWait = figure{
	key:   "wait",
	title: "Waiting, and choosing a standby",
	run: func(b *bench) {
		pgtest.New(b, pgtest.Stopped(), pgtest.Watchdog()) // keeps the installation for the rounds
		for range Pick(b, 5, 1) {
			b.Scope(func(b *bench) { b.waiters() })
		}
		b.Scope(func(b *bench) { b.choices() })
	},
	show: func(r *results, p *page) {
		p.Para("The primary is dead, and applications (sockets in one epoll loop, as above) wait: `SHOW TARGET primary WAIT '1min'`. Then the standby is promoted. They are let go one after the other, so that it is not overrun.")
		var rows [][]string
		for _, when := range []string{firstTold, medianTold, lastTold} {
			rows = append(rows, []string{when, r.find(p.key, servedName, theConmgr, when).spread()})
		}
		p.Table([]string{"application", servedName + ", ms"}, rows)
		first := r.find(p.key, servedName, theConmgr, firstTold)
		p.Target("who waits alone, or first, has the primary within 100 ms", first.at(1)+" ms", first.max() <= 100)
		p.Para("With a primary and three standbys, questions one after the other on one connection, microseconds:")
		rows = nil
		for _, s := range chooseSeries {
			rows = append(rows, []string{"`" + s + "`", r.find(p.key, chooseName, s, "").spread(), r.find(p.key, chooseCPU, s, "").spread()})
		}
		p.Table([]string{"", chooseName, chooseCPU}, rows)
	},
}
