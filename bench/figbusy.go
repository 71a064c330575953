package main

// The query path of an application whose host has other work to do: a relay that waits for its turn
// behind a busy program costs its clients that, at each message.

import (
	"fmt"
	"runtime"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const tpsRatioName = "the relay's throughput, relative to that in the same round"

// hogs keeps each processor busy until the function that it returns is called.
func (b *bench) hogs(h *testnet.Host) (end func()) {
	b.Helper()
	ends := make([]func(), runtime.NumCPU())
	for i := range ends {
		hog := b.As(h, nil, "sh", "-c", "while :; do :; done")
		if err := hog.Start(); err != nil {
			b.Fatalf("%v", err)
		}
		ends[i] = func() {
			hog.Process.Kill()
			hog.Wait()
		}
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}

var figureBusy = figure{
	key:   "busy",
	title: "The query path on a busy machine",
	run: func(b *bench) {
		net := testnet.New(b)
		client := net.Host("client")
		server := b.queried(client, net.Host("db"), pgtest.Watchdog())
		paths := b.paths(client, server)
		defer b.hogs(client)()
		for range Pick(b, 11, 1) {
			for _, n := range queryClients {
				tps := map[string]float64{}
				for _, p := range paths {
					tps[p.series] = b.pgbench(client, p, n, 3).tps // in one second, 64 would hardly have connected
					b.Add(tpsName, p.series, queryCase(n), "tps", tps[p.series])
				}
				for _, peer := range []string{haproxy, pgbouncer} {
					b.Add(tpsRatioName, peer, queryCase(n), "", tps[oursRelay]/tps[peer])
				}
			}
		}
	},
	show: func(r *results, p *page) {
		p.Para("As before, beside as many programs that never wait as there are processors. All in turn, several rounds; the ratios are those of one round, their median, and the interval that holds the true one in 95 of 100 such measurements.")
		p.queryTable(r, tpsName, "tps")
		for _, n := range queryClients {
			for _, peer := range []string{haproxy, pgbouncer} {
				ratio := r.find(p.key, tpsRatioName, peer, queryCase(n))
				p.Target(fmt.Sprintf("relay's throughput beside busy programs at least that of %s, %s", peer, queryCase(n)),
					ratio.confidence()+" of it", ratio.median() >= 1)
			}
		}
	},
}
