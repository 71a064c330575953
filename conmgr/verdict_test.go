package conmgr

// Tests of what is told: losses that a WELCOME shows, the last error, the server's own port.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// The watchdog has forgotten this conmgr: its applications are told, once, and its generation
// stays.
func TestForgotten(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, calm+instanceConf(0, w.port()))
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
		r.published("the detail has "+text, func() bool {
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
	r.published("the new error alone", func() bool { return strings.HasSuffix(r.entry(0).Detail, ": other") || r.entry(0).State == hb.Lost })
}

// The watchdog tells the postmaster's port: another one than backend_port is warned of once, and
// shown.
func TestOtherBackendPort(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, calm+instanceConf(3, w.port())+"backend_port3 = 6000\n")
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
		r.published("it is closed", func() bool { return r.entry(0).State != hb.Established })
	}
	if n := r.logged(`WARNING:  instance 3 (host "127.0.0.1", port 6000): ` + text); n != 1 {
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
