// Package libpqtest tests the libpq front as applications meet it: programs that are linked with
// the installed libpq (psql, pgbench, the C and ECPG programs of c/, and the drivers of scripting
// languages) run with the front in its place, against real PostgreSQL servers and a conmgr whose
// instances do what the test says (internal/cmtest/scripted).
//
// The servers, a primary and a standby, are started once for the package; each test has its own
// conmgr.
package libpqtest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// frontVariable names the directory of another front than the one that is built here: one that was
// built with another libpq (scripts/matrix).
const frontVariable = "WATCHDOG_TEST_FRONT"

var (
	root    string // of the repository
	scratch string // temporary: test programs, and what they leave
	front   string // the directory of the front's libpq.so.5
	bindir  string // of the test programs
	pgbin   string // of PostgreSQL's
	primary *server
	standby *server
)

func TestMain(m *testing.M) {
	code := 1
	err := testkit.Program(context.Background(), os.Stderr, func(r *testkit.Run) {
		if err := setup(r); err != nil {
			r.Fatalf("%v", err)
		}
		code = m.Run()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func setup(r *testkit.Run) (err error) {
	if root, err = filepath.Abs("../.."); err != nil {
		return err
	}
	if scratch, err = testkit.TempDir("libpqtest"); err != nil {
		return err
	}
	r.Cleanup(func() { os.RemoveAll(scratch) })
	front = cmp.Or(os.Getenv(frontVariable), filepath.Join(root, "build/connmgr"))
	bindir = filepath.Join(scratch, "bin")
	os.Mkdir(bindir, 0o755)
	// One that was built elsewhere, with another libpq (scripts/front-versions).
	if other := os.Getenv("WATCHDOG_TEST_FRONT"); other != "" {
		front = other
	} else if err = run(root, "make", "-s", "-f", "libpq/front.mk", "front"); err != nil {
		return err
	}
	for _, name := range []string{"families", "events", "async", "waits", "many", "leaks", "forks", "late", "pings",
		"keypass", "settings", "resets", "failed", "again", "sandbox", "nomem", "wiped", "options", "told", "pool",
		"params"} {
		if err = run(root, "gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-Wno-deprecated-declarations",
			"-Wl,--export-dynamic-symbol=epoll_wait", "-Wl,--export-dynamic-symbol=shutdown", "-Wl,--export-dynamic-symbol=recv",
			"-Wl,--export-dynamic-symbol=strndup", "-I/usr/include/postgresql", "-o", filepath.Join(bindir, name),
			"libpq/test/c/"+name+".c", "-lpq", "-ldl", "-pthread"); err != nil {
			return err
		}
	}
	if err = run(root, "go", "build", "-o", filepath.Join(bindir, "impostor"), "./libpq/test/impostor"); err != nil {
		return err
	}
	bank := filepath.Join(scratch, "bank.c")
	if err = run(root, "ecpg", "-o", bank, "libpq/test/c/bank.pgc"); err != nil {
		return err
	}
	if err = run(root, "gcc", "-g", "-I/usr/include/postgresql", "-o", filepath.Join(bindir, "bank"), bank,
		"-lecpg"); err != nil {
		return err
	}
	config := os.Getenv("PG_CONFIG")
	if config == "" {
		config = "pg_config"
	}
	out, err := exec.Command(config, "--bindir").Output()
	if err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	pgbin = strings.TrimSpace(string(out))
	first := pgtest.New(r, pgtest.Set("max_connections", "1500"))
	primary = newServer(first)
	standby = newServer(first.Standby("standby"))
	return nil
}

func run(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// server is one of pgtest's, on loopback.
type server struct {
	*pgtest.Cluster
	name, port string
}

func newServer(c *pgtest.Cluster) *server { return &server{c, c.Name, strconv.Itoa(c.Port)} }

func freePort(t *testing.T) string {
	t.Helper()
	ports, err := testkit.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(ports[0])
}

// instance is the server as a conmgr knows it.
func (s *server) instance(number int, attributes heartbeat.Attributes) scripted.Instance {
	return at(number, "localhost", s.port, attributes)
}

// at is an instance at a port of 127.0.0.1.
func at(number int, host, port string, attributes heartbeat.Attributes) scripted.Instance {
	p, _ := strconv.Atoi(port)
	return scripted.Instance{Number: number, Host: host, HostAddr: "127.0.0.1", Port: p, Attributes: attributes}
}

var isPrimary, isStandby = scripted.Primary, scripted.Standby

// row is an instance as something in conmgr's place names it.
func row(name, port string) hostile.Row {
	return hostile.Row{Instance: name, Host: "localhost", HostAddr: "127.0.0.1", Port: port,
		Attributes: "primary,read-write"}
}

// manager is a conmgr whose instances do what the test says.
type manager struct{ *scripted.Conmgr }

// Port is for connection strings.
func (m *manager) Port() string { return strconv.Itoa(m.Conmgr.Port()) }

// endForGood ends it with its last word: that it is back in a moment is not to be expected. Who has
// just written to a client says that word a moment later, and may end then.
func (m *manager) endForGood() {
	m.Shutdown()
	_ = testkit.Poll(20*time.Second, func() (bool, string) { return m.Connections() == 0, "" })
	m.Close()
}

// pretender is something in its place.
type pretender struct{ *hostile.Server }

func (p *pretender) Port() string { return strconv.Itoa(p.Server.Port()) }

func hostileWith(t *testing.T, script hostile.Script) *pretender {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:"+freePort(t)) // nobody's, also while the next one is to come back to it
	if err != nil {
		t.Fatal(err)
	}
	s := hostile.Serve(l, script)
	t.Cleanup(s.Close)
	return &pretender{s}
}

// conmgr starts one that knows the primary as instance 0 and the standby as instance 1.
func conmgr(t *testing.T) *manager {
	t.Helper()
	return conmgrWith(t, primary.instance(0, isPrimary), standby.instance(1, isStandby))
}

func conmgrWith(t *testing.T, instances ...scripted.Instance) *manager {
	t.Helper()
	s, err := scripted.New(instances...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &manager{s}
}

// dsn is a connection string for one of the servers or a conmgr.
func dsn(port, more string) string {
	return "host=localhost port=" + port + " user=postgres dbname=postgres " + more
}

// A way to put the front before a program.
var (
	byPath    = func() []string { return []string{"LD_LIBRARY_PATH=" + front} }
	byPreload = func() []string { return []string{"LD_PRELOAD=" + filepath.Join(front, "libpq.so.5")} }
	plain     = func() []string { return nil }
	// of a real conmgr, which cmtest runs as nobody
	trusting = func() []string { return append(byPath(), "PGCMUSER=*") }
)

// program starts one, with the front by LD_LIBRARY_PATH unless env says otherwise.
func program(t *testing.T, env []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	if !strings.Contains(name, "/") {
		switch path := filepath.Join(bindir, name); {
		case exists(path):
			name = path
		case exists(filepath.Join(pgbin, name)):
			name = filepath.Join(pgbin, name)
		case exists("/usr/bin/" + name):
			name = "/usr/bin/" + name // Debian's own, whatever else is on the PATH
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = scratch
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + scratch, "LC_ALL=C"}, env...)
	return cmd
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// output runs a program that must succeed.
func output(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := program(t, env, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// failure runs a program that must fail.
func failure(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := program(t, env, name, args...).CombinedOutput()
	if err == nil {
		t.Fatalf("%s %s did not fail\n%s", name, strings.Join(args, " "), out)
	}
	return string(out)
}

// A conversation is a program that says "ready" and is then left to wait.
type conversation struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Reader
	in    io.WriteCloser
	errs  bytes.Buffer
}

func converse(t *testing.T, env []string, name string, args ...string) *conversation {
	t.Helper()
	c := &conversation{t: t, cmd: program(t, env, name, args...)}
	c.start()
	return c
}

func (c *conversation) start() {
	c.t.Helper()
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	c.cmd.Stderr = &c.errs
	c.lines = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

// until reads lines up to the one that is wanted, and returns the ones before it.
func (c *conversation) until(wanted string) (before string) {
	c.t.Helper()
	for {
		line, err := c.lines.ReadString('\n')
		if strings.TrimSpace(line) == wanted {
			return before
		}
		before += line
		if err != nil {
			c.cmd.Wait()
			c.t.Fatalf("%s ended before it said %q:\n%s%s", c.cmd.Path, wanted, before, c.errs.String())
		}
	}
}

// rest waits for the end of the program, which must succeed, and returns what it still said.
func (c *conversation) rest() string {
	c.t.Helper()
	out, _ := io.ReadAll(c.lines)
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("%s: %v\n%s%s", c.cmd.Path, err, out, c.errs.String())
	}
	return string(out)
}

// end waits for the end of the program, however it is, and returns all that it still said.
func (c *conversation) end() (string, error) {
	out, _ := io.ReadAll(c.lines)
	err := c.cmd.Wait()
	return string(out) + c.errs.String(), err
}

// sql asks a server directly, by psql and the installed libpq.
func sql(t *testing.T, s *server, query string) string {
	t.Helper()
	return strings.TrimSpace(output(t, nil, "psql", "-X", "-At", "-d", dsn(s.port, ""), "-c", query))
}

// waitSQL waits until a server answers a query with true.
func waitSQL(t *testing.T, s *server, query string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); sql(t, s, query) != "t"; {
		if time.Now().After(end) {
			t.Fatalf("not true in time: %s", query)
		}
	}
}

// since14 is what libpq says of a failure to connect since 14 ("... port 5432 failed: "); 13 does not.
func since14(t *testing.T, text string) string {
	t.Helper()
	if libpqVersion(t) < 14 {
		return ""
	}
	return text
}

func wantAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}
