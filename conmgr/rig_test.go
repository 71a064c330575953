package conmgr

// The rig of the tests: a conmgr without a process around it, and watchdogs that do what a test
// says.

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/console"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/conmgr/watch"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// patience is how long a test waits for what must happen: much, as CI is slow with the race
// detector.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	testkit.Eventually(t, patience, what, func() (bool, string) { return cond(), "" })
}

// memorySink keeps the log.
type memorySink struct {
	mu   sync.Mutex
	text strings.Builder
}

func (m *memorySink) Write(msg *cmlog.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.text.WriteString(strings.Join(msg.Lines(), "\n") + "\n")
}

func (m *memorySink) count(s string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Count(m.text.String(), s)
}

func (m *memorySink) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

var leakChecked sync.Map

// checkLeaks is the first thing that a test does; the helpers call it.
func checkLeaks(t *testing.T) {
	if _, done := leakChecked.LoadOrStore(t, true); !done {
		leak.Check(t)
	}
}

// testLogger ends its goroutines before the test's leak check.
func testLogger(t *testing.T, min cmlog.Level, sinks ...cmlog.Sink) *cmlog.Logger {
	g := &group.Group{OnPanic: func(name string, v any, stack []byte) { t.Errorf("%s: %v\n%s", name, v, stack) }}
	stop := make(chan struct{})
	l := cmlog.New(min, g, stop, sinks...)
	t.Cleanup(func() {
		close(stop)
		if !g.Wait(patience) {
			t.Error("log writers did not end")
		}
	})
	return l
}

func parseConf(t testing.TB, text string) *conf.Config {
	t.Helper()
	c, diags := conf.Parse("conmgr.conf", []byte(text))
	if c == nil {
		t.Fatalf("unexpected errors: %v", diags)
	}
	return c
}

type rig struct {
	t      *testing.T
	conf   *conf.Config
	d      *daemon
	log    *memorySink
	level  cmlog.Level // of the log: DEBUG unless an option says otherwise
	cancel context.CancelFunc
	jump   atomic.Int64 // added to the clock: as if the process had been stopped for so long
	net    netio.Network
	addr   string
	dials  atomic.Int32
	known  route.Known // kept from before
	dir    string      // "": nothing is kept

	console console.Options
	recheck time.Duration
}

func (r *rig) now() hb.Mono { return clock.Monotonic().Add(time.Duration(r.jump.Load())) }

// newRig starts a conmgr with this conmgr.conf (its port is a free one).
func newRig(t *testing.T, text string, options ...func(*rig)) *rig {
	t.Helper()
	checkLeaks(t)
	c := parseConf(t, text)
	c.Port = 0
	for i := range c.RelayPorts {
		c.RelayPorts[i].Port = 0
	}
	c.ListenAddresses, c.SocketDirs = []string{"127.0.0.1"}, nil
	r := &rig{t: t, conf: c, log: &memorySink{}, net: netio.System}
	for _, o := range options {
		o(r)
	}
	log := testLogger(t, r.level, r.log)
	most := c.MaxConnections
	if most == 0 {
		most = 1 << 20
	}
	r.d = newDaemon(c, deps{dir: r.dir, log: log, limit: cmlog.NewLimiter(log), net: r.net, now: r.now, known: r.known, console: r.console, recheck: r.recheck,
		most: most, descriptors: 1 << 20, group: &group.Group{OnPanic: func(name string, v any, stack []byte) {
			t.Errorf("%s: %v\n%s", name, v, stack)
		}}})
	r.d.registry.Random = func() uint64 { return 0 } // of as many connections, the first
	r.d.board.KeepLimit = patience                   // a slow disk, or a writer that stands still, is no other order
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if err := r.d.start(ctx, watch.NewIdentity(hb.ID{1}), hb.ID{}); err != nil {
		t.Fatal(err)
	}
	r.addr = r.d.door.Addr(0).String()
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("log of conmgr:\n%s", r.log)
		}
	})
	return r
}

// logged counts in the log what was said until now: it is written by a goroutine of its own.
func (r *rig) logged(s string) int {
	r.d.log.Flush(patience)
	return r.log.count(s)
}

func (r *rig) stop() {
	r.d.stop(r.cancel, bind.ShutdownText)
	if !r.d.group.Wait(patience) {
		r.t.Error("goroutines did not end")
	}
}

func (r *rig) entry(i int) *bind.Entry { return &r.d.board.Table.Load().Entries[i] }

func (r *rig) waitState(i int, s hb.State) {
	r.t.Helper()
	r.published(fmt.Sprintf("instance %d is %s", i, s), func() bool { return r.entry(i).State == s })
}

// published waits for a table, and until all is done that the board does by it: events, notices and
// ends come after the table is there.
func (r *rig) published(what string, cond func() bool) {
	r.t.Helper()
	eventually(r.t, what, cond)
	r.boardIsDone()
}

// boardIsDone waits until the board has done all that follows from what it has begun.
func (r *rig) boardIsDone() {
	r.t.Helper()
	if !r.d.board.PingUntil(time.After(patience)) {
		r.t.Fatal("the board hangs")
	}
}

// watchdog is a fake: it accepts, and the test does the rest.
type watchdog struct {
	t     *testing.T
	l     net.Listener
	conns chan *wdConn
	wg    sync.WaitGroup
	mu    sync.Mutex
	open  []net.Conn
	known map[hb.ID]welcomed // conmgrs that were welcomed last

	goodbyes []hb.GoodbyeCode
	closed   chan struct{}
}

// welcomed is what a watchdog knows of a conmgr.
type welcomed struct {
	start      int64
	generation uint64
}

func newWatchdog(t *testing.T, address string) *watchdog {
	t.Helper()
	checkLeaks(t)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	w := &watchdog{t: t, l: l, conns: make(chan *wdConn, 100), known: map[hb.ID]welcomed{}, closed: make(chan struct{})}
	w.wg.Add(1)
	go w.accept()
	t.Cleanup(w.close)
	return w
}

func (w *watchdog) port() int { return w.l.Addr().(*net.TCPAddr).Port }

func (w *watchdog) close() {
	w.l.Close()
	close(w.closed)
	w.mu.Lock()
	for _, c := range w.open {
		c.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

func (w *watchdog) accept() {
	defer w.wg.Done()
	for {
		c, err := w.l.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		select {
		case <-w.closed: // by close, which does not know of this one
			w.mu.Unlock()
			c.Close()
			return
		default:
		}
		w.open = append(w.open, c)
		w.mu.Unlock()
		conn := &wdConn{w: w, c: c, frames: make(chan hb.Frame, 10000)}
		w.wg.Add(1)
		go conn.read()
		w.conns <- conn
	}
}

// next waits for a connection and its HELLO. Those that conmgr has given up again, as it tries
// several at a time, are none.
func (w *watchdog) next() *wdConn {
	w.t.Helper()
	for limit := time.After(patience); ; {
		select {
		case c := <-w.conns:
			f := c.frame()
			if f.Type == 0 {
				continue
			}
			h, err := hb.ParseHello(f.Payload)
			if f.Type != hb.TypeHello || err != nil {
				w.t.Fatalf("first frame %s: %v", f.Type, err)
			}
			select {
			case <-c.frames:
				continue
			default:
			}
			c.hello = h
			return c
		case <-limit:
			w.t.Fatal("conmgr does not connect")
			return nil
		}
	}
}

// nextOf waits for one of a generation: those of the one before were under way.
func (w *watchdog) nextOf(generation uint64) *wdConn {
	w.t.Helper()
	for {
		if c := w.next(); c.hello.Generation == generation {
			return c
		}
	}
}

type wdConn struct {
	w      *watchdog
	c      net.Conn
	hello  hb.Hello
	frames chan hb.Frame // closed at the end of the connection
	seq    uint32
}

func (c *wdConn) read() {
	defer c.w.wg.Done()
	defer close(c.frames)
	buf, n := make([]byte, 4096), 0
	for {
		k, err := c.c.Read(buf[n:])
		if err != nil {
			return
		}
		n += k
		for {
			f, size, err := hb.Next(buf[:n])
			if err != nil || size == 0 {
				break
			}
			c.frames <- hb.Frame{Type: f.Type, Payload: append([]byte(nil), f.Payload...)}
			n = copy(buf, buf[size:n])
		}
	}
}

// frame waits for the next frame; the zero frame is the end of the connection.
func (c *wdConn) frame() hb.Frame {
	c.w.t.Helper()
	select {
	case f := <-c.frames:
		return f
	case <-time.After(patience):
		c.w.t.Fatal("no frame from conmgr")
	}
	return hb.Frame{}
}

// goodbye skips BEATs and returns the code of conmgr's GOODBYE; 0: the connection ended without.
func (c *wdConn) goodbye() hb.GoodbyeCode {
	c.w.t.Helper()
	for {
		switch f := c.frame(); f.Type {
		case hb.TypeBeat:
		case hb.TypeGoodbye:
			g, err := hb.ParseGoodbye(f.Payload)
			if err != nil {
				c.w.t.Fatal(err)
			}
			return g.Code
		default:
			return 0
		}
	}
}

var primary = hb.Attributes{Timeline: 1}
var standby = hb.Attributes{Flags: hb.InRecovery, Timeline: 1}

// welcome answers as a watchdog does: whom it knows is resumed. The server has the port that is
// conmgr's default.
func (c *wdConn) welcome(start int64, system uint64, a hb.Attributes) {
	w := c.answer(start, system, a)
	w.PostmasterPort, w.Flags = 27500, w.Flags|hb.KnowsLabels
	c.send(w.Append(nil))
}

func (c *wdConn) answer(start int64, system uint64, a hb.Attributes) hb.Welcome {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	w := hb.Welcome{Version: 1, SystemIdentifier: system, PostmasterStart: start, Attributes: a}
	this := welcomed{start, c.hello.Generation}
	if c.w.known[c.hello.ID] == this {
		w.Flags = hb.Resumed
	}
	c.w.known[c.hello.ID] = this
	return w
}

// forget makes the watchdog forget all conmgrs.
func (w *watchdog) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.known)
}

func (c *wdConn) beat(a hb.Attributes) {
	c.seq++
	c.send(hb.WatchdogBeat{Sequence: c.seq, Attributes: a}.Append(nil, 1))
}

func (c *wdConn) send(b []byte) { c.c.Write(b) } // conmgr may have closed already

// beating sends BEATs until the returned function is called.
func (c *wdConn) beating(every time.Duration, a hb.Attributes) (stop func()) {
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				c.beat(a)
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(done); <-ended }) }
	c.w.t.Cleanup(stop)
	return stop
}

func instanceConf(n, port int) string {
	return fmt.Sprintf("backend_hostaddr%d = 127.0.0.1\nwatchdog_port%d = %d\n", n, n, port)
}

func itoa(n int) string { return fmt.Sprint(n) }
