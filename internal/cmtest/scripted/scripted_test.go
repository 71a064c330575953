package scripted

// Tests of the script: what a test says is what a client gets.

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

func start(t *testing.T, o Options, instances ...Instance) *Conmgr {
	t.Helper()
	leak.Check(t)
	c, err := Start(o, instances...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var (
	db0 = Instance{Number: 0, Host: "db0", HostAddr: "10.0.0.1", Port: 5432, Attributes: Primary}
	db1 = Instance{Number: 1, Host: "db1", HostAddr: "10.0.0.2", Port: 5433, Attributes: Standby}
	db7 = Instance{Number: 7, Host: "db7", HostAddr: "fe80::7%lo", Port: 5432, Attributes: Primary}
)

// client is an application.
type client struct {
	net.Conn
	fe *pgwire.Frontend
}

func dial(t *testing.T, c *Conmgr) *client {
	t.Helper()
	conn, err := net.Dial(c.listener.Addr().Network(), c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{conn, pgwire.NewFrontend(conn, conn, 1<<20, 0)}
}

// next is the next message that is not about the connection: its row, its error, or "ready".
func (c *client) next(most time.Duration) string {
	c.SetReadDeadline(time.Now().Add(most))
	for {
		kind, body, err := c.fe.Receive()
		switch {
		case err != nil:
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return "nothing"
			}
			return "closed"
		case kind == 'Z':
			return "ready"
		case kind == 'E':
			e, _ := pgwire.ParseError(body)
			return fmt.Sprint(e.Severity, " ", e.Code, ": ", e.Message)
		case kind == 'D':
			values, _ := pgwire.ParseRow(body)
			var words []string
			for _, v := range values {
				words = append(words, *v)
			}
			return strings.Join(words, " ")
		}
	}
}

func (c *client) startup() string {
	if err := c.fe.Startup(map[string]string{"user": "u", "database": "d", "application_name": "shop"}); err != nil {
		return err.Error()
	}
	return c.next(patience)
}

func (c *client) ask(what string) string {
	if err := c.fe.Query("SHOW TARGET " + what); err != nil {
		return err.Error()
	}
	answer := c.next(patience)
	if answer != "closed" {
		if ready := c.next(patience); ready != "ready" {
			return answer + " and then " + ready
		}
	}
	return answer
}

func TestScript(t *testing.T) {
	c := start(t, Options{}, db0, db1)
	want := func(got, want string) {
		t.Helper()
		got, _, _ = strings.Cut(got, " r1/") // without what a row is resumed by
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	const first, second = "0 db0 10.0.0.1 5432 primary,read-write ", "1 db1 10.0.0.2 5433 standby,read-only "
	const none = "ERROR 08001: no target server address from Connection Manager"
	ask := func(what string) string {
		a := dial(t, c)
		defer a.Close()
		a.startup()
		return a.ask(what)
	}
	want(ask("primary"), first)
	want(ask("any EXCEPT 0"), second)
	want(ask("any EXCEPT 0, 1"), none)
	if got := c.Asked(); !slices.Equal(got, []string{"SHOW TARGET primary", "SHOW TARGET any EXCEPT 0",
		"SHOW TARGET any EXCEPT 0, 1"}) {
		t.Errorf("asked: %q", got)
	}
	bound := dial(t, c)
	want(bound.startup(), "ready")
	want(bound.ask("primary"), first)
	if got := c.Startups(); len(got) != 4 || got[3]["user"] != "u" || got[3]["application_name"] != "shop" {
		t.Errorf("startups: %q", got)
	}
	if err := c.WaitBound(1); err != nil {
		t.Fatal(err)
	}
	if got := c.Applications()[0]; got != (Application{"shop", "primary", 0}) || c.Bound(0) != 1 || c.Bound(1) != 0 {
		t.Errorf("%+v", got)
	}
	// Roles change, which ends nobody; another conmgr.conf neither.
	swapped, promoted := db0, db1
	swapped.Attributes, promoted.Attributes = Standby, Primary
	c.Set(swapped, promoted)
	want(ask("primary"), "1 db1 10.0.0.2 5433 primary,read-write ")
	c.Set(swapped)
	want(ask("primary"), none)
	c.Set(db7)
	want(ask("any"), "7 db7 fe80::7%lo 5432 primary,read-write ")
	want(ask("standby"), none)
	if c.Bound(0) != 1 {
		t.Error("who is bound was ended")
	}
	must(t, c.WaitBound(1)) // those that have asked have gone
	if told := c.Lose(7); told != 0 {
		t.Errorf("told %d of another's loss", told)
	}
	if told := c.LoseBy(0, heartbeat.Loss{Reason: heartbeat.LossRestarted, Silence: time.Second}); told != 1 {
		t.Errorf("told %d", told)
	}
	want(bound.next(patience), `FATAL 57P01: instance 0 (host "db0", address 10.0.0.1, port 5432) is lost: `+
		"the server was restarted (last heartbeat 1000 ms ago)")
	want(bound.next(patience), "closed")
	want(ask("any"), none)
	c.Set(db7) // it is back
	want(ask("any"), "7 db7 fe80::7%lo 5432 primary,read-write ")
	c.Set()
	want(ask("any"), none)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestShutdowns(t *testing.T) {
	c := start(t, Options{}, db0)
	bound := dial(t, c)
	bound.startup()
	bound.ask("any")
	c.SmartShutdown()
	const text = "57P03: the Connection Manager is shutting down"
	late := dial(t, c)
	if got := late.startup(); got != "ready" {
		t.Error(got)
	}
	if got := late.ask("any"); got != "ERROR "+text {
		t.Error(got)
	}
	if c.Bound(0) != 1 {
		t.Error("who is bound was ended")
	}
	c.Set(db1) // nor does another conmgr.conf begin anew
	if got := dial(t, c).startup(); got != "ready" {
		t.Error(got)
	}
	c.Shutdown()
	if got := bound.next(patience); got != "FATAL 57P01: the Connection Manager is shutting down" {
		t.Error(got)
	}
	if got := dial(t, c).startup(); got != "FATAL "+text {
		t.Error(got)
	}
}

func TestFullUnixAndClosed(t *testing.T) {
	full := start(t, Options{Full: true}, db0)
	if got := dial(t, full).startup(); got != "closed" {
		t.Error(got)
	}
	local := start(t, Options{Socket: SocketPath(t.TempDir(), 1)}, db0)
	a := dial(t, local)
	a.startup()
	if got := a.ask("any"); !strings.HasPrefix(got, "0 db0") {
		t.Error(got)
	}
	if local.Connections() != 1 {
		t.Errorf("%d connections", local.Connections())
	}
}

// Frozen, it takes connections and says nothing; it ends all the same, as a kill ends one.
func TestFreeze(t *testing.T) {
	const moment = 50 * time.Millisecond
	c, err := New(db0)
	must(t, err)
	leak.Check(t)
	c.Freeze(true)
	a := dial(t, c)
	a.fe.Startup(map[string]string{"user": "u"})
	if got := a.next(moment); got != "nothing" {
		t.Error(got)
	}
	c.FreezeAnswers(true)
	if got := a.next(patience); got != "ready" {
		t.Error(got)
	}
	a.fe.Query("SHOW TARGET any")
	if got := a.next(moment); got != "nothing" || len(c.Asked()) != 0 {
		t.Errorf("%s, %q", got, c.Asked())
	}
	c.FreezeAnswers(false)
	if got := a.next(patience); !strings.HasPrefix(got, "0 db0") {
		t.Error(got)
	}
	a.next(patience)
	c.Freeze(true)
	a.fe.Query("SHOW TARGET any")
	if told := c.Lose(0); told != 1 {
		t.Errorf("told %d", told)
	}
	if got := a.next(patience); !strings.Contains(got, Reason) {
		t.Error(got)
	}
	c.Close()
	c.Close()
	if got := a.next(patience); got != "closed" {
		t.Error(got)
	}
}
