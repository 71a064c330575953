package driver_test

// What is no loss: notices, and a conmgr that is away and comes back. The other end is
// internal/cmtest/hostile, which goes and comes, and forgets, as the test says.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const (
	resumeBy  = "7.1.127.0.0.1:5432.0"
	resumes   = "SHOW TARGET any NOTIFY RESUME '" + resumeBy + "'"
	longGrace = time.Hour // that no test waits for
)

// away is a conmgr that can be away, and an SQL connection to the instance that it has named.
type away struct {
	*testing.T
	script hostile.Script
	server *hostile.Server
	conn   *driver.Conn
}

// newAway announces a grace, unless it is 0.
func newAway(t *testing.T, grace time.Duration) *away {
	t.Helper()
	leak.Check(t)
	row := newInstance(t).row(3, scripted.Primary)
	a := &away{T: t, script: hostile.Script{
		Rows: []hostile.Row{{Instance: "3", Host: row.Host, HostAddr: row.HostAddr, Port: fmt.Sprint(row.Port),
			Attributes: "primary,read-write", Resume: resumeBy}},
		Announced: []backend.Parameter{{Name: cm.FeaturesParameter, Value: "notify,resume, more"}},
	}}
	if grace > 0 {
		a.script.Announced = append(a.script.Announced,
			backend.Parameter{Name: cm.GraceParameter, Value: fmt.Sprint(grace.Milliseconds())})
	}
	var err error
	if a.server, err = hostile.New(a.script); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.server.Close() })
	a.conn = dial(t, fmt.Sprintf("host=localhost port=%d", a.server.Port()))
	return a
}

// lives: the SQL connection works.
func (a *away) lives() {
	a.Helper()
	b := make([]byte, 4)
	if _, err := a.conn.Write([]byte("ping")); err != nil {
		a.Fatal(err)
	}
	if _, err := io.ReadFull(a.conn, b); err != nil || string(b) != "pong" {
		a.Fatalf("got %q, %v", b, err)
	}
}

// asked waits until conmgr was asked for a statement so often.
func (a *away) asked(statement string, n int) {
	a.Helper()
	a.counted(a.server.Asked, statement, n)
}

// bound waits until that was answered so often: what conmgr says from then on is said to who is bound.
func (a *away) bound(n int) {
	a.Helper()
	a.counted(a.server.Answered, resumes, n)
}

func (a *away) counted(statements func() []string, statement string, n int) {
	a.Helper()
	testkit.Eventually(a.T, patience, statement, func() (bool, string) {
		all := statements()
		return len(slices.DeleteFunc(slices.Clone(all), func(q string) bool { return q != statement })) >= n,
			fmt.Sprintf("there were %q", all)
	})
}

// loss waits for it.
func (a *away) loss() *driver.LostError {
	a.Helper()
	waitLost(a.T, a.conn.Watch())
	var lost *driver.LostError
	if _, err := a.conn.Read(make([]byte, 1)); !errors.As(err, &lost) {
		a.Fatalf("got %v", err)
	}
	return lost
}

func (a *away) notice(value string) {
	a.server.Say(backend.ParameterStatus(cm.NoticeParameter, value))
}

// says answers with the same each time.
func says(answer []byte) func(string, <-chan struct{}) []byte {
	return func(string, <-chan struct{}) []byte { return answer }
}

// owes answers when held is closed.
func owes(held <-chan struct{}) func(string, <-chan struct{}) []byte {
	return func(_ string, left <-chan struct{}) []byte {
		select {
		case <-held:
		case <-left:
		}
		return nil
	}
}

var (
	ended  = backend.Fatal(cm.AdminShutdown, "the Connection Manager is shutting down", "", "")
	isLost = backend.Fatal(cm.AdminShutdown, "instance 3 (db3:5432) is lost: no heartbeat for 2003 ms", "", "")
)

// A conmgr that crashes and comes back is no loss; a loss afterwards is one.
func TestResume(t *testing.T) {
	a := newAway(t, longGrace)
	for n := range 3 { // also of one that was resumed
		a.server.Drop(false)
		a.lives()
		a.bound(n + 1)
		a.lives()
	}
	a.server.Say(isLost)
	if lost := a.loss(); lost.SQLState != "57P01" || !strings.Contains(lost.Reason, "no heartbeat for 2003 ms") {
		t.Errorf("got %+v", lost)
	}
}

// One that is told to be away is: by its own end, and for no longer than it has said.
func TestAwayIsSaid(t *testing.T) {
	a := newAway(t, 0)
	a.notice("away 3600000")
	a.server.Say(ended)
	a.bound(1)
	a.lives()
	a.notice("away 1")
	a.server.Close()
	if lost := a.loss(); lost.SQLState != "08006" || !strings.Contains(lost.Reason, "was not back within 1ms: ") {
		t.Errorf("got %+v", lost)
	}
}

// What is a loss as ever: an end that nobody has said to be for a while, one without a grace, and
// that of the instance, whatever was said before.
func TestNotAway(t *testing.T) {
	for name, c := range map[string]struct {
		grace time.Duration
		tell  []byte
		want  string
	}{
		"stop":            {longGrace, ended, "the Connection Manager is shutting down"},
		"without a grace": {0, nil, "has gone away without a message"},
		"the instance": {longGrace, append(backend.ParameterStatus(cm.NoticeParameter, "away 3600000"), isLost...),
			"instance 3"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAway(t, c.grace)
			a.server.Say(c.tell)
			a.server.Drop(false)
			if lost := a.loss(); !strings.Contains(lost.Reason, c.want) || strings.Contains(lost.Reason, "back") {
				t.Errorf("got %+v", lost)
			}
			if q := a.server.Asked(); len(q) != 1 {
				t.Errorf("conmgr was asked %q", q)
			}
		})
	}
	t.Run("no token", func(t *testing.T) {
		a := newAway(t, longGrace)
		script := a.script
		script.Rows = slices.Clone(script.Rows)
		script.Rows[0].Resume = ""
		a.server.Set(script)
		a.conn = dial(t, fmt.Sprintf("host=localhost port=%d", a.server.Port()))
		a.server.Drop(false)
		a.loss()
	})
}

// Nobody comes back.
func TestGraceIsOver(t *testing.T) {
	const grace = time.Second
	a := newAway(t, grace)
	begun := time.Now()
	a.server.Close()
	lost := a.loss()
	if lost.SQLState != "08006" || !strings.Contains(lost.Reason, "was not back within 1s") ||
		!strings.Contains(lost.Reason, "connection refused") {
		t.Errorf("got %+v", lost)
	}
	if d := lost.Since.Sub(begun); d < grace-10*time.Millisecond || d > patience/2 {
		t.Errorf("it was a loss after %v", d)
	}
}

// Whoever comes back may have to say that the instance is lost; or not know yet; or not be the one.
func TestResumedBy(t *testing.T) {
	refusal := func(severity, code, text string) []byte {
		return backend.Put(backend.ErrorResponse(severity, code, text, "", ""), &backend.ReadyForQuery{TxStatus: 'I'})
	}
	other := func(s *hostile.Script) {
		s.Rows = slices.Clone(s.Rows)
		s.Rows[0].Port = "1"
	}
	for name, c := range map[string]struct {
		change func(*hostile.Script)
		lost   string // empty: it asks again, until there is one that knows
	}{
		"loss": {func(s *hostile.Script) { s.Answer = says(isLost) }, "no heartbeat for 2003 ms"},
		"gone from conmgr.conf": {func(s *hostile.Script) {
			s.Answer = says(backend.Fatal(cm.AdminShutdown, "instance 3 is not configured any more", "", ""))
		}, "not configured"},
		"does not know the token": {func(s *hostile.Script) {
			s.Answer = says(refusal("ERROR", cm.InvalidParameterValue, "invalid token"))
		}, "invalid token"},
		"1.0":            {func(s *hostile.Script) { s.Announced = nil }, "does not know how to be resumed"},
		"shuts down":     {func(s *hostile.Script) { s.Answer = says(refusal("ERROR", "57P03", "shuts down")) }, ""},
		"ends":           {func(s *hostile.Script) { s.Answer = says(ended) }, ""},
		"is full":        {func(s *hostile.Script) { s.Answer = says(refusal("FATAL", "53300", "too many connections")) }, ""},
		"says nothing":   {func(s *hostile.Script) { s.Answer = says([]byte{}) }, ""},
		"names another":  {other, ""},
		"talks nonsense": {func(s *hostile.Script) { s.Answer = says([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAway(t, longGrace)
			script := a.script
			c.change(&script)
			a.server.Set(script)
			a.server.Drop(false)
			if c.lost != "" {
				if lost := a.loss(); !strings.Contains(lost.Reason, c.lost) {
					t.Errorf("got %+v", lost)
				}
				return
			}
			a.asked(resumes, 2)
			a.lives()
			a.server.Set(a.script)
			a.asked(resumes, 3)
			testkit.Eventually(t, patience, "another one", func() (bool, string) {
				a.server.Say(isLost) // to who is bound again
				return a.conn.Watch().Err() != nil, "it is not told"
			})
		})
	}
}

// A conmgr that is there has the time that it needs to hear of the instance: the grace is for it
// alone.
func TestResumeIsPending(t *testing.T) {
	const grace = time.Second // within which it must be asked, on a busy machine, too
	a := newAway(t, grace)
	held := make(chan struct{})
	answer := sync.OnceFunc(func() { close(held) })
	defer answer()
	script := a.script
	script.Answer = owes(held)
	a.server.Set(script)
	a.server.Drop(false)
	a.asked(resumes, 1)
	select {
	case <-a.conn.Watch().Lost():
		t.Fatalf("it is a loss: %v", a.conn.Watch().Err())
	case <-time.After(2 * grace):
	}
	a.lives()
	answer()
	testkit.Eventually(t, patience, "the loss", func() (bool, string) {
		a.server.Say(isLost)
		return a.conn.Watch().Err() != nil, "it is not told"
	})
	if lost := a.loss(); lost.SQLState != "57P01" {
		t.Errorf("got %+v", lost)
	}
}

// Close does not wait for a conmgr that is away, or owes an answer.
func TestCloseWhileAway(t *testing.T) {
	a := newAway(t, longGrace)
	held := make(chan struct{})
	defer close(held)
	other := dial(t, fmt.Sprintf("host=localhost port=%d", a.server.Port()))
	script := a.script
	script.Answer = owes(held)
	a.server.Set(script)
	a.server.Drop(false)
	a.asked(resumes, 2)
	a.conn.Close()
	other.Close()
	if err := other.Watch().Err(); err != nil {
		t.Errorf("got %v", err)
	}
}

// One goroutine a watch, whatever its conmgr does.
func TestGoroutines(t *testing.T) {
	a := newAway(t, longGrace)
	const more = 50
	own := func() (n int) {
		buf := make([]byte, 1<<22)
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "watchdog/driver.") && !strings.Contains(g, "driver_test.") &&
				!strings.Contains(g, "driver.TestMain") {
				n++
			}
		}
		return n
	}
	for range more {
		dial(t, fmt.Sprintf("host=localhost port=%d", a.server.Port()))
	}
	if n := own(); n != more+1 {
		t.Errorf("bound: %d goroutines for %d watches", n, more+1)
	}
	held := make(chan struct{})
	script := a.script
	script.Answer = owes(held)
	a.server.Set(script)
	a.server.Drop(false)
	a.asked(resumes, more+1)
	if n := own(); n != more+1 {
		t.Errorf("away: %d goroutines for %d watches", n, more+1)
	}
	close(held)
}

// Drains are told, and are no loss; what is not known does not matter.
func TestDraining(t *testing.T) {
	a := newAway(t, longGrace)
	w := a.conn.Watch()
	is := func(draining bool) {
		t.Helper()
		a.notice("tea") // a round: what came before was read when this was
		testkit.Eventually(t, patience, fmt.Sprintf("draining is %v", draining), func() (bool, string) {
			select {
			case <-w.Draining():
				return draining, "it is"
			default:
				return !draining, "it is not"
			}
		})
	}
	is(false)
	for _, notice := range []string{"draining", "role standby,read-only"} {
		a.notice(notice)
		is(true)
		a.notice("serving")
		is(false)
	}
	a.lives()
	if err := w.Err(); err != nil {
		t.Errorf("got %v", err)
	}
}

// The life of a connection that a pool keeps: no drain ends it while it is in use.
func TestPooled(t *testing.T) {
	a := newAway(t, longGrace)
	closed := make(chan struct{}, 9)
	p := a.conn.Pool(func() { closed <- struct{}{} })
	drain := func(notice string) {
		t.Helper()
		was := a.conn.Watch().Draining()
		a.notice(notice)
		testkit.Eventually(t, patience, notice, func() (bool, string) {
			select {
			case <-was:
				return notice == "draining" || a.conn.Watch().Draining() != was, "not yet"
			default:
				return false, "not yet"
			}
		})
	}
	drain("draining")
	if err := p.Use(); err != nil {
		t.Errorf("in use: %v", err)
	}
	if p.Keep() {
		t.Error("the pool keeps it")
	}
	drain("serving")
	if !p.Keep() || !p.Take() || !p.Keep() {
		t.Error("the pool does not keep it when the drain is undone")
	}
	if len(closed) > 0 {
		t.Error("it was closed in use")
	}
	drain("draining")
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("an idle one is not closed")
	}
	if p.Take() || p.Keep() {
		t.Error("one that is closed is given out")
	}
	var retry interface{ SafeToRetry() bool }
	var network *net.OpError
	if err := p.Use(); !errors.As(err, &retry) || !retry.SafeToRetry() || !errors.As(err, &network) {
		t.Errorf("got %v", err)
	}
}

const settled = 100 * time.Millisecond // of retire.go

// One that is drained in the moment in which it is idle, and is used then, is in use.
func TestPooledIsTaken(t *testing.T) {
	a := newAway(t, longGrace)
	closed := make(chan struct{}, 1)
	var p *driver.Pooled
	for {
		p = a.conn.Pool(func() { closed <- struct{}{} })
		p.Keep()
		begun := time.Now()
		a.notice("draining")
		<-a.conn.Watch().Draining()
		err := p.Use() // as database/sql does when it hands one on
		if err == nil {
			break
		}
		if time.Since(begun) < settled {
			t.Fatal(err)
		}
		<-closed // the moment was over: this machine stalled
		a.conn = dial(t, fmt.Sprintf("host=localhost port=%d", a.server.Port()))
	}
	for range 2 { // others, which the time of is over later
		idle := make(chan struct{})
		dial(t, fmt.Sprintf("host=localhost port=%d", a.server.Port())).Pool(func() { close(idle) }).Keep()
		a.notice("draining")
		<-idle
	}
	a.lives()
	if p.Keep() || len(closed) > 0 {
		t.Error("the pool keeps it, or it was closed")
	}
}
