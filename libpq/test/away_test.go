package libpqtest

// conmgr is away for a moment: restarted, upgraded, killed. The SQL connection stays.

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// resumable is a conmgr that may be away for so many milliseconds, and binds again by the word "seven".
func resumable(grace string) hostile.Script {
	return hostile.Script{Announced: announced("notify,resume", cm.GraceParameter, grace),
		Rows: []hostile.Row{{Instance: "0", Host: "localhost", HostAddr: "127.0.0.1", Port: primary.port,
			Attributes: "primary,read-write", Resume: "seven"}}}
}

const resumed = "SHOW TARGET any RESUME 'seven' NOTIFY"

// back is the next conmgr at the same port.
func (p *pretender) back(t *testing.T, script hostile.Script) *pretender {
	t.Helper()
	network := p.Listener().Addr()
	l, err := net.Listen(network.Network(), network.String())
	if err != nil {
		t.Fatal(err)
	}
	s := hostile.Serve(l, script)
	t.Cleanup(s.Close)
	return &pretender{s}
}

// waitAsked waits until that was asked n times.
func (p *pretender) waitAsked(t *testing.T, statement string, n int) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, statement, func() (bool, string) {
		k := 0
		for _, s := range p.Asked() {
			if s == statement {
				k++
			}
		}
		return k >= n, fmt.Sprintf("%q", p.Asked())
	})
}

// waitBack waits until the application is bound again: its socket is as usual.
func (p *pretender) waitBack(t *testing.T, c *conversation, usual string) {
	t.Helper()
	p.waitAsked(t, resumed, 1)
	c.eventually("alive", usual)
}

// stays starts such a conmgr, and a program that is connected by way of it.
func stays(t *testing.T, script hostile.Script, env []string, command ...string) (*pretender, *conversation) {
	t.Helper()
	m := hostileWith(t, script)
	c := converse(t, env, command[0], append(command[1:], dsn(m.Port(), "keepalives=0"))...)
	c.until("ready")
	return m, c
}

const watched = "alive 1 idle 2 interval 2 user timeout 10000"

// How conmgr's end is seen, which is no loss.
func TestConmgrIsAway(t *testing.T) {
	for how, end := range map[string]func(*pretender){
		"closed": func(m *pretender) { m.Close() },
		"reset":  func(m *pretender) { m.Listener().Close(); m.Drop(true); m.Close() },
		"told":   func(m *pretender) { m.Say(notice("away 10000")); m.Close() },
	} {
		t.Run(how, func(t *testing.T) {
			script := resumable("10000")
			if how == "told" {
				script = resumable("0")
			}
			m, c := stays(t, script, byPath(), "told")
			c.want("begin", "begun", "alive", "alive 0 ")
			pid, usual := c.say("pid")[0], c.say("alive")[0]
			end(m)
			c.eventually("alive", watched)
			c.want("polls", "polls 0", "consume", "consume 1", "pid", pid, "draining", "draining 0", "polls", "polls 0")
			m = m.back(t, script)
			m.waitBack(t, c, usual)
			c.want("polls", "polls 0", "pid", pid)
			// the new one tells as the old one did, and may be away again
			m.Say(notice("draining"))
			c.want("until", "until 1", "draining", "draining 1", "polls", "polls 0")
			end(m)
			c.eventually("alive", watched)
			m = m.back(t, script)
			m.waitBack(t, c, usual)
			c.want("polls", "polls 0", "draining", "draining 1", "pid", pid, "sends", "sends 1")
			m.Say(lossOf(0))
			got := c.say("result", "polls")
			wantAll(t, got[0], "PGRES_FATAL_ERROR", "lost the server at \"localhost\" (127.0.0.1), port "+primary.port+": instance 0")
			if got[1] != "polls 1" {
				t.Error(got[1])
			}
			c.finish()
		})
	}
}

// Nobody comes back: the loss is told when the time is over, and not before.
func TestConmgrStaysAway(t *testing.T) {
	m, c := stays(t, resumable("700"), byPath(), "told")
	c.want("begin", "begun", "sends", "sends 1")
	start := time.Now()
	m.Close()
	got := c.say("until", "result")
	if d := time.Since(start); d < 699*time.Millisecond { // its clock has whole milliseconds
		t.Errorf("lost after %v", d)
	}
	wantAll(t, got[1], `lost the Connection Manager at "localhost", port `+m.Port()+
		": the Connection Manager has not come back within 700 ms")
	c.want("pid", "failed no connection to the server")
	c.finish()
}

// What is a loss at once, whatever conmgr has announced.
func TestConmgrsEndThatIsALoss(t *testing.T) {
	ownEnd := backend.Fatal(cm.AdminShutdown, "the Connection Manager is shutting down", "", "")
	withoutToken, without10 := resumable("10000"), resumable("10000")
	withoutToken.Rows[0].Resume = ""
	without10.Announced = nil
	for name, c := range map[string]struct {
		script hostile.Script
		end    func(*pretender)
		want   string
	}{
		"its word":      {resumable("10000"), func(m *pretender) { m.Say(ownEnd); m.Close() }, "the Connection Manager is shutting down"},
		"word and away": {resumable("10000"), func(m *pretender) { m.Say(notice("away 5000"), ownEnd) }, "the Connection Manager is shutting down"},
		"nonsense":      {resumable("10000"), func(m *pretender) { m.Say([]byte("Zoo")) }, "it closed the connection without a message"},
		"no grace":      {resumable("0"), func(m *pretender) { m.Close() }, "it closed the connection without a message"},
		"no time":       {resumable("10000"), func(m *pretender) { m.Say(notice("away 0")); m.Close() }, "it closed the connection"},
		"no token":      {withoutToken, func(m *pretender) { m.Close() }, "it closed the connection without a message"},
		"1.0":           {without10, func(m *pretender) { m.Close() }, "it closed the connection without a message"},
	} {
		t.Run(name, func(t *testing.T) {
			m, p := stays(t, c.script, byPath(), "told")
			p.want("sends", "sends 1")
			start := time.Now()
			c.end(m)
			wantAll(t, p.say("result")[0], "lost the Connection Manager at", c.want)
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
			p.finish()
		})
	}
}

// What the next conmgr answers.
func TestAnswersToResume(t *testing.T) {
	answer := func(first []byte) func(string, <-chan struct{}) []byte {
		return func(string, <-chan struct{}) []byte { return first }
	}
	lost := lossOf(0)
	const ever, moment = "20000", "1000" // for those that are not heard to the end
	for name, c := range map[string]struct {
		grace  string
		change func(*hostile.Script)
		want   string
	}{
		"lost meanwhile": {ever, func(s *hostile.Script) { s.Answer = answer(lost) }, "lost the server at \"localhost\" (127.0.0.1), port " + primary.port + ": instance 0"},
		"1.0":            {ever, func(s *hostile.Script) { s.Announced = nil }, "lost the Connection Manager at \"localhost\", port CM: the Connection Manager that has come back cannot go on"},
		"none such":      {moment, func(s *hostile.Script) { s.Answer = answer(hostile.None()) }, "has not come back within 1000 ms"},
		"shutting down": {moment, func(s *hostile.Script) {
			s.Answer = answer(backend.Fatal(cm.AdminShutdown, "the Connection Manager is shutting down", "", ""))
		}, "has not come back within 1000 ms"},
		"nonsense": {moment, func(s *hostile.Script) { s.Short = 3 }, "has not come back within 1000 ms"},
	} {
		t.Run(name, func(t *testing.T) {
			m, p := stays(t, resumable(c.grace), byPath(), "told")
			p.want("begin", "begun", "sends", "sends 1")
			m.Close()
			script := resumable(c.grace)
			c.change(&script)
			m.back(t, script)
			got := p.say("until", "result")
			wantAll(t, got[1], "PGRES_FATAL_ERROR", strings.ReplaceAll(c.want, "CM", m.Port()))
			p.finish()
		})
	}
}

// A conmgr that has no answer yet, as it does not know the instance yet, is waited for, also when the
// time is over within which it had to be back; one that has to be asked again is.
func TestResumeIsPending(t *testing.T) {
	const grace = 1500 * time.Millisecond // within which it must be asked, on a busy machine, too
	m, c := stays(t, resumable("1500"), byPath(), "told")
	c.want("begin", "begun")
	pid := c.say("pid")[0]
	m.Close()
	start, known := time.Now(), make(chan struct{})
	script := resumable("1500")
	script.Answer = func(_ string, left <-chan struct{}) []byte {
		select {
		case <-known:
			return nil
		case <-left:
			return hostile.None()
		}
	}
	m = m.back(t, script)
	m.waitAsked(t, resumed, 1)
	for time.Since(start) < grace+grace/2 {
		c.want("polls", "polls 0")
	}
	c.want("pid", pid)
	close(known)
	c.eventually("alive", "alive 0 ")
	m.Say(lossOf(0))
	c.want("until", "until 1", "consume", "consume 0")
	c.finish()

	// it ends while it has the question
	m, c = stays(t, resumable("5000"), byPath(), "told")
	m.Close()
	script.Answer = func(_ string, left <-chan struct{}) []byte { <-left; return hostile.None() }
	script.Announced = resumable("5000").Announced
	m = m.back(t, script)
	m.waitAsked(t, resumed, 1)
	m.Close()
	m = m.back(t, resumable("5000"))
	m.waitBack(t, c, "alive 0 ")
	c.want("pid", "pid ")
	m.Say(lossOf(0))
	c.sendsInVain()
	c.finish()
}

// Whoever listens where conmgr was is asked nothing, unless he is whom the application has believed.
func TestResumeGoesToNobodyElse(t *testing.T) {
	for _, env := range [][]string{nil, {"PGCMUSER=bin"}} {
		m, c := stays(t, resumable("1500"), append(byPath(), env...), "told")
		c.want("begin", "begun", "sends", "sends 1")
		m.Close()
		i := newImpostor(t, daemon, "-listen", m.Listener().Addr().String(), "-announce", "resume")
		wantAll(t, c.say("until", "result")[1], "has not come back within 1500 ms")
		if rest := i.stop(); strings.Contains(rest, "asked") {
			t.Errorf("he was asked:\n%s", rest)
		}
		c.finish()
	}
	// everybody is believed
	m, c := stays(t, resumable("10000"), append(byPath(), "PGCMUSER=*"), "told")
	m.Close()
	i := newImpostor(t, daemon, "-listen", m.Listener().Addr().String(), "-announce", "resume", "-port", primary.port)
	if line, _ := i.lines.ReadString('\n'); line != "asked SHOW TARGET any RESUME 'seven' NOTIFY\n" {
		t.Error(line)
	}
	c.finish()
}

// Many of one process, each in a query.
func TestManyStay(t *testing.T) {
	const n = 200
	m, c := stays(t, resumable("20000"), byPath(), "many", strconv.Itoa(n))
	m.Close()
	m = m.back(t, resumable("20000"))
	m.waitAsked(t, resumed, n)
	testkit.Eventually(t, 20*time.Second, "all are bound", func() (bool, string) {
		k := m.Connections()
		return k == n, fmt.Sprint(k)
	})
	m.Say(lossOf(0))
	wantAll(t, c.rest(), fmt.Sprintf("lost %d ", n))
}

// A child that goes on with its parent's connection is bound again by itself; one that ends it
// disturbs nobody.
func TestForkWhileAway(t *testing.T) {
	for _, how := range []string{"use", "finish"} {
		m, c := stays(t, resumable("20000"), byPath(), "forks", how)
		m.Close()
		m = m.back(t, resumable("20000"))
		m.waitAsked(t, resumed, 1)
		m.Say(lossOf(0))
		wantAll(t, c.rest(), "lost the server at")
	}
}

// By a Unix socket, and to a conmgr that is asked in the clear.
func TestOtherWaysBack(t *testing.T) {
	dir := socketDir(t)
	l, err := net.Listen("unix", dir+"/.s.PGSQL.1")
	if err != nil {
		t.Fatal(err)
	}
	m := &pretender{hostile.Serve(l, resumable("10000"))}
	t.Cleanup(m.Close)
	goesOn := func(m *pretender, script hostile.Script, conninfo string) {
		c := converse(t, byPath(), "told", conninfo)
		c.until("ready")
		usual := c.say("alive")[0]
		m.Close()
		m = m.back(t, script)
		m.waitBack(t, c, usual)
		c.want("pid", "pid ")
		m.Say(lossOf(0))
		c.sendsInVain()
		c.finish()
	}
	goesOn(m, resumable("10000"), "user=postgres dbname=postgres port=1 host="+dir)

	s, _ := secureServer(t)
	script := resumable("10000")
	script.Rows[0].Port = s.port
	m = hostileWith(t, script)
	goesOn(m, script, dsn(m.Port(), "sslmode=require user=scram password=s3cret"))
}

// The handle ends, or the server, while nobody is there; nothing is left behind.
func TestEndsWhileAway(t *testing.T) {
	m, c := stays(t, resumable("20000"), byPath(), "told")
	m.Close()
	c.eventually("alive", "alive 1 ")
	c.finish()
	m, c = stays(t, resumable("20000"), byPath(), "told")
	pid := strings.TrimPrefix(c.say("pid")[0], "pid ")
	m.Close()
	sql(t, primary, "select pg_terminate_backend("+pid+")")
	c.eventually("pid", "failed ")
	m.back(t, resumable("20000"))
	c.finish()
}

// The instance refuses while conmgr is away: whoever has come in its place is asked anew.
func TestConmgrIsAwayWhileConnecting(t *testing.T) {
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	script := resumable("20000")
	_, script.Rows[0].Port, _ = net.SplitHostPort(hole.Addr().String())
	m := hostileWith(t, script)
	c := converse(t, byPath(), "told", dsn(m.Port(), ""))
	session, err := hole.Accept()
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	m = m.back(t, resumable("20000"))
	m.waitAsked(t, resumed, 1)
	m.Drop(false)
	testkit.Eventually(t, 20*time.Second, "it asks again", func() (bool, string) {
		k := len(m.Asked())
		return k >= 2, fmt.Sprint(k)
	})
	m.Close()
	script = resumable("20000")
	script.Answer = func(statement string, left <-chan struct{}) []byte {
		if strings.Contains(statement, "RESUME") {
			<-left
			return hostile.None()
		}
		return nil
	}
	m = m.back(t, script)
	m.waitAsked(t, resumed, 1)
	session.Close()
	c.until("ready")
	c.want("pid", "pid ")
	c.finish()
}
