package conmgr

// Tests of an instance on a clock of the test's own: what is read before a verdict, and when the
// next attempt is due. And of what is told: losses that a WELCOME shows, the last error, the
// server's own port.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// bench is an instance that is not run, with a connection to the test.
type bench struct {
	*instance
	t    *testing.T
	time atomic.Int64
	conn *net.TCPConn // of the instance
	peer *net.TCPConn
	link *link
	stop context.CancelFunc
}

const second = hb.Mono(time.Second)

// newBench is at second 100; heartbeat_interval is 1 s, heartbeat_timeout 3 s.
func newBench(t *testing.T, conf string) *bench {
	t.Helper()
	r := newRig(t, "heartbeat_interval = 1\nheartbeat_timeout = 3\n"+conf+"backend_hostaddr0 = 127.0.0.1\n", func(r *rig) {
		r.net.Dial = func(ctx context.Context, _ netip.Addr, _ netip.AddrPort) (*net.TCPConn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	b := &bench{t: t}
	b.time.Store(int64(100 * second))
	b.instance = r.d.instances(hb.ID{9}, hb.ID{}, r.net, func() clock.Mono { return clock.Mono(b.time.Load()) })[0]
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
	eventually(b.t, "the bytes are in the kernel", func() bool { return b.unread() == len(p) })
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

// The watchdog has forgotten this conmgr: its applications are told, once, and its generation
// stays.
func TestForgotten(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, quick+instanceConf(0, w.port()))
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	app := r.connect()
	app.query("show target primary")
	w.forget()
	c.c.Close()
	c = w.next()
	c.welcome(1, 7, primary)
	if got := app.until(""); !strings.Contains(got, "E(FATAL 57P01 ") || !strings.Contains(got, "is lost: the server has forgotten this Connection Manager and has ended its sessions") {
		t.Errorf("told %s", got)
	}
	r.waitState(0, hb.Established)
	later := r.connect()
	later.query("show target primary")
	c.c.Close()
	c = w.next()
	if c.hello.Generation != 0 {
		t.Errorf("generation %d: new sessions would end", c.hello.Generation)
	}
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	if got := later.query("show version"); !strings.HasSuffix(got, "Z") || r.entry(0).Losses != 1 {
		t.Errorf("after resuming: %s", got)
	}
}

// The detail is the last error, and of a lost instance also why it was lost.
func TestDetailIsTheLastError(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	var mu sync.Mutex
	var failure error
	fails := func(err error) { mu.Lock(); defer mu.Unlock(); failure = err }
	r := newRig(t, quick+instanceConf(0, w.port()), func(r *rig) {
		r.net.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
			mu.Lock()
			err := failure
			mu.Unlock()
			if err != nil {
				return nil, err
			}
			return netio.Dial(ctx, from, to)
		}
	})
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	fails(unix.ECONNREFUSED)
	r.waitState(0, hb.Lost)
	for _, text := range []string{"connection refused", "no route to host", "connection refused"} {
		if text == "no route to host" {
			fails(unix.EHOSTUNREACH)
		} else {
			fails(unix.ECONNREFUSED)
		}
		eventually(t, "the detail has "+text, func() bool {
			d := r.entry(0).Detail
			before, after, _ := strings.Cut(d, " (lost: ")
			return before == "127.0.0.1:"+itoa(w.port())+": "+text && silent.MatchString(after)
		})
	}
	fails(nil)
	c = w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	if d := r.entry(0).Detail; d != "" {
		t.Errorf("detail %q", d)
	}
	fails(errors.New("other"))
	c.c.Close()
	eventually(t, "the new error alone", func() bool { return strings.HasSuffix(r.entry(0).Detail, ": other") || r.entry(0).State == hb.Lost })
}

// The watchdog tells the postmaster's port: another one than backend_port is warned of once, and
// shown.
func TestOtherBackendPort(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, quick+instanceConf(3, w.port())+"backend_port3 = 6000\n")
	const text = "backend_port3 is 6000, but the server's own port is 5432"
	for i, port := range []uint16{5432, 5432, 6000, 0} {
		c := w.next()
		a := c.answer(1, 7, primary)
		a.PostmasterPort = port
		c.send(a.Append(nil))
		r.waitState(0, hb.Established)
		want := text
		if port != 5432 {
			want = ""
		}
		if d := r.entry(0).Detail; d != want {
			t.Errorf("WELCOME %d: detail %q", i, d)
		}
		c.c.Close()
		eventually(t, "it is closed", func() bool { return r.entry(0).State != hb.Established })
	}
	if n := r.log.count(`WARNING:  instance 3 (host "127.0.0.1", port 6000): ` + text); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// A peer that closes, refuses, or changes its attributes again and again does not fill the log.
func TestPeerCannotFillTheLog(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, "heartbeat_connect_interval = 10ms\n"+instanceConf(0, w.port()))
	for i := range 60 {
		c := w.next()
		if i%2 == 0 {
			c.send(hb.Refused{Code: hb.RefusedFull, Text: "another text " + itoa(i)}.Append(nil))
			continue
		}
		c.welcome(int64(i), 7, primary) // and another postmaster each time
		for j := range 20 {
			c.beat([]hb.Attributes{primary, standby}[j%2])
		}
		c.c.Close()
	}
	r.d.log.Flush(patience)
	for _, line := range []string{"heartbeat connect is refused", "heartbeat connection is established", "heartbeat connection is closed",
		"attribute of the instance", "is lost:"} {
		if n := r.log.count(line); n > cmlog.LimitBurst || n == 0 {
			t.Errorf("%s: %d lines", line, n)
		}
	}
}
