package main

// What watchdog costs while nothing happens.

import (
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	idleName = "processor time, as a share of a core"
	wakeName = "context switches"

	theTerminator = "terminator"
	theConmgr     = "conmgr"

	defaults   = "defaults"
	attributes = "watchdog.check_attr_interval = 1ms"
)

var idleProcesses = []string{theWorker, theTerminator, theConmgr}

// switches is the number of context switches of all threads of a process, voluntary or not.
func (b *bench) switches(pid int) (sum float64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, path := range threads {
		for _, field := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
			if n, err := strconv.ParseFloat(procField(path, field), 64); err == nil { // else the thread has ended
				sum += n
			}
		}
	}
	return sum
}

var figureIdle = figure{
	key:   "idle",
	title: "At rest",
	run: func(b *bench) {
		net := testnet.New(b)
		type watched struct {
			when, series string
			pid          int
			used         time.Duration
			switches     float64
		}
		var all []watched
		for i, when := range []string{defaults, attributes} {
			options := []pgtest.Option{pgtest.Host(net.Host(fmt.Sprintf("db%d", i))),
				pgtest.Named(fmt.Sprintf("db%d", i)), pgtest.Watchdog()}
			if when == attributes {
				options = append(options, pgtest.Set("watchdog.check_attr_interval", "1ms"))
			}
			server := pgtest.New(b, options...)
			cm := cmtest.Start(b, net.Host(fmt.Sprintf("client%d", i)),
				cmtest.Config{Clusters: []*pgtest.Cluster{server}})
			cm.WaitInstance(0, "role", "primary")
			all = append(all, watched{when, theWorker, server.WorkerPid("watchdog worker"), 0, 0},
				watched{when, theTerminator, server.WorkerPid("terminator worker"), 0, 0},
				watched{when, theConmgr, cm.Pid, 0, 0})
		}
		// The close look at the attributes that follows the start is over then; so are the starts'
		// own garbage collections.
		b.rest(Pick(b, 15*time.Second, 4*time.Second))
		for i := range all {
			w := &all[i]
			w.used, w.switches = b.cpuTime(w.pid), b.switches(w.pid)
		}
		since := time.Now()
		b.rest(Pick(b, 40*time.Second, 5*time.Second)) // whole heartbeat intervals
		for _, w := range all {
			d := time.Since(since)
			b.Add(idleName, w.series, w.when, "share", float64(b.cpuTime(w.pid)-w.used)/float64(d))
			b.Add(wakeName, w.series, w.when, "1/s", (b.switches(w.pid)-w.switches)/d.Seconds())
		}
	},
	show: func(r *results, p *page) {
		p.Para("One server and one conmgr without applications, heartbeats at the defaults (10 s / 20 s), over 40 s. The shares are of one core: 0.1 %% is a millisecond a second. " +
			"(At 1 ms the attributes are looked at 1000 times a second, whatever comes of it; changes of the role are noticed at once at the default as well.)")
		var rows [][]string
		for _, s := range idleProcesses {
			row := []string{s}
			for _, when := range []string{defaults, attributes} {
				share, wakes := r.find(p.key, idleName, s, when), r.find(p.key, wakeName, s, when)
				row = append(row, percent(share.median()), wakes.at(0.5))
			}
			rows = append(rows, row)
		}
		p.Table([]string{"", "defaults", "context switches a second", "check_attr_interval = 1 ms",
			"context switches a second"}, rows)
		for _, s := range idleProcesses {
			share := r.find(p.key, idleName, s, defaults).median()
			p.Target(s+" below 0.1 % of a core at the defaults", percent(share), share < 0.001)
		}
	},
}

// percent writes a share.
func percent(share float64) string { return fmt.Sprintf("%.3f %%", 100*share) }

// rest waits while nothing is done.
func (b *bench) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.Context().Done():
		b.Fatalf("interrupted")
	}
}
