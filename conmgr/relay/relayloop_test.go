package relay

import (
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// Tests of a loop by itself: turns, and what its work costs.

// A direction with much to carry lets the others have their turn. (Packets of a socket pair whose
// other end has closed: each is a round.)
func TestRelayTurns(t *testing.T) {
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	pair := func() [2]int {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fds
	}
	from, to := pair(), pair()
	const packets = 5 * relayRounds
	for range packets {
		if err := unix.Send(from[0], []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(from[0])
	f := &flow{done: func() {}}
	f.client = end{flow: f, to: &f.server, fd: from[1]}
	f.server = end{flow: f, to: &f.client, fd: to[1]}
	l.live[f] = struct{}{}
	defer l.end()
	defer unix.Close(to[0])
	arrived := func() (n int) {
		for {
			if k, err := unix.Read(to[0], make([]byte, 10)); err != nil || k == 0 {
				return n
			}
			n++
		}
	}
	l.ready(&f.client, unix.EPOLLIN|unix.EPOLLRDHUP)
	for turn := range 4 {
		if n := arrived(); n != relayRounds {
			t.Errorf("turn %d: %d rounds, want %d", turn, n, relayRounds)
		}
		if len(l.later) != 1 || l.later[0] != &f.client || !f.client.later {
			t.Fatalf("turn %d: it does not wait for the next one: %v", turn, l.later)
		}
		l.later[0].later = false
		l.later = nil
		l.finish(f, l.move(&f.client))
	}
}

// BenchmarkRelayReset: how long it takes until all clients of a lost instance have seen the RST,
// and what an idle relayed connection costs.
func BenchmarkRelayReset(b *testing.B) {
	for range b.N {
		n := testkit.ManyConnections(b) / 2
		l, err := newLoop()
		if err != nil {
			b.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); l.run() }()
		var clients, servers []net.Conn
		var fds [][2]int
		for range n {
			c, x := testkit.Connection(b)
			y, s := testkit.Connection(b)
			clients, servers = append(clients, c), append(servers, s)
			i, err := detach(x)
			if err != nil {
				b.Fatal(err)
			}
			o, err := detach(y)
			if err != nil {
				b.Fatal(err)
			}
			fds = append(fds, [2]int{i, o})
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		flows := make([]*flow, 0, n)
		for _, p := range fds {
			f, _ := l.add(p[0], p[1], func() {})
			flows = append(flows, f)
		}
		for _, c := range clients { // through the loop, so that it has them all
			c.Write([]byte("x"))
		}
		for _, s := range servers {
			if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/float64(n),
			"bytes/connection")
		begin := time.Now()
		for _, f := range flows {
			l.reset(f)
		}
		for _, c := range clients {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				b.Fatal("not reset")
			}
		}
		b.ReportMetric(float64(time.Since(begin).Milliseconds()), "ms-to-reset-all")
		b.ReportMetric(float64(n), "connections")
		l.quit()
		<-ended
		for i := range clients {
			clients[i].Close()
			servers[i].Close()
		}
	}
}

// BenchmarkRelayBulk: one stream of much data through a loop, and the processor time that the whole
// process uses for a gigabyte.
func BenchmarkRelayBulk(b *testing.B) {
	l, err := newLoop()
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); l.run() }()
	from, in := testkit.Connection(b)
	out, to := testkit.Connection(b)
	x, err := detach(in)
	if err != nil {
		b.Fatal(err)
	}
	y, err := detach(out)
	if err != nil {
		b.Fatal(err)
	}
	l.add(x, y, func() {})
	const chunk = 1 << 20
	b.SetBytes(chunk)
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	go func() {
		data := make([]byte, chunk)
		for range b.N {
			from.Write(data)
		}
		from.CloseWrite()
	}()
	n, err := io.Copy(io.Discard, to)
	b.StopTimer()
	if n != int64(b.N)*chunk || err != nil {
		b.Errorf("%d bytes, %v", n, err)
	}
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := time.Duration(after.Stime.Nano() + after.Utime.Nano() - before.Stime.Nano() - before.Utime.Nano())
	b.ReportMetric(cpu.Seconds()/(float64(n)/1e9), "cpu-s/GB")
	l.quit()
	<-ended
	from.Close()
	to.Close()
}
