package suite

// No instance has the attribute yet: who may waits for one, and is no failed connect.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// long is a wait that no test waits for.
const long = "options='-c conmgr.target_wait=1h'"

// asks for a role, in the background.
func (t *test) asks(p Pool) chan string {
	got := make(chan string, 1)
	go func() { got <- t.role(p) }()
	return got
}

func (t *test) waiting(s *scripted.Conmgr, n int) {
	t.Helper()
	if err := s.WaitWaiting(n); err != nil {
		t.Fatal(err)
	}
}

// The connection string's own wait, which no server gets to see.
func waits(t *test) {
	s := t.conmgr()
	all := t.pair.Instances()
	s.Set(all[1])
	for _, options := range []string{long, "options='-c work_mem=5MB --conmgr.target-wait=1h'"} {
		p := t.open("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=primary %s", s.Port(),
			options)
		got := t.asks(p)
		t.waiting(s, 1)
		s.Set(all...)
		if role := <-got; role != "primary" {
			t.Errorf("%s: got %s", options, role)
		}
		s.Set(all[1])
	}
	t.Setenv("PGOPTIONS", "-c conmgr.target_wait=1h -c work_mem=6MB")
	for _, connString := range []string{
		fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port()),
		fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", t.pair.Primary),
	} {
		if got := t.settings(connString, "conmgr.target_wait", "work_mem"); got != "||6MB" {
			t.Errorf("%s: got %s", connString, got)
		}
	}
}

func waitIsConmgrs(t *test) {
	s := t.configured("target_wait = 1h\n")
	all := t.pair.Instances()
	s.Set(all[1])
	got := t.asks(t.open("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=primary", s.Port()))
	t.waiting(s, 1)
	s.Set(all...)
	if role := <-got; role != "primary" {
		t.Errorf("got %s", role)
	}
	s.Set(all[1])
	t.noTarget(t.open("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=primary %s", s.Port(),
		"options='-c conmgr.target_wait=0'"))
}

func (t *test) noTarget(p Pool) {
	t.Helper()
	var refused *driver.ConmgrError
	if err := t.fails(p); !errors.As(err, &refused) || !refused.NoTarget() {
		t.Errorf("got %v, want that there is no target", err)
	}
}

// A second is left for the connection itself.
func waitWithinConnectTimeout(t *test) {
	s := t.conmgr()
	s.Set(t.pair.Instances()[1])
	for _, timeout := range []string{"1", "3"} {
		begun := time.Now()
		t.noTarget(t.open("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=primary %s "+
			"connect_timeout=%s", s.Port(), long, timeout))
		// of one second nothing is left to wait, or that would be over without an answer
		if waited := time.Since(begun); timeout != "1" && waited < 1900*time.Millisecond {
			t.Errorf("connect_timeout=%s: it took %v", timeout, waited)
		}
	}
}

// Nobody waits at one host for what the next one has.
func waitOfSeveralHosts(t *test) {
	none, other := t.conmgr(), t.conmgr()
	all := t.pair.Instances()
	none.Set(all[1])
	connString := "%s sslmode=disable target_session_attrs=primary " + long
	for _, next := range []int{other.Port(), t.pair.Primary} {
		if got := t.roleOf(connString, list(none.Port(), next)); got != "primary" {
			t.Errorf("the next host has one: got %s", got)
		}
	}
	other.Set(all[1])
	for _, next := range []int{other.Port(), t.pair.Standby} {
		got := t.asks(t.open(connString, list(none.Port(), next)))
		t.waiting(none, 1)
		none.Set(all...)
		if role := <-got; role != "primary" {
			t.Errorf("all have none at first: got %s", role)
		}
		none.Set(all[1])
	}
	if got := t.roleOf("%s sslmode=disable target_session_attrs=prefer-standby "+long,
		list(other.Port(), t.pair.Primary)); got != "standby" {
		t.Errorf("prefer-standby: got %s", got)
	}
}

// An instance that is named, and refuses, is left out for a while only.
func waitForOneThatRefuses(t *test) {
	s := t.conmgr()
	starting := t.refuser(7, scripted.Primary, startingUp)
	s.Set(append(t.pair.Numbered(8), starting)...) // all are configured
	s.Set(starting)
	p := t.open("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=primary %s", s.Port(), long)
	got := t.asks(p)
	t.tries(s, "SHOW TARGET primary", 3)
	s.Set(t.pair.Numbered(8)...)
	if role := <-got; role != "primary" {
		t.Errorf("got %s", role)
	}
}

// tries waits until a question was answered so often.
func (t *test) tries(s *scripted.Conmgr, statement string, n int) {
	t.Helper()
	testkit.Eventually(t, patience, "its questions", func() (bool, string) {
		asked := slices.DeleteFunc(s.Asked(), func(q string) bool { return q != statement })
		return len(asked) >= n, fmt.Sprintf("conmgr has answered %q", s.Asked())
	})
}

func waitEndsWithTheContext(t *test) {
	s := t.conmgr()
	s.Set(t.pair.Instances()[1])
	p := t.open("host=localhost port=%d user=postgres sslmode=disable target_session_attrs=primary %s", s.Port(), long)
	ctx, cancel := context.WithCancel(t.within())
	failed := make(chan error, 1)
	go func() {
		_, err := p.Value(ctx, "SELECT 'a connection'")
		failed <- err
	}()
	t.waiting(s, 1)
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.Close() // pgxpool goes on with a connection that was begun
	t.waiting(s, 0)
}

func badWait(t *test) {
	p, err := t.adapter.Open("host=localhost user=postgres options='-c conmgr.target_wait=soon'", Crowd)
	if err == nil {
		p.Close()
		t.Fatal("it was accepted")
	}
	for _, want := range []string{"conmgr.target_wait", "options", "soon", "ms, s, min, h, d"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
