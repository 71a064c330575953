package conmgr

// Measurements: how fast many applications are told of a loss, and what an idle one costs.
//
//	go test -run - -bench "Loss|Idle|Reset" -benchtime 1x ./conmgr

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
	"github.com/pgwatchdog/watchdog/internal/testkit"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/conmgr/watch"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// crowd binds many connections to instance 0.
func crowd(t testing.TB, d *daemon, n int) []net.Conn {
	t.Helper()
	q, err := (&pgproto3.Query{String: "show target primary"}).Encode(pgwire.StartupPacket(3<<16, "user", "x"))
	if err != nil {
		t.Fatal(err)
	}
	addr := d.door.Addr(0).String()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c
		t.Cleanup(func() { c.Close() })
		c.Write(q)
		c.SetReadDeadline(time.Now().Add(patience))
		var got []byte
		buf := make([]byte, 1024)
		for !bytes.HasSuffix(got, []byte("SHOW\x00Z\x00\x00\x00\x05I")) {
			k, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:k]...)
		}
	}
	return conns
}

func benchDaemon(b *testing.B) *daemon {
	c := parseConf(b, "heartbeat_connect_timeout = 1h\nbackend_hostaddr0 = 127.0.0.1")
	c.Port, c.ListenAddresses = 0, []string{"127.0.0.1"}
	dialling := make(chan struct{})
	d := newDaemon(c, deps{group: &group.Group{OnPanic: func(_ string, v any, _ []byte) { b.Error(v) }},
		now: clock.Monotonic, most: 1 << 20, net: netio.Network{
			Dial: func(ctx context.Context, _ netip.Addr, _ netip.AddrPort) (*net.TCPConn, error) {
				close(dialling)
				<-ctx.Done() // no real heartbeats
				return nil, ctx.Err()
			}}})
	ctx, cancel := context.WithCancel(context.Background())
	if err := d.start(ctx, watch.NewIdentity(hb.ID{1}), hb.ID{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		d.close()
		d.registry.EndEverything(backend.Fatal("57P01", "end", "", ""))
		cancel()
		d.group.Wait(patience)
	})
	<-dialling // the instance posts nothing any more
	d.board.Post(0, up(primary), nil)
	for !d.board.Table.Load().Entries[0].Established() {
		runtime.Gosched()
	}
	return d
}

func BenchmarkLoss(b *testing.B) {
	for range b.N {
		d := benchDaemon(b)
		n := testkit.ManyConnections(b)
		conns := crowd(b, d, n)
		list := d.registry.Members()
		b.ResetTimer()
		begin := time.Now()
		message := backend.Fatal("57P01", bind.LossText(&d.board.Table.Load().Entries[0], &hb.Loss{Reason: hb.LossSilence}), "", "")
		for _, s := range list {
			s.End(message)
		}
		told := time.Since(begin)
		for _, s := range list {
			s.Finish(time.Now().Add(bind.DrainTime))
		}
		b.ReportMetric(float64(told.Milliseconds()), "ms-to-tell-all")
		b.ReportMetric(float64(n), "connections")
		b.StopTimer()
		for _, c := range conns {
			data, err := io.ReadAll(c)
			if err != nil || !bytes.Contains(data, []byte("57P01")) {
				b.Fatalf("%v: %q", err, data)
			}
			c.Close()
		}
	}
}

func BenchmarkIdle(b *testing.B) {
	for range b.N {
		d := benchDaemon(b)
		n := testkit.ManyConnections(b)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		conns := crowd(b, d, n)
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		// The clients are in this process too: a net.Conn each.
		b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/float64(n), "heap-bytes/connection")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/float64(n), "stack-bytes/connection")
		for _, c := range conns {
			c.Close()
		}
	}
}

// All of a thousand applications are told, and none is kept.
func TestLossOfManyApplications(t *testing.T) {
	r := static(t, "", primary)
	const n = 1000
	conns := crowd(t, r.d, n)
	r.lose(0)
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			data, err := io.ReadAll(c)
			c.Close()
			if err != nil || !bytes.Contains(data, []byte("57P01")) {
				t.Errorf("%v: %q", err, data)
			}
		}()
	}
	wg.Wait()
	eventually(t, "all sessions have ended", func() bool {
		return len(r.d.registry.Members()) == 0
	})
}
