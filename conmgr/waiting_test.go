package conmgr

// Tests of applications that wait for an instance, with connections.

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// waiting waits until so many wait.
func (r *rig) waiting(n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d wait", n), func() bool { return len(r.d.registry.Waiting()) == n })
}

func (c *client) ask(q string) { c.send(&pgproto3.Query{String: q}) }

const waitPrimary = "SHOW TARGET primary WAIT '1h'"

// Who waits for a primary has it as soon as conmgr knows of the promotion; what he has sent behind is
// answered then, in order.
func TestWaitForPromotion(t *testing.T) {
	r := static(t, "", standby)
	simple, extended := r.connect(), r.connect()
	simple.ask(waitPrimary + "; SHOW VERSION")
	simple.ask("SHOW VERSION")
	r.waiting(1)
	extended.send(&pgproto3.Parse{Query: waitPrimary}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
	r.waiting(2)
	look := r.connect()
	if got := look.query("SHOW WAITING"); strings.Count(got, "D(127.0.0.1,") != 2 || strings.Count(got, ",test,primary,") != 2 {
		t.Errorf("got %s", got)
	}
	if got := look.query("SHOW APPLICATIONS"); got != "T C(SHOW) Z" {
		t.Errorf("got %s", got)
	}
	begin := time.Now()
	r.d.board.Post(0, up(promoted), nil)
	version := shownVersion
	if got := simple.until("Z"); got != "T "+row0+" C(SHOW) "+version+" Z" {
		t.Errorf("got %s", got)
	}
	t.Logf("answered after %v", time.Since(begin))
	if got := simple.until("Z"); got != version+" Z" {
		t.Errorf("behind: %s", got)
	}
	if got := extended.until("Z"); got != "1 2 "+row0+" C(SHOW) Z" {
		t.Errorf("extended: %s", got)
	}
	if n := len(r.d.registry.Applications()); n != 2 {
		t.Errorf("%d are bound", n)
	}
	r.boardIsDone() // it tells after they have gone
	if r.logged("2 applications that waited for an instance have one") != 1 {
		t.Error("the log does not tell")
	}
	r.lose(0)
	simple.until("")
}

// Five hundred wait: they go in the order in which they have asked, 100 at once and the others by
// rate, and none is left.
func TestManyWait(t *testing.T) {
	const many = 500
	r := static(t, "", standby)
	clients := make([]*client, many)
	for i := range clients {
		clients[i] = r.connect()
		clients[i].ask(waitPrimary)
		r.waiting(i + 1)
	}
	begin := time.Now()
	r.d.board.Post(0, up(promoted), nil)
	took := make([]time.Duration, many)
	for i, c := range clients {
		if got := c.until("Z"); got != "T "+row0+" C(SHOW) Z" {
			t.Fatalf("%d: got %s", i, got)
		}
		took[i] = time.Since(begin)
	}
	if least := 380 * time.Millisecond; took[many-1] < least {
		t.Errorf("all have gone after %v, want %v at least", took[many-1], least)
	}
	t.Logf("the first after %v, the 100th after %v, the last after %v", took[0], took[99], took[many-1])
	r.waiting(0)
	if n := len(r.d.registry.Applications()); n != many {
		t.Errorf("%d are bound", n)
	}
}

// The primary is read only for the time of an upgrade: who wants to write waits for it, who wants the
// primary has it, and who is bound stays.
func TestReadOnlyPrimaryIsWaitedFor(t *testing.T) {
	r := static(t, "", primary)
	bound := r.connect()
	bound.query("SHOW TARGET read-write")
	readOnly := primary
	readOnly.Flags |= hb.ReadOnly
	r.d.board.Post(0, up(readOnly), nil)
	r.published("it is read only", func() bool { return r.entry(0).Attributes == readOnly })
	c := r.connect()
	c.ask("SHOW TARGET read-write WAIT '1h'")
	r.waiting(1)
	if got := r.connect().query("SHOW TARGET primary WAIT '1h'"); !strings.Contains(got, "primary,read-only,) C(SHOW) Z") {
		t.Errorf("the primary: %s", got)
	}
	r.d.board.Post(0, up(primary), nil)
	if got := c.until("Z"); got != "T "+row0+" C(SHOW) Z" {
		t.Errorf("got %s", got)
	}
	if got := bound.query("-- ping"); got != "I Z" {
		t.Errorf("who is bound: %s", got)
	}
}

func TestWaitInVain(t *testing.T) {
	r := static(t, "target_wait = 100ms\nidle_timeout = 0\n", standby)
	none := "E(ERROR 08001 no target server address from Connection Manager) Z"
	for _, x := range []struct {
		options, announced, statement string
		least                         time.Duration
	}{
		{"", "100", "SHOW TARGET primary", 100 * time.Millisecond},
		{"", "100", "SHOW TARGET primary WAIT '0'", 0},
		{"", "100", "SHOW TARGET primary WAIT 150ms", 150 * time.Millisecond},
		{"-c search_path=x --conmgr.target-wait=200ms", "200", "SHOW TARGET primary", 200 * time.Millisecond},
		{"-c conmgr.target_wait=0", "0", "SHOW TARGET primary", 0},
	} {
		c := r.dial()
		c.c.Write(pgwire.StartupPacket(3<<16, "user", "x", "options", x.options))
		if got := c.until("Z"); !strings.Contains(got, "S(conmgr.target_wait="+x.announced+")") ||
			!strings.Contains(got, "S(conmgr.features=wait,notify") {
			t.Errorf("%q: got %s", x.options, got)
		}
		begin := time.Now()
		if got := c.query(x.statement); got != none {
			t.Errorf("%q, %s: got %s", x.options, x.statement, got)
		}
		if took := time.Since(begin); took < x.least {
			t.Errorf("%q, %s: waited for %v", x.options, x.statement, took)
		}
		if got := c.query("-- usable"); got != "I Z" {
			t.Errorf("got %s", got)
		}
	}
	c := r.dial()
	c.c.Write(pgwire.StartupPacket(3<<16, "user", "x", "options", "-c conmgr.target_wait=soon"))
	if got := c.until(""); !strings.HasPrefix(got, "AuthenticationOk S(conmgr.version="+cm.Version+")") ||
		!strings.HasSuffix(got, `E(FATAL 22023 invalid value "soon" for "conmgr.target_wait" in options) EOF`) {
		t.Errorf("got %s", got)
	}
}

// Whoever leaves while he waits is nothing any more, in whatever way he does it and whatever he has
// sent before.
func TestWaitingClientLeaves(t *testing.T) {
	r := static(t, "", standby)
	execute := []pgproto3.FrontendMessage{&pgproto3.Parse{Query: waitPrimary}, &pgproto3.Bind{}, &pgproto3.Execute{},
		&pgproto3.Sync{}}
	leave := map[string]func(c *client){
		"terminate":   func(c *client) { c.send(&pgproto3.Terminate{}) },
		"close":       func(c *client) { c.c.Close() },
		"half closed": func(c *client) { c.c.(*net.TCPConn).CloseWrite() },
		"reset":       func(c *client) { c.c.(*net.TCPConn).SetLinger(0); c.c.Close() },
		"behind much": func(c *client) {
			c.ask(strings.Repeat("SHOW HELP;", 300))
			c.send(&pgproto3.Terminate{})
		},
	}
	for how, leave := range leave {
		for _, messages := range [][]pgproto3.FrontendMessage{{&pgproto3.Query{String: waitPrimary}}, execute} {
			c := r.connect()
			c.send(messages...)
			r.waiting(1)
			leave(c)
			eventually(t, how+": it is gone", func() bool { return r.count() == 0 && len(r.d.registry.Waiting()) == 0 })
		}
	}
	c := r.connect()
	c.ask(waitPrimary)
	for range 3 {
		c.ask(strings.Repeat("SHOW HELP;", 300))
	}
	if got := c.until(""); got != "E(FATAL 54000 too much was sent while an answer was waited for) EOF" {
		t.Errorf("got %s", got)
	}
}

func TestWaitingIsLimited(t *testing.T) {
	r := static(t, "max_waiting = 1\nmax_connections = 2\n", standby)
	c, other := r.connect(), r.connect()
	c.ask(waitPrimary)
	r.waiting(1)
	if got := other.query(waitPrimary); got != "E(ERROR 53300 too many connections wait for a target: at most 1) Z" {
		t.Errorf("got %s", got)
	}
	r.connect() // as the first has no place
	r.d.board.Post(0, up(promoted), nil)
	if got := c.until(""); got != "E(FATAL 53300 too many connections: at most 2) EOF" {
		t.Errorf("got %s", got)
	}
	if n := r.logged("refused a connection from application that waits for an instance"); n != 2 {
		t.Errorf("logged %d times", n)
	}
}

func TestWaitingAtShutdown(t *testing.T) {
	text := "the Connection Manager is shutting down"
	r := static(t, "", standby)
	c := r.connect()
	c.ask(waitPrimary)
	r.waiting(1)
	r.d.registry.Refuse() // smart
	if got := c.until("Z"); got != "E(ERROR 57P03 "+text+") Z" {
		t.Errorf("smart: %s", got)
	}
	r = static(t, "", standby)
	c = r.connect()
	c.ask(waitPrimary)
	r.waiting(1)
	r.stop()
	if got := c.until(""); !strings.HasPrefix(got, "E(FATAL 57P03 "+text+")") && !strings.HasPrefix(got, "E(ERROR 57P03") {
		t.Errorf("fast: %s", got)
	}
}

// A connection to a relay port waits as long as target_wait says, and is carried over when there is
// an instance.
func TestRelayWaits(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "target_wait = 1h\nrelay_port_primary = 1\n"+b.conf(0), standby)
	hello := pgwire.StartupPacket(3<<16, "user", "x")
	gone, reset, c := r.relay(0), r.relay(0), r.relay(0)
	for _, conn := range []*net.TCPConn{gone, reset, c} {
		conn.Write(hello)
	}
	r.waiting(3)
	look := r.connect()
	if got := look.query("SHOW WAITING"); strings.Count(got, ",primary,") != 3 || strings.Count(got, ",relay)") != 3 {
		t.Errorf("got %s", got)
	}
	gone.CloseWrite()
	reset.SetLinger(0)
	reset.Close()
	eventually(t, "those who have left do not count", func() bool { return r.count() == 2 })
	r.waiting(1)
	cancel := r.relay(0)
	cancel.Write(pgwire.StartupPacket(pgwire.CancelRequestCode, "1234567"))
	if got, err := io.ReadAll(cancel); err != nil || len(got) != 0 { // does not wait
		t.Errorf("a cancel request: %q, %v", got, err)
	}
	r.d.board.Post(0, up(promoted), nil)
	server := b.next()
	expect(t, server, hello)
	server.Write([]byte("welcome"))
	expect(t, c, []byte("welcome"))
}

// What was bound after it had waited is ended as any.
func TestRelayWaitsInVain(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "target_wait = 100ms\nmax_waiting = 1\nrelay_port_primary = 1\n"+b.conf(0), standby)
	c, other := r.relay(0), r.connect()
	other.ask(waitPrimary)
	r.waiting(1)
	for _, want := range []string{"C53300\x00Mtoo many connections wait", "C08001\x00Mno target server address"} {
		c.Write(pgwire.StartupPacket(3<<16, "user", "x"))
		if got, err := io.ReadAll(c); err != nil || !bytes.Contains(got, []byte(want)) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		other.c.Close()
		r.waiting(0)
		c = r.relay(0)
	}
	r = static(t, "target_wait = 1h\nrelay_port_primary = 1\n"+b.conf(0), standby)
	c = r.relay(0)
	c.Write(pgwire.StartupPacket(3<<16, "user", "x"))
	r.waiting(1)
	r.d.registry.Refuse()
	if got, err := io.ReadAll(c); err != nil || !bytes.Contains(got, []byte("C57P03\x00")) {
		t.Errorf("shutdown: %q, %v", got, err)
	}
}

// An instance that could not be reached is tried again when it is another one: it was restarted.
func TestRelayWaitsForRestartedInstance(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	r := static(t, fmt.Sprintf("target_wait = 1h\nrelay_port_primary = 1\nbackend_port0 = %d\n",
		sa.(*unix.SockaddrInet4).Port), primary)
	c := r.relay(0)
	hello := pgwire.StartupPacket(3<<16, "user", "x")
	c.Write(hello)
	r.waiting(1) // as the only one cannot be reached
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	restarted := up(primary)
	restarted.PostmasterStart++
	r.d.board.Post(0, restarted, nil)
	if got := acceptAll(t, fd); len(got) != 1 || !bytes.Equal(got[0], hello) {
		t.Errorf("got %q", got)
	}
}
