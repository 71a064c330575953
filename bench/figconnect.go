package main

// What a connection costs, and what it costs when one of three hosts is dead.

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	connectName = "connect and first answer"
	multiHost   = "libpq, list of hosts"
	alive       = "all hosts alive"
	oneDead     = "first of three hosts dead"

	oursChecked = "ours: front, which looks up conmgr's user"
	itsUser     = 64000

	oursCanned = "front, by a program that answers at once (floor)"
)

// connects records how long connects take, and the first query's answer.
func (b *bench) connects(h *testnet.Host, p path, number int, when string) {
	for _, ms := range b.connectTimes(h, p, number) {
		b.Add(connectName, p.series, when, "ms", ms)
	}
}

// connectTimes are those of connects and their first query's answer, in milliseconds.
func (b *bench) connectTimes(h *testnet.Host, p path, number int) (all []float64) {
	out := b.Output(b.As(h, p.env, b.Program("connect"), strconv.Itoa(number), p.dsn))
	for _, l := range strings.Fields(out) {
		us, err := strconv.ParseFloat(l, 64)
		if err != nil {
			b.Fatalf("connect: %s", out)
		}
		all = append(all, us/1000)
	}
	return all
}

var figureConnect = figure{
	key:   "connect",
	title: "Connecting",
	run: func(b *bench) {
		net := testnet.New(b)
		client, db1, db2, db3 := net.Host("client"), net.Host("db1"), net.Host("db2"), net.Host("db3")
		// The dead one comes first in every list. Whichever answers will do; a conmgr serves one
		// database cluster only.
		primary := pgtest.New(b, pgtest.Host(db2), pgtest.Named("db2"), pgtest.Watchdog())
		servers := []*pgtest.Cluster{primary.Standby("db1", pgtest.Host(db1)), primary, primary.Standby("db3", pgtest.Host(db3))}
		paths := b.paths(client, primary)
		all := cmtest.Start(b, client, cmtest.Config{Clusters: servers, Interval: "100ms", Timeout: "500ms",
			Port: conmgrPort + 100, LogLevel: usualLog})
		for i := range servers {
			all.WaitInstance(i, "state", "established")
		}
		owned := cmtest.Start(b, client, cmtest.Config{Clusters: []*pgtest.Cluster{primary}, Port: conmgrPort + 200, Owner: itsUser, LogLevel: usualLog})
		owned.WaitInstance(0, "state", "established")
		checked := path{series: oursChecked, dsn: local(conmgrPort+200) + " target_session_attrs=any",
			env: append(b.Front()[:1:1], fmt.Sprintf("PGCMUSER=%d", itsUser))}
		canned := path{series: oursCanned, dsn: local(conmgrPort+300) + " target_session_attrs=read-write", env: paths[1].env}
		floor := b.As(client, nil, b.Program("canned"), strconv.Itoa(conmgrPort+300), strconv.Itoa(conmgrPort))
		b.Start(floor)
		b.Listening(client, conmgrPort+300)
		b.connectTimes(client, canned, 1) // the conversation that it keeps
		list := path{series: multiHost, dsn: fmt.Sprintf("host=%s,%s,%s port=5432 user=postgres dbname=postgres sslmode=disable gssencmode=disable connect_timeout=2", db1.Addr4, db2.Addr4, db3.Addr4)}
		three := path{series: ours, dsn: local(conmgrPort+100) + " target_session_attrs=any", env: paths[1].env}
		for range Pick(b, 20, 2) {
			for _, p := range append(paths, canned, checked) {
				b.connects(client, p, Pick(b, 50, 20), "one host")
			}
		}
		// In turn: what else this machine does meanwhile falls on both. A dead host does nothing.
		for range Pick(b, 10, 1) {
			b.connects(client, list, Pick(b, 100, 20), alive)
			b.connects(client, three, Pick(b, 100, 20), alive)
			mark := all.Mark()
			cut := net.Isolate(db1)
			servers[0].Freeze()
			all.WaitLog(mark, "is lost", patience)
			b.connects(client, list, Pick(b, 3, 1), oneDead)
			b.connects(client, three, Pick(b, 100, 20), oneDead)
			cut.Heal()
			servers[0].Thaw()
			all.WaitInstance(0, "state", "established")
		}
	},
	show: func(r *results, p *page) {
		p.Para("From the start of the connect until `SELECT 1` is answered, milliseconds. (A pooler saves the server's fork; it can be used beside conmgr.)")
		var rows [][]string
		for _, when := range []string{"one host", alive, oneDead} {
			for _, s := range r.names(p.key, connectName, func(s sample) string { return s.series }) {
				if c := r.find(p.key, connectName, s, when); c != nil {
					rows = append(rows, []string{when, s, c.spread(), c.at(0.99)})
				}
			}
		}
		p.Table([]string{"", "", "median", "p99"}, rows)
		d, o := r.find(p.key, connectName, direct, "one host"), r.find(p.key, connectName, oursChecked, "one host")
		p.Target("front, which looks up conmgr's user, at most 0.2 ms over direct", fmt.Sprintf("+%s ms", number(o.median()-d.median())),
			o.median()-d.median() <= 0.2)
		a, dead := r.find(p.key, connectName, ours, alive), r.find(p.key, connectName, ours, oneDead)
		p.Target("front: unchanged with a dead host (median within 10 %)",
			fmt.Sprintf("%s ms, %s ms alive", dead.at(0.5), a.at(0.5)), dead.median() <= 1.1*a.median())
	},
}
