package main

// What random loss does to heartbeats: second connections, and how late a verdict is.

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	lossyPackets = "packets a second, both ways"
	lossyBytes   = "bytes a second, both ways"
	lossyLate    = "from the cut until conmgr's verdict"
	lossyFalse   = "false verdicts"

	lossyInterval = 100 * time.Millisecond
	lossyTimeout  = 400 * time.Millisecond
)

func lossCase(percent float64) string { return fmt.Sprintf("%g %%", percent) }

// The 5 % are what is to be borne at this timeout; more is shown to see where it ends.
var lossPercents = []float64{0, 1, 5, 10}

// traffic is what has passed the network devices of a host, but for loopback.
func (b *bench) traffic(h *testnet.Host) (packets, bytes float64) {
	err := h.Do(func() error {
		f, err := os.Open("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			name, rest, ok := strings.Cut(lines.Text(), ":")
			columns := strings.Fields(rest)
			if !ok || strings.TrimSpace(name) == "lo" || len(columns) < 10 {
				continue
			}
			for i, sum := range map[int]*float64{0: &bytes, 1: &packets, 8: &bytes, 9: &packets} {
				n, err := strconv.ParseFloat(columns[i], 64)
				if err != nil {
					return err
				}
				*sum += n
			}
		}
		return lines.Err()
	})
	if err != nil {
		b.Fatalf("/proc/net/dev: %v", err)
	}
	return packets, bytes
}

var figureLoss = figure{
	key:   "loss",
	title: "Heartbeats that are lost at random",
	run: func(b *bench) {
		net := testnet.New(b)
		client, db := net.Host("client"), net.Host("db")
		server := pgtest.New(b, pgtest.Host(db), pgtest.Watchdog())
		cm := cmtest.Start(b, client, cmtest.Config{Clusters: []*pgtest.Cluster{server},
			Interval: lossyInterval.String(), Timeout: lossyTimeout.String()})
		cm.WaitInstance(0, "role", "primary")
		verdicts := func() int { return strings.Count(cm.Log(), " is lost") }
		for _, percent := range lossPercents {
			heal := func() {}
			if percent > 0 {
				fault := net.Loss(client, db, percent)
				heal = func() { fault.Heal() }
			}
			before := verdicts()
			packets, bytes := b.traffic(client)
			since := time.Now()
			b.rest(Pick(b, 20*time.Second, 3*time.Second))
			morePackets, moreBytes := b.traffic(client)
			seconds := time.Since(since).Seconds()
			b.Add(lossyPackets, theConmgr, lossCase(percent), "1/s", (morePackets-packets)/seconds)
			b.Add(lossyBytes, theConmgr, lossCase(percent), "B/s", (moreBytes-bytes)/seconds)
			b.Add(lossyFalse, theConmgr, lossCase(percent), "", float64(verdicts()-before))
			for range Pick(b, 20, 2) {
				cm.WaitInstance(0, "state", "established")
				b.pause(testnet.Monotonic() + 2*lossyTimeout)
				mark := cm.Mark()
				cut := net.Isolate(db)
				b.AddTime(lossyLate, theConmgr, lossCase(percent), cm.WaitLog(mark, "is lost", patience).At-cut.Applied.After.Mono)
				cut.Heal()
			}
			heal()
			cm.WaitInstance(0, "state", "established")
		}
	},
	show: func(r *results, p *page) {
		p.Para("One conmgr and one server, heartbeats at %v / %v, no sessions; packets are lost on both ways. Then the server's host is cut off, again and again: a verdict is due one timeout after the last sign of life, "+
			"which is up to an interval (and, with loss, a retransmission) old when the cut comes.", lossyInterval, lossyTimeout)
		head := []string{"lost at random"}
		names := []string{lossyPackets, lossyBytes, lossyFalse, lossyLate + ", ms", "longest"}
		var rows [][]string
		for _, percent := range lossPercents {
			row := []string{lossCase(percent)}
			for _, what := range []string{lossyPackets, lossyBytes, lossyFalse, lossyLate} {
				row = append(row, r.find(p.key, what, theConmgr, lossCase(percent)).spread())
			}
			rows = append(rows, append(row, r.find(p.key, lossyLate, theConmgr, lossCase(percent)).at(1)))
		}
		p.Table(append(head, names...), rows)
		late := r.find(p.key, lossyLate, theConmgr, lossCase(5))
		p.Target("at 5 % no verdict is later than the timeout + 20 ms after the cut", late.at(1)+" ms",
			late.max() <= float64((lossyTimeout+20*time.Millisecond)/time.Millisecond))
		wrong := r.find(p.key, lossyFalse, theConmgr, lossCase(5))
		p.Target("none is false at 5 %", wrong.at(0.5), wrong.max() == 0)
	},
}
