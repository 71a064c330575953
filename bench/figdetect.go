package main

// From the silent death of a database host to the error in an application that waits for it.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/driver/pqcm"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	detectName     = "from the cut to the error"
	calmName       = "from the cut to the error, where the machine did not stand still meanwhile"
	calm           = 20 * time.Millisecond
	verdictName    = "from conmgr's verdict to the error"
	cutName        = "duration of the command that cuts"
	destroyName    = "conmgr's own time to find and to destroy the socket"
	lostBeforeName = "lanes without a result, because of a false verdict before their cut"

	oursGo        = "ours: Go"
	oursDestroyed = "ours: destroyed socket"

	libpqDefaults  = "libpq, defaults"
	libpqKeepalive = "libpq, keepalives 1/1/3"
	libpqTimeout   = "libpq, 1/1/3 + user timeout 3 s"
	haproxySampleS = "HAProxy, sample file"
	haproxyTunedS  = "HAProxy, tuned"
	pgbouncerS     = "PgBouncer"

	isLost      = `is lost: no heartbeat for`
	destroyedIn = `destroyed 1 connections .* in (\d+) us`
)

// setting is a pair of conmgr's heartbeat_interval and heartbeat_timeout.
type setting struct {
	name              string
	interval, timeout time.Duration
}

var (
	settingDefault = setting{"10 s / 20 s", 10 * time.Second, 20 * time.Second}
	settingSecond  = setting{"1 s / 2 s", time.Second, 2 * time.Second}
	settingFast    = setting{"100 ms / 300 ms", 100 * time.Millisecond, 300 * time.Millisecond}
	settings       = []setting{settingDefault, settingSecond, settingFast}
	detectOurs     = []string{ours, oursGo, oursRelay, oursDestroyed}
	detectPeers    = []string{libpqDefaults, libpqKeepalive, libpqTimeout, haproxySampleS, haproxyTunedS, pgbouncerS}
)

// config of a conmgr. The defaults are not written.
func (s setting) config(clusters ...*pgtest.Cluster) cmtest.Config {
	c := cmtest.Config{Clusters: clusters}
	if s != settingDefault {
		c.Interval, c.Timeout = fmt.Sprintf("%dms", s.interval.Milliseconds()),
			fmt.Sprintf("%dms", s.timeout.Milliseconds())
	}
	return c
}

// cuts tells when lanes are cut off: at random, but not so that many are cut off, or judged, in the
// same moment. With the default all are cut off before the first verdict.
func (s setting) cuts(n int) []time.Duration {
	if s == settingDefault {
		return phases(n, s.interval)
	}
	at := make([]time.Duration, n)
	for i := range at {
		at[i] = time.Duration(i)*min(s.interval+s.timeout, time.Second) + rand.N(s.interval)
	}
	return at
}

// detectLane is a client host with applications that wait.
type detectLane struct {
	host     *testnet.Host
	cm, aide *cmtest.Conmgr // aide destroys the sockets of connections to a server of its own
	sessions []int          // their backends
	events   chan event
	cut      time.Duration
}

func plain(host any, port int) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable gssencmode=disable", host, port)
}

const keepalives = " keepalives_idle=1 keepalives_interval=1 keepalives_count=3"

// lost tells whether one of the conmgrs has declared its server lost, or an application has lost
// its connection. Before the cut that is a false verdict of somebody: this machine has stood still
// for too long.
func (l *detectLane) lost() bool {
	_, one := l.cm.Find(0, isLost)
	_, other := l.aide.Find(0, isLost)
	return one || other || len(l.events) > 0
}

// detectLane starts all that a lane has, up to the first statement of each application. It returns
// nil after a false verdict.
func (b *bench) detectLane(h *testnet.Host, s setting, db, db2 *pgtest.Cluster, peers bool) *detectLane {
	l := &detectLane{host: h, events: make(chan event, 20)}
	config := s.config(db)
	config.Extra = fmt.Sprintf("relay_port_read_write = %d\n", relayPort)
	l.cm = cmtest.Start(b, h, config)
	config = s.config(db2)
	config.Extra, config.Port, config.NetAdmin = "destroy_sockets = on\n", conmgrPort+100, true
	l.aide = cmtest.Start(b, h, config)
	l.cm.WaitInstance(0, "role", "primary")
	l.aide.WaitInstance(0, "role", "primary")

	const readWrite = " target_session_attrs=read-write"
	args := []string{oursRelay, plain("127.0.0.1", relayPort), oursDestroyed, plain(db2.Addr(), db2.Port)}
	if peers {
		const sample, tuned = haproxyPort, haproxyPort + 100
		b.HAProxy(h, sample, haproxySample, db)
		b.HAProxy(h, tuned, haproxyTuned, db)
		b.PgBouncer(h, db, bouncerSessions)
		there := plain(db.Addr(), db.Port)
		args = append(args, libpqDefaults, there, libpqKeepalive, there+keepalives, libpqTimeout,
			there+keepalives+" tcp_user_timeout=3000",
			haproxySampleS, plain("127.0.0.1", sample), haproxyTunedS, plain("127.0.0.1", tuned), pgbouncerS,
			plain("127.0.0.1", pgbouncerPort))
	}
	b.App(h, nil, l.events, "wait", args...)
	b.App(h, b.Front(), l.events, "wait", ours, plain("127.0.0.1", conmgrPort)+readWrite)
	if err := b.goWaiter(h, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable",
		conmgrPort)+readWrite, l.events); err != nil && !l.lost() {
		b.Fatalf("%v", err)
	}

	want := 2 + len(args)/2
	testkit.Eventually(b, patience, "the applications of "+h.Name+" wait", func() (bool, string) {
		l.sessions = nil
		for _, c := range []*pgtest.Cluster{db, db2} {
			for _, row := range c.Query("SELECT pid FROM pg_stat_activity WHERE client_addr = $1::inet AND wait_event = 'PgSleep'", h.Addr4.String()) {
				var pid int
				fmt.Sscan(row[0], &pid)
				l.sessions = append(l.sessions, pid)
			}
		}
		return len(l.sessions) == want || l.lost(), fmt.Sprintf("%d of %d", len(l.sessions), want)
	})
	if l.lost() {
		return nil
	}
	return l
}

// goWaiter is an application in Go, on a goroutine of this process, with sockets of the host.
func (b *bench) goWaiter(h *testnet.Host, dsn string, to chan<- event) error {
	connector, err := pqcm.NewConnector(dsn)
	if err != nil {
		return err
	}
	conn, err := connectIn(h, connector)
	if err != nil {
		return err
	}
	b.Cleanup(func() { conn.Close() })
	go func() {
		if err := execute(conn, "SELECT pg_sleep(600)"); err != nil {
			to <- event{who: oursGo, at: testnet.Monotonic()}
		}
	}()
	return nil
}

// detection is one setting being measured, and the peers beside it.
type detection struct {
	*bench
	setting
	net   *testnet.Net
	db    [2]*pgtest.Cluster
	peers bool
	limit time.Duration // of the observation, from the cut
	still *stalls
	hosts atomic.Int32
}

func (b *bench) detect(s setting, lanes int, peers bool, limit time.Duration) {
	d := &detection{bench: b, setting: s, net: testnet.New(b), peers: peers, limit: limit, still: b.Stalls()}
	for i, name := range []string{"db", "db2"} {
		d.db[i] = pgtest.New(b, pgtest.Host(d.net.Host(name)), pgtest.Named(name), pgtest.Watchdog(),
			pgtest.Set("max_connections", "500"))
	}
	if peers {
		b.Rest(d.db[0])
	}
	// one after the other: the less there is at a time, the less often somebody is declared dead who only had to wait
	if s.timeout < time.Second {
		for got, try := 0, 0; got < lanes && try < 2*lanes; try++ {
			l := d.lane()
			b.pause(testnet.Monotonic() + rand.N(s.interval))
			if d.die(l) && d.collect(l) {
				got++
			}
		}
		return
	}
	all := make([]*detectLane, lanes)
	b.Parallel(lanes, 4, func(i int) { all[i] = d.lane() })
	// the phase of a lane's heartbeats comes from when it was started
	rand.Shuffle(lanes, func(i, j int) { all[i], all[j] = all[j], all[i] })
	runtime.GC() // not while it counts
	start := testnet.Monotonic()
	for i, at := range s.cuts(lanes) {
		b.pause(start + at)
		if !d.die(all[i]) {
			all[i] = nil
		}
	}
	for _, l := range all {
		if l != nil {
			d.collect(l)
		}
	}
}

// lane makes one.
func (d *detection) lane() *detectLane {
	for range 5 {
		if l := d.detectLane(d.net.Host(fmt.Sprintf("client%d", d.hosts.Add(1))), d.setting, d.db[0], d.db[1],
			d.peers); l != nil {
			return l
		}
	}
	d.Fatalf("%s: false verdicts, again and again: this machine stands still for too long", d.name)
	return nil
}

// die cuts a lane off, and stops the backends of its sessions: a host that is dead takes no
// processor time from its clients. It returns false if the lane is of no use any more.
func (d *detection) die(l *detectLane) bool {
	if l.lost() {
		d.Add(lostBeforeName, ours, d.name, "", 1)
		return false
	}
	w := d.net.Isolate(l.host).Applied
	l.cut = w.Before.Mono
	for _, pid := range l.sessions {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	d.AddTime(cutName, "", "", w.After.Mono-w.Before.Mono)
	return true
}

// collect waits for the errors of a lane's applications, and records them.
func (d *detection) collect(l *detectLane) bool {
	want := len(detectOurs)
	if d.peers {
		want += len(detectPeers)
	}
	seen := map[string]time.Duration{}
	for len(seen) < want {
		e, ok := d.next(l.events, l.cut+d.limit)
		if !ok {
			break
		}
		if e.at < l.cut { // while the command ran that cuts
			d.Add(lostBeforeName, ours, d.name, "", 1)
			return false
		}
		seen[e.who] = e.at
	}
	for _, series := range detectOurs {
		at, ok := seen[series]
		cm := l.cm
		if series == oursDestroyed {
			cm = l.aide
		}
		if !ok {
			d.Fatalf("%s, %s, %s: no error within %v; conmgr:\n%s", d.name, l.host.Name, series, d.limit, cm.Log())
		}
		line := cm.WaitLog(0, isLost, patience) // the application may have been faster than the log's reader
		d.AddTime(detectName, series, d.name, at-l.cut)
		if d.still.Within(at-time.Second, at) <= calm && d.still.Within(l.cut, at) <= d.interval/2 {
			d.AddTime(calmName, series, d.name, at-l.cut)
		}
		d.AddTime(verdictName, series, d.name, at-line.At)
		if series == oursDestroyed {
			said := cm.WaitLog(0, destroyedIn, patience).Text
			us, _ := strconv.ParseFloat(regexp.MustCompile(destroyedIn).FindStringSubmatch(said)[1], 64)
			d.Add(destroyName, series, d.name, "ms", us/1000)
		}
	}
	for _, series := range detectPeers {
		if at, ok := seen[series]; ok {
			d.AddTime(detectName, series, "", at-l.cut)
		} else if d.peers {
			d.AddAtLeast(detectName, series, "", d.limit)
		}
	}
	l.cm.Signal(syscall.SIGKILL)
	l.aide.Signal(syscall.SIGKILL)
	return true
}

var figureDetect = figure{
	key:   "detect",
	title: "Silent death of a database host",
	run: func(b *bench) {
		pgtest.New(b, pgtest.Stopped(), pgtest.Watchdog()) // keeps the installation for the parts
		lanes := Pick(b, 30, 3)
		b.Parallel(len(settings), Pick(b, 1, 3), func(i int) {
			s := settings[i]
			peers := s == settingDefault
			limit := s.timeout + 5*time.Second
			if peers {
				limit = Pick(b, time.Minute, 21*time.Second)
			}
			b.Scope(func(b *bench) { b.detect(s, lanes, peers, limit) })
		})
	},
	show: showDetect,
}

func showDetect(r *results, p *page) {
	p.Para("Applications wait for the answer to a query; the switch then drops every packet from and to their host, at a random moment. So their server is a dead host to them: nothing arrives, nothing is refused. "+
		"Each lane is a client host (network namespace) of its own, with its own conmgr and proxies and one application for each row below. From the start of the command that cuts, which takes %s ms, to the return of PQexec, or of lib/pq's Exec; milliseconds. The backends of a lane are stopped at the cut, as a dead host takes no processor time from its clients; here both are one machine. "+
		"The lanes of 100 ms / 300 ms come and die one after the other; those of 1 s / 2 s die one each second, of the default all within 10 s.",
		r.find(p.key, cutName, "", "").spread())
	p.Para("The longest time for which this machine stood still meanwhile: %s ms. The target is about those lanes of ours for which it did not stand still for more than %v in the second before the error, nor for more than half a heartbeat_interval since the cut.", number(float64(r.stalls[p.key])/float64(time.Millisecond)), calm)
	var rows [][]string
	curves := []curve{}
	for _, s := range settings {
		limit := float64(s.timeout/time.Millisecond) + 20
		if c := r.find(p.key, lostBeforeName, ours, s.name); c != nil {
			p.Para("%s: %d lanes are missing, as conmgr had declared their server lost before: this machine stood still for longer than a timeout allows.", s.name, len(c.values))
		}
		var got []string
		met := true
		for _, series := range detectOurs {
			c, v, quiet := r.find(p.key, detectName, series, s.name), r.find(p.key, verdictName, series, s.name),
				r.find(p.key, calmName, series, s.name)
			if c == nil {
				continue
			}
			row := []string{s.name, series, fmt.Sprint(len(c.values)), c.spread(), c.at(0.99), c.at(1), "0", "-",
				v.spread(), v.at(0.99)}
			if quiet != nil {
				row[6], row[7] = fmt.Sprint(len(quiet.values)), quiet.at(0.99)
				if len(quiet.values) >= 10 || len(quiet.values) == len(c.values) {
					c = quiet
				}
			}
			rows = append(rows, row)
			got = append(got, fmt.Sprintf("%s %s ms", strings.TrimPrefix(series, "ours: "), c.at(0.99)))
			met = met && c.quantile(0.99) <= limit
		}
		p.Target(fmt.Sprintf("%s: error within heartbeat_timeout + 20 ms (p99)", s.name), strings.Join(got, ", "),
			met && got != nil)
		curves = append(curves, distribution("ours: front, "+s.name, r.find(p.key, detectName, ours, s.name)))
	}
	p.Table([]string{"heartbeat_interval / heartbeat_timeout", "", "n", "median", "p99", "longest",
		"machine did not stand still: n", "p99", verdictName + ": median", "p99"}, rows)
	p.Para("conmgr judges heartbeat_timeout after the last heartbeat, which is up to heartbeat_interval older than the cut: the range of the times is that, and no spread of ours. " +
		"The moment of the verdict is the one at which this program, another process, had read its line of conmgr's log; so the time from it may be negative.")
	var took []string
	for _, s := range settings {
		took = append(took, r.find(p.key, destroyName, oursDestroyed, s.name).spread())
	}
	p.Para("By conmgr's log, to find the connections to the lost server and to destroy them took it %s ms (the settings as above).", strings.Join(took, "; "))
	rows = nil
	for _, series := range detectPeers {
		c := r.find(p.key, detectName, series, "")
		if c == nil {
			continue
		}
		rows = append(rows, []string{series, fmt.Sprint(len(c.values)), c.spread(), c.at(0.99), c.at(1),
			fmt.Sprint(c.censored)})
		if c.censored < len(c.values) {
			curves = append(curves, distribution(series, c))
		}
	}
	p.Table([]string{"", "n", "median", "p99", "longest", "none before the end"}, rows)
	if !math.IsNaN(r.find(p.key, detectName, ours, settingFast.name).median()) {
		p.Plot("distribution", "share of applications that have got their error, by time",
			plot{title: "Silent death of a database host: applications that know", xName: "ms since the cut",
				yName: "%", logX: true, curves: curves}.svg())
	}
}
