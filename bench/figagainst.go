package main

// This build beside an earlier one, in one run: what a change costs. `make bench-against`.

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	workerCPUName    = "processor time of the worker"
	connectCPUName   = "processor time of conmgr for connects"
	relayCPUName     = "processor time of conmgr for relayed queries"
	overBaseName     = "relative to the earlier build, neighbouring runs"
	workerMemoryName = "memory of the worker, its own"
	sharedMemoryName = "shared memory"

	earlier = "earlier build"
	present = "this build"

	worseAtMost = 1.03
)

// build is one of the two, with a server and a conmgr of its own.
type build struct {
	series string
	dir    string
	server *pgtest.Cluster
	host   *testnet.Host // of the server
	worker int
	client *testnet.Host
	cm     *cmtest.Conmgr
	front  path
	relay  path
}

// start starts the server and the conmgr of a build. The installation of the servers is one: who
// runs already has the libraries of its build open.
func (b *bench) start(net *testnet.Net, n int, series, dir string, slots int) *build {
	v := &build{series: series, dir: dir, host: net.Host(fmt.Sprintf("db%d", n)),
		client: net.Host(fmt.Sprintf("client%d", n))}
	v.server = pgtest.New(b, pgtest.Host(v.host), pgtest.Named(v.host.Name), pgtest.Watchdog(), pgtest.BuiltIn(dir),
		pgtest.Set("watchdog.max_heartbeat_connections", strconv.Itoa(slots)))
	b.Listening(v.host, v.server.WatchdogPort)
	v.worker = v.server.WorkerPid("watchdog worker")
	v.cm = cmtest.Start(b, v.client, cmtest.Config{Clusters: []*pgtest.Cluster{v.server}, BuiltIn: dir,
		Extra: fmt.Sprintf("relay_port_read_write = %d\n", relayPort)})
	v.cm.WaitInstance(0, "role", "primary")
	b.Output(b.As(v.client, nil, "pgbench", "-i", "-q", "-s", "2", v.server.DSN()))
	v.server.Exec("CHECKPOINT")
	shared, _ := strconv.ParseFloat(v.server.Value("SELECT size FROM pg_shmem_allocations WHERE name = 'watchdog'"),
		64)
	b.Add(sharedMemoryName, series, "", "B", shared)
	local := func(port int) string {
		return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable gssencmode=disable",
			port)
	}
	v.front = path{series: series, dsn: local(conmgrPort) + " target_session_attrs=read-write",
		env: []string{"LD_LIBRARY_PATH=" + filepath.Join(dir, "connmgr"), "PGCMUSER=*"}}
	v.relay = path{series: series, dsn: local(relayPort)}
	return v
}

// inTurn measures both builds one straight after the other, the order changing, and records each
// value and their ratio.
func (b *bench) inTurn(builds [2]*build, rounds int, what, unit, when string, measure func(*build) float64) {
	for i := range rounds {
		var value [2]float64
		for k := range builds {
			j := (k + i) % 2
			value[j] = measure(builds[j])
			b.Add(what, builds[j].series, when, unit, value[j])
		}
		b.Add(what+", "+overBaseName, present, when, "", value[1]/value[0])
	}
}

var transactionsLine = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)

// queries runs pgbench for a second and returns the transactions.
func (b *bench) queries(h *testnet.Host, p path, clients int) float64 {
	out := b.Output(b.As(h, p.env, "pgbench", "-n", "-S", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", "1",
		"-T", "1", p.dsn))
	n := transactionsLine.FindStringSubmatch(out)
	if n == nil {
		b.Fatalf("pgbench: %s", out)
	}
	count, _ := strconv.ParseFloat(n[1], 64)
	return count
}

// figureAgainst is measured with -against only.
func figureAgainst(dir string) figure {
	return figure{
		key:   "against",
		title: "This build and an earlier one",
		run:   func(b *bench) { b.against(dir) },
		show:  showAgainst,
	}
}

func (b *bench) against(dir string) {
	net := testnet.New(b)
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		b.Fatalf("getrlimit: %v", err)
	}
	n := Pick(b, 10_000, 1000)
	if l.Max < uint64(n)+1500 {
		b.Fatalf("%d conmgrs need more descriptors than %d (ulimit -Hn)", n, l.Max)
	}
	builds := [2]*build{b.start(net, 0, earlier, dir, n*9/8),
		b.start(net, 1, present, filepath.Join(b.root, "build"), n*9/8)}

	b.inTurn(builds, Pick(b, 12, 1), workerCPUName, "share", conmgrCase(n), func(v *build) float64 {
		h := newHerd(b, v.host, v.server.WatchdogPort, n, scaleInterval, scaleTimeout)
		defer h.close()
		h.run(time.Second)
		used := b.under(h, v.worker, Pick(b, 4*time.Second, time.Second))
		b.Add(workerMemoryName, v.series, conmgrCase(n), "B", b.memory(v.worker, "RssAnon"))
		return used
	})

	const connects = 50
	b.inTurn(builds, Pick(b, 60, 2), connectName, "ms", "front", func(v *build) float64 {
		used := b.cpuTime(v.cm.Pid)
		all := b.connectTimes(v.client, v.front, connects)
		b.AddTime(connectCPUName, v.series, fmt.Sprintf("%d connects", connects), b.cpuTime(v.cm.Pid)-used)
		slices.Sort(all)
		return all[len(all)/2]
	})

	for _, clients := range []int{1, 16} {
		b.inTurn(builds, Pick(b, 30, 1), tpsName, "tps", "relay port, "+queryCase(clients), func(v *build) float64 {
			used := b.cpuTime(v.cm.Pid)
			done := b.queries(v.client, v.relay, clients)
			b.Add(relayCPUName, v.series, queryCase(clients), "µs",
				float64(b.cpuTime(v.cm.Pid)-used)/float64(time.Microsecond)/done)
			return done
		})
	}

	apps := Pick(b, 5000, 1000) // relay ports take half of the descriptors, other users a share
	for i := range Pick(b, 8, 1) {
		for k := range builds {
			b.applicationMemory(builds[(k+i)%2], apps)
		}
	}
}

// applicationMemory measures a conmgr that has just started: what an earlier crowd has left would
// serve for the next one. Where the garbage collection stands is chance, so that one round says
// nothing.
func (b *bench) applicationMemory(v *build, apps int) {
	v.cm.Restart(unix.SIGTERM)
	v.cm.WaitInstance(0, "role", "primary")
	base := b.memory(v.cm.Pid, "RssAnon")
	c := newCrowd(b, v.client, conmgrPort, apps)
	defer c.close()
	b.rest(time.Second)
	b.Add(appName, v.series, "RssAnon", "B", (b.memory(v.cm.Pid, "RssAnon")-base)/float64(apps))
}

// showAgainst writes a row a measurement.
func showAgainst(r *results, p *page) {
	p.Para("Each build has a server and a conmgr of its own; they are measured one straight after the other, the order changing from round to round. " +
		"The ratio is that of neighbours; more is worse, but for throughput.")
	rows := [][]string{}
	var measured []string
	for _, s := range r.samples {
		if s.figure == p.key && !slices.Contains(measured, s.what) {
			measured = append(measured, s.what)
		}
	}
	for _, what := range measured {
		for _, when := range r.names(p.key, what, func(s sample) string { return s.when }) {
			before, now := r.find(p.key, what, earlier, when), r.find(p.key, what, present, when)
			if before == nil || now == nil {
				continue
			}
			ratio := r.find(p.key, what+", "+overBaseName, present, when)
			shown, q := number(now.median()/before.median()), now.median()/before.median()
			if ratio != nil {
				shown, q = ratio.spread(), ratio.median()
			}
			rows = append(rows, []string{what, when, before.spread(), now.spread(), before.unit, shown})
			if what == tpsName {
				q = 1 / q
			}
			p.Target(fmt.Sprintf("%s, %s: at most %.0f %% worse", what, when, 100*(worseAtMost-1)), shown,
				q <= worseAtMost)
		}
	}
	p.Table([]string{"", "", earlier, present, "unit", "ratio"}, rows)
}
