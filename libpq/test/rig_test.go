// Package libpqtest tests the libpq front as applications meet it: programs that are linked with the installed libpq (psql, pgbench, the C
// and ECPG programs of c/, and the drivers of scripting languages) run with the front in its place, against real PostgreSQL servers and
// a conmgr whose knowledge the test decides (fakeconmgr).
//
// The servers, a primary and a standby, are started once for the package; each test has its own conmgr.
package libpqtest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/libpq/test/fakeconmgr"
)

const nobody = 65534

var (
	root    string // of the repository
	scratch string // temporary, owned by nobody
	front   string // the directory of the front's libpq.so.5
	bindir  string // of the test programs
	pgbin   string
	primary *server
	standby *server
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		cleanup, err := setup()
		defer cleanup()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func setup() (cleanup func(), err error) {
	cleanup = func() {}
	if root, err = filepath.Abs("../.."); err != nil {
		return
	}
	if scratch, err = os.MkdirTemp("", "libpqtest"); err != nil {
		return
	}
	cleanup = func() {
		for _, s := range []*server{standby, primary} {
			s.stop()
		}
		os.RemoveAll(scratch)
	}
	os.Chmod(scratch, 0o755)
	front = filepath.Join(root, "build/connmgr")
	bindir = filepath.Join(scratch, "bin")
	os.Mkdir(bindir, 0o755)
	if err = run(root, "make", "-s", "-f", "libpq/front.mk", "front"); err != nil {
		return
	}
	for _, name := range []string{"families", "events", "async", "waits", "many", "leaks", "forks", "late", "pings", "keypass"} {
		if err = run(root, "gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-Wno-deprecated-declarations",
			"-Wl,--export-dynamic-symbol=epoll_wait", "-I/usr/include/postgresql", "-o", filepath.Join(bindir, name), "libpq/test/c/"+name+".c", "-lpq", "-pthread"); err != nil {
			return
		}
	}
	bank := filepath.Join(scratch, "bank.c")
	if err = run(root, "ecpg", "-o", bank, "libpq/test/c/bank.pgc"); err != nil {
		return
	}
	if err = run(root, "gcc", "-g", "-I/usr/include/postgresql", "-o", filepath.Join(bindir, "bank"), bank, "-lecpg"); err != nil {
		return
	}
	out, err := exec.Command("pg_config", "--bindir").Output()
	if err != nil {
		return cleanup, fmt.Errorf("pg_config: %w", err)
	}
	pgbin = strings.TrimSpace(string(out))
	if matches, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(matches) > 0 {
		pgbin = filepath.Dir(matches[len(matches)-1])
	}
	if primary, err = startPrimary("primary", ""); err != nil {
		return
	}
	standby, err = startStandby("standby", primary)
	return
}

func run(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// asNobody runs one of PostgreSQL's programs, which refuse root.
func asNobody(name string, args ...string) error {
	cmd := exec.Command(filepath.Join(pgbin, name), args...)
	cmd.Dir = scratch
	cmd.Env = append(os.Environ(), "HOME="+scratch)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	// A pipe would stay open in the server that pg_ctl leaves behind.
	log, err := os.CreateTemp(scratch, "out")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s: %w\n%s%s", name, err, text, serverLog(args))
	}
	return nil
}

type server struct{ name, data, port string }

// freePort is below the ports that the kernel gives to outgoing connections, of which the tests make thousands.
func freePort() string {
	for {
		port := strconv.Itoa(10000 + rand.IntN(22000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
}

func newDirectory(name string) (string, error) {
	dir := filepath.Join(scratch, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if os.Geteuid() == 0 {
		return dir, os.Chown(dir, nobody, nobody)
	}
	return dir, nil
}

func (s *server) configure(lines string) error {
	f, err := os.OpenFile(filepath.Join(s.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "\nport = %s\n%s\n", s.port, lines)
	return err
}

func startPrimary(name, extra string) (*server, error) {
	data, err := newDirectory(name)
	if err != nil {
		return nil, err
	}
	s := &server{name: name, data: data, port: freePort()}
	if err := asNobody("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N"); err != nil {
		return nil, err
	}
	if err := s.configure("fsync = off\nlisten_addresses = 'localhost'\nmax_connections = 1500\nunix_socket_directories = '" + scratch + "'\n" + extra); err != nil {
		return nil, err
	}
	os.Chmod(scratch, 0o777)
	return s, s.start()
}

func startStandby(name string, of *server) (*server, error) {
	data, err := newDirectory(name)
	if err != nil {
		return nil, err
	}
	s := &server{name: name, data: data, port: freePort()}
	if err := asNobody("pg_basebackup", "-D", data, "-R", "-c", "fast", "-h", "localhost", "-p", of.port, "-U", "postgres"); err != nil {
		return nil, err
	}
	if err := s.configure(""); err != nil {
		return nil, err
	}
	return s, s.start()
}

func (s *server) start() error {
	return asNobody("pg_ctl", "-D", s.data, "-l", filepath.Join(s.data, "log"), "-w", "start")
}

func (s *server) stop() {
	if s != nil {
		asNobody("pg_ctl", "-D", s.data, "-m", "immediate", "-w", "stop")
	}
}

// instance is the server as a conmgr knows it.
func (s *server) instance(name string, attributes ...string) fakeconmgr.Instance {
	return fakeconmgr.Instance{Name: name, Host: "localhost", Hostaddr: "127.0.0.1", Port: s.port, Attributes: attributes}
}

var (
	isPrimary = []string{"primary", "read-write"}
	isStandby = []string{"standby", "read-only"}
)

// conmgr starts one that knows the primary as instance 0 and the standby as instance 1.
func conmgr(t *testing.T) *fakeconmgr.Server {
	t.Helper()
	return conmgrWith(t, primary.instance("0", isPrimary...), standby.instance("1", isStandby...))
}

func conmgrWith(t *testing.T, instances ...fakeconmgr.Instance) *fakeconmgr.Server {
	t.Helper()
	s, err := fakeconmgr.Listen(instances...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
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

func wantAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}

// serverLog is the end of the log file that pg_ctl was given, for a failure's message.
func serverLog(args []string) string {
	if i := slices.Index(args, "-l"); i >= 0 {
		text, _ := os.ReadFile(args[i+1])
		return string(text[max(0, len(text)-2000):])
	}
	return ""
}
