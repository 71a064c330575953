package worker

// A reactor on loopback, with real sockets and real time; and conmgrs that talk to it. Nothing
// sleeps: the tests wait for what comes, with a deadline.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const patience = 10 * time.Second

// live is a running reactor.
type live struct {
	t       testing.TB
	host    *fakeHost
	store   *fakeStore
	port    int
	ahead   atomic.Int64 // by which its clocks are ahead, ns
	seen    atomic.Int64 // how much of that the reactor knows
	spawned sync.WaitGroup
	spawns  atomic.Int64 // attempts to listen
	done    chan error
	stopped bool
}

type liveOption func(*Config)

func listenOn(list string) liveOption { return func(c *Config) { c.ListenAddresses = list } }
func onPort(port int) liveOption      { return func(c *Config) { c.Port = port } }

func (l *live) clock() watchdog.Now {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	ahead := l.ahead.Load()
	l.seen.Store(ahead)
	return watchdog.Now{Mono: heartbeat.Mono(ts.Nano() + ahead), Wall: watchdog.Wall(time.Now().UnixMicro() + ahead/1000)}
}

// pass lets d pass for the reactor, and wakes it so that it looks at its clock.
func (l *live) pass(d time.Duration) {
	l.ahead.Add(int64(d))
	l.host.wake()
}

// freePort is a port that is free on every address, and that no test beside this one chooses.
func freePort(t testing.TB) int {
	t.Helper()
	ports, err := testkit.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// epolls counts the epoll instances and eventfds of this process, which leak.Check leaves out for
// the runtime's sake.
func epolls() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if target, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(target, "anon_inode:[event") {
			n++
		}
	}
	return n
}

// start runs a reactor, and ends it with the test.
func start(t testing.TB, slots int, options ...liveOption) *live {
	t.Helper()
	return startWith(t, slots, nil, options...)
}

// startWith runs one with that Access from its start.
func startWith(t testing.TB, slots int, a *Access, options ...liveOption) *live {
	t.Helper()
	port := freePort(t) // also makes the runtime open its own poller before we count
	leak.Check(t)
	before := epolls()
	l := &live{t: t, host: newFakeHost(), store: newFakeStore(slots), done: make(chan error, 1)}
	cfg := Config{ListenAddresses: "127.0.0.1", Port: port, SystemIdentifier: 77, PostmasterStart: 1234567,
		PostmasterPort: 5433}
	for _, o := range options {
		o(&cfg)
	}
	l.port = cfg.Port
	var err error
	if l.host.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	l.host.setAttributes(heartbeat.Attributes{Timeline: 1})
	l.host.access.Store(a)
	r, err := NewReactor(cfg, l.host, l.store, l.clock)
	if err != nil {
		t.Fatal(err)
	}
	go func() { l.done <- r.Run(l.spawn) }()
	t.Cleanup(func() {
		if !l.stopped {
			l.end(StopWorker)
		}
		l.spawned.Wait() // it writes to the eventfd
		unix.Close(l.host.wakeFD)
		if now := epolls(); now != before && !t.Failed() {
			t.Errorf("%d epoll instances and eventfds, %d before", now, before)
		}
		if t.Failed() {
			t.Logf("the log:\n%s", l.host.log())
		}
	})
	return l
}

func (l *live) spawn(f func()) {
	l.spawned.Add(1)
	l.spawns.Add(1)
	go func() {
		defer l.spawned.Done()
		f()
	}()
}

// listening waits until connections are accepted.
func (l *live) listening() *live {
	l.t.Helper()
	l.logged("listening for heartbeat connections on ")
	return l
}

func (l *live) logged(text string) {
	l.t.Helper()
	testkit.Eventually(l.t, patience, fmt.Sprintf("log line %q", text),
		func() (bool, string) { return l.host.count(text) > 0, l.host.log() })
}

// end stops the reactor and waits for it.
func (l *live) end(s Stop) {
	l.t.Helper()
	l.stopped = true
	l.host.stop.Store(uint32(s))
	l.host.wake()
	l.wait()
}

func (l *live) wait() {
	l.t.Helper()
	l.stopped = true
	select {
	case err := <-l.done:
		if err != nil {
			l.t.Errorf("the reactor ended with: %v", err)
		}
	case <-time.After(patience):
		l.t.Fatalf("the reactor does not end; the log:\n%s", l.host.log())
	}
}

// slotOf waits until the slot of a conmgr is as cond wants it.
func (l *live) slotOf(id byte, what string, cond func(fakeSlot) bool) (found fakeSlot) {
	l.t.Helper()
	testkit.Eventually(l.t, patience, fmt.Sprintf("slot of conmgr %d: %s", id, what), func() (bool, string) {
		for i := range l.store.Len() {
			if s := l.store.Slot(i); s.ID[0] == id && cond(s) {
				found = s
				return true, ""
			}
		}
		return false, l.host.log()
	})
	return found
}

func inState(st watchdog.State) func(fakeSlot) bool {
	return func(s fakeSlot) bool { return s.State == st }
}

// remote is a peer of the reactor.
type remote struct {
	t    testing.TB
	conn *net.TCPConn
	buf  []byte
}

func (l *live) dial() *remote { l.t.Helper(); return l.dialFrom("127.0.0.1") }

func (l *live) dialFrom(ip string) *remote {
	l.t.Helper()
	r, err := l.tryDial(ip)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (l *live) tryDial(ip string) (*remote, error) {
	from := netip.MustParseAddr(ip)
	c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
		&net.TCPAddr{IP: net.ParseIP("127.0.0.1"), Port: l.port})
	if err != nil {
		return nil, err
	}
	l.t.Cleanup(func() { c.Close() })
	return &remote{t: l.t, conn: c}, nil
}

func (r *remote) write(b []byte) {
	r.t.Helper()
	_ = r.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// read returns the next frame; its payload is its own.
func (r *remote) read() (heartbeat.Frame, error) {
	_ = r.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		f, n, err := heartbeat.Next(r.buf)
		if err != nil {
			return f, err
		}
		if n > 0 {
			r.buf = r.buf[n:]
			return f, nil
		}
		piece := make([]byte, 4096)
		n, err = r.conn.Read(piece)
		if err != nil {
			return f, err
		}
		r.buf = append(r.buf, piece[:n]...)
	}
}

// expect returns the next frame that is not a BEAT of the watchdog.
func (r *remote) expect(typ heartbeat.Type) heartbeat.Frame {
	r.t.Helper()
	for {
		f, err := r.read()
		if err != nil {
			r.t.Fatalf("waiting for %s: %v", typ, err)
		}
		if f.Type == heartbeat.TypeBeat && typ != heartbeat.TypeBeat {
			continue
		}
		if f.Type != typ {
			if x, err := heartbeat.ParseRefused(f.Payload); err == nil && f.Type == heartbeat.TypeRefused {
				r.t.Fatalf("refused: %s", x.Text)
			}
			r.t.Fatalf("got %s, want %s", f.Type, typ)
		}
		return f
	}
}

// refused reads a REFUSED, and then the end of the stream: no reset.
func (r *remote) refused(code heartbeat.RefusedCode, text string) {
	r.t.Helper()
	x, err := heartbeat.ParseRefused(r.expect(heartbeat.TypeRefused).Payload)
	if err != nil || x.Code != code || !strings.Contains(x.Text, text) {
		r.t.Fatalf("got REFUSED %d %q, %v; want %d %q", x.Code, x.Text, err, code, text)
	}
	r.ended()
}

// ended reads BEATs until the end of the stream.
func (r *remote) ended() {
	r.t.Helper()
	for {
		f, err := r.read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil || f.Type != heartbeat.TypeBeat {
			r.t.Fatalf("got %s, %v; want the end of the stream", f.Type, err)
		}
	}
}

// gone reads until the connection ends in whichever way.
func (r *remote) gone() {
	r.t.Helper()
	for {
		if _, err := r.read(); errors.Is(err, os.ErrDeadlineExceeded) {
			r.t.Fatal("the connection is still open")
		} else if err != nil {
			return
		}
	}
}

func helloOf(id byte, gen uint64, interval, timeout time.Duration) heartbeat.Hello {
	return heartbeat.Hello{MinVersion: 1, MaxVersion: 1, ID: heartbeat.ID{id, 0xff}, Boot: heartbeat.ID{9},
		Generation: gen, Interval: interval, Timeout: timeout}
}

// greet sends a HELLO and returns the WELCOME.
func (r *remote) greet(h heartbeat.Hello) heartbeat.Welcome {
	r.t.Helper()
	r.write(h.Append(nil))
	w, err := heartbeat.ParseWelcome(r.expect(heartbeat.TypeWelcome).Payload)
	if err != nil {
		r.t.Fatal(err)
	}
	return w
}

// conmgr connects and greets with settings under which nothing is due during a test.
func (l *live) conmgr(id byte) *remote {
	l.t.Helper()
	r := l.dial()
	r.greet(helloOf(id, 0, time.Hour, time.Hour))
	return r
}

func beatFrame(seq uint32) []byte { return heartbeat.ConmgrBeat{Sequence: seq}.Append(nil, 1) }
