package driver_test

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
	"github.com/pgwatchdog/watchdog/driver/internal/fakeconmgr"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// instance is a server that accepts, answers "ping" with "pong", and is silent otherwise.
type instance struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newInstance(t *testing.T) *instance {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &instance{Listener: l}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, nc)
			s.mu.Unlock()
			s.wg.Add(1)
			go func() {
				defer s.wg.Done()
				b := make([]byte, 4)
				for {
					if _, err := io.ReadFull(nc, b); err != nil {
						return
					}
					if string(b) == "ping" {
						nc.Write([]byte("pong"))
					}
				}
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, nc := range s.conns {
			nc.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *instance) row(number int, attributes string) fakeconmgr.Instance {
	a := s.Addr().(*net.TCPAddr)
	return fakeconmgr.Instance{Number: number, Host: fmt.Sprintf("db%d", number), HostAddr: a.IP.String(), Port: a.Port, Attributes: attributes}
}

func (s *instance) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func dialer(t *testing.T, connString string) *driver.Dialer {
	t.Helper()
	c, err := driver.ParseConfig(connString)
	if err != nil {
		t.Fatal(err)
	}
	return &driver.Dialer{Config: c}
}

func dial(t *testing.T, connString string) *driver.Conn {
	t.Helper()
	c, err := dialer(t, connString).Dial(within(t))
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience)) // what should end by the loss ends by this otherwise
	t.Cleanup(func() { c.Close() })
	return c
}

func waitLost(t *testing.T, w *driver.Watch) {
	t.Helper()
	select {
	case <-w.Lost():
	case <-time.After(patience):
		t.Fatal("the loss was not told")
	}
}

func TestLossWakesReaders(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(3, "primary,read-write"))
	const readers = 200
	type result struct {
		err error
		at  time.Time
	}
	results := make(chan result, readers)
	for range readers {
		c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
		if _, err := c.Write([]byte("wait")); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := c.Read(make([]byte, 1))
			results <- result{err, time.Now()}
		}()
	}
	verdict := time.Now()
	s.Lose(3, "no heartbeat for 2003 ms")
	var last time.Duration
	for range readers {
		r := <-results
		last = max(last, r.at.Sub(verdict))
		var lost *driver.LostError
		var op *net.OpError
		if !errors.As(r.err, &lost) || !errors.As(r.err, &op) || lost.SafeToRetry() {
			t.Fatalf("got %v", r.err)
		}
		if lost.Instance != 3 || lost.Host != "db3" || lost.HostAddr != "127.0.0.1" || lost.SQLState != "57P01" || lost.Since.Before(verdict) {
			t.Fatalf("got %+v", lost)
		}
	}
	t.Logf("%d blocked reads have returned within %v of the verdict", readers, last)
}

// A writer is blocked when the peer does not read.
func TestLossWakesWriters(t *testing.T) {
	leak.Check(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // its backlog accepts, nobody reads
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newConmgr(t, (&instance{Listener: l}).row(0, "primary,read-write"))
	c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	failed := make(chan error, 1)
	filled := make(chan struct{})
	go func() {
		chunk := make([]byte, 1<<20)
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		for {
			if _, err := c.Write(chunk); err != nil {
				break // the buffers are full
			}
		}
		c.SetWriteDeadline(time.Now().Add(patience))
		close(filled)
		_, err := c.Write(chunk)
		failed <- err
	}()
	<-filled
	s.Lose(0, "no heartbeat for 2003 ms")
	var lost *driver.LostError
	if err := <-failed; !errors.As(err, &lost) || lost.SafeToRetry() {
		t.Errorf("got %v", err)
	}
}

// What the kernel has received before the verdict is an answer; what is said afterwards was not sent.
func TestSafeToRetry(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(0, "primary,read-write"))
	answered := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	waiting := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	answered.Write([]byte("ping"))
	b := make([]byte, 1)
	if n, err := answered.Read(b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	waiting.Write([]byte("wait"))
	if answered.Watch().Err() != nil {
		t.Error("lost before the verdict")
	}
	s.Lose(0, "no heartbeat for 2003 ms")
	waitLost(t, answered.Watch())
	waitLost(t, waiting.Watch())
	rest, err := io.ReadAll(answered)
	if string(rest) != "ong" {
		t.Errorf("got %q after the verdict, want what had come before it", rest)
	}
	var lost *driver.LostError
	if !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
	for c, want := range map[*driver.Conn]bool{answered: true, waiting: false} {
		n, err := c.Write([]byte("ping"))
		if !errors.As(err, &lost) || n != 0 || lost.SafeToRetry() != want {
			t.Errorf("got %d, %v, safe to retry %v, want %v", n, err, lost.SafeToRetry(), want)
		}
	}
	if err := answered.Close(); err != nil {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(0, "primary,read-write"))
	c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	again, err := c.Again(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.RemoteAddr().String() != db.Addr().String() {
		t.Errorf("again went to %s", again.RemoteAddr())
	}
	again.Close()
	if c.Watch().Err() != nil || s.Bound(0) != 1 {
		t.Error("the watch ended with a connection that does not own it")
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-c.Watch().Lost():
		t.Error("a close is no loss")
	default:
	}
	testkit.Eventually(t, patience, "conmgr's end of the connection", func() (bool, string) { return s.Connections() == 0, "" })
	if _, err := c.Again(within(t)); err == nil {
		t.Error("again after Close succeeded")
	}
}

// A cancel request that waits for a lost host is ended, too, and later ones are not begun.
func TestAgainEndsWithTheInstance(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(0, "primary,read-write"))
	c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	again, err := c.Again(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	again.SetDeadline(time.Now().Add(patience))
	failed := make(chan error, 1)
	go func() {
		_, err := again.Read(make([]byte, 1))
		failed <- err
	}()
	s.Lose(0, "no heartbeat for 2003 ms")
	var lost *driver.LostError
	if err := <-failed; !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Again(within(t)); !errors.As(err, &lost) || !lost.SafeToRetry() {
		t.Errorf("got %v", err)
	}
}

// The verdict and a close may cross: neither waits for the other for ever.
func TestLossAndCloseCross(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(0, "primary,read-write"))
	for range 50 {
		c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
		var wg sync.WaitGroup
		wg.Add(2)
		go func() { defer wg.Done(); s.Lose(0, "test") }()
		go func() { defer wg.Done(); c.Close() }()
		wg.Wait()
		s.Set(db.row(0, "primary,read-write"))
	}
}

func TestDialTakesTheHostsInOrder(t *testing.T) {
	leak.Check(t)
	primary, standby := newInstance(t), newInstance(t)
	empty := newConmgr(t)
	one := newConmgr(t, primary.row(1, "primary,read-write"))
	two := newConmgr(t, standby.row(2, "standby,read-only"))
	dead := closedPort(t)
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
	dead, empty := closedPort(t), newConmgr(t)
	_, err := dialer(t, fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d target_session_attrs=prefer-standby", dead, empty.Port())).Dial(within(t))
	var failed *driver.ConnectError
	if !errors.As(err, &failed) || len(failed.Hosts) != 4 {
		t.Errorf("got %v", err)
	}
	if q := empty.Questions(); len(q) != 2 || q[0] != "SHOW TARGET standby" || q[1] != "SHOW TARGET prefer-standby" {
		t.Errorf("asked %q", q)
	}
}

// Each instance that does not take the connection is left out of the next question.
func TestWalkLeavesOutWhoRefuses(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	gone := fakeconmgr.Instance{Number: 0, Host: "gone", HostAddr: "127.0.0.1", Port: closedPort(t), Attributes: "standby,read-only"}
	s := newConmgr(t, gone, db.row(1, "standby,read-only"), db.row(2, "standby,read-only"))
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
	if q := s.Questions(); len(q) != 3 || q[2] != "SHOW TARGET standby EXCEPT 0, 1" {
		t.Errorf("asked %q", q)
	}
	final := errors.New("password authentication failed")
	calls := 0
	err = d.Walk(within(t), func(context.Context, *driver.Conn, driver.Attribute) error { calls++; return final })
	if !errors.Is(err, final) || calls != 1 {
		t.Errorf("got %v after %d calls, want the first refusal", err, calls)
	}
	err = d.Walk(within(t), func(context.Context, *driver.Conn, driver.Attribute) error { return driver.TryNext(refuse) })
	var failed *driver.ConnectError
	if !errors.As(err, &failed) || len(failed.Hosts) != 4 || failed.Hosts[1].Target.Instance != 1 || !errors.Is(err, refuse) {
		t.Errorf("got %v", err)
	}
	testkit.Eventually(t, patience, "the watches' end", func() (bool, string) { return s.Connections() == 0, "" })
}

// connect_timeout holds for each attempt, the context for all.
func TestTimeouts(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	mute, good := newConmgr(t), newConmgr(t, db.row(0, "primary,read-write"))
	mute.Mute()
	list := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d connect_timeout=", mute.Port(), good.Port())
	d := dialer(t, list+"1")
	d.Config.ConnectTimeout = 20 * time.Millisecond
	c, err := d.Dial(within(t))
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

func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
