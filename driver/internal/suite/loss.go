package suite

// An instance, or its conmgr, is lost.

import (
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// loses has a crowd of queries blocked when the primary is lost.
func (t *test) loses(s *scripted.Conmgr, p Pool) {
	t.Helper()
	type result struct {
		err error
		at  time.Time
	}
	results := make(chan result, Crowd)
	ctx := t.within()
	for range Crowd {
		go func() {
			_, err := p.Value(ctx, pgSleep)
			results <- result{err, time.Now()}
		}()
	}
	t.awaitSleepers(t.pair.Primary, Crowd)
	verdict := time.Now()
	s.Lose(0)
	var last time.Duration
	for range Crowd {
		r := <-results
		last = max(last, r.at.Sub(verdict))
		var lost *driver.LostError
		if !errors.As(r.err, &lost) {
			t.Fatalf("got %v, want a LostError", r.err)
		}
		if lost.Instance != 0 || lost.Host != livepg.Name || lost.HostAddr != "127.0.0.1" ||
			lost.Port != t.pair.Primary || lost.SQLState != "57P01" ||
			lost.SafeToRetry() || lost.Since.Before(verdict) || lost.Since.After(r.at) ||
			!strings.Contains(lost.Reason, scripted.Reason) {
			t.Fatalf("got %+v", lost)
		}
		var retry interface{ SafeToRetry() bool } // what pgconn, and a helper of the application's, would find first
		if errors.As(r.err, &retry) && retry.SafeToRetry() {
			t.Fatalf("%T of %v says that it is safe to retry", retry, r.err)
		}
	}
	t.Logf("%d blocked queries have returned within %v of the verdict", Crowd, last)
	if last > 5*time.Second { // 60 s without the verdict
		t.Errorf("the last one has returned after %v", last)
	}
	testkit.Eventually(t, patience, "the pool has thrown them away", func() (bool, string) {
		n := p.Connections()
		return n <= t.adapter.Leftovers, fmt.Sprintf("%d connections", n)
	})
	t.terminate(t.pair.Primary)
}

func loss(t *test) {
	s := t.conmgr()
	p := t.open("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=any application_name=shop",
		s.Port())
	if got := t.role(p); got != "primary" {
		t.Fatalf("got %s first", got)
	}
	if got := s.Applications(); len(got) != 1 || got[0].Name != "shop" {
		t.Errorf("conmgr knows the applications %v", got)
	}
	t.loses(s, p)
	if got := t.role(p); got != "standby" {
		t.Errorf("after the loss of the primary: got %s", got)
	}
	promoted := t.pair.Instances()[0]
	promoted.Number = 2
	s.Lose(1)
	s.Set(promoted)
	testkit.Eventually(t, patience, "the right instance", func() (bool, string) {
		got := t.role(p)
		return got == "primary", got
	})
}

// gone waits until the primary has no session of an application.
func (t *test) gone(application string) {
	t.Helper()
	testkit.Eventually(t, patience, "the end of its sessions", func() (bool, string) {
		n := t.count(t.pair.Primary, "application_name = '"+application+"'")
		return n == 0, fmt.Sprintf("%d sessions", n)
	})
}

// Idle connections that are lost are replaced without the application's noticing.
func lossOfIdle(t *test) {
	s := t.conmgr()
	p := t.open("host=localhost port=%d user=postgres sslmode=disable application_name=idle", s.Port())
	const n = 5
	if err := p.Warm(t.within(), n); err != nil {
		t.Fatal(err)
	}
	if got := t.count(t.pair.Primary, "application_name = 'idle'"); got != n {
		t.Fatalf("%d sessions, want %d", got, n)
	}
	s.Lose(0)
	t.gone("idle") // the server gets to know because the loss has shut them down
	for range n + 2 {
		if got := t.role(p); got != "standby" {
			t.Errorf("got %s", got)
		}
	}
}

// In a transaction nothing is repeated. What tells that the statement was not sent is lib/pq's
// ErrBadConn, or SafeToRetry.
func lossInTransaction(t *test) {
	s := t.conmgr()
	p := t.open("host=localhost port=%d user=postgres sslmode=disable application_name=tx", s.Port())
	tx, err := p.Begin(t.within())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Exec(t.within(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	s.Lose(0)
	t.gone("tx")
	err = tx.Exec(t.within(), "SELECT 1")
	var lost *driver.LostError
	if !errors.Is(err, sqldriver.ErrBadConn) && (!errors.As(err, &lost) || !lost.SafeToRetry()) {
		t.Errorf("got %v", err)
	}
	if err := tx.Commit(t.within()); err == nil {
		t.Error("the commit on a lost connection succeeded")
	}
	if got := t.role(p); got != "standby" {
		t.Errorf("the next connection: %s", got)
	}
}

// The verdict comes while the instance owes its answer to the startup: another one is asked for.
func lossInLogin(t *test) {
	s := t.conmgr()
	asked := make(chan struct{}, 1)
	s.Set(t.refuser(0, scripted.Standby, func(nc net.Conn) { asked <- struct{}{}; silent(nc) }),
		t.pair.Instances()[1])
	go func() {
		<-asked
		s.Lose(0)
	}()
	if got := t.roleOf("%s sslmode=disable target_session_attrs=standby", list(s.Port())); got != "standby" {
		t.Errorf("got %s", got)
	}
}

// A conmgr that crashes is a loss: at once, if it has announced no grace, else when that is over.
func conmgrCrashes(t *test) {
	for _, grace := range []string{"0", "1s"} {
		s := t.configured("application_grace = " + grace + "\n")
		p := t.open("host=localhost port=%d user=postgres sslmode=disable", s.Port())
		q := t.sleep(p, t.pair.Primary)
		s.Close()
		var lost *driver.LostError
		if err := <-q.failed; !errors.As(err, &lost) || lost.SQLState != "08006" || lost.SafeToRetry() ||
			!strings.Contains(lost.Reason, "Connection Manager") ||
			strings.Contains(lost.Reason, "back within 1s") != (grace != "0") {
			t.Errorf("application_grace = %s: got %v", grace, err)
		}
		t.terminate(t.pair.Primary)
	}
}

// back is another conmgr at the place of one that has crashed.
func (t *test) back(old *scripted.Conmgr, instances ...scripted.Instance) *scripted.Conmgr {
	t.Helper()
	l, err := net.Listen("tcp", old.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s, err := scripted.Start(scripted.Options{Listener: l}, instances...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A conmgr that is back within its grace is nothing that an application notices, whether it works,
// waits or has idle connections; and the next one's word counts.
func conmgrIsBack(t *test) {
	s := t.configured("application_grace = 1h\n")
	p := t.open("host=localhost port=%d user=postgres sslmode=disable", s.Port())
	if err := p.Warm(t.within(), 4); err != nil {
		t.Fatal(err)
	}
	tx, err := p.Begin(t.within())
	if err != nil {
		t.Fatal(err)
	}
	q := t.sleep(p, t.pair.Primary)
	n := s.Bound(0) // or more than 4: pgxpool gets connections back in the background
	for range 3 {
		s.Close()
		if got := t.role(p); got != "primary" {
			t.Errorf("while conmgr is away: got %s", got)
		}
		if v, err := tx.Value(t.within(), "SELECT 'x'"); err != nil {
			t.Fatalf("the transaction while conmgr is away: %s, %v", v, err)
		}
		s = t.back(s, t.pair.Instances()...)
		if err := s.WaitBound(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.within()); err != nil {
		t.Error(err)
	}
	s.Lose(0)
	var lost *driver.LostError
	if err := <-q.failed; !errors.As(err, &lost) || lost.SQLState != "57P01" {
		t.Errorf("got %v", err)
	}
	t.terminate(t.pair.Primary)
}

// The server has been restarted while conmgr was away, as far as the next one knows: that is a loss
// as soon as this one is there.
func instanceDiesMeanwhile(t *test) {
	s := t.configured("application_grace = 1h\n")
	p := t.open("host=localhost port=%d user=postgres sslmode=disable", s.Port())
	q := t.sleep(p, t.pair.Primary)
	s.Close()
	next := t.back(s, t.pair.Numbered(5)...) // their postmasters have begun at another time
	var lost *driver.LostError
	if err := <-q.failed; !errors.As(err, &lost) || lost.SQLState != "57P01" ||
		!strings.Contains(lost.Reason, "instance ") || lost.SafeToRetry() {
		t.Errorf("got %v", err)
	}
	t.terminate(t.pair.Primary)
	if got := t.role(p); got != "primary" || next.Bound(5) != 1 {
		t.Errorf("the next connection: %s, %v", got, next.Applications())
	}
}

// The next conmgr has lost the instance before it is asked.
func lostBefore(t *test) {
	s := t.configured("application_grace = 1h\n")
	p := t.open("host=localhost port=%d user=postgres sslmode=disable", s.Port())
	q := t.sleep(p, t.pair.Primary)
	s.Close()
	t.back(s, t.pair.Instances()...).Lose(0)
	var lost *driver.LostError
	if err := <-q.failed; !errors.As(err, &lost) || lost.SQLState != "57P01" {
		t.Errorf("got %v", err)
	}
	t.terminate(t.pair.Primary)
}
