package suite

// An instance is drained: its connections are retired between transactions, and nothing is lost.

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// sessions waits until the primary has n of an application.
func (t *test) sessions(application string, n int) {
	t.Helper()
	testkit.Eventually(t, patience, fmt.Sprintf("%d sessions of %q", n, application), func() (bool, string) {
		got := t.count(t.pair.Primary, "application_name = '"+application+"'")
		return got == n, fmt.Sprintf("%d sessions", got)
	})
}

// Idle connections do not hold a drain up until somebody uses them, and nobody notices.
func drainOfIdle(t *test) {
	for _, sslmode := range []string{"disable", "require"} {
		s := t.conmgr()
		p := t.open("host=localhost port=%d user=postgres sslmode=%s application_name=idle", s.Port(), sslmode)
		const n = 5
		if err := p.Warm(t.within(), n); err != nil {
			t.Fatal(err)
		}
		t.sessions("idle", n)
		s.Drain(0, true)
		t.sessions("idle", 0)
		if err := s.WaitBound(0); err != nil {
			t.Error(err)
		}
		for range n + 2 {
			if got := t.role(p); got != "standby" {
				t.Errorf("sslmode=%s: got %s", sslmode, got)
			}
		}
	}
}

// A transaction, and a query that is under way, go on as if nothing had happened; then the
// connection is closed.
func drainInTransaction(t *test) {
	s := t.conmgr()
	p := t.open("host=localhost port=%d user=postgres sslmode=disable application_name=drained", s.Port())
	if err := p.Warm(t.within(), 3); err != nil {
		t.Fatal(err)
	}
	tx, err := p.Begin(t.within())
	if err != nil {
		t.Fatal(err)
	}
	sleep := make(chan error, 1)
	go func() {
		_, err := p.Value(t.within(), pgSleep)
		sleep <- err
	}()
	t.awaitSleepers(t.pair.Primary, 1)
	s.Drain(0, true)
	t.sessions("drained", 2) // the idle one is gone: the others were told, too
	for range 3 {
		if v, err := tx.Value(t.within(), "SELECT (NOT pg_is_in_recovery())::text"); err != nil || v != "true" {
			t.Fatalf("the transaction during the drain: %s, %v", v, err)
		}
	}
	if err := tx.Commit(t.within()); err != nil {
		t.Fatal(err)
	}
	t.sessions("drained", 1)
	if got := t.role(p); got != "standby" {
		t.Errorf("the next connection: %s", got)
	}
	t.wake(t.pair.Primary)
	if err := <-sleep; t.adapter.SQLState(err) != "57014" {
		t.Errorf("the query that was under way: %v, want the end that it was given", err)
	}
	t.sessions("drained", 0)
}

// wake ends the sleepers' statements, and not their sessions.
func (t *test) wake(port int) {
	t.Helper()
	t.count(port, "CASE WHEN wait_event = 'PgSleep' THEN pg_cancel_backend(pid) END")
}

// Sessions that the server has ended while they were idle are replaced, and nobody notices.
func endedWhileIdle(t *test) {
	for _, sslmode := range []string{"disable", "require"} {
		s := t.conmgr()
		p := t.open("host=localhost port=%d user=postgres sslmode=%s application_name=ended", s.Port(), sslmode)
		const n = 5
		if err := p.Warm(t.within(), n); err != nil {
			t.Fatal(err)
		}
		var pids string
		t.ask(t.pair.Primary, "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE application_name = 'ended'", &pids)
		t.count(t.pair.Primary, "CASE WHEN application_name = 'ended' THEN pg_terminate_backend(pid) END")
		// A process is in no view any more before the kernel closes its socket, which alone tells of it
		// by TLS.
		testkit.Eventually(t, patience, "the sessions have ended", func() (bool, string) {
			for _, pid := range strings.Fields(pids) {
				if _, err := os.Stat("/proc/" + pid); err == nil {
					return false, pid
				}
			}
			return true, ""
		})
		for range n + 2 {
			if got := t.role(p); got != "primary" {
				t.Errorf("sslmode=%s: got %s", sslmode, got)
			}
		}
	}
}

// Two instances are drained by turns, under more clients than the pool has connections: not one
// transaction fails.
func drainsUnderLoad(t *test) {
	s := t.conmgr()
	const most, clients, turns = 16, 48, 10
	p := t.small(most, fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port()))
	ctx, cancel := context.WithTimeout(context.Background(), turns*patience) // each turn has its own
	defer cancel()
	if err := p.Warm(t.within(), most); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	var mu sync.Mutex
	done := 0
	for range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				tx, err := p.Begin(ctx)
				if err == nil {
					if _, err = tx.Value(ctx, "SELECT 'x'"); err == nil {
						err = tx.Commit(ctx)
					}
				}
				if err != nil {
					errs <- err
					return
				}
				mu.Lock()
				done++
				mu.Unlock()
			}
		}()
	}
	for turn := range turns {
		drained := turn % 2
		s.Drain(1-drained, false)
		s.Drain(drained, true)
		testkit.Eventually(t, patience, "the drained instance has nobody", func() (bool, string) {
			n, other := s.Bound(drained), s.Bound(1-drained)
			return n == 0 && other > 0 || len(errs) > 0, fmt.Sprintf("%d are bound, %d to the other one", n, other)
		})
	}
	close(stop)
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Errorf("a transaction has failed: %v", err)
	}
	t.Logf("%d transactions while two instances were drained %d times", done, turns)
}
