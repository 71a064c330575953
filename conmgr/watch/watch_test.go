package watch

// Tests of an instance on a clock of the test's own: what is read before a verdict; and of its
// parts: one server under two entries, the answers of a server that stops.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/instance"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

var primary = hb.Attributes{Timeline: 1}

// bench is an instance that is not run, with a connection to the test.
type bench struct {
	*Instance
	t    *testing.T
	stop func()
	time atomic.Int64
	told []event.Event
	port *net.TCPListener
	peer *net.TCPConn
}

const second = hb.Mono(time.Second)

// newBench is at second 100; heartbeat_interval is 1 s, heartbeat_timeout 3 s. HELLO is sent.
func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchOf(t, "backend_hostaddr0 = 127.0.0.1", nil)
}

// newBenchOf is that of an entry of conmgr.conf.
func newBenchOf(t *testing.T, entry string, resolve func(context.Context, string) ([]netip.Addr, error)) *bench {
	t.Helper()
	leak.Check(t)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, diags := conf.Parse("conmgr.conf", []byte(
		"heartbeat_interval = 1\nheartbeat_timeout = 3\n"+entry+"\n"))
	if c == nil {
		t.Fatal(diags)
	}
	b := &bench{t: t, port: l}
	b.time.Store(int64(100 * second))
	network := netio.Network{Resolve: resolve, Dial: func(ctx context.Context, _ netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
		if to.Port() != uint16(c.Instances[0].WatchdogPort) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return netio.Dial(ctx, netip.Addr{}, netip.MustParseAddrPort(l.Addr().String()))
	}}
	g := &group.Group{OnPanic: func(name string, v any, _ []byte) { t.Errorf("%s: %v", name, v) }}
	t.Cleanup(func() { g.Wait(patience) })
	known := route.Known{SystemIdentifier: 7, Timeline: 1}
	events := &event.Hub{}
	events.Subscribe(func(e event.Event) { b.told = append(b.told, e) })
	b.Instance = New(c, Surroundings{Board: bind.NewBoard(conf.NewCurrent(c), nil, bind.NewRegistry(1, 1), nil, known),
		Events: events, Group: g, Net: network, Now: func() clock.Mono { return clock.Mono(b.time.Load()) }, Ending: new(atomic.Int32),
		Who: NewIdentity(hb.ID{9})})[0]
	b.ctx, b.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		b.stop()
		b.step(instance.Event{Kind: instance.Stop})
	})
	b.connect()
	return b
}

// connect makes the connection that is due.
func (b *bench) connect() {
	b.t.Helper()
	if b.due(); len(b.sockets) == 0 { // the name comes first
		b.step(<-b.inbox)
	}
	b.dialledNow()
	for ours := b.sockets[0].link.conn.LocalAddr().String(); ; { // others may be opened beside it
		peer, err := b.port.AcceptTCP()
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { peer.Close() })
		if b.peer = peer; peer.RemoteAddr().String() == ours {
			return
		}
	}
}

// dialledNow takes in what has become of what is dialled, unless that was taken in already.
func (b *bench) dialledNow() {
	if s := b.sockets[0]; s.dialer != nil {
		b.dialled(s, <-s.dialer.result)
	}
}

// read reads the only connection.
func (b *bench) read() { b.Instance.read(b.sockets[0]) }

func (b *bench) at(t hb.Mono) { b.time.Store(int64(t)) }

// arrives sends a frame to the instance, and waits until its kernel has it.
func (b *bench) arrives(p []byte) {
	b.t.Helper()
	b.peer.Write(p)
	testkit.Eventually(b.t, patience, "the bytes are in the kernel", func() (bool, string) { return b.unread() == len(p), "" })
}

// brings sends a frame, and lets it be taken in.
func (b *bench) brings(p []byte) {
	b.t.Helper()
	b.arrives(p)
	b.read() // the bytes
	b.read() // the frame
}

// welcome establishes the instance now.
func (b *bench) welcome() {
	b.t.Helper()
	b.brings(hb.Welcome{Version: 1, Flags: hb.Resumed, SystemIdentifier: 7, PostmasterStart: 1}.Append(nil))
	b.is(hb.Established)
}

func (b *bench) is(want hb.State) {
	b.t.Helper()
	if s := b.mon.State(); s != want {
		b.t.Fatalf("the instance is %s, not %s", s, want)
	}
}

func (b *bench) unread() (n int) {
	raw, err := b.sockets[0].link.conn.SyscallConn()
	if err != nil {
		return -1
	}
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}

// A BEAT that the kernel holds when the deadline has passed counts.
func TestReadsBeforeItJudges(t *testing.T) {
	b := newBench(t)
	b.welcome()
	b.arrives(hb.WatchdogBeat{Sequence: 1, Attributes: primary}.Append(nil, 1))
	b.at(103*second + 1) // late by less than what a grace is for
	b.read()             // the time is over; there are bytes
	b.read()
	b.is(hb.Established)
	for now := 103*second + 1; now <= 106*second+1; now += second / 10 {
		b.at(now)
		b.due()
	}
	b.is(hb.Lost)
}

// So does a WELCOME.
func TestReadsWelcomeBeforeItJudges(t *testing.T) {
	b := newBench(t)
	b.welcome()
	b.peer.CloseWrite()
	b.read()
	b.is(hb.Connecting)
	b.at(102 * second)
	b.connect()
	b.arrives(hb.Welcome{Version: 1, Flags: hb.Resumed, SystemIdentifier: 7, PostmasterStart: 1}.Append(nil))
	b.at(103*second + 1)
	b.read()
	b.read()
	b.is(hb.Established)
	if g := b.mon.Generation(); g != 0 {
		t.Errorf("its generation is %d", g)
	}
}

// TestBeside: a connection that has fallen silent, and one beside it, which the watchdog answers:
// that comes in, whichever is read. Then both are served; the one that is left is read as ever.
func TestBeside(t *testing.T) {
	b := newBench(t)
	b.brings(hb.Welcome{Version: 2, Flags: hb.Resumed, SystemIdentifier: 7, PostmasterStart: 1}.Append(nil))
	first := b.peer
	b.at(101*second + second/2) // a beat is late
	b.due()
	if len(b.sockets) != 2 {
		t.Fatalf("%d connections", len(b.sockets))
	}
	latest, err := b.port.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer latest.Close()
	until := func(what string, cond func() bool) {
		t.Helper()
		for limit := time.Now().Add(patience); !cond(); {
			if time.Now().After(limit) {
				t.Fatalf("not %s: %d connections", what, len(b.sockets))
			}
			if !b.takeIn() {
				b.wait()
			}
		}
	}
	stand := func(n int) func() bool {
		return func() bool {
			return len(b.sockets) == n && !slices.ContainsFunc(b.sockets, func(s *socket) bool { return s.link == nil })
		}
	}
	until("connected", stand(2))
	latest.Write(hb.Welcome{Version: 2, Flags: hb.Resumed, SystemIdentifier: 7, PostmasterStart: 1}.Append(nil))
	beat := func(n uint32) hb.WatchdogBeat {
		return hb.WatchdogBeat{Sequence: n, Attributes: hb.Attributes{Timeline: n}}
	}
	latest.Write(beat(1).Append(nil, 2))
	until("told on the new one", func() bool { a, _ := b.mon.Attributes(); return a.Timeline == 1 })
	first.Write(beat(8).Append(nil, 2)) // it is read, too
	if b.sockets[0].link.watched == nil {
		t.Error("nobody waits for the old one")
	}
	b.at(101*second + second/2 + 1)
	until("heard on the old one", func() bool {
		at, _ := b.mon.LastReceived()
		return at == 101*second+second/2+1
	})
	last := beat(2)
	last.Echo = 1
	latest.Write(last.Append(nil, 2))
	until("the only one", stand(1))
	latest.Write(beat(3).Append(nil, 2))
	for a, _ := b.mon.Attributes(); a.Timeline != 3; a, _ = b.mon.Attributes() {
		b.read()
	}
	b.is(hb.Established)
	if n, err := io.Copy(io.Discard, first); err != nil {
		t.Errorf("the older one ends with %v after %d bytes", err, n)
	}
	for _, e := range b.told {
		if _, is := e.(event.Closed); is {
			t.Errorf("told: %s", e.Text())
		}
	}
}

// TestGivenUpIsReset: what was sent to a watchdog that has not answered in time is not sent again
// later; a connection that was welcomed is closed in peace.
func TestGivenUpIsReset(t *testing.T) {
	b := newBench(t)
	b.brings(hb.Welcome{Version: 2, Flags: hb.Resumed, SystemIdentifier: 7, PostmasterStart: 1}.Append(nil))
	first := b.peer
	b.at(101*second + second/2) // a beat is late
	b.due()
	mute, err := b.port.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for len(b.sockets) < 2 || b.sockets[1].link == nil {
		if !b.takeIn() {
			b.wait()
		}
	}
	b.at(102*second + second) // its time is over
	b.due()
	if _, err := io.Copy(io.Discard, mute); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the one that was given up ends with %v", err)
	}
	b.stop()
	b.step(instance.Event{Kind: instance.Stop})
	if _, err := io.Copy(io.Discard, first); err != nil {
		t.Errorf("the one that was welcomed ends with %v", err)
	}
}

// And so does the answer of a stopping server's SQL port.
func TestReadsStopAnswerBeforeItJudges(t *testing.T) {
	b := newBench(t)
	b.welcome()
	b.brings(hb.Goodbye{Code: hb.GoodbyeServerEnds}.Append(nil))
	b.is(hb.Stopping)
	b.at(101 * second) // the next attempt, and the next question
	b.due()
	b.inbox <- instance.Event{Kind: instance.Answered, Question: instance.Question{Round: 1}, Answer: hb.StopGoesOn,
		At: 102 * second}
	b.at(103*second + 1)
	b.due()
	b.is(hb.Stopping)
	b.at(105 * second)
	b.due()
	b.is(hb.Lost)
}

// A server that is reached says that it was promoted; and its name, in the same moment, that it is
// not the one that is meant any more. Its word counts.
func TestEstablishedForAMoment(t *testing.T) {
	answers := make(chan netip.Addr, 1)
	answers <- netip.MustParseAddr("10.0.0.1")
	b := newBenchOf(t, "backend_host0 = db0", func(ctx context.Context, _ string) ([]netip.Addr, error) {
		select {
		case a := <-answers:
			return []netip.Addr{a}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	b.welcome()
	b.peer.CloseWrite()
	b.read()
	b.at(101 * second)
	b.due() // the next look-up
	b.at(101*second + second/4)
	b.connect() // which is late
	answers <- netip.MustParseAddr("10.0.0.2")
	b.step(<-b.inbox)
	b.brings(hb.Welcome{Version: 1, Flags: hb.Resumed, SystemIdentifier: 7, PostmasterStart: 1,
		Attributes: hb.Attributes{Timeline: 2}}.Append(nil))
	b.is(hb.Connecting)
	stop := make(chan struct{})
	defer close(stop)
	go b.board.Run(stop)
	testkit.Eventually(t, patience, "the promotion is known", func() (bool, string) {
		k := b.board.Table.Load().Known
		return k.Timeline == 2, k.String()
	})
}

// An address leads to a server that is there already: that is told first, and then that the one
// before is lost.
func TestDuplicateIsToldBeforeTheLoss(t *testing.T) {
	b := newBenchOf(t, "backend_hostaddr0 = 127.0.0.1\nbackend_hostaddr1 = 127.0.0.2", nil)
	b.welcome()
	b.peer.CloseWrite()
	b.read()
	b.at(101 * second)
	b.connect()
	b.servers.claim(1, instance.Server{System: 7, Start: 2}, b.sockets[0].link.local(), 0)
	b.told = nil
	b.brings(hb.Welcome{Version: 1, SystemIdentifier: 7, PostmasterStart: 2}.Append(nil))
	b.is(hb.Duplicate)
	if at := b.board.Heard[0].Load(); at != int64(100*second) {
		t.Errorf("SHOW INSTANCES has heartbeats of the duplicate, at %d", at)
	}
	var told []string
	for _, e := range b.told {
		told = append(told, e.Text())
	}
	want := []string{
		`instance 0 (host "127.0.0.1", port 27500) is the same server as instance 1, whose heartbeats serve for both`,
		`instance 0 (host "127.0.0.1", port 27500) is lost: its address leads to another server now`}
	if !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

// The end of conmgr breaks an attempt off, and nobody complains of that.
func TestBrokenOffAtTheEnd(t *testing.T) {
	b := newBench(t)
	b.welcome()
	b.peer.CloseWrite()
	b.read()
	b.stop()
	b.told = nil
	b.at(101 * second)
	b.due()
	b.dialledNow()
	for _, e := range b.told {
		if _, is := e.(event.ConnectFailed); is {
			t.Errorf("told: %s", e.Text())
		}
	}
}

// A connection that merely breaks keeps its server: a duplicate that looks meanwhile does not take
// it.
func TestBrokenConnectionKeepsServer(t *testing.T) {
	m := newServerMap(3)
	key, other := instance.Server{System: 7, Start: 1}, instance.Server{System: 7, Start: 2}
	woken := func() (out []int) {
		for i, w := range m.wake {
			select {
			case <-w:
				out = append(out, i)
			default:
			}
		}
		return out
	}
	for i, want := range []int{0, 0, 0} {
		if h := m.claim(i, key, netip.Addr{}, 10); h.Index != want {
			t.Errorf("entry %d is served by %d", i, h.Index)
		}
	}
	if h := m.claim(0, key, netip.Addr{}, 20); h.Index != 0 || h.Since != 10 || len(woken()) != 0 {
		t.Errorf("resumed: %+v", h)
	}
	if h := m.claim(0, other, netip.Addr{}, 30); h.Index != 0 {
		t.Errorf("another server: %+v", h)
	}
	if got := woken(); len(got) != 2 || got[0] != 1 || got[1] != 2 {
		t.Errorf("woken: %v", got)
	}
	if h := m.claim(2, key, netip.Addr{}, 40); h.Index != 2 {
		t.Errorf("what was let go: %+v", h)
	}
	m.release(1) // has nothing
	if got := woken(); len(got) != 0 {
		t.Errorf("woken: %v", got)
	}
	m.release(0)
	if h := m.claim(1, other, netip.Addr{}, 50); h.Index != 1 {
		t.Errorf("released: %+v", h)
	}
}

func TestErrorCode(t *testing.T) {
	e, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "x"}).Encode(nil)
	for want, b := range map[string][]byte{"57P03": e, "": e[:5]} {
		if got := errorCode(b); got != want {
			t.Errorf("%q: got %q, want %q", b, got, want)
		}
	}
	for i := range e {
		errorCode(e[:i]) // whatever is cut off
	}
	if got := errorCode([]byte("HTTP/1.1 400")); got != "" {
		t.Errorf("got %q", got)
	}
}
