package main

// What one watchdog worker costs as the conmgrs become many, beside a C program that does the reads
// and writes and nothing else; and whether its verdicts stay right.

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	scaleInterval = time.Second
	scaleTimeout  = 4 * time.Second
	scaleSilent   = 20 // every so-many-th falls silent
	floorPort     = 27600

	cpuName      = "processor time, as a share of a core"
	cpuRatioName = "processor time, relative to the floor of the same round"
	rssName      = "resident memory (VmRSS)"
	anonName     = "memory of its own (RssAnon)"
	slotName     = "shared memory a slot"
	lateName     = "verdict, after heartbeat_timeout"
	silentName   = "silent conmgrs"
	verdictsName = "verdicts on the silent"
	falseName    = "verdicts on others"

	noConmgr = "no conmgr"

	theWorker = "watchdog worker"
	theFloor  = "floor (C, reads and writes only)"
)

// shuffled returns the numbers below n in random order.
func (b *bench) shuffled(n int) []int { return rand.Perm(n) }

func conmgrCase(n int) string { return thousands(int64(n)) + " conmgrs" }

// conmgrCount is the number in a case.
func conmgrCount(when string) float64 {
	n, _ := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSuffix(when, " conmgrs"), " ", ""), 64)
	return n
}

// sizes are the numbers of conmgrs to measure with; both ends need a descriptor each, in processes
// of their own.
func (b *bench) sizes() []int {
	if b.quick {
		return []int{100, 1000}
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		b.Fatalf("getrlimit: %v", err)
	}
	sizes := []int{100, 1000, 3000}
	for _, n := range []int{10_000, 18_000, 50_000} {
		if l.Max >= uint64(n)+1500 {
			sizes = append(sizes, n)
		}
	}
	return sizes
}

// under measures the processor time of a process for a time of heartbeats.
func (b *bench) under(h *herd, pid int, d time.Duration) float64 {
	used, since := b.cpuTime(pid), time.Now()
	h.run(d)
	return float64(b.cpuTime(pid)-used) / float64(time.Since(since))
}

var figureScale = figure{
	key:   "scale",
	title: "One watchdog, many conmgrs",
	run: func(b *bench) {
		db := testnet.New(b).Host("db")
		sizes := b.sizes()
		slots := sizes[len(sizes)-1] * 9 / 8 // some are kept for other addresses
		server := pgtest.New(b, pgtest.Host(db), pgtest.Watchdog(),
			pgtest.Set("watchdog.max_heartbeat_connections", strconv.Itoa(slots)))
		floor := b.As(db, nil, b.Program("floor"), strconv.Itoa(floorPort),
			strconv.FormatInt(scaleInterval.Milliseconds(), 10))
		b.Start(floor)
		b.Listening(db, floorPort)
		b.Listening(db, server.WatchdogPort)
		worker := server.WorkerPid("watchdog worker")

		shared, err := strconv.ParseFloat(server.Value("SELECT size FROM pg_shmem_allocations WHERE name = 'watchdog'"),
			64)
		if err != nil {
			b.Fatalf("pg_shmem_allocations: %v", err)
		}
		b.Add(slotName, theWorker, "", "B", shared/float64(slots))
		b.Add(rssName, theWorker, noConmgr, "B", b.memory(worker, "VmRSS"))
		b.Add(anonName, theWorker, noConmgr, "B", b.memory(worker, "RssAnon"))
		rounds, window := Pick(b, 5, 1), Pick(b, 4*time.Second, 2*time.Second)
		for round := range rounds {
			for _, n := range sizes {
				if n > 10_000 && round > 0 {
					continue // once, to see that it goes on like this
				}
				h := newHerd(b, db, floorPort, n, scaleInterval, scaleTimeout)
				h.run(time.Second)
				least := b.under(h, floor.Process.Pid, window)
				h.close()
				b.Add(cpuName, theFloor, conmgrCase(n), "share", least)
				b.scaleOurs(server, db, worker, n, least, window, round == 0)
			}
		}
	},
	show: func(r *results, p *page) {
		p.Para("Simulated conmgrs, each with an address of its own, exchange heartbeats with one watchdog worker by the real protocol: heartbeat_interval 1 s, heartbeat_timeout %v. "+
			"All are on the server's host (loopback), where the kernel's share is smallest. The floor is bench/c/floor.c under the same load: one read for each frame that comes, one write for each that goes, and no more. "+
			"Windows of 4 s in turn, so the ratios are those of neighbours; the processor time is that of all the worker's threads, its main thread included, as a share of one core.", scaleTimeout)
		cases := r.names(p.key, cpuName, func(s sample) string { return s.when })
		var rows [][]string
		cpu := []curve{{name: theWorker}, {name: theFloor}}
		mem := []curve{{name: "resident (VmRSS)"}, {name: "of its own (RssAnon)"}}
		base := r.find(p.key, rssName, theWorker, noConmgr)
		each := func(when string) float64 { return r.find(p.key, rssName, theWorker, when).max() - base.max() }
		for _, when := range cases {
			n := conmgrCount(when)
			used, least := r.find(p.key, cpuName, theWorker, when), r.find(p.key, cpuName, theFloor, when)
			rss, anon := r.find(p.key, rssName, theWorker, when), r.find(p.key, anonName, theWorker, when)
			if used == nil || rss == nil || anon == nil {
				continue // the figure ended there
			}
			rows = append(rows, []string{when, percent(used.median()), percent(least.median()),
				r.find(p.key, cpuRatioName, theWorker, when).spread(), number(used.median() / n * 1e6),
				number(rss.max() / 1e6), number(anon.max() / 1e6), number(each(when) / n)})
			for i, c := range []*cell{used, least} {
				cpu[i].x, cpu[i].y = append(cpu[i].x, n), append(cpu[i].y, 100*c.median())
			}
			for i, c := range []*cell{rss, anon} {
				mem[i].x, mem[i].y = append(mem[i].x, n), append(mem[i].y, c.max()/1e6)
			}
		}
		p.Table([]string{"", "worker", "floor", "ratio", "µs a conmgr and second", "VmRSS, MB", "RssAnon, MB",
			"bytes a conmgr, beyond VmRSS without any"}, rows)
		p.Para("Without a conmgr the worker has %s MB resident, %s MB of them its own. A slot takes %s bytes of shared memory (as the worker touches them, they are part of its VmRSS).",
			number(base.max()/1e6), number(r.find(p.key, anonName, theWorker, noConmgr).max()/1e6),
			number(r.find(p.key, slotName, theWorker, "").median()))
		p.Plot("cpu", "Processor time against the number of conmgrs",
			plot{title: "Processor time", xName: "conmgrs", yName: "% of a core", logX: true, logY: true,
				curves: cpu}.svg())
		p.Plot("memory", "Memory against the number of conmgrs",
			plot{title: "Memory of the watchdog worker", xName: "conmgrs", yName: "MB", curves: mem}.svg())

		p.Para("Then every %dth conmgr falls silent, with its connection open, and the others go on. The verdict's time is that of the watchdog's GOODBYE, after the last heartbeat and heartbeat_timeout.", scaleSilent)
		rows = nil
		wrong, missing := 0.0, 0.0
		for _, when := range cases {
			late, due, got, alive := r.find(p.key, lateName, theWorker, when),
				r.find(p.key, silentName, theWorker, when), r.find(p.key, verdictsName, theWorker, when),
				r.find(p.key, falseName, theWorker, when)
			if due == nil {
				continue
			}
			wrong, missing = wrong+alive.sum(), missing+due.sum()-got.sum()
			rows = append(rows, []string{when, number(due.sum()), number(got.sum()), number(alive.sum()), late.spread(),
				late.at(0.99), late.at(1)})
		}
		p.Table([]string{"all rounds together", "silent", "verdicts on them", "verdicts on others",
			"verdict late by, ms", "p99", "at most"}, rows)

		for _, when := range cases {
			if c := r.find(p.key, cpuRatioName, theWorker, when); c != nil {
				p.Target("processor time at most 1.3 times the floor, "+when, c.spread(), c.median() <= 1.3)
			}
		}
		small, large := r.find(p.key, cpuName, theWorker, conmgrCase(1000)),
			r.find(p.key, cpuName, theWorker, conmgrCase(10_000))
		if large != nil {
			growth := large.median() / small.median() / 10
			p.Target("cost linear: a conmgr at 10 000 at most 1.25 times one at 1 000", fmt.Sprintf("%.2f", growth),
				growth <= 1.25)
			anon := r.find(p.key, anonName, theWorker, conmgrCase(10_000)).max()
			p.Target("at most 16 MB of its own (RssAnon) at 10 000", number(anon/1e6)+" MB", anon <= 16e6)
			p.Target("at most 1 KB resident a conmgr beyond the base at 10 000",
				number(each(conmgrCase(10_000))/10_000)+" B", each(conmgrCase(10_000)) <= 1024*10_000)
		}
		p.Target("no verdict on a conmgr that was alive, none missing", fmt.Sprintf("%.0f, %.0f", wrong, missing),
			wrong == 0 && missing == 0)
	},
}

func (c *cell) sum() (s float64) {
	for _, v := range c.values {
		s += v
	}
	return s
}

// scaleOurs measures the worker with n conmgrs. Its memory counts the first time only, when it has
// never had more.
func (b *bench) scaleOurs(server *pgtest.Cluster, db *testnet.Host, worker, n int, least float64, window time.Duration,
	first bool) {
	when := conmgrCase(n)
	h := newHerd(b, db, server.WatchdogPort, n, scaleInterval, scaleTimeout)
	defer h.close()
	h.run(time.Second)
	used := b.under(h, worker, window)
	b.Add(cpuName, theWorker, when, "share", used)
	b.Add(cpuRatioName, theWorker, when, "", used/least)
	if first {
		b.Add(rssName, theWorker, when, "B", b.memory(worker, "VmRSS"))
		b.Add(anonName, theWorker, when, "B", b.memory(worker, "RssAnon"))
	}

	h.silence(scaleSilent)
	h.run(scaleTimeout + 500*time.Millisecond)
	// after a stall of the machine the worker grants some time more, on purpose
	for i := 0; i < 30 && h.waiting(); i++ {
		h.run(100 * time.Millisecond)
	}
	silent, verdicts, wrong := 0, 0, 0
	for i := range h.conmgrs {
		c := &h.conmgrs[i]
		if c.silent {
			silent++
		}
		switch {
		case c.silent && c.verdict != 0:
			verdicts++
			b.AddTime(lateName, theWorker, when, c.verdict-c.lastSent-scaleTimeout)
		case c.verdict != 0:
			wrong++
			b.Logf("conmgr %d: %s", i, c.end)
		}
	}
	b.Add(silentName, theWorker, when, "", float64(silent))
	b.Add(verdictsName, theWorker, when, "", float64(verdicts))
	b.Add(falseName, theWorker, when, "", float64(wrong))
}
