package main

// What a query costs: directly, through the front, and through what sits between application and
// server. And what the extension costs the server.

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

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
	server *pgtest.Cluster
	proxy  int // process between the two; 0: none
}

// usualLog is conmgr's default: the harness wants to see more, which costs a line for each connect.
const usualLog = "WARNING"

// local is the way to a port of the client's host.
func local(port int) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable gssencmode=disable", port)
}

// paths starts what is needed for all of them in the client's host.
func (b *bench) paths(client *testnet.Host, server *pgtest.Cluster) []path {
	cm := cmtest.Start(b, client, cmtest.Config{Clusters: []*pgtest.Cluster{server},
		Extra: fmt.Sprintf("relay_port_read_write = %d\n", relayPort), LogLevel: usualLog})
	cm.WaitInstance(0, "role", "primary")
	proxy := b.HAProxy(client, haproxyPort, haproxyNone, server)
	bouncer, _ := b.PgBouncer(client, server, bouncerSessions)
	return []path{
		{direct, server.DSN() + " gssencmode=disable", nil, server, 0},
		{ours, local(conmgrPort) + " target_session_attrs=read-write", b.Front(), server, 0},
		{oursRelay, local(relayPort), nil, server, cm.Pid},
		{haproxy, local(haproxyPort), nil, server, proxy},
		{pgbouncer, local(pgbouncerPort), nil, server, bouncer},
	}
}

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without`)
var latencyLine = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)

// queryRun is what one run of pgbench has measured.
type queryRun struct {
	tps, latency float64 // of the latter, ms
	cpu          float64 // us a transaction: the client, the server, and who is in between
	transactions float64
}

// pgbench runs queries by primary key for some seconds. Its connecting and the start of the
// server's sessions are in the processor time, too, some milliseconds of a second or more.
func (b *bench) pgbench(h *testnet.Host, p path, clients int, seconds float64) queryRun {
	return b.pgbenchFor(h, p, clients, "-T", strconv.Itoa(int(seconds)))
}

// queryCPU is the processor time of a transaction alone, in us: that of a run of a second without
// that of one that does next to nothing but connect.
func (b *bench) queryCPU(h *testnet.Host, p path, clients int) float64 {
	short, long := b.pgbenchFor(h, p, clients, "-t", "1"), b.pgbench(h, p, clients, 1)
	return (long.cpu*long.transactions - short.cpu*short.transactions) / (long.transactions - short.transactions)
}

func (b *bench) pgbenchFor(h *testnet.Host, p path, clients int, limit ...string) queryRun {
	postmaster := p.server.PostmasterPid()
	used := func() (sum time.Duration) {
		if p.proxy != 0 {
			sum = b.cpuTime(p.proxy)
		}
		return sum + b.withSessions(postmaster)
	}
	before := used()
	args := append([]string{"-n", "-S", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2))},
		limit...)
	cmd := b.As(h, p.env, "pgbench", append(args, p.dsn)...)
	out := b.Output(cmd)
	cpu := used() - before + cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	figure := func(line *regexp.Regexp) float64 {
		found := line.FindStringSubmatch(out)
		if found == nil {
			b.Fatalf("pgbench: %s", out)
		}
		x, _ := strconv.ParseFloat(found[1], 64)
		return x
	}
	n := figure(transactionsLine)
	return queryRun{figure(tpsLine), figure(latencyLine), float64(cpu) / float64(time.Microsecond) / n, n}
}

const (
	tpsName      = "throughput"
	latencyName  = "latency"
	queryCPUName = "processor time a transaction"
	ratioName    = "processor time a transaction, relative to the other of the same round"
)

func queryCase(clients int) string {
	if clients == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", clients)
}

var queryClients = []int{1, 16, 64}

// queried is a server for pgbench.
func (b *bench) queried(client, db *testnet.Host, options ...pgtest.Option) *pgtest.Cluster {
	c := pgtest.New(b, append(options, pgtest.Host(db), pgtest.Set("max_connections", "300"), pgtest.Set("shared_buffers", "256MB"))...)
	b.Output(b.As(client, nil, "pgbench", "-i", "-q", "-s", "10", c.DSN()))
	c.Exec("VACUUM")
	c.Exec("CHECKPOINT")
	return c
}

// queryTable has a row for each way to the server, and a column for each number of clients.
func (p *page) queryTable(r *results, what, unit string) {
	head := []string{what + ", " + unit}
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

var figureQuery = figure{
	key:   "query",
	title: "The query path",
	run: func(b *bench) {
		net := testnet.New(b)
		client := net.Host("client")
		server := b.queried(client, net.Host("db"), pgtest.Watchdog())
		plain := b.queried(client, net.Host("plain"))
		paths := b.paths(client, server)
		// Throughput and latency of all, one after the other, in rounds: what the machine does
		// meanwhile hits all alike.
		for range Pick(b, 5, 1) {
			for _, n := range queryClients {
				for _, p := range paths {
					q := b.pgbench(client, p, n, Pick(b, 3.0, 1))
					b.Add(tpsName, p.series, queryCase(n), "tps", q.tps)
					b.Add(latencyName, p.series, queryCase(n), "ms", q.latency)
					b.Add(queryCPUName, p.series, queryCase(n), "us", q.cpu)
				}
			}
		}
		// The small differences: pairs, the order changing.
		pairs := []struct{ a, b path }{
			{paths[1], paths[0]},
			{path{series: with, dsn: server.DSN(), server: server}, path{series: without, dsn: plain.DSN(), server: plain}},
		}
		for i := range Pick(b, 60, 1) {
			for _, n := range []int{1, 16} {
				for _, pair := range pairs {
					one, two := pair.a, pair.b
					if i%2 == 1 {
						one, two = two, one
					}
					x := b.queryCPU(client, one, n)
					y := b.queryCPU(client, two, n)
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
		for _, what := range []struct{ name, unit string }{{tpsName, "tps"}, {latencyName, "ms"}, {queryCPUName, "µs"}} {
			p.queryTable(r, what.name, what.unit)
		}
		p.Para("Processor time is that of the client, of the server, and of the process in between, user and system. Small differences, in pairs of runs of a second, one straight after the other, which goes first in turn, without what a run of one transaction takes, which connects, too: processor time of one as a share of the other's; the median of all pairs, and the interval that holds the true median in 95 of 100 such measurements.")
		var rows [][]string
		for _, s := range []string{ours, with} {
			row := []string{s}
			for _, n := range []int{1, 16} {
				row = append(row, r.find(p.key, ratioName, s, queryCase(n)).confidence())
			}
			rows = append(rows, row)
		}
		p.Table([]string{"", queryCase(1), queryCase(16)}, rows)
		for _, n := range []int{1, 16} {
			for _, t := range [][2]string{{ours, "front within 1 % of direct"}, {with, "server with the extension within 1 % of without"}} {
				c := r.find(p.key, ratioName, t[0], queryCase(n))
				_, most := c.medianWithin()
				p.Target(t[1]+", by that interval, "+queryCase(n), c.confidence(), most <= 1.01)
			}
		}
		for _, n := range queryClients {
			for _, peer := range []string{haproxy, pgbouncer} {
				quotient := func(what string) float64 {
					return r.find(p.key, what, oursRelay, queryCase(n)).median() / r.find(p.key, what, peer, queryCase(n)).median()
				}
				p.Target(fmt.Sprintf("relay's processor time a query at most that of %s, %s", peer, queryCase(n)),
					fmt.Sprintf("%.2f of it, at %.2f of its throughput", quotient(queryCPUName), quotient(tpsName)), quotient(queryCPUName) <= 1)
			}
		}
	},
}
