package watch

// Tests of an instance on a clock of the test's own: what is read before a verdict, and when the
// next attempt is due; and of its parts: names, one server under two entries, the answers of a server
// that stops.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

var primary = hb.Attributes{Timeline: 1}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	testkit.Eventually(t, patience, what, func() (bool, string) { return cond(), "" })
}

// bench is an instance that is not run, with a connection to the test.
type bench struct {
	*Instance
	t    *testing.T
	time atomic.Int64
	conn *net.TCPConn // of the instance
	peer *net.TCPConn
	link *link
	stop context.CancelFunc
}

const second = hb.Mono(time.Second)

// newBench is at second 100; heartbeat_interval is 1 s, heartbeat_timeout 3 s.
func newBench(t *testing.T, text string) *bench {
	t.Helper()
	leak.Check(t)
	c, diags := conf.Parse("conmgr.conf", []byte("heartbeat_interval = 1\nheartbeat_timeout = 3\n"+text+
		"backend_hostaddr0 = 127.0.0.1\n"))
	if c == nil {
		t.Fatal(diags)
	}
	network := netio.Network{Dial: func(ctx context.Context, _ netip.Addr, _ netip.AddrPort) (*net.TCPConn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	g := &group.Group{OnPanic: func(name string, v any, _ []byte) { t.Errorf("%s: %v", name, v) }}
	t.Cleanup(func() { g.Wait(patience) })
	b := &bench{t: t}
	b.time.Store(int64(100 * second))
	b.Instance = New(c, Surroundings{Board: bind.NewBoard(c, nil, bind.NewRegistry(1, 1), nil, route.Known{}),
		Group: g, Net: network, Now: func() clock.Mono { return clock.Mono(b.time.Load()) }, Goodbye: new(atomic.Bool),
		Process: hb.ID{9}})[0]
	b.ctx, b.stop = context.WithCancel(context.Background())
	t.Cleanup(b.stop)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if b.conn, err = netio.Dial(b.ctx, netip.Addr{}, netip.MustParseAddrPort(l.Addr().String())); err != nil {
		t.Fatal(err)
	}
	if b.peer, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.conn.Close(); b.peer.Close() })
	if b.link, err = newLink(b.ctx, b.conn, b.now, time.Minute); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) at(t hb.Mono) { b.time.Store(int64(t)) }

// welcome establishes the instance now.
func (b *bench) welcome() {
	b.t.Helper()
	b.mon.Hello()
	if loss, err := b.mon.Welcome(b.now(), hb.Welcome{Version: 1, Flags: hb.Resumed, SystemIdentifier: 7, PostmasterStart: 1}); err != nil || loss != nil {
		b.t.Fatal(err, loss)
	}
	b.attempts.Established(b.now())
}

// arrives sends bytes to the instance, and waits until its kernel has them.
func (b *bench) arrives(p []byte) {
	b.t.Helper()
	b.peer.Write(p)
	testkit.Eventually(b.t, patience, "the bytes are in the kernel", func() (bool, string) { return b.unread() == len(p), "" })
}

func (b *bench) unread() (n int) {
	raw, err := b.conn.SyscallConn()
	if err != nil {
		return -1
	}
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}

// A BEAT that the kernel holds when the deadline has passed counts.
func TestReadsBeforeItJudges(t *testing.T) {
	b := newBench(t, "")
	b.welcome()
	b.arrives(hb.WatchdogBeat{Sequence: 1, Attributes: primary}.Append(nil))
	b.at(103*second + 1) // late by less than what a grace is for
	ended := make(chan outcome, 1)
	go func() { ended <- b.serve(b.link) }()
	eventually(t, "it has looked", func() bool { return b.unread() == 0 || len(ended) > 0 })
	b.stop()
	<-ended
	if s := b.mon.State(); s != hb.Established {
		t.Errorf("the instance is %s", s)
	}
}

// So does a WELCOME.
func TestReadsWelcomeBeforeItJudges(t *testing.T) {
	b := newBench(t, "")
	b.welcome()
	b.mon.Closed()
	b.arrives(hb.Welcome{Version: 1, Flags: hb.Resumed, SystemIdentifier: 7, PostmasterStart: 1}.Append(nil))
	b.at(103*second + 1)
	loss, err := b.greet(b.link, 110*second)
	if s := b.mon.State(); s != hb.Established || loss != nil || err != nil {
		t.Errorf("the instance is %s, loss %v, error %v", s, loss, err)
	}
}

// And so does the answer of a stopping server's SQL port.
func TestReadsStopAnswerBeforeItJudges(t *testing.T) {
	b := newBench(t, "")
	b.welcome()
	f, _, _ := hb.Next(hb.Goodbye{Code: hb.GoodbyeServerEnds}.Append(nil))
	if _, err := b.mon.Frame(b.now(), f); err != nil {
		t.Fatal(err)
	}
	replies := make(chan stopReply, 2)
	b.stopReplies = replies
	replies <- stopReply{102 * second, hb.StopGoesOn}
	replies <- stopReply{102*second + 1, hb.StopSilent}
	b.at(103*second + 1)
	b.tick(103 * second)
	if s := b.mon.State(); s != hb.Stopping {
		t.Errorf("the instance is %s", s)
	}
	b.at(105 * second)
	b.tick(105 * second)
	if s := b.mon.State(); s != hb.Lost {
		t.Errorf("then the instance is %s", s)
	}
}

// pauses makes n attempts that come to nothing, each of no length, and returns when.
func (b *bench) pauses(o outcome, n int) (at []time.Duration) {
	for range n {
		b.time.Add(int64(b.pauseAfter(o)))
		if loss := b.mon.Judge(b.now()); loss != nil {
			b.lost(loss)
		}
		at = append(at, b.now().Sub(100*second).Round(time.Millisecond))
		o = unreached
	}
	return at
}

func checkTimes(t *testing.T, what string, got []time.Duration, want ...int) {
	t.Helper()
	for i, w := range want {
		if i >= len(got) || got[i] != time.Duration(w)*time.Millisecond {
			t.Errorf("%s: attempts at %v, want %v ms", what, got, want)
			return
		}
	}
}

// A connection that has broken is wanted back soon; near the deadline no pause takes what is left;
// after a loss heartbeat_connect_interval holds, whatever it is.
func TestPauses(t *testing.T) {
	b := newBench(t, "heartbeat_connect_interval = 5\n")
	checkTimes(t, "never reached", b.pauses(unreached, 3), 5000, 10000, 15000)

	b = newBench(t, "heartbeat_connect_interval = 5\n")
	b.welcome()
	b.attempts.Established(90 * second)
	b.mon.Closed()
	at := b.pauses(severed, 12)
	checkTimes(t, "broken", at, 0, 50, 150, 350, 750, 1313, 1734)
	if last := at[len(at)-1]; last > 3*time.Second {
		t.Errorf("the twelfth attempt is made after %v: %v", last, at)
	}
	for i := 1; i < len(at); i++ {
		if left := 3*time.Second - at[i-1]; left > 0 && at[i]-at[i-1] > max(left/4+time.Millisecond, hb.FirstPause) {
			t.Errorf("a pause of %v when %v are left", at[i]-at[i-1], left)
		}
	}
	for b.mon.State() != hb.Lost {
		b.pauses(unreached, 1)
	}
	b.at(110 * second)
	checkTimes(t, "lost", b.pauses(unreached, 3), 15000, 20000, 25000)

	b = newBench(t, "heartbeat_connect_interval = 5\n")
	b.welcome()
	b.at(103 * second)
	b.lost(b.mon.Judge(b.now()))
	checkTimes(t, "lost while connected", b.pauses(atOnce, 3), 3000, 8000, 13000)

	b = newBench(t, "heartbeat_connect_interval = 20ms\n") // shorter than what it begins with
	b.welcome()
	b.attempts.Established(90 * second)
	checkTimes(t, "short interval", b.pauses(severed, 4), 0, 20, 40, 60)

	b = newBench(t, "heartbeat_connect_interval = 200ms\n")
	b.welcome()
	at = nil
	for range 5 { // a watchdog that welcomes and closes again and again is not flooded
		at = append(at, b.pauseAfter(severed))
	}
	checkTimes(t, "welcomed and closed", at, 50, 100, 200, 200, 200)
}

// An attempt ends in time for another one before the deadline.
func TestAttemptLimit(t *testing.T) {
	b := newBench(t, "heartbeat_connect_timeout = 10\n")
	if d := b.attemptLimit(); d != 110*second {
		t.Errorf("never reached: %v", d)
	}
	b.welcome()
	b.mon.Closed()
	for now, want := range map[hb.Mono]time.Duration{100 * second: 1500 * time.Millisecond, 102 * second: 500 * time.Millisecond, 103*second - 1: hb.LeastAttempt} {
		b.at(now)
		if d := b.attemptLimit().Sub(now); d != want {
			t.Errorf("%v before the deadline: %v, want %v", (103 * second).Sub(now), d, want)
		}
	}
	b.at(103 * second)
	b.lost(b.mon.Judge(b.now()))
	if d := b.attemptLimit(); d != 113*second {
		t.Errorf("lost: %v", d)
	}
}

// Half an answer (the question for the other kind of address failed) takes nothing away.
func TestHalfAnswer(t *testing.T) {
	failed := errors.New("server misbehaving")
	for _, x := range []struct {
		known, Answer string
		err           error
		want          string
		fresh         bool
	}{
		{"10.0.0.1 fd00::1", "fd00::1", &netio.HalfAnswer{Missing4: true, Err: failed}, "fd00::1 10.0.0.1", false},
		{"10.0.0.1 fd00::1", "fd00::2", &netio.HalfAnswer{Missing4: true, Err: failed}, "fd00::2 10.0.0.1", false},
		{"10.0.0.1 fd00::1", "10.0.0.2", &netio.HalfAnswer{Missing4: false, Err: failed}, "10.0.0.2 fd00::1", false},
		{"10.0.0.1", "10.0.0.2", &netio.HalfAnswer{Missing4: false, Err: failed}, "10.0.0.2", true}, // as ever with this name server
		{"", "10.0.0.1", &netio.HalfAnswer{Missing4: false, Err: failed}, "10.0.0.1", true},
		{"10.0.0.1 fd00::1", "fd00::1", nil, "fd00::1", true},
		{"10.0.0.1 fd00::1", "", failed, "10.0.0.1 fd00::1", false},
	} {
		in := &Instance{cfg: &conf.Instance{Host: "db0"}}
		in.lookup.addrs = addresses(x.known)
		in.looked(result[[]netip.Addr]{addresses(x.Answer), x.err})
		if !slices.Equal(in.lookup.addrs, addresses(x.want)) || in.lookup.fresh != x.fresh ||
			(in.lookup.err == nil) != x.fresh {
			t.Errorf("%q, then %q, %v: %v, fresh %v, %v", x.known, x.Answer, x.err, in.lookup.addrs, in.lookup.fresh,
				in.lookup.err)
		}
	}
}

// A connection that merely breaks keeps its server: a duplicate that looks meanwhile does not take
// it.
func TestBrokenConnectionKeepsServer(t *testing.T) {
	m := newServerMap(3)
	key, other := serverKey{7, 1}, serverKey{7, 2}
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
		if h := m.claim(i, key, netip.Addr{}, 10); h.index != want {
			t.Errorf("entry %d is served by %d", i, h.index)
		}
	}
	if h := m.claim(0, key, netip.Addr{}, 20); h.index != 0 || h.since != 10 || len(woken()) != 0 {
		t.Errorf("resumed: %+v", h)
	}
	if h := m.claim(0, other, netip.Addr{}, 30); h.index != 0 {
		t.Errorf("another server: %+v", h)
	}
	if got := woken(); len(got) != 2 || got[0] != 1 || got[1] != 2 {
		t.Errorf("woken: %v", got)
	}
	if h := m.claim(2, key, netip.Addr{}, 40); h.index != 2 {
		t.Errorf("what was let go: %+v", h)
	}
	m.release(1) // has nothing
	if got := woken(); len(got) != 0 {
		t.Errorf("woken: %v", got)
	}
	m.release(0)
	if h := m.claim(1, other, netip.Addr{}, 50); h.index != 1 {
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

func addresses(s string) (out []netip.Addr) {
	for _, a := range strings.Fields(s) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}
