package main

// What it costs conmgr to be looked at: scraped each second, with its page open in ten browsers.

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	unseen    = "http_port = 0"
	listening = "http_port is set"
	scraped   = "scraped each second"
	pages     = 10
	lookedAt  = "scraped, and the page open in ten browsers"

	lookedInterval = 100 * time.Millisecond
	lookedLate     = "lateness of heartbeats"
)

var lookers = []string{unseen, listening, scraped, lookedAt}

// counterpart is a watchdog that notes when BEATs come.
type counterpart struct {
	listener net.Listener
	mu       sync.Mutex
	came     []time.Duration
}

func newCounterpart(b *bench, host *testnet.Host) *counterpart {
	l, err := host.Listen("tcp", host.Addr4.String()+":27545")
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { l.Close() })
	c := &counterpart{listener: l}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(conn)
		}
	}()
	return c
}

// serve answers one connection, and beats by the same clock.
func (c *counterpart) serve(conn net.Conn) {
	defer conn.Close()
	ch := heartbeat.Channel{Version: 2}
	var mu sync.Mutex
	attributes := heartbeat.Attributes{Timeline: 1}
	welcome := heartbeat.Welcome{Version: 2, Flags: heartbeat.KnowsLabels, SystemIdentifier: 7, PostmasterStart: 1, Attributes: attributes,
		PostmasterPort: 5432, KnownSince: 1}
	done := make(chan struct{})
	defer close(done)
	buf, n := make([]byte, 4096), 0
	for {
		k, err := conn.Read(buf[n:])
		if err != nil {
			return
		}
		at := testnet.Monotonic()
		for n += k; ; {
			f, size, err := heartbeat.Next(buf[:n])
			if err != nil {
				return
			}
			if size == 0 {
				break
			}
			mu.Lock()
			switch f.Type {
			case heartbeat.TypeHello:
				_, _ = conn.Write(welcome.Append(nil))
				go c.beat(conn, &ch, &mu, attributes, done)
			case heartbeat.TypeBeat:
				_, _ = ch.FromConmgr(f.Payload, heartbeat.Mono(at))
				c.mu.Lock()
				c.came = append(c.came, at)
				c.mu.Unlock()
			}
			mu.Unlock()
			n = copy(buf, buf[size:n])
		}
	}
}

func (c *counterpart) beat(conn net.Conn, ch *heartbeat.Channel, mu *sync.Mutex, a heartbeat.Attributes, done <-chan struct{}) {
	t := time.NewTicker(lookedInterval)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		mu.Lock()
		_, err := conn.Write(ch.WatchdogBeat(nil, heartbeat.Mono(testnet.Monotonic()), a, heartbeat.Succession{}, heartbeat.Lag{}))
		mu.Unlock()
		if err != nil {
			return
		}
	}
}

// late are by how much BEATs came later after the one before than they should, since a time.
func (c *counterpart) late(since time.Duration) (all []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.came); i++ {
		if c.came[i-1] >= since {
			all = append(all, max(0, c.came[i]-c.came[i-1]-lookedInterval))
		}
	}
	return all
}

// look looks at a conmgr until ctx ends: a scrape a second, and so many open pages.
func (b *bench) look(ctx context.Context, host *testnet.Host, browsers int) {
	client := &http.Client{Transport: &http.Transport{DialContext: host.Dialer().DialContext}}
	get := func(path string) (io.ReadCloser, error) {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8008"+path, nil)
		if err != nil {
			return nil, err
		}
		a, err := client.Do(q)
		if err != nil {
			return nil, err
		}
		if a.StatusCode != http.StatusOK {
			a.Body.Close()
			return nil, fmt.Errorf("%s: %s", path, a.Status)
		}
		return a.Body, nil
	}
	for range browsers {
		body, err := get("/stream")
		if err != nil {
			b.Fatalf("%v", err)
		}
		go func() {
			defer body.Close()
			for in := bufio.NewReader(body); ; {
				if _, err := in.ReadString('\n'); err != nil {
					return
				}
			}
		}()
	}
	go func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			body, err := get("/metrics")
			if err != nil {
				continue // the end
			}
			_, _ = io.Copy(io.Discard, body)
			body.Close()
		}
	}()
}

var figureLooked = figure{
	key:   "looked",
	title: "Looked at",
	run: func(b *bench) {
		n := testnet.New(b)
		ctx, cancel := context.WithCancel(b.Context())
		b.Cleanup(cancel)
		type one struct {
			when string
			cm   *cmtest.Conmgr
			peer *counterpart
			used time.Duration
		}
		var all []*one
		for i, when := range lookers {
			db, client := n.Host(fmt.Sprintf("db%d", i)), n.Host(fmt.Sprintf("client%d", i))
			extra := fmt.Sprintf("backend_hostaddr0 = '%s'\nbackend_port0 = 5432\n", db.Addr4)
			if when != unseen {
				extra += "http_port = 8008\n"
			}
			o := &one{when: when, peer: newCounterpart(b, db)}
			o.cm = cmtest.Start(b, client, cmtest.Config{Interval: "100ms", Timeout: "1s", Extra: extra})
			o.cm.WaitInstance(0, "state", "established")
			switch when {
			case scraped:
				b.look(ctx, client, 0)
			case lookedAt:
				b.look(ctx, client, pages)
			}
			all = append(all, o)
		}
		b.rest(Pick(b, 5*time.Second, 2*time.Second))
		since := testnet.Monotonic()
		for _, o := range all {
			o.used = b.cpuTime(o.cm.Pid)
		}
		b.rest(Pick(b, 30*time.Second, 5*time.Second))
		for _, o := range all {
			b.Add(idleName, theConmgr, o.when, "share", float64(b.cpuTime(o.cm.Pid)-o.used)/float64(testnet.Monotonic()-since))
			for _, l := range o.peer.late(since) {
				b.AddTime(lookedLate, theConmgr, o.when, l)
			}
		}
	},
	show: func(r *results, p *page) {
		p.Para("Four conmgrs side by side, each with one server and heartbeats each 100 ms; of one, nothing can be seen by HTTP, " +
			"another one is scraped by a Prometheus each second, and the last one has its page open in ten browsers besides. " +
			"Lateness is that of its heartbeats where they arrive: by how much one comes later after the one before.")
		var rows [][]string
		share := func(when string) float64 { return r.find(p.key, idleName, theConmgr, when).median() }
		for _, when := range lookers {
			late := r.find(p.key, lookedLate, theConmgr, when)
			rows = append(rows, []string{when, percent(share(when)), late.at(0.5), late.at(0.99)})
		}
		p.Table([]string{"", "processor time, of a core", "lateness, median", "99 %"}, rows)
		scrape, page := share(scraped)-share(listening), (share(lookedAt)-share(scraped))/pages
		p.Target("a scrape a second below 0.1 % of a core", percent(scrape), scrape < 0.001)
		p.Target("an open page below 0.1 % of a core", percent(page), page < 0.001)
	},
}
