package suite

// Cancel requests, contexts and timeouts.

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/driver"
)

// sleeping is a query that is under way.
type sleeping struct {
	port   int
	cancel context.CancelFunc
	failed chan error
}

func (t *test) sleep(p Pool, port int) *sleeping {
	t.Helper()
	ctx, cancel := context.WithCancel(t.within())
	q := &sleeping{port: port, cancel: cancel, failed: make(chan error, 1)}
	go func() {
		_, err := p.Value(ctx, pgSleep)
		q.failed <- err
	}()
	t.awaitSleepers(port, 1)
	return q
}

// canceled: the server's sleep ends by a cancel request only.
func (t *test) canceled(q *sleeping) {
	t.Helper()
	q.cancel()
	if err := <-q.failed; err == nil {
		t.Error("the cancelled query has succeeded")
	} else if t.adapter.SQLState(err) != "57014" && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	t.awaitSleepers(q.port, 0)
}

// Queries on two instances: each cancel request reaches its own, and leaves the other one's alone.
func cancel(t *test) {
	s := t.conmgr()
	on := map[string]*sleeping{}
	for attribute, port := range map[string]int{"primary": t.pair.Primary, "standby": t.pair.Standby} {
		on[attribute] = t.sleep(t.open("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=%s",
			s.Port(), attribute), port)
	}
	s.Set() // a cancel request asks nobody
	t.canceled(on["standby"])
	if n := t.sleepers(t.pair.Primary); n != 1 {
		t.Errorf("%d queries on the primary, want the one that was not cancelled", n)
	}
	t.canceled(on["primary"])
	if q := s.Asked(); len(q) != 2 {
		t.Errorf("conmgr was asked %d times, want twice: %q", len(q), q)
	}
}

// A query that is cancelled while its instance is being lost ends all the same, and the pool is rid
// of its connection.
func cancelLost(t *test) {
	s := t.conmgr()
	q := t.sleep(t.open("host=localhost port=%d user=postgres sslmode=disable", s.Port()), t.pair.Primary)
	go s.Lose(0)
	q.cancel()
	var lost *driver.LostError
	if err := <-q.failed; !errors.As(err, &lost) && !errors.Is(err, context.Canceled) &&
		t.adapter.SQLState(err) != "57014" {
		t.Errorf("got %v", err)
	}
	t.terminate(t.pair.Primary)
}

func contextOfConnect(t *test) {
	s := t.conmgr()
	s.Freeze(true)
	defer s.Freeze(false)
	for name, port := range map[string]int{"a conmgr": s.Port(), "a server": t.noServer(silent).port} {
		p := t.open("%s sslmode=disable", list(port, t.pair.Primary))
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if v, err := p.Value(ctx, "SELECT 'a connection'"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s is silent: got %s, %v, want DeadlineExceeded", name, v, err)
		}
	}
}

// connect_timeout holds for each attempt: those of an instance, too, up to the end of the login;
// and for nothing afterwards. Two seconds, as who answers must do so within them, too.
func connectTimeout(t *test) {
	s := t.conmgr()
	s.Freeze(true)
	defer s.Freeze(false)
	if got := t.roleOf("%s sslmode=disable connect_timeout=2", list(s.Port(), t.pair.Primary)); got != "primary" {
		t.Errorf("a silent conmgr: got %s", got)
	}
	// It asks for a password, and then falls silent.
	stops := t.noServer(func(nc net.Conn) {
		nc.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3})
		nc.Read(make([]byte, 64))
		silent(nc)
	})
	if got := t.roleOf("%s sslmode=disable connect_timeout=2 password=x",
		list(stops.port, t.pair.Primary)); got != "primary" {
		t.Errorf("a server that stops in the middle of the login: got %s", got)
	}
	// It lets anybody in, and falls silent when it is asked for its attribute.
	dumb := t.noServer(func(nc net.Conn) {
		nc.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 0, 'Z', 0, 0, 0, 5, 'I'})
		io.Copy(io.Discard, nc)
	})
	if got := t.roleOf("%s sslmode=disable connect_timeout=2 target_session_attrs=read-write",
		list(dumb.port, t.pair.Primary)); got != "primary" {
		t.Errorf("a server that does not tell its attribute: got %s", got)
	}
	other := t.conmgr()
	p := t.open("%s sslmode=disable connect_timeout=2", list(other.Port()))
	tx, err := p.Begin(t.within())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Exec(t.within(), "SELECT pg_sleep(2.5)"); err != nil {
		t.Errorf("a query that takes longer than connect_timeout: %v", err)
	}
	if err := tx.Commit(t.within()); err != nil {
		t.Error(err)
	}
	err = t.fails(t.open("%s sslmode=disable connect_timeout=2", list(s.Port())))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connect_timeout") {
		t.Errorf("got %v", err)
	}
}

// Zero and a negative connect_timeout are no limit, as in libpq.
func noConnectTimeout(t *test) {
	s := t.conmgr()
	for _, seconds := range []string{"0", "-1"} {
		if got := t.roleOf("host=localhost port=%d user=postgres sslmode=disable connect_timeout=%s", s.Port(),
			seconds); got != "primary" {
			t.Errorf("connect_timeout=%s: got %s", seconds, got)
		}
	}
	t.Setenv("PGCONNECT_TIMEOUT", "-1")
	if got := t.roleOf("host=localhost port=%d user=postgres sslmode=disable", s.Port()); got != "primary" {
		t.Errorf("PGCONNECT_TIMEOUT=-1: got %s", got)
	}
}
