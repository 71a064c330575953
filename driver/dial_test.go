package driver_test

// The walk through the hosts of a connection string.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func TestDialTakesTheHostsInOrder(t *testing.T) {
	leak.Check(t)
	primary, standby := newInstance(t), newInstance(t)
	empty := newConmgr(t)
	one := newConmgr(t, primary.row(1, scripted.Primary))
	two := newConmgr(t, standby.row(2, scripted.Standby))
	dead := testkit.ClosedPort(t)
	ports := func(list ...int) string {
		var hosts, ports []string
		for _, p := range list {
			hosts, ports = append(hosts, "127.0.0.1"), append(ports, strconv.Itoa(p))
		}
		return "host=" + strings.Join(hosts, ",") + " port=" + strings.Join(ports, ",")
	}
	for _, test := range []struct {
		hosts, attribute string
		want             int
	}{
		{ports(dead, empty.Port(), one.Port(), two.Port()), "any", 1},
		{ports(two.Port(), one.Port()), "any", 2},
		{ports(two.Port(), one.Port()), "read-write", 1},
		{ports(one.Port(), two.Port()), "prefer-standby", 2},
		{ports(one.Port(), dead), "prefer-standby", 1},
		{ports(one.Port()), "prefer-read", 1},
	} {
		c := dial(t, test.hosts+" target_session_attrs="+test.attribute)
		if got := c.Target().Instance; got != test.want {
			t.Errorf("%s %s: got instance %d, want %d", test.hosts, test.attribute, got, test.want)
		}
	}
	_, err := dialer(t, ports(dead, empty.Port(), one.Port())+" target_session_attrs=standby").Dial(within(t))
	var failed *driver.ConnectError
	if !errors.As(err, &failed) || len(failed.Hosts) != 3 || !failed.SafeToRetry() {
		t.Fatalf("got %v", err)
	}
	var refused *net.OpError
	var answer *driver.ConmgrError
	if !errors.As(failed.Hosts[0], &refused) || !errors.As(failed.Hosts[1], &answer) || failed.Hosts[2].Port != strconv.Itoa(one.Port()) {
		t.Errorf("got %v", err)
	}
}

// prefer-standby goes through the list twice, and the error tells of both.
func TestErrorsOfBothPasses(t *testing.T) {
	leak.Check(t)
	dead, empty := testkit.ClosedPort(t), newConmgr(t)
	_, err := dialer(t, fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d target_session_attrs=prefer-standby", dead, empty.Port())).Dial(within(t))
	var failed *driver.ConnectError
	if !errors.As(err, &failed) || len(failed.Hosts) != 4 {
		t.Errorf("got %v", err)
	}
	if q := empty.Asked(); len(q) != 2 || q[0] != "SHOW TARGET standby" || q[1] != "SHOW TARGET prefer-standby" {
		t.Errorf("asked %q", q)
	}
}

// Each instance that does not take the connection is left out of the next question.
func TestWalkLeavesOutWhoRefuses(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	gone := scripted.Instance{Number: 0, Host: "gone", HostAddr: "127.0.0.1", Port: testkit.ClosedPort(t), Attributes: scripted.Standby}
	s := newConmgr(t, gone, db.row(1, scripted.Standby), db.row(2, scripted.Standby))
	d := dialer(t, "host=127.0.0.1 target_session_attrs=standby port="+strconv.Itoa(s.Port()))
	refuse := errors.New("the database system is starting up")
	err := d.Walk(within(t), func(_ context.Context, c *driver.Conn, a driver.Attribute) error {
		if c.Target().Instance == 1 {
			return driver.TryNext(refuse)
		}
		defer c.Close()
		if c.Target().Instance != 2 || a != driver.Standby {
			t.Errorf("got %+v for %s", c.Target(), a)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if q := s.Asked(); len(q) != 3 || q[2] != "SHOW TARGET standby EXCEPT 0, 1" {
		t.Errorf("asked %q", q)
	}
	// whom it takes of two depends on who is bound to them
	unbound := func() {
		testkit.Eventually(t, patience, "the watches' end", func() (bool, string) { return s.Connections() == 0, "" })
	}
	unbound()
	final := errors.New("password authentication failed")
	calls := 0
	err = d.Walk(within(t), func(context.Context, *driver.Conn, driver.Attribute) error { calls++; return final })
	if !errors.Is(err, final) || calls != 1 {
		t.Errorf("got %v after %d calls, want the first refusal", err, calls)
	}
	unbound()
	err = d.Walk(within(t), func(context.Context, *driver.Conn, driver.Attribute) error { return driver.TryNext(refuse) })
	var failed *driver.ConnectError
	if !errors.As(err, &failed) || len(failed.Hosts) != 4 || failed.Hosts[1].Target.Instance != 1 || !errors.Is(err, refuse) {
		t.Errorf("got %v", err)
	}
	unbound()
}

// connect_timeout holds for each attempt, the context for all.
func TestTimeouts(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	mute, good := newConmgr(t), newConmgr(t, db.row(0, scripted.Primary))
	mute.Freeze(true)
	list := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d connect_timeout=", mute.Port(), good.Port())
	d := dialer(t, list+"1")
	c, err := d.Dial(within(t)) // a second, as the one that answers must do so within it, too
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err = dialer(t, list+"0").Dial(ctx)
	var failed *driver.ConnectError
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &failed) || len(failed.Hosts) != 1 {
		t.Errorf("got %v", err)
	}
	d.Config.Hosts = d.Config.Hosts[:1]
	d.Config.ConnectTimeout = 20 * time.Millisecond
	if _, err = d.Dial(within(t)); err == nil || !strings.Contains(err.Error(), "connect_timeout is 20ms") {
		t.Errorf("got %v", err)
	}
}

// Without a conmgr the connection is a plain one.
func TestDirect(t *testing.T) {
	leak.Check(t)
	var asked sync.Once
	address := peer(t, func(nc net.Conn) {
		first := false
		asked.Do(func() { first = true })
		if first {
			afterStartup(nc, &pgproto3.AuthenticationCleartextPassword{})
			return
		}
		nc.Write([]byte("hello"))
	})
	host, port, _ := net.SplitHostPort(address)
	c := dial(t, "host=db hostaddr="+host+" port="+port)
	if target := c.Target(); !target.Direct() || target.Host != "db" || target.HostAddr != host || c.Watch() != nil {
		t.Errorf("got %+v", target)
	}
	if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}
