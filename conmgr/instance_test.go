package conmgr

// Tests of an instance's goroutine against fake watchdogs: verdicts, resuming, retries, stalls.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/netio"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

const quick = "heartbeat_interval = 100ms\nheartbeat_timeout = 400ms\nheartbeat_connect_interval = 50ms\nheartbeat_connect_timeout = 2s\n"

// calm is quick without losses by silence: for a test that wants none, however long it stands still.
const calm = quick + "heartbeat_timeout = 1min\n"

// silent is the detail of a loss by silence with quick. It is longer than heartbeat_timeout by what
// this process is late.
var silent = regexp.MustCompile(`^no heartbeat for ([4-9]|[1-9]\d)\d\d ms`)

func TestEstablishAndShutdown(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, calm+instanceConf(4, w.port()))
	c := w.next()
	if c.hello.Generation != 0 || c.hello.Interval != 100*time.Millisecond || c.hello.Timeout != time.Minute {
		t.Errorf("HELLO %+v", c.hello)
	}
	if e := r.entry(0); e.State != hb.Connecting || e.Known {
		t.Errorf("before WELCOME: %+v", e)
	}
	c.welcome(1, 7, primary)
	stop := c.beating(50*time.Millisecond, primary)
	r.waitState(0, hb.Established)
	e := r.entry(0)
	if !e.Known || e.SystemIdentifier != 7 || e.HostAddr != netip.MustParseAddr("127.0.0.1") || !e.IsPrimary() {
		t.Errorf("got %+v", e)
	}
	for i := 0; i < 3; i++ {
		if f := c.frame(); f.Type != hb.TypeBeat {
			t.Fatalf("got %s", f.Type)
		}
	}
	stop()
	c.beat(standby) // a change is known at once
	r.published("the attribute changes", func() bool { return !r.entry(0).IsPrimary() })
	r.stop()
	if code := c.goodbye(); code != hb.GoodbyeConmgrEnds {
		t.Errorf("GOODBYE %d", code)
	}
	for _, want := range []string{
		`LOG:  heartbeat connection is established: instance 4 (host "127.0.0.1", port 27500), address 127.0.0.1`,
		"LOG:  attribute of the instance(host='127.0.0.1', port=27500) is changed from 'unknown' to 'primary,read-write'",
		"LOG:  attribute of the instance(host='127.0.0.1', port=27500) is changed from 'primary,read-write' to 'standby,read-only'",
	} {
		if r.logged(want) != 1 {
			t.Errorf("not once in the log: %s", want)
		}
	}
}

// Silence: the verdict falls at heartbeat_timeout after the last reception, not before.
func TestSilence(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, quick+instanceConf(0, w.port()))
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	last := time.Now()
	c.beat(primary)
	r.waitState(0, hb.Lost)
	if d := time.Since(last); d < 390*time.Millisecond {
		t.Errorf("lost after %v", d)
	}
	if e := r.entry(0); e.Generation != 1 || e.Losses != 1 || !silent.MatchString(e.Detail) {
		t.Errorf("got %+v", e.Status)
	}
	if code := c.goodbye(); code != hb.GoodbyeGivenUp {
		t.Errorf("GOODBYE %d", code)
	}
	c = w.nextOf(1)
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	if r.logged("WARNING:  heartbeat is timed out") != 1 {
		t.Error("not in the log")
	}
}

// A connection that breaks and is back in time is no loss, whether it ends by FIN or by RST.
func TestResume(t *testing.T) {
	for _, rst := range []bool{false, true} {
		w := newWatchdog(t, "127.0.0.1:0")
		r := newRig(t, calm+instanceConf(0, w.port()))
		c := w.next()
		c.welcome(1, 7, primary)
		r.waitState(0, hb.Established)
		if rst {
			c.c.(*net.TCPConn).SetLinger(0)
		}
		c.c.Close()
		c = w.next()
		if e := r.entry(0); e.State == hb.Established || e.Losses != 0 {
			t.Errorf("after the close: %+v", e.Status)
		}
		c.welcome(1, 7, primary)
		r.waitState(0, hb.Established)
		if e := r.entry(0); e.Losses != 0 || c.hello.Generation != 0 {
			t.Errorf("after resuming: %+v, HELLO %+v", e.Status, c.hello)
		}
	}
}

// The deadline goes on while conmgr cannot connect, cannot resolve, and gets no WELCOME.
func TestDeadlineWhileDisconnected(t *testing.T) {
	for _, how := range []string{"refused", "hanging connect", "hanging resolver", "no welcome"} {
		t.Run(how, func(t *testing.T) {
			w := newWatchdog(t, "127.0.0.1:0")
			var mu sync.Mutex
			broken := false
			isBroken := func() bool { mu.Lock(); defer mu.Unlock(); return broken }
			conf := strings.Replace(quick+instanceConf(0, w.port()), "backend_hostaddr0 = 127.0.0.1", "backend_host0 = db0", 1)
			r := newRig(t, conf, func(r *rig) {
				r.net = netio.Network{
					Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
						if isBroken() && how == "hanging resolver" {
							<-ctx.Done()
							return nil, ctx.Err()
						}
						return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
					},
					Dial: func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
						if isBroken() && how == "refused" {
							return nil, errors.New("connection refused")
						}
						if isBroken() && how == "hanging connect" {
							<-ctx.Done()
							return nil, ctx.Err()
						}
						return netio.Dial(ctx, from, to)
					},
				}
			})
			c := w.next()
			last := time.Now()
			c.welcome(1, 7, primary)
			r.waitState(0, hb.Established)
			mu.Lock()
			broken = true
			mu.Unlock()
			c.c.Close()
			r.waitState(0, hb.Lost)
			if d := time.Since(last); d < 350*time.Millisecond || d > 1500*time.Millisecond { // heartbeat_connect_timeout is 2 s
				t.Errorf("lost after %v", d)
			}
			if how == "no welcome" { // the answer to the HELLO of before the loss comes now
				for c = w.next(); c.hello.Generation == 0; c = w.next() {
					c.welcome(1, 7, primary)
				}
				c.welcome(1, 7, primary)
				r.waitState(0, hb.Established)
			}
			if l := r.entry(0).Losses; l != 1 {
				t.Errorf("%d losses", l)
			}
		})
	}
}

func TestOtherPostmaster(t *testing.T) {
	for _, x := range []struct {
		start  int64
		system uint64
		want   string
	}{{2, 7, "the server was restarted"}, {1, 8, "another database cluster answers at its address"}} {
		w := newWatchdog(t, "127.0.0.1:0")
		r := newRig(t, calm+instanceConf(0, w.port()))
		c := w.next()
		c.welcome(1, 7, primary)
		r.waitState(0, hb.Established)
		c.c.Close()
		c = w.next()
		c.welcome(x.start, x.system, primary)
		stop := c.beating(50*time.Millisecond, primary)
		r.published("the loss is counted", func() bool { e := r.entry(0); return e.Losses == 1 && e.State == hb.Established })
		if g := r.entry(0).Generation; g != 0 {
			t.Errorf("generation %d", g)
		}
		if r.logged(x.want) != 1 {
			t.Errorf("log: %s", r.log)
		}
		stop()
	}
}

// GOODBYE 17 is no verdict of ours, and if the connection is resumed, nobody is told.
func TestWatchdogSaysSilent(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, calm+instanceConf(0, w.port()))
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	c.send(hb.Goodbye{Code: hb.GoodbyeConmgrSilent, Text: "silent"}.Append(nil))
	c = w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	if e := r.entry(0); e.Losses != 0 {
		t.Errorf("%d losses", e.Losses)
	}
}

// A reason is logged once, and the attempts go on.
func TestRefused(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, quick+instanceConf(0, w.port()))
	for i := 0; i < 4; i++ {
		c := w.next()
		c.send(hb.Refused{Code: hb.RefusedFull, Text: "too many heartbeat connections"}.Append(nil))
	}
	if n := r.logged(`WARNING:  heartbeat connect is refused: instance 0 (host "127.0.0.1", port 27500): too many heartbeat connections`); n != 1 {
		t.Errorf("logged %d times", n)
	}
	r.published("the detail is the refusal", func() bool {
		return r.entry(0).Detail == "heartbeat connect is refused: too many heartbeat connections"
	})
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	if d := r.entry(0).Detail; d != "" {
		t.Errorf("detail %q", d)
	}
}

func TestMisbehavingWatchdog(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"garbage":        []byte("HTTP/1.1 400 Bad Request\r\n"),
		"beat first":     hb.WatchdogBeat{Sequence: 1, Attributes: primary}.Append(nil, 1),
		"short welcome":  {0, 6, 2, 0, 0, 1},
		"zero length":    {0, 0, 0, 0},
		"unknown type":   {0, 4, 99, 0},
		"bad version":    hb.Welcome{Version: 9}.Append(nil),
		"hello to hello": hb.Hello{}.Append(nil),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatchdog(t, "127.0.0.1:0")
			r := newRig(t, calm+instanceConf(0, w.port()))
			c := w.next()
			c.send(bytes)
			c = w.next() // it has hung up, and tries again
			c.welcome(1, 7, primary)
			r.waitState(0, hb.Established)
			c.send([]byte{0, 4, 99, 0})
			c = w.next()
			c.welcome(1, 7, primary)
			r.waitState(0, hb.Established)
			if l := r.entry(0).Losses; l != 0 {
				t.Errorf("%d losses", l)
			}
		})
	}
}

// All addresses of a name are tried, each with its share of the time, and the one that worked is
// the first the next time.
func TestSeveralAddresses(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	var mu sync.Mutex
	var dialled []string
	r := newRig(t, "heartbeat_connect_timeout = 3s\nbackend_host0 = db0\nwatchdog_port0 = "+itoa(w.port()), func(r *rig) {
		r.net = netio.Network{
			Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1")}, nil
			},
			Dial: func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
				mu.Lock()
				dialled = append(dialled, to.Addr().String())
				mu.Unlock()
				switch to.Addr().String() {
				case "::1":
					return nil, errors.New("connection refused")
				case "192.0.2.1":
					<-ctx.Done() // nobody answers
					return nil, ctx.Err()
				}
				return netio.Dial(ctx, from, to)
			},
		}
	})
	start := time.Now()
	c := w.next()
	if d := time.Since(start); d > 2750*time.Millisecond {
		t.Errorf("reached after %v: the second address had more than its share", d)
	}
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	if a := r.entry(0).Address().String(); a != "127.0.0.1" {
		t.Errorf("address %s", a)
	}
	c.c.Close()
	c = w.next()
	c.welcome(1, 7, primary)
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(dialled, " "); got != "::1 192.0.2.1 127.0.0.1 127.0.0.1" {
		t.Errorf("dialled %s", got)
	}
}

// conmgr was stopped for longer than the timeout. Whoever was alive meanwhile is not lost: its
// packets wait in the kernel, or come with the next interval.
func TestFrozenWhileEstablished(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, quick+"heartbeat_timeout = 1s\n"+instanceConf(0, w.port()))
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	c.beat(primary)
	r.jump.Add(int64(3 * time.Second)) // nothing has come in during these 3 seconds
	// It wakes, judges, sends its BEAT, and has not given up.
	for i := 0; i < 2; i++ {
		if f := c.frame(); f.Type != hb.TypeBeat {
			t.Fatalf("got %s", f.Type)
		}
	}
	stop := c.beating(50*time.Millisecond, primary)
	for i := 0; i < 6; i++ {
		if f := c.frame(); f.Type != hb.TypeBeat {
			t.Fatalf("got %s", f.Type)
		}
	}
	if e := r.entry(0); e.Losses != 0 || e.State != hb.Established {
		t.Errorf("got %+v", e.Status)
	}
	stop()
	r.waitState(0, hb.Lost) // silence is still found
}

// It was frozen while an attempt to connect again was under way: the attempt is over, and the next
// one has time.
func TestFrozenWhileConnecting(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, "heartbeat_interval = 10s\nheartbeat_timeout = 20s\nheartbeat_connect_interval = 50ms\n"+
		"heartbeat_connect_timeout = 500ms\n"+instanceConf(0, w.port()))
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	c.c.Close()
	w.next() // it waits for WELCOME
	r.jump.Add(int64(time.Minute))
	eventually(t, "it is established, or lost", func() bool {
		if len(w.conns) > 0 { // the attempt is over, and maybe others are
			w.next().welcome(1, 7, primary)
		}
		return r.entry(0).State != hb.Connecting
	})
	if e := r.entry(0); e.Losses != 0 {
		t.Errorf("got %+v", e.Status)
	}
}

func TestConflictsWarnOnce(t *testing.T) {
	for system, want := range map[uint64]string{7: "more than one instance is a primary", 9: "is not used: it belongs to another database cluster"} {
		w0, w1 := newWatchdog(t, "127.0.0.1:0"), newWatchdog(t, "127.0.0.1:0")
		r := newRig(t, instanceConf(0, w0.port())+instanceConf(1, w1.port()))
		c0, c1 := w0.next(), w1.next()
		c0.welcome(1, 7, primary)
		c1.welcome(2, system, hb.Attributes{Timeline: 2})
		r.waitState(0, hb.Established)
		r.waitState(1, hb.Established)
		c1.beat(hb.Attributes{Timeline: 2, Flags: hb.ReadOnly})
		r.published("the change is seen", func() bool { return r.entry(1).Attributes.Has(hb.ReadOnly) })
		r.d.log.Flush(patience)
		if n := r.logged(want); n != 1 {
			t.Errorf("%s: logged %d times", want, n)
		}
	}
}

func TestRetryPauses(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, "heartbeat_connect_interval = 200ms\nheartbeat_interval = 100ms\n"+instanceConf(0, w.port()))
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	for i := 0; i < 4; i++ {
		c.frame()
	}
	start := time.Now()
	c.c.Close() // it has lived for longer than the interval: again at once, then after 50, 100, 200, 200 ms
	var at []time.Duration
	for i := 0; i < 5; i++ {
		c = w.next()
		at = append(at, time.Since(start))
		c.c.Close()
	}
	for i, least := range []time.Duration{0, 50, 150, 350, 550} {
		if at[i] < (least-5)*time.Millisecond {
			t.Errorf("attempt %d after %v, want at least %d ms", i, at[i], least)
		}
	}
	if at[0] > 45*time.Millisecond {
		t.Logf("first attempt after %v", at[0])
	}
	_ = r
}

// An attempt to resume comes from the address of the broken connection, whatever the kernel would
// choose by now; others do not, and neither does one whose address is gone.
func TestResumesFromTheSameAddress(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	var mu sync.Mutex
	var sources []netip.Addr
	r := newRig(t, "heartbeat_interval = 50ms\nheartbeat_timeout = 1s\n"+instanceConf(0, w.port()), func(r *rig) {
		r.net.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
			mu.Lock()
			sources = append(sources, from)
			if len(sources) == 1 {
				from = netip.MustParseAddr("127.0.0.7")
			}
			mu.Unlock()
			return netio.Dial(ctx, from, to)
		}
	})
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	c.c.Close()
	c = w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	r.waitState(0, hb.Lost)
	w.nextOf(1).welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	mu.Lock()
	defer mu.Unlock()
	resuming := sources[1 : len(sources)-1] // until the loss; several at a time, when it is near
	if len(resuming) == 0 || sources[0].IsValid() || sources[len(sources)-1].IsValid() ||
		slices.ContainsFunc(resuming, func(a netip.Addr) bool { return a != netip.MustParseAddr("127.0.0.7") }) {
		t.Errorf("attempts from %v", sources)
	}
	conn, err := netio.Dial(context.Background(), netip.MustParseAddr("192.0.2.1"),
		netip.MustParseAddrPort(w.l.Addr().String()))
	if err != nil {
		t.Fatalf("from an address that is gone: %v", err)
	}
	conn.Close()
}
