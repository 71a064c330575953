package main

// What keys cost the watchdog worker with many conmgrs: processor time, memory, and until all are
// back when it was restarted.

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	withKeys    = "with keys"
	withoutKeys = "without"

	keysCPUName  = "processor time, relative to without keys in the same round"
	keysMoreName = "memory a conmgr (RssAnon), beyond that without keys of the same round"
	backName     = "until all are back after a restart of the worker"
	lostName     = "conmgrs that did not resume"
)

// keysOf are keys for n conmgrs, each its own, and their file.
func keysOf(n int) (keys []*proof.Key, file string) {
	var b strings.Builder
	for i := range n {
		id, err := proof.ParseKeyID(fmt.Sprintf("client%d", i))
		if err != nil {
			panic(err)
		}
		var secret proof.Secret
		binary.BigEndian.PutUint32(secret[:], uint32(i)+1)
		keys = append(keys, proof.NewKey(id, secret))
		b.WriteString(proof.Line(id, secret) + "\n")
	}
	return keys, b.String()
}

// freshWorker ends the watchdog worker, and returns the next one when it listens.
func (b *bench) freshWorker(server *pgtest.Cluster) (pid int) {
	since, old := server.LogSize(), server.WorkerPid("watchdog worker")
	if err := syscall.Kill(old, syscall.SIGTERM); err != nil {
		b.Fatalf("%v", err)
	}
	server.WaitLog(since, "listening for heartbeat connections", patience)
	return server.WorkerPid("watchdog worker")
}

var figureKeys = figure{
	key:   "keys",
	title: "Keys, with many conmgrs",
	run: func(b *bench) {
		n := Pick(b, 10_000, 500)
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			b.Fatalf("getrlimit: %v", err)
		}
		if l.Max < uint64(n)+1500 {
			b.Fatalf("%d conmgrs need more descriptors than %d (ulimit -Hn)", n, l.Max)
		}
		db := testnet.New(b).Host("db")
		keys, file := keysOf(n)
		servers := map[string]*pgtest.Cluster{}
		for i, series := range []string{withoutKeys, withKeys} {
			options := []pgtest.Option{pgtest.Host(db), pgtest.Named(series), pgtest.Watchdog(), pgtest.Stopped(),
				pgtest.OnPort(5432 + i), pgtest.Set("watchdog.port", fmt.Sprint(pgtest.WatchdogPort+i)),
				pgtest.Set("watchdog.max_heartbeat_connections", fmt.Sprint(n*9/8))}
			if series == withKeys {
				options = append(options, pgtest.Set("watchdog.authentication", "require"), pgtest.Set("watchdog.key_file", "keys"))
			}
			servers[series] = pgtest.New(b, options...)
			path := filepath.Join(servers[series].DataDir, "keys")
			err := os.WriteFile(path, []byte(file), 0o600)
			if err == nil {
				err = os.Chown(path, nobody, nobody)
			}
			if err != nil {
				b.Fatalf("%v", err)
			}
			servers[series].Start()
		}
		for round := range Pick(b, 4, 1) {
			order := []string{withoutKeys, withKeys}
			if round%2 == 1 {
				order = []string{withKeys, withoutKeys}
			}
			used, anon := map[string]float64{}, map[string]float64{}
			for _, series := range order {
				port := pgtest.WatchdogPort
				var own []*proof.Key
				if series == withKeys {
					port, own = port+1, keys
				}
				used[series], anon[series] = b.keysOnce(servers[series], db, port, n, own, series)
			}
			b.Add(keysCPUName, withKeys, conmgrCase(n), "", used[withKeys]/used[withoutKeys])
			b.Add(keysMoreName, withKeys, conmgrCase(n), "B", (anon[withKeys]-anon[withoutKeys])/float64(n))
		}
	},
	show: func(r *results, p *page) {
		when := r.names(p.key, backName, func(s sample) string { return s.when })[0]
		p.Para("%s as in figure scale, each with a key of its own, and the same without. Each round begins with a worker that has just started: its memory is what they make it grow by, the table of keys included. "+
			"Then the worker is ended. All connect again at once, and after 50 ms, doubled, where they are refused; the time is that of the last WELCOME, after the signal.", when)
		var rows [][]string
		for _, series := range []string{withoutKeys, withKeys} {
			rows = append(rows, []string{series, number(r.find(p.key, anonName, series, when).median() / 1e6),
				r.find(p.key, backName, series, when).spread(), number(r.find(p.key, lostName, series, when).sum())})
		}
		p.Table([]string{"", "RssAnon, MB", "until all are back, ms", "did not resume"}, rows)
		cpu, more := r.find(p.key, keysCPUName, withKeys, when), r.find(p.key, keysMoreName, withKeys, when)
		back := r.find(p.key, backName, withKeys, when)
		lost := r.find(p.key, lostName, withKeys, when).sum() + r.find(p.key, lostName, withoutKeys, when).sum()
		p.Target("processor time at most 1.1 times that without keys", cpu.spread(), cpu.median() <= 1.1)
		p.Para("With keys a conmgr takes %s bytes more, its key among these.", more.spread())
		p.Target("all back within 2 s after a restart of the worker", back.spread()+" ms", back.max() <= 2000)
		p.Target("none lost by that", number(lost), lost == 0)
	},
}

// keysOnce measures one worker, from its start to its end.
func (b *bench) keysOnce(server *pgtest.Cluster, db *testnet.Host, port, n int, keys []*proof.Key, series string) (used, anon float64) {
	worker := b.freshWorker(server)
	h := newHerd(b, db, port, n, scaleInterval, scaleTimeout, keys...)
	defer h.close()
	h.run(time.Second)
	used = b.under(h, worker, Pick(b, 4*time.Second, time.Second))
	anon = b.memory(worker, "RssAnon")
	b.Add(anonName, series, conmgrCase(n), "B", anon)
	b.AddTime(backName, series, conmgrCase(n), h.comesBack(db, func() {
		if err := syscall.Kill(worker, syscall.SIGTERM); err != nil {
			b.Fatalf("%v", err)
		}
	}))
	h.run(scaleTimeout + time.Second)
	lost := 0
	for i := range h.conmgrs {
		if c := &h.conmgrs[i]; !c.resumed || c.verdict != 0 {
			lost++
			b.Logf("conmgr %d, %s: %s", i, series, c.end)
		}
	}
	b.Add(lostName, series, conmgrCase(n), "", float64(lost))
	return used, anon
}
