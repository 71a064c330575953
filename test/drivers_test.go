package test

// Drivers of other languages, as they are packaged: node-postgres and pgJDBC, through relay ports,
// and directly with destroy_sockets. Beside them, directly, the clients of relay_test.go.

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	relayReadOnly = 27550
	jdbcJar       = "/usr/share/java/postgresql.jar"
	// Where Debian, and npm install --global, put modules; scripts/deps looks there too.
	nodePath = "/usr/share/nodejs:/usr/lib/node_modules:/usr/local/lib/node_modules"
	who      = "SELECT current_setting('cluster_name') || ' ' || pg_is_in_recovery()"
)

// program is a client of test/clients. A line of its input is a name, a connection string and a
// statement, with tabs between them; those of one name are run one after another, on one
// connection, which is replaced when it was lost. A line of its output is a name, a kind and a
// text: "ok" and the value, "error" and the code and message, or "idle" and the error that the
// driver reports when nothing is under way.
type program struct {
	t       *testing.T
	name    string
	dsn     func(hosts, options string) string // hosts: host:port,...
	errors  string                             // pattern of its errors for a lost connection
	mu      sync.Mutex
	stdin   io.WriteCloser
	answers map[string]chan answer
	stderr  strings.Builder
}

type answer struct {
	kind, text string
	at         time.Duration
}

// programs starts the clients in a host: node-postgres, then pgJDBC.
func programs(t *testing.T, from *testnet.Host, environment ...string) []*program {
	t.Helper()
	root, err := pgtest.SourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	clients := filepath.Join(root, "test", "clients")
	if out, err := nodeCommand(exec.Command("node", "-e", "require('pg')")).CombinedOutput(); err != nil {
		t.Fatalf("node with the module pg: %v: %s\nhint: run 'make deps'", err, out)
	}
	if _, err := exec.LookPath("java"); err != nil {
		t.Fatalf("%v\nhint: run 'make deps'", err)
	}
	if _, err := os.Stat(jdbcJar); err != nil {
		t.Fatalf("%v\nhint: run 'make deps'", err)
	}
	ctx := context.Background()
	node := &program{t: t, name: "node-postgres", errors: `ECONNRESET|ECONNABORTED|terminated unexpectedly`,
		dsn: func(hosts, options string) string {
			return "postgres://postgres@" + hosts + "/postgres?" + options
		}}
	cmd := nodeCommand(from.Command(ctx, "node", filepath.Join(clients, "node_pg.js")))
	cmd.Env = append(cmd.Env, environment...)
	node.start(cmd)
	jdbc := &program{t: t, name: "pgJDBC", errors: `^08006 `, dsn: func(hosts, options string) string {
		return "jdbc:postgresql://" + hosts + "/postgres?user=postgres&" +
			strings.ReplaceAll(options, "application_name", "ApplicationName")
	}}
	// -XX: starts fast; the program compiles itself.
	jdbc.start(from.Command(ctx, "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", jdbcJar,
		filepath.Join(clients, "Jdbc.java")))
	return []*program{node, jdbc}
}

func nodeCommand(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(os.Environ(), "NODE_PATH="+nodePath)
	return cmd
}

func (p *program) start(cmd *exec.Cmd) {
	p.t.Helper()
	p.answers = map[string]chan answer{}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		p.stdin, err = cmd.StdinPipe()
	}
	cmd.Stderr = &p.stderr
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			at := testnet.Monotonic()
			f := strings.SplitN(s.Text(), "\t", 3)
			if len(f) != 3 {
				p.t.Errorf("%s wrote: %s", p.name, s.Text())
				continue
			}
			select {
			case p.of(f[0]) <- answer{f[1], f[2], at}:
			default:
				p.t.Errorf("%s: more answers than questions: %s", p.name, s.Text())
			}
		}
	}()
	p.t.Cleanup(func() {
		p.stdin.Close()
		<-ended
		if err := cmd.Wait(); err != nil || p.stderr.Len() > 0 {
			p.t.Errorf("%s: %v: %s", p.name, err, p.stderr.String())
		}
	})
}

func (p *program) of(name string) chan answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers[name] == nil {
		p.answers[name] = make(chan answer, 4)
	}
	return p.answers[name]
}

// line is one connection of a program.
type line struct {
	*program
	name, dsn string
}

// line names a connection to hosts; the name is its application_name, too.
func (p *program) line(name, hosts string) line {
	separator := strings.ReplaceAll(strings.ToLower(p.name), "-", "_")
	application := separator + "_" + name
	return line{p, application, p.dsn(hosts, "application_name="+application)}
}

func (l line) send(statement string) {
	l.t.Helper()
	if _, err := fmt.Fprintf(l.stdin, "%s\t%s\t%s\n", l.name, l.dsn, statement); err != nil {
		l.t.Fatalf("%s: %v", l.name, err)
	}
}

func (l line) answer() answer {
	l.t.Helper()
	select {
	case a := <-l.of(l.name):
		return a
	case <-time.After(patience):
		l.t.Fatalf("%s: no answer", l.name)
		return answer{}
	}
}

func (l line) want(statement, kind, pattern string) {
	l.t.Helper()
	l.send(statement)
	if a := l.answer(); a.kind != kind || !regexp.MustCompile(pattern).MatchString(a.text) {
		l.t.Errorf("%s: %s: %s %q, want %s %s", l.name, statement, a.kind, a.text, kind, pattern)
	}
}

// soonTold is how long after a verdict a client may have its error, on a busy machine; by itself it
// would wait for minutes, or for ever.
const soonTold = 3 * time.Second

// lost checks what a connection was told of a loss, and when.
func (l line) lost(verdict time.Duration, kind string) {
	l.t.Helper()
	a := l.answer()
	took := a.at - verdict
	l.t.Logf("%s: %v after the verdict: %s: %s", l.name, took, a.kind, a.text)
	if a.kind != kind || took > soonTold || !regexp.MustCompile(l.errors).MatchString(a.text) {
		l.t.Errorf("%s: %v after the verdict: %s %q, want %s %s", l.name, took, a.kind, a.text, kind, l.errors)
	}
}

// TestDriversRelay: routed by attribute, ended by the loss, and going on after a promotion, with
// the same connection string.
func TestDriversRelay(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	standby := w.primary.Standby("standby", pgtest.Host(db2))
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "1500ms",
		Clusters: []*pgtest.Cluster{w.primary, standby},
		Extra:    relayConf + fmt.Sprintf("relay_port_read_only = %d\n", relayReadOnly)})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	all := programs(t, client)
	at := func(p *program, name string, port int) line { return p.line(name, fmt.Sprintf("127.0.0.1:%d", port)) }

	var busy, idle []line
	for _, p := range all {
		at(p, "standby", relayStandby).want(who, "ok", "^standby true$")
		at(p, "read_only", relayReadOnly).want(who, "ok", "^standby true$")
		busy = append(busy, at(p, "busy", relayReadWrite))
		idle = append(idle, at(p, "idle", relayReadWrite))
	}
	for i := range all {
		busy[i].want(who, "ok", "^primary false$")
		idle[i].want(who, "ok", "^primary false$")
		busy[i].send("SELECT pg_sleep(600)::text")
		w.sleeping(busy[i].name, 1)
	}
	mark := cm.Mark()
	cut := w.net.Isolate(w.db)
	verdict := cm.WaitLog(mark, lostBySilence, patience).At
	for _, l := range busy {
		l.lost(verdict, "error")
	}
	idle[0].lost(verdict, "idle")                 // node-postgres notices, and has an event for it
	idle[1].want(who, "error", all[1].errors)     // pgJDBC finds out when it is used
	for _, l := range slices.Concat(busy, idle) { // nobody takes writes now
		l.want(who, "error", "^08001 .*no target server address from Connection Manager")
	}
	for _, p := range all {
		at(p, "standby", relayStandby).want(who, "ok", "^standby true$") // was not touched
	}
	standby.Promote()
	cm.WaitInstance(1, "role", "primary")
	for i := range all {
		busy[i].want(who, "ok", "^standby false$") // its name remains
		idle[i].want(who, "ok", "^standby false$")
	}
	cut.Heal()
}

// TestDriversDirect: connected directly, and woken by destroy_sockets. Those that know lists of
// hosts go on by themselves.
func TestDriversDirect(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	standby := w.primary.Standby("standby", pgtest.Host(db2))
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "1500ms",
		Clusters: []*pgtest.Cluster{w.primary, standby},
		Extra:    "destroy_sockets = on\n", NetAdmin: true})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	all := programs(t, client)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()

	host := func(c *pgtest.Cluster) string { return fmt.Sprintf("%s:%d", c.Addr(), c.Port) }
	node, jdbc := all[0].line("busy", host(w.primary)), all[1].line("busy", host(standby)+","+host(w.primary))
	jdbc.dsn += "&targetServerType=primary&hostRecheckSeconds=0" // it remembers for 10 s who was a standby
	other := []line{all[0].line("other", host(standby)), all[1].line("other", host(standby))}
	for _, l := range other {
		l.want(who, "ok", "^standby true$")
	}
	// The standby comes first in the list: a host that is silent would be waited for at each new
	// connection.
	dsn := fmt.Sprintf("host=%s,%s port=%d,%d user=postgres dbname=postgres sslmode=disable target_session_attrs=read-write",
		standby.Addr(), w.primary.Addr(), standby.Port, w.primary.Port)
	clients := w.stocks(client, dsn)
	type ended struct {
		name string
		blocked
	}
	results := make(chan ended, len(clients))
	waiting := 0
	for _, c := range clients {
		if c.name == "lib/pq" {
			continue // in TestDestroySockets: it knows no target_session_attrs
		}
		if got, err := c.run(ctx, who); err != nil || got != "primary false" {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		waiting++
		go func() {
			_, err := c.run(ctx, "SELECT pg_sleep(600)::text")
			results <- ended{c.name, blocked{err, testnet.Monotonic()}}
		}()
	}
	for _, l := range []line{node, jdbc} {
		l.want(who, "ok", "^primary false$")
		l.send("SELECT pg_sleep(600)::text")
	}
	for _, application := range []string{"psql", "pgx", "pgxpool", node.name, jdbc.name} {
		w.sleeping(application, 1)
	}
	mark := cm.Mark()
	cut := w.net.Isolate(w.db)
	verdict := cm.WaitLog(mark, lostBySilence, patience).At
	node.lost(verdict, "error")
	jdbc.lost(verdict, "error")
	for range waiting {
		r := <-results
		took := r.at - verdict
		t.Logf("%s: %v after the verdict: %v", r.name, took, r.err)
		if r.err == nil || took > soonTold {
			t.Errorf("%s: %v after the verdict: %v", r.name, took, r.err)
		}
	}
	for _, l := range other {
		l.want(who, "ok", "^standby true$")
	}
	standby.Promote()
	jdbc.want(who, "ok", "^standby false$")
	for _, c := range clients {
		if c.name == "lib/pq" {
			continue
		}
		if got, err := c.run(ctx, who); err != nil || got != "standby false" {
			t.Errorf("%s after the promotion: %q, %v", c.name, got, err)
		}
	}
	cut.Heal()
}

// TestDriversTLS: through a relay port, a driver verifies the instance's certificate against the
// name that the application gives.
func TestDriversTLS(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	root := w.serveTLS()
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "1500ms",
		Clusters: []*pgtest.Cluster{w.primary}, Extra: relayConf})
	cm.WaitInstance(0, "state", "established")

	relay := fmt.Sprintf("127.0.0.1:%d", relayReadWrite)
	const encrypted = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
	all := programs(t, client, "TLS_CA="+root, "TLS_NAME=relay.test")
	node, jdbc, strict := all[0].line("tls", relay), all[1].line("tls", relay), all[1].line("strict", relay)
	jdbc.dsn += "&sslmode=verify-ca&sslrootcert=" + root
	strict.dsn += "&sslmode=verify-full&sslrootcert=" + root
	node.want(encrypted, "ok", "^true$")
	jdbc.want(encrypted, "ok", "^true$")
	strict.want(encrypted, "error", `^08006 .*127\.0\.0\.1`) // it has no place for another name
	wrong := programs(t, client, "TLS_CA="+root, "TLS_NAME=other.test")[0].line("wrong", relay)
	wrong.want(encrypted, "error", "ERR_TLS_CERT_ALTNAME_INVALID")

	for _, l := range []line{node, jdbc} {
		l.send("SELECT pg_sleep(600)::text")
		w.sleeping(l.name, 1)
	}
	mark := cm.Mark()
	cut := w.net.Isolate(w.db)
	verdict := cm.WaitLog(mark, lostBySilence, patience).At
	node.lost(verdict, "error")
	jdbc.lost(verdict, "error")
	cut.Heal()
}
