package suite

// Instances, and conmgrs, that do not take a connection: another instance, then the next host of
// the list, then an error that tells all of it.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// refuser is an instance that answers each startup by f.
func (t *test) refuser(number int, attributes heartbeat.Attributes, f func(net.Conn)) scripted.Instance {
	t.Helper()
	return scripted.Instance{Number: number, Host: fmt.Sprintf("refuser%d.test", number), HostAddr: "127.0.0.1",
		Port: t.noServer(f).port, Attributes: attributes}
}

// letIn goes on once the user is authenticated.
func letIn(next func(net.Conn)) func(net.Conn) {
	return func(nc net.Conn) {
		nc.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 0})
		next(nc)
	}
}

// Whatever its way to refuse, conmgr is asked for another one before the next host of the list,
// here the primary, is tried.
func refusingInstance(t *test) {
	s := t.conmgr()
	unreachable := scripted.Instance{Number: 7, Host: "gone", HostAddr: "127.0.0.1", Port: testkit.ClosedPort(t),
		Attributes: scripted.Standby}
	closing := scripted.Instance{Number: 7, Host: livepg.Name, HostAddr: "127.0.0.1", Port: t.pair.Closing,
		Attributes: scripted.Standby}
	for name, instance := range map[string]scripted.Instance{
		"is not there":       unreachable,
		"starts up":          t.refuser(7, scripted.Standby, startingUp),
		"shuts down":         closing,
		"has no connections": t.refuser(7, scripted.Standby, fatal("53300", "sorry, too many clients already")),
		"has no memory":      t.refuser(7, scripted.Standby, fatal("53200", "out of memory")),
		"ends its sessions": t.refuser(7, scripted.Standby,
			fatal("57P01", "terminating connection due to administrator command")),
		"has none for him": t.refuser(7, scripted.Standby,
			letIn(fatal("53300", "remaining connection slots are reserved"))),
		"hangs up later":  t.refuser(7, scripted.Standby, letIn(hangUp)),
		"is silent later": t.refuser(7, scripted.Standby, letIn(silent)),
		"hangs up":        t.refuser(7, scripted.Standby, hangUp),
		"is silent":       t.refuser(7, scripted.Standby, silent),
	} {
		before := len(s.Asked())
		s.Set(append([]scripted.Instance{instance}, t.pair.Numbered(8)...)...)
		for _, sslmode := range []string{"disable", "require"} {
			if sslmode == "require" && instance != unreachable && instance != closing {
				continue // it has no TLS, which is an error that the others may have, too
			}
			if got := t.roleOf("%s sslmode=%s connect_timeout=2 target_session_attrs=prefer-standby", list(s.Port()),
				sslmode); got != "standby" {
				t.Errorf("%s, %s: got %s", name, sslmode, got)
			}
			want := []string{"SHOW TARGET prefer-standby", "SHOW TARGET prefer-standby EXCEPT 7"}
			if got := s.Asked()[before:]; !slices.Equal(got, want) {
				t.Errorf("%s, %s: conmgr was asked %q", name, sslmode, got)
			}
			before = len(s.Asked())
		}
	}
	s.Set(t.refuser(7, scripted.Primary, startingUp), t.pair.Numbered(8)[1])
	if got := t.roleOf("%s sslmode=disable target_session_attrs=any",
		list(s.Port(), t.pair.Primary)); got != "standby" {
		t.Errorf("got %s: the next host was tried before the other instance", got)
	}
}

func everyInstanceRefuses(t *test) {
	s := t.conmgr()
	s.Set(t.refuser(7, scripted.Standby, startingUp), t.refuser(8, scripted.Standby, startingUp))
	if got := t.roleOf("%s sslmode=disable target_session_attrs=standby",
		list(s.Port(), t.pair.Standby)); got != "standby" {
		t.Errorf("with a server as the next host: got %s", got)
	}
	if got, want := s.Asked(), []string{"SHOW TARGET standby", "SHOW TARGET standby EXCEPT 7",
		"SHOW TARGET standby EXCEPT 7, 8"}; !slices.Equal(got, want) {
		t.Errorf("conmgr was asked %q", got)
	}
	closed := testkit.ClosedPort(t)
	err := t.fails(t.open("%s sslmode=disable target_session_attrs=standby", list(s.Port(), closed)))
	for _, want := range []string{"instance 7", "refuser7.test", "instance 8", "refuser8.test",
		"the database system is starting up",
		"no target server address from Connection Manager", fmt.Sprint(closed), "connection refused"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something of %q", err, want)
		}
	}
	var failed *driver.ConnectError
	if !errors.As(err, &failed) || !failed.SafeToRetry() || failed.Hosts[1].Target.Instance != 8 ||
		t.adapter.SQLState(failed.Hosts[1]) != "57P03" {
		t.Errorf("got %v", err)
	}
}

// What refuses is a server of the list.
func refusingServers(t *test) {
	for name, f := range map[string]func(net.Conn){"starts up": startingUp, "hangs up": hangUp,
		"has no connections": fatal("53300", "sorry, too many clients already")} {
		s := t.noServer(f)
		if got := t.roleOf("%s sslmode=disable", list(s.port, t.pair.Standby)); got != "standby" {
			t.Errorf("%s: got %s", name, got)
		}
		err := t.fails(t.open("%s sslmode=disable", list(s.port, testkit.ClosedPort(t))))
		if text := err.Error(); !strings.Contains(text, fmt.Sprint(s.port)) ||
			!strings.Contains(text, "connection refused") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// The context holds for all attempts together.
func contextEndsTheWalk(t *test) {
	s := t.conmgr()
	reached := make(chan struct{}, 1)
	mute := t.refuser(8, scripted.Primary, func(nc net.Conn) { reached <- struct{}{}; silent(nc) })
	s.Set(t.refuser(7, scripted.Primary, startingUp), mute, t.pair.Numbered(9)[0])
	p := t.open("%s sslmode=disable", list(s.Port(), t.pair.Primary))
	ctx, cancel := context.WithCancel(t.within())
	go func() {
		<-reached
		cancel()
	}()
	begun := time.Now()
	v, err := p.Value(ctx, "SELECT 'a connection'")
	if !errors.Is(err, context.Canceled) || time.Since(begun) > patience/2 {
		t.Errorf("got %s, %v after %v, want Canceled", v, err, time.Since(begun))
	}
	if got, want := s.Asked(), []string{"SHOW TARGET any", "SHOW TARGET any EXCEPT 7"}; !slices.Equal(got, want) {
		t.Errorf("conmgr was asked %q", got)
	}
}

// During a smart shutdown conmgr lets in whoever asks, and names nobody an instance. Who has one
// keeps it.
func smartShutdown(t *test) {
	s := t.conmgr()
	p := t.open("host=localhost port=%d user=postgres sslmode=disable", s.Port())
	if err := p.Warm(t.within(), 1); err != nil {
		t.Fatal(err)
	}
	s.SmartShutdown()
	t.shutsDown(s)
	if got := t.role(p); got != "primary" || s.Bound(0) != 1 {
		t.Errorf("the connection of before: %s, %d bound", got, s.Bound(0))
	}
}

// At the very end of a shutdown it refuses.
func endOfShutdown(t *test) {
	s := t.conmgr()
	s.Shutdown()
	t.shutsDown(s)
}

// shutsDown: the next host of the list; and conmgr's own words, if there is none.
func (t *test) shutsDown(s *scripted.Conmgr) {
	t.Helper()
	if got := t.roleOf("%s sslmode=disable", list(s.Port(), t.pair.Standby)); got != "standby" {
		t.Errorf("the next host is a server: got %s", got)
	}
	other := t.conmgr()
	if got := t.roleOf("%s sslmode=disable target_session_attrs=standby",
		list(s.Port(), other.Port())); got != "standby" {
		t.Errorf("the next host is a conmgr: got %s", got)
	}
	err := t.fails(t.open("host=localhost port=%d user=postgres sslmode=disable", s.Port()))
	var refused *driver.ConmgrError
	if !errors.As(err, &refused) || refused.SQLState != "57P03" || refused.NoTarget() ||
		!strings.Contains(err.Error(), "the Connection Manager is shutting down") {
		t.Errorf("got %v, want 57P03", err)
	}
}

// Who is not let in here is not let in elsewhere: nobody else is asked, as libpq does, lest
// accounts are locked sooner.
func authenticationFails(t *test) {
	s := t.conmgr()
	for _, refusal := range []struct{ code, message string }{
		{"28P01", "password authentication failed"}, {"28000", "role does not exist"},
		{"3D000", "database does not exist"},
	} {
		first, second := t.noServer(fatal(refusal.code, refusal.message)),
			t.noServer(fatal(refusal.code, refusal.message))
		row := func(number int, n *noServer) scripted.Instance {
			return scripted.Instance{Number: number, Host: "db", HostAddr: "127.0.0.1", Port: n.port,
				Attributes: scripted.Primary}
		}
		s.Set(row(1, first), row(2, second))
		for i, next := range []int{second.port, s.Port()} {
			before := len(s.Asked())
			err := t.fails(t.open("%s sslmode=disable", list(s.Port(), next)))
			if t.adapter.SQLState(err) != refusal.code {
				t.Errorf("%s: got %v", refusal.code, err)
			}
			if q := s.Asked()[before:]; len(q) != 1 || len(first.startups()) != i+1 || len(second.startups()) != 0 {
				t.Errorf("%s: conmgr was asked %q, the instance %d times, the next host %d times", refusal.code, q,
					len(first.startups())-i, len(second.startups()))
			}
		}
	}
}

// An instance that was to be left out is not tried again, whatever conmgr says: it has refused, and
// the next host may do.
func inSpiteOfExcept(t *test) {
	refuser := t.noServer(startingUp)
	s := t.hostile(hostile.Script{Forgetful: true, Rows: []hostile.Row{{Instance: "7", Host: "db",
		HostAddr: "127.0.0.1", Port: fmt.Sprint(refuser.port), Attributes: "primary,read-write"}}})
	if got := t.roleOf("%s sslmode=disable", list(s.Port(), t.pair.Primary)); got != "primary" {
		t.Errorf("got %s", got)
	}
	if n := len(refuser.startups()); n != 1 {
		t.Errorf("the instance that refuses was tried %d times", n)
	}
	if q := s.Asked(); len(q) != 2 {
		t.Errorf("conmgr was asked %q", q)
	}
	err := t.fails(t.open("%s sslmode=disable", list(s.Port())))
	if !strings.Contains(err.Error(), "instance 7, which was to be left out") {
		t.Errorf("got %v", err)
	}
}

// Over its max_connections, conmgr closes without a word: the next host may be another one.
func fullConmgr(t *test) {
	other := t.conmgr()
	full, err := scripted.Start(scripted.Options{Full: true}, t.pair.Instances()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(full.Close)
	for _, next := range []int{other.Port(), t.pair.Primary} {
		if got := t.roleOf("%s sslmode=disable", list(full.Port(), next)); got != "primary" {
			t.Errorf("got %s", got)
		}
	}
	if err := t.fails(t.open("%s sslmode=disable", list(full.Port()))); !strings.Contains(err.Error(),
		"max_connections") {
		t.Errorf("got %v, want a hint at max_connections", err)
	}
}
