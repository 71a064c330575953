package conmgr

// Tests of name resolution: it may fail, hang, or tell something new, and never decides that an
// instance is lost.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/netio"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// names is a name service that does what a test says.
type names struct {
	mu      sync.Mutex
	answer  []string // nil: it fails
	hangs   bool
	lookups int
}

func (n *names) set(hangs bool, answer ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hangs, n.answer = hangs, answer
}

func (n *names) asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lookups
}

func (n *names) resolve(ctx context.Context, host string) (out []netip.Addr, err error) {
	n.mu.Lock()
	n.lookups++
	hangs, answer := n.hangs, n.answer
	n.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if answer == nil {
		return nil, errors.New("server misbehaving")
	}
	for _, a := range answer {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

const namedConf = "heartbeat_interval = 100ms\nheartbeat_timeout = 800ms\nheartbeat_connect_interval = 50ms\nbackend_host0 = db0\nwatchdog_port0 = "

// The name service fails or hangs, and the connection breaks, again and again: resumed in time each
// time.
func TestNameServiceFails(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		w, n := newWatchdog(t, "127.0.0.1:0"), &names{answer: []string{"127.0.0.1"}}
		r := newRig(t, namedConf+itoa(w.port()), func(r *rig) { r.net.Resolve = n.resolve })
		c := w.next()
		c.welcome(1, 7, primary)
		r.waitState(0, hb.Established)
		n.set(hangs)
		for range 4 {
			c.beat(primary)
			c.c.Close()
			c = w.next()
			c.welcome(1, 7, primary)
			r.waitState(0, hb.Established)
		}
		if e := r.entry(0); e.Losses != 0 {
			t.Errorf("hangs %v: %+v", hangs, e.Status)
		}
		// One that hangs is not waited for: a connection beside may be faster.
		if got := r.logged("the last known addresses of instance 0"); got > 1 || !hangs && got != 1 {
			t.Errorf("hangs %v: said %d times\n%s", hangs, got, r.log)
		}
	}
}

// A look-up that hangs costs an attempt a moment, not heartbeat_connect_timeout.
func TestHangingNameServiceIsNotWaitedFor(t *testing.T) {
	w, n := newWatchdog(t, "127.0.0.1:0"), &names{answer: []string{"127.0.0.1"}}
	r := newRig(t, "heartbeat_connect_interval = 50ms\nbackend_host0 = db0\nwatchdog_port0 = "+itoa(w.port()),
		func(r *rig) { r.net.Resolve = n.resolve })
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	n.set(true)
	start := time.Now()
	for range 3 {
		c.c.Close()
		c = w.next()
		c.welcome(1, 7, primary)
		r.waitState(0, hb.Established)
	}
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("resumed three times in %v", d)
	}
}

// Without any address that is known the attempt waits for the name service, and tells why it came
// to nothing.
func TestNameIsNotKnownYet(t *testing.T) {
	w, n := newWatchdog(t, "127.0.0.1:0"), &names{}
	r := newRig(t, namedConf+itoa(w.port()), func(r *rig) { r.net.Resolve = n.resolve })
	r.published("the reason is shown", func() bool {
		return r.entry(0).Detail == `could not resolve host name "db0": server misbehaving`
	})
	n.set(false, "127.0.0.1")
	w.next().welcome(1, 7, primary)
	r.waitState(0, hb.Established)
}

// The name has other addresses: they are followed at the next attempt, and also when the answer
// comes late, beside a connection that was made to the old one.
func TestNameChanges(t *testing.T) {
	for _, late := range []bool{false, true} {
		w1, w2, n := newWatchdog(t, "127.0.0.1:0"), newWatchdog(t, "127.0.0.1:0"), &names{answer: []string{"127.0.0.1"}}
		r := newRig(t, namedConf+"1", func(r *rig) {
			r.net.Resolve = n.resolve
			r.net.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
				w := w1
				if to.Addr() == netip.MustParseAddr("127.0.0.2") {
					w = w2
				}
				return netio.Dial(ctx, from, netip.MustParseAddrPort(w.l.Addr().String()))
			}
		})
		c := w1.next()
		c.welcome(1, 7, primary)
		r.waitState(0, hb.Established)
		if late {
			n.set(false)
			c.c.Close()
			c = w1.next()
			c.welcome(1, 7, primary)
			r.waitState(0, hb.Established)
			stop := c.beating(50*time.Millisecond, primary)
			asked := n.asked()
			eventually(t, "look-ups go on", func() bool { return n.asked() > asked+1 })
			n.set(false, "127.0.0.2")
			w2.next().welcome(2, 7, primary)
			stop()
		} else {
			n.set(false, "127.0.0.2")
			c.c.Close()
			w2.next().welcome(2, 7, primary)
		}
		r.published("it is followed", func() bool { return r.entry(0).Address() == netip.MustParseAddr("127.0.0.2") })
		if l := r.entry(0).Losses; l != 1 { // another server
			t.Errorf("late %v: %d losses", late, l)
		}
	}
}

// The connection breaks, and cannot be made again by its address for a while, but by another one of
// the name: that would be another host to the watchdog, and a loss. So it waits, until the
// deadline.
func TestOtherAddressesWaitForTheLoss(t *testing.T) {
	for _, back := range []bool{true, false} {
		w1, w2 := newWatchdog(t, "127.0.0.1:0"), newWatchdog(t, "127.0.0.1:0")
		n := &names{answer: []string{"127.0.0.1", "127.0.0.2"}}
		var refusing atomic.Bool
		var refused, others atomic.Int32
		r := newRig(t, namedConf+"1", func(r *rig) {
			r.net.Resolve = n.resolve
			r.net.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
				w := w1
				switch {
				case to.Addr() == netip.MustParseAddr("127.0.0.2"):
					w = w2
					others.Add(1)
				case refusing.Load():
					refused.Add(1)
					return nil, unix.ECONNREFUSED
				}
				return netio.Dial(ctx, from, netip.MustParseAddrPort(w.l.Addr().String()))
			}
		})
		c := w1.next()
		c.welcome(1, 7, primary)
		r.waitState(0, hb.Established)
		refusing.Store(true)
		c.c.Close()
		if !back {
			w2.next().welcome(1, 7, primary)
			r.waitState(0, hb.Established)
			if e := r.entry(0); e.Losses != 1 || e.Generation != 1 || len(e.Addrs) != 2 {
				t.Errorf("by the other address: %+v, %d losses", e.Status, e.Losses)
			}
			continue
		}
		eventually(t, "it is tried again", func() bool { return refused.Load() >= 2 })
		refusing.Store(false)
		w1.next().welcome(1, 7, primary)
		r.waitState(0, hb.Established)
		if e := r.entry(0); e.Losses != 0 || others.Load() != 0 || len(e.Addrs) != 2 {
			t.Errorf("resumed: %+v, %d losses, the other address was tried %d times", e.Status, e.Losses, others.Load())
		}
	}
}

// A look-up is not needed, and not made, where the address is configured; and the name does not
// count then.
func TestHostAddrIsPreferred(t *testing.T) {
	w, n := newWatchdog(t, "127.0.0.1:0"), &names{answer: []string{"192.0.2.1"}}
	r := newRig(t, calm+"backend_host0 = db0\n"+instanceConf(0, w.port()), func(r *rig) { r.net.Resolve = n.resolve })
	w.next().welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	if e := r.entry(0); e.Address() != netip.MustParseAddr("127.0.0.1") || e.Config.Name() != "db0" || n.asked() != 0 {
		t.Errorf("address %s, name %s, %d look-ups", e.Address(), e.Config.Name(), n.asked())
	}
}
