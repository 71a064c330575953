package libpqtest

// Hosts and instances that do not let the application in: who is tried next, and what the handle
// shows in the end.

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

// refuser is a server that refuses every session with this SQLSTATE.
type refuser struct {
	port string
	seen atomic.Int32 // sessions
}

func (r *refuser) instance(number int, attributes heartbeat.Attributes) scripted.Instance {
	return at(number, "localhost", r.port, attributes)
}

// answering serves each connection by f, which is left to close it; returns the port.
func answering(t *testing.T, f func(*net.TCPConn)) string {
	t.Helper()
	return answeringAt(t, "0", f)
}

// answeringAt is answering on a port; 0: a free one.
func answeringAt(t *testing.T, port string, f func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c.(*net.TCPConn))
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// startup reads up to the StartupMessage, and declines encryption. nil: there is none.
func startup(c net.Conn) *pgproto3.StartupMessage {
	backend := pgproto3.NewBackend(pgproto3.NewChunkReader(c), c)
	for {
		m, err := backend.ReceiveStartupMessage()
		if err != nil {
			return nil
		}
		if m, ok := m.(*pgproto3.StartupMessage); ok {
			return m
		}
		c.Write([]byte("N"))
	}
}

func refusing(t *testing.T, sqlstate string) *refuser {
	t.Helper()
	r := &refuser{}
	r.port = answering(t, func(c *net.TCPConn) {
		defer c.Close()
		if startup(c) == nil {
			return
		}
		r.seen.Add(1)
		out, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: sqlstate,
			Message: "refused, as " + sqlstate,
			Detail:  "It is a test.", File: "postinit.c", Line: 891, Routine: "InitPostgres"}).Encode(nil)
		c.Write(out)
	})
	return r
}

// A refusal of the user ends the attempt, as in libpq: it would count as one more elsewhere. A
// server that starts or has no room does not.
func TestRefusalOfTheUserEndsTheAttempt(t *testing.T) {
	for _, sqlstate := range []string{"28P01", "28000", "3D000", "42501", "42704", "0A000"} {
		first, second, third := refusing(t, sqlstate), refusing(t, sqlstate), refusing(t, sqlstate)
		cm := conmgrWith(t, first.instance(0, isPrimary), second.instance(1, isPrimary))
		list := "host=localhost,localhost user=postgres dbname=postgres target_session_attrs=primary port=" +
			cm.Port() + "," + third.port
		got := failure(t, byPath(), "psql", "-X", "-d", list, "-c", "select 1")
		if a, b, c := first.seen.Load(), second.seen.Load(), third.seen.Load(); a != 1 || b+c != 0 {
			t.Errorf("%s: tried %d, %d and %d times", sqlstate, a, b, c)
		}
		if want := failure(t, plain(), "psql", "-X", "-d", dsn(first.port, "hostaddr=127.0.0.1"), "-c",
			"select 1"); got != want {
			t.Errorf("%s\ngot:  %swant: %s", sqlstate, got, want)
		}
	}
}

func TestInstanceWithoutRoomIsPassedOver(t *testing.T) {
	for _, sqlstate := range []string{"57P03", "53300", "53200", "57P01", "57P02"} {
		first := refusing(t, sqlstate)
		cm := conmgrWith(t, first.instance(0, isPrimary), primary.instance(1, isPrimary))
		if got := connectedPort(t, dsn(cm.Port(), "target_session_attrs=primary")); got != primary.port ||
			first.seen.Load() != 1 {
			t.Errorf("%s led to %s, after %d sessions", sqlstate, got, first.seen.Load())
		}
		// all of them: each has its say, in the usual form
		second := refusing(t, sqlstate)
		cm = conmgrWith(t, first.instance(0, isPrimary), second.instance(1, isPrimary))
		out := failure(t, byPath(), "psql", "-X", "-d", dsn(cm.Port(), ""), "-c", "select 1")
		if want := "FATAL:  refused, as " + sqlstate + "\nDETAIL:  It is a test.\n"; strings.Count(out, want) != 2 ||
			strings.Contains(out, "postinit.c") {
			t.Errorf("want twice %s\ngot:%s", want, out)
		}
	}
}

// Its own verbosity is what the application has set, on the way and afterwards.
func TestVerbosityIsTheApplications(t *testing.T) {
	first := refusing(t, "28P01")
	cm := conmgrWith(t, first.instance(0, isPrimary))
	ask := func(port, more string) string {
		return failure(t, byPath(), "psql", "-X", "-v", "VERBOSITY=verbose", "-d", dsn(port, more), "-c", "select 1")
	}
	if got, want := ask(cm.Port(), ""), ask(first.port, "hostaddr=127.0.0.1"); got != want {
		t.Errorf("got:  %swant: %s", got, want)
	}
	cm = conmgr(t)
	for _, more := range [][]string{{dsn(cm.Port(), "")}, {dsn(cm.Port(), ""), "async"}} { // psql sets it again
		if got := output(t, byPath(), "failed", more...); !strings.HasSuffix(got,
			"connected: ERROR:  division by zero\n") {
			t.Errorf("got: %s", got)
		}
	}
}

// An instance that closes without a word, at whichever moment, and one that is not there.
func TestInstanceThatClosesIsPassedOver(t *testing.T) {
	for name, port := range closers(t) {
		dead := at(0, "localhost", port, isPrimary)
		cm := conmgrWith(t, dead, primary.instance(1, isPrimary))
		if got := connectedPort(t, dsn(cm.Port(), "target_session_attrs=primary")); got != primary.port {
			t.Errorf("%s: led to %s", name, got)
		}
	}
}

// closers are ports whose connections end without a word, early or late.
func closers(t *testing.T) map[string]string {
	reset := func(c *net.TCPConn) { c.SetLinger(0); c.Close() }
	return map[string]string{
		"closed":           answering(t, func(c *net.TCPConn) { c.Close() }),
		"reset":            answering(t, reset),
		"reset later":      answering(t, func(c *net.TCPConn) { time.AfterFunc(20*time.Millisecond, func() { reset(c) }) }),
		"after one byte":   answering(t, func(c *net.TCPConn) { c.Read(make([]byte, 1)); c.Close() }),
		"after startup":    answering(t, func(c *net.TCPConn) { startup(c); c.Close() }),
		"reset after that": answering(t, func(c *net.TCPConn) { startup(c); reset(c) }),
		"nobody":           freePort(t),
	}
}

// A conmgr that has no room closes without a word (and so it does at other moments): the next host
// of the list.
func TestConmgrWithoutRoomIsPassedOver(t *testing.T) {
	hosts := closers(t)
	hosts["after its greeting"] = answering(t, func(c *net.TCPConn) {
		defer c.Close()
		if startup(c) != nil {
			var out []byte
			for _, m := range []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{},
				&pgproto3.ParameterStatus{Name: "conmgr.version", Value: "1.0"}} {
				out, _ = m.Encode(out)
			}
			c.Write(out)
		}
	})
	knows := conmgr(t)
	for name, port := range hosts {
		for _, next := range []string{knows.Port(), primary.port} {
			list := "host=localhost,localhost user=postgres dbname=postgres target_session_attrs=primary port=" + port +
				"," + next
			if got := connectedPort(t, list); got != primary.port {
				t.Errorf("%s: led to %s", name, got)
			}
		}
		for _, program := range [][]string{{"async"}, {"late", "closes"}} { // also between a look and the next step
			list := "host=localhost,localhost user=postgres dbname=postgres port=" + port + "," + primary.port
			wantAll(t, output(t, byPath(), program[0], append(slices.Clone(program[1:]), list)...), "connected: port "+primary.port)
		}
		out := failure(t, byPath(), "psql", "-X", "-d", dsn(port, ""), "-c", "select 1")
		wantAll(t, out, since14(t, "connection to server at \"localhost\" (127.0.0.1), port "+port+" failed"))
	}
}

// An instance that refuses is lost in the moment in which the next one is asked for: conmgr tells of
// the loss in place of the answer, and is asked again. So does one of before 2.0 whose answer the loss
// has overtaken.
func TestLossInPlaceOfTheAnswer(t *testing.T) {
	starts := refusing(t, "57P03")
	const first, next = "SHOW TARGET any", "SHOW TARGET any EXCEPT 0"
	for name, c := range map[string]struct {
		statement string // is answered by the loss
		times     int32
		asked     []string
	}{
		"of the next one":    {next, 1, []string{first, next, first}},
		"of the first one":   {first, 1, []string{first, first}},
		"again and again":    {first, 99, []string{first, first, first, first}},
		"not for ever, even": {next, 99, []string{first, next, first, next, first, next, first, next}},
	} {
		var told atomic.Int32
		m := hostileWith(t, hostile.Script{})
		m.Set(hostile.Script{Rows: []hostile.Row{row("0", starts.port)},
			Answer: func(statement string, _ <-chan struct{}) []byte {
				if statement == c.statement && told.Add(1) <= c.times {
					return lossOf(0)
				}
				if told.Load() == 0 || c.times > 1 {
					return nil
				}
				up := hostile.Script{Rows: []hostile.Row{row("1", primary.port)}}
				return up.Named(0)
			}})
		out, err := program(t, byPath(), "psql", "-X", "-At", "-d", dsn(m.Port(), ""), "-c", "show port").CombinedOutput()
		if c.times == 1 && string(out) != primary.port+"\n" || c.times > 1 && err == nil {
			t.Errorf("%s: %v %s", name, err, out)
		}
		if c.times > 1 {
			wantAll(t, string(out), "instance 0 (host \"localhost\") is lost: the test says so")
		}
		wantAsked(t, name, m.Asked(), c.asked...)
	}
}

// The answer, and the loss behind it, wherever what comes of both is cut.
func TestLossBehindTheAnswer(t *testing.T) {
	hole := newHole(t)
	here := hostile.Script{Rows: []hostile.Row{row("0", hole)}}
	answer, loss := here.Named(0), lossOf(0)
	all := slices.Concat(answer, loss)
	for _, cut := range []int{0, 1, 7, len(answer) - 6, len(answer), len(answer) + 1, len(answer) + 9} {
		var asked atomic.Int32
		m := hostileWith(t, hostile.Script{})
		m.Set(hostile.Script{Rows: []hostile.Row{row("1", primary.port)},
			Answer: func(string, <-chan struct{}) []byte {
				if asked.Add(1) > 1 {
					return nil
				}
				m.Say(all[:cut])
				return all[cut:]
			}})
		if got := connectedPort(t, dsn(m.Port(), "")); got != primary.port {
			t.Errorf("cut at %d: led to %s", cut, got)
		}
		wantAsked(t, fmt.Sprint("cut at ", cut), m.Asked(), "SHOW TARGET any", "SHOW TARGET any")
	}
}

// The answer of a conmgr that forgets what it was asked to leave out: it is not tried again and
// again.
func TestExceptedInstanceIsNotTaken(t *testing.T) {
	full := refusing(t, "53300")
	cm := hostileWith(t, hostile.Script{Forgetful: true, Rows: []hostile.Row{row("a'b", full.port)}})
	out := failure(t, byPath(), "psql", "-X", "-d", dsn(cm.Port(), ""), "-c", "select 1")
	wantAll(t, out, "refused, as 53300", "names an instance again that refused")
	if n := full.seen.Load(); n != 1 {
		t.Errorf("tried %d times", n)
	}
	list := "host=localhost,localhost user=postgres dbname=postgres port=" + cm.Port() + "," + primary.port
	if got := connectedPort(t, list); got != primary.port {
		t.Errorf("led to %s", got)
	}
}

// libpq says nothing of an address for which there is no socket, as another host follows.
func TestNoDescriptorForTheInstance(t *testing.T) {
	cm := conmgrWith(t, primary.instance(0, isPrimary))
	async := filepath.Join(bindir, "async")
	out := output(t, byPath(), "sh", "-c", "exec 3>&-; ulimit -n 4; exec "+async+" '"+dsn(cm.Port(), "")+"'")
	wantAll(t, out, "failed: connection to server at", "port "+primary.port+" failed: could not create socket: Too many open files")
}

// What a handle shows that could not be connected is what libpq shows.
func TestFailedHandleShowsWhatWasTried(t *testing.T) {
	closed, other := freePort(t), freePort(t)
	refused, starts := refusing(t, "28P01"), refusing(t, "57P03")
	for _, conninfo := range []string{
		dsn(closed, ""), "host=127.0.0.1 port=" + closed, "hostaddr=127.0.0.1 user=u dbname=d port=" + closed,
		"host=x hostaddr=127.0.0.1 port=" + closed,
		"host=localhost,127.0.0.1 user=u dbname=d port=" + closed + "," + other,
		"host=127.0.0.1,localhost port=" + other + "," + closed,
		"host=/nonexistent user=u dbname=d port=" + closed, "host=/nonexistent,/none port=1,2",
		"user=u dbname=d port=" + closed, "host=@abstract port=1",
		"host=nosuch.invalid port=1 user=u", dsn(refused.port, ""), dsn(starts.port, ""),
		dsn(starts.port+","+refused.port, "host=localhost,localhost"),
		dsn(refused.port+","+starts.port, "host=localhost,127.0.0.1"),
		dsn(primary.port, since14(t, "target_session_attrs=standby")), dsn(primary.port, "sslmode=require"), dsn("a", ""),
		"nonsense", dsn(closed, "sslmode=bogus"),
		"host=a,b hostaddr=127.0.0.1", "host=::1 port=" + closed, "host=a,b,c port=1,2",
	} {
		for _, more := range [][]string{{conninfo}, {conninfo, "async"}} {
			want := output(t, plain(), "failed", more...)
			if got := output(t, byPath(), "failed", more...); got != want {
				t.Errorf("%s\ngot:\n%swant:\n%s", strings.Join(more, " "), got, want)
			}
		}
	}
}

// The same by way of conmgr: the instance that refused, and the conmgr if it named none.
func TestFailedHandleByWayOfConmgr(t *testing.T) {
	refused, full, closed := refusing(t, "28P01"), refusing(t, "53300"), freePort(t)
	dead := at(0, "db0", closed, isPrimary)
	for name, c := range map[string]struct {
		instances []scripted.Instance
		host      string
		port      string // "": of the conmgr
	}{
		"no match":      {nil, "localhost", ""},
		"refused":       {[]scripted.Instance{refused.instance(0, isPrimary)}, "localhost", refused.port},
		"without room":  {[]scripted.Instance{full.instance(0, isPrimary)}, "localhost", full.port},
		"not reachable": {[]scripted.Instance{dead}, "db0", closed},
	} {
		cm := conmgrWith(t, c.instances...)
		port := c.port
		if port == "" {
			port = cm.Port()
		}
		for _, more := range []string{"", " sslmode=require"} {
			if more != "" && c.port != "" && c.port != closed {
				continue // these do not speak TLS
			}
			out := output(t, byPath(), "failed", dsn(cm.Port(), more), "async")
			wantAll(t, out, "awaits conmgr: status 1000 host=localhost hostaddr=127.0.0.1 port="+cm.Port()+" ",
				fmt.Sprintf("failed: status 1 host=%s hostaddr=127.0.0.1 port=%s user=postgres db=postgres", c.host,
					port),
				fmt.Sprintf("then: status 1 host=%s hostaddr=127.0.0.1 port=%s user=postgres db=postgres", c.host,
					port),
				"host=localhost port="+cm.Port())
			if strings.Contains(out, "none of libpq's") {
				t.Errorf("%s: %s", name, out)
			}
		}
	}
}

// dbname=conmgr leads to conmgr itself, as pgbouncer's database to PgBouncer.
func TestConsole(t *testing.T) {
	cm := conmgr(t)
	for _, env := range [][]string{plain(), byPath()} {
		out := output(t, env, "psql", "-X", "-At", "-h", "localhost", "-p", cm.Port(), "-U", "anybody", "conmgr", "-c",
			"SHOW TARGET standby")
		if want := "1|localhost|127.0.0.1|" + standby.port + "|standby,read-only||r1/"; !strings.HasPrefix(out, want) {
			t.Errorf("got %q, want %q", out, want)
		}
	}
	out := output(t, byPath(), "psql", "-X", "-At", "-d",
		"postgresql://localhost:"+cm.Port()+"/conmgr?target_session_attrs=standby", "-c", `\conninfo`)
	wantConninfo(t, out, "conmgr", "localhost", "127.0.0.1", cm.Port())
	wantAll(t, output(t, byPath(), "async", "host=localhost dbname=conmgr port="+cm.Port()),
		"connected: port "+cm.Port())
	// a server may have such a database
	sql(t, primary, "create database conmgr")
	if got := connectedPort(t, dsn(primary.port, "dbname=conmgr")); got != primary.port {
		t.Errorf("led to %s", got)
	}
	// a user of that name means nothing
	sql(t, primary, "create role conmgr superuser login")
	if got := connectedPort(t, "host=localhost user=conmgr port="+cm.Port()); got != primary.port {
		t.Errorf("led to %s", got)
	}
}
