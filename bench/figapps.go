package main

// One conmgr with many applications: what each costs, and how long it takes to tell all of them of
// a loss.

import (
	"fmt"
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
			Timeout: "1s"})
		cm.WaitInstance(0, "role", "primary")
		n := Pick(b, 10_000, 1000)
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Max < uint64(n)+500 {
			b.Fatalf("%d applications need more descriptors than %d (ulimit -Hn) %v", n, l.Max, err)
		}
		fields := []string{"VmRSS", "RssAnon"}
		for round := range Pick(b, 10, 2) {
			var base []float64
			for _, f := range fields {
				base = append(base, b.memory(cm.Pid, f))
			}
			begun := time.Now()
			c := newCrowd(b, client, conmgrPort, n)
			b.Add(rateName, theConmgr, "", "1/s", float64(n)/time.Since(begun).Seconds())
			if round == 0 { // later ones use again what the first one has left
				b.rest(Pick(b, 3*time.Second, time.Second))
				for i, f := range fields {
					b.Add(appName, f, "", "B", (b.memory(cm.Pid, f)-base[i])/float64(n))
				}
			}
			mark := cm.Mark()
			used := b.cpuTime(cm.Pid)
			cut := net.Isolate(db)
			own := ownCPU(b)
			c.wait(patience, time.Millisecond, func() bool { return c.told == n })
			own = ownCPU(b) - own
			// All of it, but for 1 s of heartbeats.
			b.AddTime(tellCPUName, theConmgr, "", b.cpuTime(cm.Pid)-used)
			b.AddTime(tellCPUName, theCrowd, "", own)
			verdict := b.loggedAt(cm.WaitLog(mark, "is lost", patience).Text)
			d := c.since(verdict)
			b.AddTime(tellName, theConmgr, firstTold, d[0])
			b.AddTime(tellName, theConmgr, medianTold, d[n/2])
			b.AddTime(tellName, theConmgr, lastTold, d[n-1])
			c.close()
			cut.Heal()
			cm.WaitInstance(0, "state", "established")
		}
	},
	show: func(r *results, p *page) {
		p.Para("The applications are sockets in one epoll loop on the same machine: connect, startup, `SHOW TARGET primary`, and then wait; %d of them connect at a time. "+
			"The instance's host is cut off, and the time runs from conmgr's verdict (its log line, whole milliseconds) until an application has read its FATAL; the loop looks every millisecond.", inFlight)
		var rows [][]string
		for _, when := range []string{firstTold, medianTold, lastTold} {
			c := r.find(p.key, tellName, theConmgr, when)
			rows = append(rows, []string{when + " application told, ms", c.spread()})
		}
		for _, s := range []string{theConmgr, theCrowd} {
			rows = append(rows, []string{"processor time for it, " + s + ", ms",
				r.find(p.key, tellCPUName, s, "").spread()})
		}
		rate, rss, anon := r.find(p.key, rateName, theConmgr, ""), r.find(p.key, appName, "VmRSS", ""),
			r.find(p.key, appName, "RssAnon", "")
		rows = append(rows, []string{"connections until bound, a second", rate.spread()},
			[]string{"resident memory of conmgr an application (VmRSS), bytes", rss.spread()},
			[]string{"of it memory of its own (RssAnon), bytes", anon.spread()})
		p.Table([]string{"", ""}, rows)
		last := r.find(p.key, tellName, theConmgr, lastTold)
		p.Target("all applications told within 100 ms of the verdict", fmt.Sprintf("%s ms", last.spread()),
			last.median() <= 100)
		p.Target("at most 8 KB an application", thousands(int64(rss.median()))+" B", rss.median() <= 8192)
	},
}

// ownCPU is the processor time of this process.
func ownCPU(b *bench) time.Duration { return b.cpuTime(unix.Getpid()) }
