package main

// What a query costs: directly, through the front, and through what sits between application and
// server. And what the extension costs the server.

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	conmgrPort    = 27546
	relayPort     = 27547
	haproxyPort   = 6432
	pgbouncerPort = 6433
)

// Series of the figures of connect and query.
const (
	direct    = "direct"
	ours      = "ours: front"
	oursRelay = "ours: relay port"
	haproxy   = "HAProxy (TCP mode)"
	pgbouncer = "PgBouncer (session mode)"
	without   = "server without the extension"
	with      = "server with the extension"
)

// path is a way from an application to the server.
type path struct {
	series string
	dsn    string
	env    []string
}

// paths starts what is needed for all of them in the client's host.
func (b *bench) paths(client *testnet.Host, server *pgtest.Cluster) []path {
	cm := cmtest.Start(b, client, cmtest.Config{Clusters: []*pgtest.Cluster{server},
		Extra: fmt.Sprintf("relay_port_read_write = %d\n", relayPort)})
	cm.WaitInstance(0, "role", "primary")
	b.HAProxy(client, haproxyPort, haproxyNone, server)
	b.PgBouncer(client, server, bouncerSessions)
	local := func(port int) string {
		return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable gssencmode=disable",
			port)
	}
	return []path{
		{direct, server.DSN() + " gssencmode=disable", nil},
		{ours, local(conmgrPort) + " target_session_attrs=read-write", b.Front()},
		{oursRelay, local(relayPort), nil},
		{haproxy, local(haproxyPort), nil},
		{pgbouncer, local(pgbouncerPort), nil},
	}
}

var (
	tpsLine     = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without`)
	latencyLine = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
)

// pgbench runs queries by primary key for some seconds.
func (b *bench) pgbench(h *testnet.Host, p path, clients int, seconds float64) (tps, latency float64) {
	threads := min(clients, 2)
	out := b.Output(b.As(h, p.env, "pgbench", "-n", "-S", "-M", "prepared", "-c", strconv.Itoa(clients), "-j",
		strconv.Itoa(threads),
		"-T", strconv.Itoa(int(seconds)), p.dsn))
	t, l := tpsLine.FindStringSubmatch(out), latencyLine.FindStringSubmatch(out)
	if t == nil || l == nil {
		b.Fatalf("pgbench: %s", out)
	}
	tps, _ = strconv.ParseFloat(t[1], 64)
	latency, _ = strconv.ParseFloat(l[1], 64)
	return tps, latency
}

const (
	tpsName     = "throughput"
	latencyName = "latency"
	ratioName   = "throughput, relative to the other of the same round"
)

func queryCase(clients int) string {
	if clients == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", clients)
}

var queryClients = []int{1, 16, 64}

var figureQuery = figure{
	key:   "query",
	title: "The query path",
	run: func(b *bench) {
		net := testnet.New(b)
		client, db, plainDB := net.Host("client"), net.Host("db"), net.Host("plain")
		server := pgtest.New(b, pgtest.Host(db), pgtest.Watchdog(), pgtest.Set("max_connections", "300"),
			pgtest.Set("shared_buffers", "256MB"))
		plain := pgtest.New(b, pgtest.Host(plainDB), pgtest.Set("max_connections", "300"),
			pgtest.Set("shared_buffers", "256MB"))
		for _, c := range []*pgtest.Cluster{server, plain} {
			b.Output(b.As(client, nil, "pgbench", "-i", "-q", "-s", "10", c.DSN()))
			c.Exec("VACUUM")
			c.Exec("CHECKPOINT")
		}
		paths := b.paths(client, server)
		// Throughput and latency of all, one after the other, in rounds: what the machine does
		// meanwhile hits all alike.
		for range Pick(b, 5, 1) {
			for _, n := range queryClients {
				for _, p := range paths {
					tps, latency := b.pgbench(client, p, n, Pick(b, 3.0, 1))
					b.Add(tpsName, p.series, queryCase(n), "tps", tps)
					b.Add(latencyName, p.series, queryCase(n), "ms", latency)
				}
			}
		}
		// The small differences: pairs, the order changing.
		pairs := []struct{ a, b path }{
			{paths[1], paths[0]},
			{path{series: with, dsn: server.DSN()}, path{series: without, dsn: plain.DSN()}},
		}
		for i := range Pick(b, 20, 1) {
			for _, n := range []int{1, 16} {
				for _, pair := range pairs {
					one, two := pair.a, pair.b
					if i%2 == 1 {
						one, two = two, one
					}
					x, _ := b.pgbench(client, one, n, 1)
					y, _ := b.pgbench(client, two, n, 1)
					if i%2 == 1 {
						x, y = y, x
					}
					b.Add(ratioName, pair.a.series, queryCase(n), "", x/y)
				}
			}
		}
	},
	show: func(r *results, p *page) {
		p.Para("`pgbench -S -M prepared`, scale 10, from a host of its own; proxies run on the client's host, as conmgr does. All in turn, several rounds.")
		for _, what := range []string{tpsName, latencyName} {
			head := []string{what + map[string]string{tpsName: ", tps", latencyName: ", ms"}[what]}
			for _, n := range queryClients {
				head = append(head, queryCase(n))
			}
			var rows [][]string
			for _, s := range r.names(p.key, what, func(s sample) string { return s.series }) {
				row := []string{s}
				for _, n := range queryClients {
					row = append(row, r.find(p.key, what, s, queryCase(n)).spread())
				}
				rows = append(rows, row)
			}
			p.Table(head, rows)
		}
		p.Para("Small differences, in pairs of runs one straight after the other: throughput of one as a share of the other's.")
		var rows [][]string
		for _, s := range []string{ours, with} {
			row := []string{s}
			for _, n := range []int{1, 16} {
				row = append(row, r.find(p.key, ratioName, s, queryCase(n)).spread())
			}
			rows = append(rows, row)
		}
		p.Table([]string{"", queryCase(1), queryCase(16)}, rows)
		for _, n := range []int{1, 16} {
			c := r.find(p.key, ratioName, ours, queryCase(n))
			p.Target("front within 1 % of direct, "+queryCase(n), c.at(0.5), c.median() >= 0.99)
			c = r.find(p.key, ratioName, with, queryCase(n))
			p.Target("server with the extension at least 0.99 of without, "+queryCase(n), c.at(0.5), c.median() >= 0.99)
		}
		for _, n := range queryClients {
			relay := r.find(p.key, tpsName, oursRelay, queryCase(n))
			for _, peer := range []string{haproxy, pgbouncer} {
				c := r.find(p.key, tpsName, peer, queryCase(n))
				p.Target(fmt.Sprintf("relay's throughput above that of %s, %s", peer, queryCase(n)),
					fmt.Sprintf("%.2f of it", relay.median()/c.median()), relay.median() > c.median())
			}
		}
	},
}
