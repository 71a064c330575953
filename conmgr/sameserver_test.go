package conmgr

// Tests of two entries that lead to one server, and of an address that moves between servers.

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/netio"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// floating is an address that leads to one of several watchdogs.
type floating struct {
	mu sync.Mutex
	at int // port of the watchdog, 0: nobody has the address
}

func (f *floating) moves(to *watchdog) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = 0
	if to != nil {
		f.at = to.port()
	}
}

// floatingPort is the watchdog's port at the floating address.
const floatingPort = 1

func (f *floating) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	if to.Port() == floatingPort {
		f.mu.Lock()
		at := f.at
		f.mu.Unlock()
		if at == 0 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		to = netip.AddrPortFrom(to.Addr(), uint16(at))
	}
	return netio.Dial(ctx, from, to)
}

// serves lets a watchdog answer every conmgr that comes, and beat, until it is closed.
func (w *watchdog) serves(start int64, a hb.Attributes) {
	w.wg.Add(1)
	go func() {
		defer w.wg.Done()
		for {
			select {
			case c := <-w.conns:
				w.wg.Add(1)
				go func() {
					defer w.wg.Done()
					c.serve(start, a)
				}()
			case <-w.closed:
				return
			}
		}
	}()
}

func (c *wdConn) serve(start int64, a hb.Attributes) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case f := <-c.frames:
			switch f.Type {
			case hb.TypeHello:
				h, err := hb.ParseHello(f.Payload)
				if err != nil {
					c.w.t.Error(err)
					return
				}
				c.hello = h
				c.welcome(start, 7, a)
			case hb.TypeGoodbye:
				g, _ := hb.ParseGoodbye(f.Payload)
				c.w.leaves(c.hello.ID, g.Code)
			case 0:
				return
			}
		case <-tick.C:
			if c.hello.Interval > 0 {
				c.beat(a)
			}
		}
	}
}

// leaves takes in a GOODBYE: the conmgr is forgotten.
func (w *watchdog) leaves(id hb.ID, code hb.GoodbyeCode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.known, id)
	w.goodbyes = append(w.goodbyes, code)
}

func (w *watchdog) left(code hb.GoodbyeCode) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.goodbyes {
		if g == code {
			n++
		}
	}
	return n
}

const sameConf = quick + floatingConf

const floatingConf = "backend_hostaddr0 = 127.0.0.1\nwatchdog_port0 = 1\n"

// Of two entries that lead to one server one serves, the other one is a duplicate: not offered,
// connected, and silent in the log however often it looks.
func TestSameServer(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	w.serves(1, primary)
	f := &floating{}
	r := newRig(t, sameConf+instanceConf(1, w.port()), func(r *rig) {
		r.recheck = 1 // heartbeat_timeout is more
		r.net.Dial = f.dial
	})
	r.waitState(1, hb.Established)
	f.moves(w)
	r.waitState(0, hb.Duplicate)
	if e := r.entry(0); e.Detail != "same server as instance 1" || !e.Connected() || e.Established() {
		t.Errorf("got %+v", e.Status)
	}
	if got := r.connect().query("show target any except 1"); !strings.Contains(got, "E(ERROR 08001") {
		t.Errorf("the duplicate is offered: %s", got)
	}
	app := r.connect()
	app.query("show target any")
	eventually(t, "it has looked four times", func() bool { return w.left(hb.GoodbyeDuplicate) >= 4 })
	if n := r.logged("is the same server as instance 1"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if e := r.entry(1); e.State != hb.Established || e.Losses != 0 || r.entry(0).Losses != 0 {
		t.Errorf("got %+v", e.Status)
	}
	if n := r.logged("heartbeat connection is"); n != 1 {
		t.Errorf("%d lines of heartbeat connections", n)
	}
	if got := app.query("show version"); !strings.HasSuffix(got, "Z") {
		t.Errorf("the application got %s", got)
	}
}

// The address of a duplicate moves to another server: it is on its own by itself, and moves back.
// Nobody is told, as nobody is bound by way of it, or of the server that did not move.
func TestDuplicateMovesAway(t *testing.T) {
	w1, w2 := newWatchdog(t, "127.0.0.1:0"), newWatchdog(t, "127.0.0.1:0")
	w1.serves(1, standby)
	w2.serves(2, primary)
	f := &floating{}
	r := newRig(t, sameConf+instanceConf(1, w2.port()), func(r *rig) {
		r.recheck = 1 // heartbeat_timeout is more
		r.net.Dial = f.dial
	})
	r.waitState(1, hb.Established)
	app := r.connect()
	app.query("show target primary")
	f.moves(w2)
	r.waitState(0, hb.Duplicate)
	f.moves(w1)
	r.waitState(0, hb.Established)
	if r.entry(0).IsPrimary() {
		t.Error("it is the server that it moved from")
	}
	if n := r.logged("is lost"); n != 0 {
		t.Errorf("%d losses", n)
	}
	if got := app.query("show version"); !strings.HasSuffix(got, "Z") {
		t.Errorf("the application got %s", got)
	}
}

// A floating address in use moves to the server of another entry: whoever is bound by way of it is
// told why, and that entry is a duplicate; who is bound to the other entry is not told.
func TestServingAddressMoves(t *testing.T) {
	w1, w2 := newWatchdog(t, "127.0.0.1:0"), newWatchdog(t, "127.0.0.1:0")
	w2.serves(2, standby)
	f := &floating{}
	f.moves(w1)
	r := newRig(t, calm+floatingConf+instanceConf(1, w2.port()), func(r *rig) { r.net.Dial = f.dial })
	c := w1.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	r.waitState(1, hb.Established)
	moved, stays := r.connect(), r.connect()
	moved.query("show target primary")
	stays.query("show target standby")
	c.beat(primary)
	f.moves(w2)
	c.c.Close() // as the reset by the new owner of the address
	if got := moved.until(""); !strings.Contains(got, "is lost: its address leads to another server now") {
		t.Errorf("told %s", got)
	}
	r.waitState(0, hb.Duplicate)
	if got := stays.query("show version"); !strings.HasSuffix(got, "Z") || r.entry(1).Losses != 0 {
		t.Errorf("the other application got %s", got)
	}
	if n := w2.left(hb.GoodbyeGivenUp); n != 0 || r.entry(0).Generation != 0 {
		t.Errorf("sessions of the other server were given up")
	}
}

// The entry in use is lost, and the server lives (its address is dead): the duplicate takes over at
// once, not when it would look next.
func TestDuplicateTakesOver(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	f := &floating{}
	f.moves(w)
	r := newRig(t, sameConf+instanceConf(1, w.port()), func(r *rig) {
		r.recheck = time.Hour
		r.net.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
			if to.Port() != floatingPort && r.d.board.Table.Load().Entries[0].State == hb.Connecting &&
				r.d.board.Heard[0].Load() == 0 {
				return nil, context.Canceled // the other one comes first
			}
			return f.dial(ctx, from, to)
		}
	})
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	stop := c.beating(50*time.Millisecond, primary)
	d := w.next()
	if c.hello.ID == d.hello.ID {
		t.Error("two entries have one id")
	}
	d.welcome(1, 7, primary)
	if code := d.goodbye(); code != hb.GoodbyeDuplicate {
		t.Errorf("GOODBYE %d", code)
	}
	r.waitState(1, hb.Duplicate)
	f.moves(nil)
	stop()
	c.c.Close()
	w.serves(1, primary)
	r.waitState(0, hb.Lost)
	r.waitState(1, hb.Established)
	f.moves(w) // it comes second now
	r.waitState(0, hb.Duplicate)
	if e := r.entry(1); e.State != hb.Established || e.Losses != 0 {
		t.Errorf("got %+v", e.Status)
	}
	// The server knows this conmgr by the entry that serves, and sessions by that one's label.
	if got := r.connect().query("SHOW TARGET any"); !strings.Contains(got, hb.LabelID(d.hello.ID).String()) {
		t.Errorf("got %s", got)
	}
}

// A duplicate that reaches the server from another address of this host keeps its heartbeats: that
// host is two hosts to the server. It is not offered, and serves when the other entry is lost.
func TestDuplicateFromAnotherAddress(t *testing.T) {
	w := newWatchdog(t, "[::]:0")
	r := newRig(t, quick+instanceConf(0, w.port())+strings.Replace(instanceConf(1, w.port()), "127.0.0.1", "::1", 1),
		func(r *rig) {
			r.net.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
				if to.Addr().Is6() && r.d.board.Heard[0].Load() == 0 {
					return nil, context.Canceled // the other one comes first
				}
				return netio.Dial(ctx, from, to)
			}
		})
	c := w.next()
	c.welcome(1, 7, primary)
	stop := c.beating(50*time.Millisecond, primary)
	d := w.next()
	d.welcome(1, 7, primary)
	r.waitState(1, hb.Duplicate)
	d.beating(50*time.Millisecond, primary)
	for range 6 {
		if f := d.frame(); f.Type != hb.TypeBeat {
			t.Fatalf("got %s", f.Type)
		}
	}
	if e := r.entry(1); e.State != hb.Duplicate || e.Detail != "same server as instance 0" || e.Losses != 0 {
		t.Errorf("got %+v", e.Status)
	}
	stop()
	r.waitState(0, hb.Lost)
	w.serves(1, primary)
	r.published("one of them serves", func() bool {
		a, b := r.entry(0).State, r.entry(1).State
		return a == hb.Established && b == hb.Duplicate || a == hb.Duplicate && b == hb.Established
	})
	if e := r.entry(1); e.Losses != 0 {
		t.Errorf("got %+v", e.Status)
	}
}
