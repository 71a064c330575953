package main

// One conmgr with many applications: what each costs, and how long it takes to tell all of them of
// a loss.

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	tellName    = "from the verdict until applications are told"
	rateName    = "connections until bound"
	tellCPUName = "processor time for telling"
	appName     = "memory an application"

	firstTold  = "first"
	medianTold = "median"
	lastTold   = "last"

	theCrowd = "the applications"
)

// loggedAt is the time that conmgr gave a log line.
func (b *bench) loggedAt(line string) time.Time {
	const layout = "2006-01-02 15:04:05.000 MST"
	at, err := time.Parse(layout, line[:min(len(layout), len(line))])
	if err != nil {
		b.Fatalf("%v", err)
	}
	return at
}

var figureApps = figure{
	key:   "apps",
	title: "One conmgr, many applications",
	run: func(b *bench) {
		net := testnet.New(b)
		client, db := net.Host("client"), net.Host("db")
		server := pgtest.New(b, pgtest.Host(db), pgtest.Watchdog())
		cm := cmtest.Start(b, client, cmtest.Config{Clusters: []*pgtest.Cluster{server}, Interval: "250ms",
			Timeout: "1s", Extra: fmt.Sprintf("max_user_connections = %d\n", 2*manyApps)}) // all are one user's
		cm.WaitInstance(0, "role", "primary")
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			b.Fatalf("getrlimit: %v", err)
		}
		n, most := Pick(b, manyApps, 1000), Pick(b, 2*manyApps, 2000)
		if l.Max < uint64(n)+500 {
			b.Fatalf("%d applications need more descriptors than %d (ulimit -Hn)", n, l.Max)
		}
		rounds := slices.Repeat([]int{n}, Pick(b, 10, 2))
		for range Pick(b, 3, 1) {
			rounds = append(rounds, min(most, int(l.Max)-500))
		}
		fields := []string{"VmRSS", "RssAnon"}
		least := []float64{b.memory(cm.Pid, fields[0]), b.memory(cm.Pid, fields[1])}
		largest := 0
		for _, n := range rounds {
			series := appCase(n)
			begun := time.Now()
			c := newCrowd(b, client, conmgrPort, n)
			b.Add(rateName, series, "", "1/s", float64(n)/time.Since(begun).Seconds())
			if n > largest { // later ones use again what the first one has left
				largest = n
				b.rest(Pick(b, 3*time.Second, time.Second))
				for i, f := range fields {
					b.Add(appName, series, f, "B", (b.memory(cm.Pid, f)-least[i])/float64(n))
				}
			}
			mark := cm.Mark()
			used := b.cpuTime(cm.Pid)
			cut := net.Isolate(db)
			own := ownCPU(b)
			c.wait(patience, time.Millisecond, func() bool { return c.told == n })
			own = ownCPU(b) - own
			// All of it, but for 1 s of heartbeats.
			b.AddTime(tellCPUName, series, theConmgr, b.cpuTime(cm.Pid)-used)
			b.AddTime(tellCPUName, series, theCrowd, own)
			verdict := b.loggedAt(cm.WaitLog(mark, "is lost", patience).Text)
			d := c.since(verdict, isTold)
			b.AddTime(tellName, series, firstTold, d[0])
			b.AddTime(tellName, series, medianTold, d[n/2])
			b.AddTime(tellName, series, lastTold, d[n-1])
			c.close()
			cut.Heal()
			cm.WaitInstance(0, "state", "established")
		}
	},
	show: func(r *results, p *page) {
		p.Para("The applications are sockets in one epoll loop on the same machine: connect, startup, `SHOW TARGET primary`, and then wait; %d of them connect at a time. "+
			"The instance's host is cut off, and the time runs from conmgr's verdict (its log line, whole milliseconds) until an application has read its FATAL; the loop looks every millisecond.", inFlight)
		cases := r.names(p.key, tellName, func(s sample) string { return s.series })
		row := func(name, what, when string) []string {
			row := []string{name}
			for _, s := range cases {
				row = append(row, r.find(p.key, what, s, when).spread())
			}
			return row
		}
		p.Table(append([]string{""}, cases...), [][]string{
			row("first application told, ms", tellName, firstTold),
			row("median application told, ms", tellName, medianTold),
			row("last application told, ms", tellName, lastTold),
			row("processor time for it, conmgr, ms", tellCPUName, theConmgr),
			row("processor time for it, the applications, ms", tellCPUName, theCrowd),
			row("connections until bound, a second", rateName, ""),
			row("resident memory of conmgr an application (VmRSS), bytes", appName, "VmRSS"),
			row("of it memory of its own (RssAnon), bytes", appName, "RssAnon"),
		})
		for i, s := range cases {
			last, rss := r.find(p.key, tellName, s, lastTold), r.find(p.key, appName, s, "VmRSS")
			limit := []float64{100, 150}[min(i, 1)]
			p.Target(fmt.Sprintf("all of %s told within %.0f ms of the verdict", s, limit), fmt.Sprintf("%s ms", last.spread()),
				last.median() <= limit)
			p.Target("at most 8 KB an application, "+s, thousands(int64(rss.median()))+" B", rss.median() <= 8192)
		}
	},
}

const manyApps = 10_000

func appCase(n int) string { return thousands(int64(n)) + " applications" }

// ownCPU is the processor time of this process.
func ownCPU(b *bench) time.Duration { return b.cpuTime(unix.Getpid()) }
