// Command bench measures watchdog beside what a user would take instead, on this machine, in one
// run: `make bench`. Every claim of speed in the project's documents is a ratio or a figure from
// here.
//
//	main.go      flags, order of the figures, exit status
//	bench.go     what a figure has at hand: samples, programs, time
//	stats.go     medians and spreads
//	report.go    docs/benchmarks.md, CSV in build/bench
//	plot.go      SVG
//	peers.go     HAProxy and PgBouncer, configured as their users do
//	cpu.go       processor time and memory of processes
//	herd.go      simulated conmgrs
//	crowd.go     simulated applications
//	lanes.go     many trials at the same time, and when their processes end
//	gosession.go applications in Go, in this process
//	fig*.go      the figures; figagainst.go: this build beside an earlier one
//	c/           C programs: libpq applications, and the floor of figure 6
//	notes/       remarks on the figures, written by hand, that go into the report
//
// Hosts are network namespaces around a switch that injects the faults, as in the tests; so it
// needs root. The servers, conmgrs and peers run as nobody, and are gone at the end. The main
// goroutine waits for one figure after the other.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// A run is to end by itself in any case.
const (
	atMost      = 50 * time.Minute
	atMostQuick = 6 * time.Minute
)

const (
	exitOK      = 0
	exitFailure = 1 // a figure could not be measured
	exitUsage   = 2
)

// figure is one group of measurements, and how they are shown.
type figure struct {
	key   string // for -only, the names of files, and the CSV
	title string
	run   func(*bench)
	show  func(*results, *page)
}

var figures = []figure{
	figureDetect,
	figureClient,
	figurePromote,
	figureSwitchover,
	figureConnect,
	figureQuery,
	figureBusy,
	figureScale,
	figureKeys,
	figureLoss,
	figureWait,
	figureTable,
	figureApps,
	figureIdle,
	figureLooked,
}

func main() { os.Exit(run()) }

func run() int {
	quick := flag.Bool("quick", false, "few samples, some five minutes: whether it works, not how well")
	only := flag.String("only", "", "comma-separated figures to measure (default: all): "+strings.Join(keys(), ", "))
	against := flag.String("against", "", "measure this build beside the one in a `directory` (build/ of another source tree), and nothing else")
	out := flag.String("out", "", "directory for benchmarks.md and benchmarks/ (default: docs/ of the project; with -quick, -only or -against: build/bench/)")
	flag.Parse()
	os.Setenv("PGCMUSER", "*") // conmgr runs as nobody, who is not trusted by the applications of others
	usage := func(format string, args ...any) int {
		fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
		return exitUsage
	}
	if flag.NArg() > 0 {
		return usage("unexpected argument %q", flag.Arg(0))
	}
	chosen := figures
	if *only != "" {
		chosen = nil
		for _, key := range strings.Split(*only, ",") {
			i := slices.IndexFunc(figures, func(f figure) bool { return f.key == key })
			if i < 0 {
				return usage("-only: no figure %q; there are %s", key, strings.Join(keys(), ", "))
			}
			chosen = append(chosen, figures[i])
		}
	}
	if *against != "" {
		if *only != "" {
			return usage("-only and -against exclude each other")
		}
		dir, err := filepath.Abs(*against)
		if err == nil {
			_, err = os.Stat(filepath.Join(dir, "watchdog_go.so"))
		}
		if err != nil {
			return usage("-against: want a build directory: %v", err)
		}
		chosen = []figure{figureAgainst(dir)}
	}
	if os.Geteuid() != 0 {
		return usage("network namespaces need root")
	}
	root, err := pgtest.SourceRoot()
	if err != nil {
		return usage("%v", err)
	}
	if *out == "" {
		if *out = filepath.Join(root, "docs"); *quick || *only != "" || *against != "" {
			*out = filepath.Join(root, "build", "bench")
		}
	}
	syscall.Umask(0o022) // nobody has to read what is made here

	limit := atMost
	if *quick {
		limit = atMostQuick
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the benchmark is not at its end after %v", limit))
	defer cancel()

	started := time.Now()
	all := &results{}
	var failures []string
	for i, f := range chosen {
		begun := time.Now()
		fmt.Printf("== %s\n", f.title)
		if err := measure(ctx, root, *quick, f, all); err != nil {
			fmt.Fprintf(os.Stderr, "bench: figure %s: %v\n", f.key, err)
			failures = append(failures, f.key)
		}
		fmt.Printf("   %.0f s\n", time.Since(begun).Seconds())
		if ctx.Err() != nil {
			fmt.Fprintf(os.Stderr, "bench: %v\n", context.Cause(ctx))
			if ctx.Err() == context.Canceled {
				return exitFailure
			}
			chosen = chosen[:i] // what was measured in time is not lost
			failures = append(failures, f.key)
			break
		}
	}
	r := report{root: root, out: *out, quick: *quick, took: time.Since(started), figures: chosen, failures: failures,
		results: all}
	if err := r.write(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return exitFailure
	}
	fmt.Printf("wrote %s\n", filepath.Join(*out, "benchmarks.md"))
	if len(failures) > 0 {
		return exitFailure
	}
	return exitOK
}

func keys() (k []string) {
	for _, f := range figures {
		k = append(k, f.key)
	}
	return k
}
