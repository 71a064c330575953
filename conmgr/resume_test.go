package conmgr

// Tests of RESUME, with connections: conmgr was away, or the connection to it broke.

import (
	"strings"
	"testing"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// again asks for the instance of a token.
func (c *client) again(token string) {
	c.ask("SHOW TARGET primary NOTIFY RESUME '" + token + "'")
}

func TestResumeOfApplication(t *testing.T) {
	r := static(t, "on_role_change = notify\n", primary, standby)
	c := r.connect()
	c.query("SHOW TARGET primary NOTIFY")
	token := c.token
	c.c.Close()
	eventually(t, "it is gone", func() bool { return r.count() == 0 })
	r.d.board.Post(0, up(standby), nil)
	r.published("the role is known", func() bool { return r.entry(0).Attributes == standby })
	c = r.connect()
	c.again(token)
	if got := c.until("Z"); got != "T D(0,127.0.0.1,127.0.0.1,27500,standby,read-only,) C(SHOW) Z" {
		t.Errorf("got %s", got)
	}
	if want := "S(conmgr.notice=role standby,read-only)"; c.until(want) != want {
		t.Error("it is not told of the role right behind")
	}
	if c.token != token {
		t.Errorf("another token: %s, %s", c.token, token)
	}
	r.lose(0)
	if got := c.until(""); !strings.HasPrefix(got, "E(FATAL 57P01 instance 0 (host") {
		t.Errorf("got %s", got)
	}
	c = r.connect()
	c.again(token)
	if got := c.until(""); got != `E(FATAL 57P01 instance 0 (host "127.0.0.1", address 127.0.0.1, port 27500) is lost: `+
		"it was lost meanwhile) EOF" {
		t.Errorf("got %s", got)
	}
	if n := r.logged("told an application connection that was to be resumed of the loss of instance 0"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// Until the instance was reached, the answer waits, beside those who wait for a target and however many
// they are; then it is there, or it is a loss.
func TestResumeIsPending(t *testing.T) {
	r := static(t, "", primary)
	c := r.connect()
	c.query("SHOW TARGET primary")
	token := c.token
	c.c.Close()
	r.stop()

	next := static(t, "max_waiting = 0\nbackend_hostaddr0 = 127.0.0.1\nheartbeat_timeout = 1h\n")
	same, stale := next.connect(), next.connect()
	same.again(token)
	stale.again(strings.Replace(token, "/7/1/", "/7/2/", 1)) // of a postmaster that was started before
	next.waiting(2)
	if got := next.connect().query("SHOW WAITING"); strings.Count(got, ",resume)") != 2 {
		t.Errorf("got %s", got)
	}
	gone := next.connect()
	gone.again(token)
	next.waiting(3)
	gone.c.Close()
	next.waiting(2)
	next.d.board.Post(0, up(primary), nil)
	if got := same.until("Z"); got != "T "+row0+" C(SHOW) Z" {
		t.Errorf("got %s", got)
	}
	if got := stale.until(""); !strings.HasPrefix(got, "E(FATAL 57P01 instance 0 (host") ||
		!strings.HasSuffix(got, "the server was restarted) EOF") {
		t.Errorf("a stale epoch: %s", got)
	}
	next.stop()

	next = static(t, "backend_hostaddr0 = 127.0.0.1\nheartbeat_interval = 100ms\nheartbeat_timeout = 300ms\n")
	c = next.connect()
	c.again(token)
	if got := c.until(""); !strings.HasSuffix(got,
		"is lost: nothing was heard of it since the Connection Manager was started) EOF") {
		t.Errorf("never reached: %s", got)
	}
	next.stop()

	next = static(t, "backend_hostaddr0 = 127.0.0.2\n")
	c = next.connect()
	c.again(token)
	if got := c.until(""); got != "E(FATAL 57P01 instance 0 (address 127.0.0.1, port 27500) is lost: it is not configured any "+
		"more) EOF" {
		t.Errorf("not configured: %s", got)
	}
}

// A generation that has risen meanwhile is a loss that has been told, or was to be.
func TestResumeOfLostGeneration(t *testing.T) {
	r := static(t, "", primary)
	c := r.connect()
	c.query("SHOW TARGET primary")
	risen := up(primary)
	risen.Generation = 1
	r.d.board.Post(0, risen, nil)
	r.published("it has risen", func() bool { return r.entry(0).Generation == 1 && r.entry(0).State == hb.Established })
	again := r.connect()
	again.again(c.token)
	if got := again.until(""); !strings.HasSuffix(got, "it was lost meanwhile) EOF") {
		t.Errorf("got %s", got)
	}
}
