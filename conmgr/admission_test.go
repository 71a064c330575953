package conmgr

// Tests of who may connect: shares, places for cm_ctl, idle connections, relay ports from
// elsewhere.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

func TestUserShare(t *testing.T) {
	for _, x := range []struct {
		conf   string
		places int
		want   int
	}{{"", 1000, 750}, {"", 1, 1}, {"max_connections = 100", 100, 0},
		{"max_connections = 100\nmax_user_connections = 7", 100, 7},
		{"max_user_connections = 7", 1000, 7}} {
		if got := bind.UserShare(parseConf(t, x.conf+"\nbackend_host0 = a"), x.places); got != x.want {
			t.Errorf("%q: %d, want %d", x.conf, got, x.want)
		}
	}
}

// A user who has his share is told why he gets no more; relayed connections count; what he closes
// he may open again.
func TestShareIsRefused(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "max_user_connections = 3\nrelay_port_primary = 1\n"+b.conf(0), primary)
	one, _ := r.connect(), r.connect()
	r.through(0, b)
	c := r.dial()
	c.c.Write(pgwire.StartupPacket(pgwire.SSLRequestCode))
	expect(t, c.c, []byte{'N'})
	c.c.Write(pgwire.StartupPacket(3<<16, "user", "x"))
	want := fmt.Sprintf("E(FATAL 53300 too many connections of user %d: at most 3) EOF", os.Geteuid())
	if got := c.until(""); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	relayed := r.relay(0)
	relayed.Write(pgwire.StartupPacket(3<<16, "user", "x"))
	if got, err := io.ReadAll(relayed); err != nil || !bytes.Contains(got,
		[]byte("C53300\x00Mtoo many connections of user")) {
		t.Errorf("relayed: %q, %v", got, err)
	}
	if n := r.logged("(max_user_connections)"); n != 2 {
		t.Errorf("logged %d times:\n%s", n, r.log)
	}
	one.c.Close()
	eventually(t, "there is room again", func() bool { return r.count() == 2 })
	r.connect()
	if n := r.d.registry.Owned(bind.Owner{UID: uint32(os.Geteuid()), Known: true}); n != 3 {
		t.Errorf("%d are counted", n)
	}
}

// A client that has bound its socket to an interface counts for its user all the same.
func TestShareOfBoundToAnInterface(t *testing.T) {
	r := static(t, "", primary)
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if failed := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") }); failed != nil {
			return failed
		}
		return err
	}}
	conn, err := d.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.clientOf(conn).login()
	if n := r.d.registry.Owned(bind.Owner{UID: uint32(os.Geteuid()), Known: true}); n != 1 {
		t.Errorf("%d are counted", n)
	}
}

// Many that are refused and say nothing hold neither memory nor descriptors for long.
func TestRefusedAreBounded(t *testing.T) {
	r := static(t, "max_user_connections = 1\n", primary)
	r.connect()
	explaining := func() int {
		n := r.d.door.Explaining()
		if n > listen.RefusedMost {
			t.Fatalf("%d at a time", n)
		}
		return n
	}
	for begin, closed := time.Now(), false; !closed; {
		r.dial() // says nothing, so that it is not told at once
		if explaining() == listen.RefusedMost {
			c := r.dial()
			c.c.SetReadDeadline(time.Now().Add(listen.RefusedTime / 2))
			_, err := c.c.Read(make([]byte, 1))
			closed = errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)
		}
		if time.Since(begin) > patience {
			t.Fatalf("%d are told why, and no other one is closed", explaining())
		}
	}
	eventually(t, "they are closed", func() bool { return explaining() == 0 })
}

// Somebody takes all the connections that he can get: cm_ctl status works, and with the default
// share other users' applications do. With the real programs, and the descriptor limit as what
// bounds connections.
func TestCrowdOfOneUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be several users")
	}
	cmCtl := filepath.Join(t.TempDir(), "cm_ctl")
	if out, err := exec.Command("go", "build", "-o", cmCtl, "../cmd/cm_ctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const limit = 256
	const places = limit - conf.BaseDescriptors - conf.InstanceDescriptors - bind.ReservedPlaces
	for _, x := range []struct {
		conf  string
		crowd int
		reply string // to one more of the crowd
	}{
		{"", places / 4 * 3, "E(FATAL 53300 too many connections of user 0: at most 180) EOF"},
		{"max_user_connections = 100000\n", places, "EOF"},
	} {
		dir, port := conmgrDir(t, "backend_host0 = 127.0.0.1\n"+x.conf)
		p := startCommand(t, command(t, "sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$CONMGR" -D "%s"`, limit, dir)),
			dir, port)
		for i := range x.crowd {
			eventually(t, fmt.Sprintf("place %d is taken", i), func() bool { // whoever has looked for the port may have one
				c := (&rig{t: t, addr: p.addr()}).dial()
				c.c.Write(pgwire.StartupPacket(3<<16, "user", "x"))
				return strings.HasSuffix(c.until("Z"), "Z")
			})
		}
		more := (&rig{t: t, addr: p.addr()}).dial()
		if x.reply != "EOF" {
			more.c.Write(pgwire.StartupPacket(3<<16, "user", "x"))
		}
		if got := more.until(""); got != x.reply {
			t.Errorf("%q: one more: %s", x.conf, got)
		}
		if x.reply == "EOF" {
			eventually(t, "the log names the limit", func() bool {
				return strings.Contains(p.log(), "as many as the limit of open file descriptors allows, ulimit -n")
			})
		}
		file := filepath.Join(dir, "cm_ctl")
		copyFile(t, cmCtl, file)
		cmd := exec.Command(file, "status", "-D", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "127.0.0.1") ||
			strings.Contains(string(out), "does not answer") {
			t.Errorf("%q: cm_ctl status: %v\n%s", x.conf, err, out)
		}
		if x.conf == "" {
			cmd := exec.Command("psql", "-XAtc", "SHOW VERSION", "-h", "127.0.0.1", "-p", fmt.Sprint(p.port), "-U", "x")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("another user: %v\n%s", err, out)
			}
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestIdleTimeout(t *testing.T) {
	r := static(t, "idle_timeout = 1s\nrelay_port_primary = 1\nbackend_port0 = 1\n", primary)
	bound, idle := r.connect(), r.connect()
	bound.query("SHOW TARGET any")
	begin := time.Now()
	if got := idle.until(""); got != "E(FATAL 57P05 terminating connection due to idle timeout) EOF" {
		t.Errorf("got %s", got)
	}
	if d := time.Since(begin); d < 950*time.Millisecond {
		t.Errorf("after %v", d)
	}
	busy := r.connect()
	for range 15 { // each statement begins anew
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
		if got := busy.query("SHOW VERSION"); !strings.HasSuffix(got, "Z") {
			t.Fatalf("got %s", got)
		}
	}
	// What was bound longer than that ago is still there, until it is told of the loss.
	r.lose(0)
	if got := bound.until(""); !strings.HasPrefix(got, "E(FATAL 57P01 instance 0 ") {
		t.Errorf("got %s", got)
	}
}

// addressesOf says from where and to where a connection goes.
// A process of this host that uses an address of it other than loopback is of this host.
func TestRelayFromOwnAddress(t *testing.T) {
	own := ownAddress(t)
	b := newBackend(t, 0)
	r := staticWith(t, "relay_port_primary = 1\n"+b.conf(0),
		func(r *rig) { r.conf.ListenAddresses = []string{"127.0.0.1", own.String()} }, primary)
	_, port, _ := net.SplitHostPort(r.d.door.Addr(3).String())
	c, err := net.Dial("tcp", net.JoinHostPort(own.String(), port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hello := pgwire.StartupPacket(3<<16, "user", "x")
	c.Write(hello)
	expect(t, b.next(), hello)
}

// ownAddress is an IPv4 address of this host that is not loopback's.
func ownAddress(t *testing.T) netip.Addr {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr()
		}
	}
	t.Skip("this host has no address but loopback's")
	return netip.Addr{}
}

// Whatever peers do that is logged, it is a few lines.
func TestFloodOfConnectionsIsAFewLines(t *testing.T) {
	r := static(t, "max_connections = 1\n", primary)
	r.connect()
	const n = 50
	for range n {
		if got := r.dial().until(""); got != "EOF" {
			t.Fatalf("got %s", got)
		}
	}
	r.stop()
	r.d.log.Flush(patience)
	if got := r.logged("closed a connection from application"); got != cmlog.LimitBurst+1 {
		t.Errorf("%d lines", got)
	}
	if r.logged("45 messages like this one were left out: closed a connection from application: 127.0.0.1:") != 1 {
		t.Errorf("the count is not told:\n%s", r.log)
	}
}
