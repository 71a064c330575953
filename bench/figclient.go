package main

// From the silent death of a client host to the end of its sessions, whatever their state; and a
// thousand of them at once.

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	goneName     = "from the cut to the end of the session"
	lostEarly    = "sessions without a result, because they ended before their cut"
	thousandName = "1000 sessions: to the end of the last"
	firstName    = "1000 sessions: to the end of the first"
	thousandRate = "1000 sessions: ours, relative to the bare loop of the same round"

	oursPrefix   = "ours, "
	bareKill     = "kill(2) in a loop"
	byTerminator = "ours: from the worker's verdict"

	thousand = 1000
)

// state is one that a session can be in when its host dies.
type state struct {
	name, query string
	reached     string // condition on pg_stat_activity
}

var states = []state{
	{"idle", "", "state = 'idle'"},
	{"idle in transaction, holding a lock", "BEGIN; LOCK TABLE held IN ACCESS SHARE MODE", "state = 'idle in transaction'"},
	{"running", "SELECT pg_sleep(600)", "wait_event = 'PgSleep'"},
	{"waiting for a lock", "SELECT * FROM locked", "wait_event = 'relation'"},
	{"blocked in writing to the client", "SELECT repeat('x', 1000), generate_series(1, 10000000)", "wait_event = 'ClientWrite'"},
}

// clientServer is a server and what ends the sessions of dead clients there.
type clientServer struct {
	series string
	*pgtest.Cluster
}

var clientPeers = []struct {
	series  string
	options []pgtest.Option
}{
	{"server's defaults", nil},
	{"tcp_keepalives 1/1/3", keepaliveOptions},
	{"client_connection_check_interval 1s", checkOptions},
	{"both", slices.Concat(keepaliveOptions, checkOptions)},
}

var (
	keepaliveOptions = []pgtest.Option{pgtest.Set("tcp_keepalives_idle", "1"), pgtest.Set("tcp_keepalives_interval", "1"), pgtest.Set("tcp_keepalives_count", "3")}
	checkOptions     = []pgtest.Option{pgtest.Set("client_connection_check_interval", "1s")}
)

// clientServer starts a server with a table that can be locked, and one that is.
func (b *bench) clientServer(net *testnet.Net, series string, options ...pgtest.Option) clientServer {
	h := net.Host(fmt.Sprintf("db%d", rand.N(1_000_000)))
	c := pgtest.New(b, append(options, pgtest.Host(h), pgtest.Named(h.Name), pgtest.Set("max_connections", "300"))...)
	c.Exec("CREATE TABLE held ()")
	c.Exec("CREATE TABLE locked ()")
	holder := c.Admin()
	b.Cleanup(func() { holder.Close() })
	tx, err := holder.BeginTx(context.Background(), nil)
	if err == nil {
		_, err = tx.Exec("LOCK TABLE locked")
	}
	if err != nil {
		b.Fatalf("%v", err)
	}
	return clientServer{series, c}
}

// clientLane is a client host that will die.
type clientLane struct {
	host     *testnet.Host
	at, cut  time.Duration // when it is to die, from the start; when it did
	sessions []clientSession
}

type clientSession struct {
	series, state string
	pid           int
}

// clientLane opens a session of each state on each server. It returns nil if they do not get there:
// this machine has stood still for so long that the host was taken for dead.
func (b *bench) clientLane(h *testnet.Host, servers ...clientServer) *clientLane {
	l := &clientLane{host: h}
	for _, server := range servers {
		for _, s := range states {
			l.sessions = append(l.sessions, clientSession{server.series, s.name, b.rawSession(h, server.Cluster, s.query)})
		}
		for _, s := range states {
			if testkit.Poll(patience/3, func() (bool, string) {
				return server.Value("SELECT count(*) FROM pg_stat_activity WHERE client_addr = $1::inet AND "+s.reached, h.Addr4.String()) == "1", ""
			}) != nil {
				return nil
			}
		}
	}
	return l
}

// clientLanes makes as many as are wanted, by open, which gets a new host.
func (b *bench) clientLanes(net *testnet.Net, lanes int, open func(*testnet.Host) *clientLane) []*clientLane {
	all := make([]*clientLane, lanes)
	b.Parallel(lanes, 4, func(i int) {
		for try := 0; all[i] == nil; try++ {
			if try == 3 {
				b.Fatalf("sessions end before their host is cut off, again and again: this machine stands still for too long")
			}
			all[i] = open(net.Host(fmt.Sprintf("client%d_%d", i, try)))
		}
	})
	return all
}

// die cuts all lanes off, each at its time, and records when their sessions have ended.
func (b *bench) die(net *testnet.Net, lanes []*clientLane, limit time.Duration) {
	var pids []int
	for _, l := range lanes {
		for _, s := range l.sessions {
			pids = append(pids, s.pid)
		}
	}
	ended := b.Ends(pids)
	rand.Shuffle(len(lanes), func(i, j int) { lanes[i].at, lanes[j].at = lanes[j].at, lanes[i].at }) // the phase of a lane's heartbeats comes from when it was started
	slices.SortFunc(lanes, func(x, y *clientLane) int { return int(x.at - y.at) })
	start := testnet.Monotonic()
	for _, l := range lanes {
		b.pause(start + l.at)
		l.cut = net.Isolate(l.host).Applied.Before.Mono
	}
	ended.Wait(b, lanes[len(lanes)-1].cut+limit)
	for _, l := range lanes {
		for _, s := range l.sessions {
			switch at, ok := ended.Of(s.pid); {
			case ok && at < l.cut:
				b.Add(lostEarly, s.series, s.state, "", 1)
			case ok:
				b.AddTime(goneName, s.series, s.state, at-l.cut)
			default:
				b.AddAtLeast(goneName, s.series, s.state, limit)
			}
		}
	}
}

// clientOurs measures a setting on a server with the extension.
func (b *bench) clientOurs(s setting, lanes int, limit time.Duration) {
	net := testnet.New(b)
	server := b.clientServer(net, oursPrefix+s.name, pgtest.Watchdog())
	all := b.clientLanes(net, lanes, func(h *testnet.Host) *clientLane {
		cmtest.Start(b, h, s.config(server.Cluster)).WaitInstance(0, "role", "primary")
		return b.clientLane(h, server)
	})
	for i, at := range s.cuts(lanes) {
		all[i].at = at
	}
	b.die(net, all, limit)
}

// clientPeers measures servers without the extension.
func (b *bench) clientPeers(lanes int, limit time.Duration) {
	net := testnet.New(b)
	servers := make([]clientServer, len(clientPeers))
	b.Parallel(len(servers), 4, func(i int) { servers[i] = b.clientServer(net, clientPeers[i].series, clientPeers[i].options...) })
	all := b.clientLanes(net, lanes, func(h *testnet.Host) *clientLane { return b.clientLane(h, servers...) })
	for i, at := range phases(lanes, time.Second) {
		all[i].at = at
	}
	b.die(net, all, limit)
}

// thousandSessions compares, in rounds, what the terminator does with a thousand sessions with what
// a loop of kill(2) does.
func (b *bench) thousandSessions(rounds int) {
	net := testnet.New(b)
	client, bare := net.Host("client"), net.Host("bare")
	c := pgtest.New(b, pgtest.Host(net.Host("db")), pgtest.Watchdog(), pgtest.Set("max_connections", fmt.Sprint(thousand+100)), pgtest.Set("shared_buffers", "64MB"))
	c.Exec("CREATE TABLE held ()")
	cm := cmtest.Start(b, client, settingSecond.config(c))
	for i := range rounds {
		var took [2]time.Duration // ours, the loop's
		for j := range 2 {
			which := (i + j) % 2
			b.Scope(func(b *bench) {
				series, h := byTerminator, client
				if which == 1 {
					series, h = bareKill, bare
				} else {
					cm.WaitInstance(0, "state", "established")
				}
				pids := make([]int, thousand)
				b.Parallel(thousand, 16, func(i int) { pids[i] = b.rawSession(h, c, states[1].query) })
				testkit.Eventually(b, patience, "the sessions are idle in transaction", func() (bool, string) {
					n := c.Value("SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL AND " + states[1].reached)
					return n == fmt.Sprint(thousand), n
				})
				ended, since := b.Ends(pids), c.LogSize()
				cut := net.Isolate(h)
				var start time.Duration
				if which == 1 {
					start = testnet.Monotonic()
					for _, pid := range pids {
						_ = syscall.Kill(pid, syscall.SIGTERM)
					}
				}
				if !ended.Wait(b, testnet.Monotonic()+patience) {
					b.Fatalf("%s: not all of %d sessions have ended", series, thousand)
				}
				if which == 0 {
					start = b.logged(c, since, `heartbeat is timed out: `) // not: but its host is heard of
				}
				cut.Heal()
				first, last := ended.Range()
				took[which] = last - start
				b.AddTime(firstName, series, "", first-start)
				b.AddTime(thousandName, series, "", last-start)
			})
		}
		b.Add(thousandRate, "ours", "", "", took[0].Seconds()/took[1].Seconds())
	}
}

// logged is the moment, on CLOCK_MONOTONIC, of a line of a server's log; to a millisecond, as the
// log has it.
func (b *bench) logged(c *pgtest.Cluster, since int, pattern string) time.Duration {
	line := c.WaitLog(since, `(?m)^(\S+ \S+ \S+) .*`+pattern, patience)
	at, err := time.Parse("2006-01-02 15:04:05.000 MST", line[1])
	if err != nil {
		b.Fatalf("%v", err)
	}
	now := testnet.Now()
	return now.Mono - now.Time.Sub(at)
}

var figureClient = figure{
	key:   "client",
	title: "Silent death of a client host",
	run: func(b *bench) {
		pgtest.New(b, pgtest.Stopped(), pgtest.Watchdog()) // keeps the installation for the parts
		lanes, limit := Pick(b, 30, 3), Pick(b, 30*time.Second, 6*time.Second)
		together := [][]func(*bench){ // peers are mostly waiting, and so is the default
			{func(b *bench) { b.clientPeers(lanes, limit) }, func(b *bench) { b.clientOurs(settingDefault, 10, limit) }},
			{func(b *bench) { b.clientOurs(settingSecond, lanes, 10*time.Second) }},
			{func(b *bench) { b.clientOurs(settingFast, lanes, 10*time.Second) }},
			{func(b *bench) { b.thousandSessions(Pick(b, 6, 1)) }},
		}
		if b.quick { // without the default
			together = [][]func(*bench){{together[0][0], together[1][0], together[2][0]}, together[3]}
		}
		for _, parts := range together {
			b.Parallel(len(parts), len(parts), func(i int) { b.Scope(parts[i]) })
		}
	},
	show: showClient,
}

// clientSeries are all rows.
var clientSeries = func() (all []string) {
	for _, s := range settings {
		all = append(all, oursPrefix+s.name)
	}
	for _, p := range clientPeers {
		all = append(all, p.series)
	}
	return all
}()

func showClient(r *results, p *page) {
	p.Para("Sessions of each state, and then the switch drops every packet from and to their host, at a random moment. From the start of the command that cuts (some 10 ms) to the end of the session's process, " +
		"which is after it has given up its locks; milliseconds. Each lane is a client host (network namespace) of its own, with a conmgr, or with sessions on servers without the extension. " +
		"A server ends nothing by itself as long as its kernel does not know that the client is gone; nor then, if it does not look.")
	p.Para("The longest time for which this machine stood still meanwhile: %s ms.", number(float64(r.stalls[p.key])/float64(time.Millisecond)))
	head := []string{"the session was"}
	for _, st := range states {
		head = append(head, st.name)
	}
	var rows [][]string
	for _, q := range []struct {
		name string
		of   func(*cell) string
	}{{"median", (*cell).spread}, {"longest", func(c *cell) string { return c.at(1) }}} {
		rows = nil
		for _, s := range clientSeries {
			if r.find(p.key, goneName, s, states[0].name) == nil {
				continue
			}
			row := []string{s}
			for _, st := range states {
				row = append(row, q.of(r.find(p.key, goneName, s, st.name)))
			}
			rows = append(rows, row)
		}
		head[0] = q.name + "; the session was"
		p.Table(head, rows)
	}
	if len(r.names(p.key, lostEarly, func(s sample) string { return s.series })) > 0 {
		p.Para("Some sessions had ended before their cut, and are missing: this machine stood still for longer than a timeout allows.")
	}
	for _, s := range settings {
		worst := -1.0
		for _, st := range states {
			if c := r.find(p.key, goneName, oursPrefix+s.name, st.name); c != nil {
				worst = max(worst, c.quantile(0.99))
			}
		}
		if worst >= 0 {
			p.Target(fmt.Sprintf("%s: sessions of every state gone within heartbeat_timeout + 200 ms (p99 of the slowest state)", s.name), number(worst)+" ms",
				worst <= float64(s.timeout/time.Millisecond)+200)
		}
	}
	var curves []curve
	for _, s := range clientSeries {
		if c := r.find(p.key, goneName, s, states[1].name); c != nil && c.censored < len(c.values) {
			curves = append(curves, distribution(s, c))
		}
	}
	p.Plot("distribution", "share of sessions that have ended, by time", plot{title: "Silent death of a client host: sessions idle in transaction that are gone", xName: "ms since the cut", yName: "%", logX: true, curves: curves}.svg())

	p.Para("%d sessions of one client host, idle in transaction with a lock. Ours: from the line `heartbeat is timed out: conmgr ...` in the server's log. The floor: a program that calls kill(2) for as many equal sessions of a host that is cut off "+
		"as well, from its first call. In turn, the order changing; milliseconds.", thousand)
	rows = nil
	for _, s := range []string{byTerminator, bareKill} {
		first, last := r.find(p.key, firstName, s, ""), r.find(p.key, thousandName, s, "")
		if last != nil {
			rows = append(rows, []string{s, fmt.Sprint(len(last.values)), first.spread(), last.spread(), last.at(1)})
		}
	}
	p.Table([]string{"", "n", "to the end of the first", "to the end of the last", "longest"}, rows)
	ratio := r.find(p.key, thousandRate, "ours", "")
	p.Para("Ours, relative to the loop of the same round: %s.", ratio.spread())
	p.Target("1000 sessions: at most 1.2 times as long as a bare kill(2) loop (median of rounds)", ratio.at(0.5), ratio.median() <= 1.2)
}
