package test

// Labels of sessions on real servers: by the front and by the Go client, with and without the
// server's or conmgr's knowledge of them, and poolers in between. Nothing is refused.

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// app is an application on a client host that runs one query after the other, each of one value.
type app struct {
	w    *world
	kind string
	cmd  *exec.Cmd
	in   io.Writer
	out  *bufio.Scanner
	said *strings.Builder
	pid  int // of its session
}

// appKinds: psql with the front, the Go client (this test program, run again), psql without.
var appKinds = []string{"front", "go", "plain"}

// app starts one.
func (w *world) app(from *testnet.Host, kind, conninfo string, env ...string) *app {
	w.Helper()
	a, err := w.tryApp(from, kind, conninfo, env...)
	if err != nil {
		w.Fatalf("%s, %s: %v", kind, conninfo, err)
	}
	return a
}

func (w *world) tryApp(from *testnet.Host, kind, conninfo string, env ...string) (*app, error) {
	w.Helper()
	conninfo += " user=postgres dbname=postgres sslmode=disable connect_timeout=10"
	a := &app{w: w, kind: kind, said: &strings.Builder{}}
	args := []string{"psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", conninfo}
	switch kind {
	case "front":
		env = append(env, "LD_LIBRARY_PATH="+filepath.Join(sourceRoot(w.T), "build", "connmgr"))
	case "front of 1.0":
		env = append(env, "LD_LIBRARY_PATH="+filepath.Join(release10(w.T), "connmgr"))
	case "go":
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		args, env = []string{self}, append(env, goWriterVariable+"="+conninfo)
	}
	a.cmd = from.Command(context.Background(), args[0], args[1:]...)
	a.cmd.Env = append(append(os.Environ(), "PGCMUSER=*"), env...)
	a.cmd.Stderr = a.said
	in, err := a.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	a.in, a.out = in, bufio.NewScanner(out)
	w.Cleanup(func() {
		in.Close()
		_ = syscall.Kill(-a.cmd.Process.Pid, syscall.SIGKILL)
		_ = a.cmd.Wait()
	})
	if strings.Contains(conninfo, "replication=") { // it knows no functions
		return a, nil
	}
	pid, err := a.ask("SELECT pg_backend_pid()::text")
	if err == nil {
		a.pid, err = strconv.Atoi(pid)
	}
	return a, err
}

// ask waits for the answer; the error is that of the program's end.
func (a *app) ask(query string) (string, error) {
	if _, err := fmt.Fprintf(a.in, "%s;\n", query); err != nil {
		return "", err
	}
	if !a.out.Scan() {
		_ = a.cmd.Wait() // all of stderr has come
		return "", fmt.Errorf("%s has ended: %s", a.kind, a.said)
	}
	return a.out.Text(), nil
}

const labelOfSession = "SELECT coalesce(current_setting('conmgr.client', true), '')"

// label is what the session itself says of it.
func (a *app) label() string {
	a.w.Helper()
	v, err := a.ask(labelOfSession)
	if err != nil {
		a.w.Errorf("%v", err)
	}
	return v
}

// labelOf is what the server shows of the only conmgr that it knows.
func (w *world) labelOf() string {
	w.Helper()
	return w.primary.Value("SELECT replace(conmgr_id::text, '-', '') FROM pgx_stat_watchdog")
}

// byConmgr is a connection string for an application on conmgr's host.
func byConmgr(cm *cmtest.Conmgr) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d target_session_attrs=any", cm.Addr().Port())
}

func TestLabels(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "1s", "3s")
	want := w.labelOf()
	if row := cm.Show("SHOW TARGET any")[0]; row["client"] != want {
		t.Fatalf("SHOW TARGET any: %v, the server shows %s", row, want)
	}
	for _, kind := range appKinds[:2] {
		a := w.app(client, kind, byConmgr(cm)+` options='-c work_mem=5MB -c my.words=a\\\\\\ b'`, "PGOPTIONS=-c work_mem=7MB")
		if got := a.label(); got != want {
			t.Errorf("%s: label %q, want %q", kind, got, want)
		}
		if got, err := a.ask("SELECT current_setting('work_mem') || current_setting('my.words')"); got != `5MBa\ b` {
			t.Errorf("%s: its options: %s, %v", kind, got, err)
		}
		a = w.app(client, kind, byConmgr(cm), "PGOPTIONS=-c work_mem=7MB")
		if got, err := a.ask("SELECT current_setting('work_mem') || current_setting('conmgr.client')"); got != "7MB"+want {
			t.Errorf("%s: PGOPTIONS: %s, %v", kind, got, err)
		}
		// The session's helpers have it, too.
		parallel := "debug_parallel_query"
		if w.primary.Major() < 16 {
			parallel = "force_parallel_mode"
		}
		a = w.app(client, kind, byConmgr(cm)+" options='-c "+parallel+"=on'")
		if got, err := a.ask("SELECT current_setting('conmgr.client') || count(*) FROM pg_class WHERE false"); got != want+"0" {
			t.Errorf("%s: in parallel: %s, %v", kind, got, err)
		}
		// A list with a server: conmgr is asked, the server is not labelled.
		direct := fmt.Sprintf("host=127.0.0.1,%s port=1,%d", w.primary.Addr(), w.primary.Port)
		if got := w.app(client, kind, direct).label(); got != "" {
			t.Errorf("%s: a server of the list: label %q", kind, got)
		}
	}
	for _, replication := range []string{"true", "database"} {
		a := w.app(client, "front", byConmgr(cm)+" replication="+replication)
		if got, err := a.ask("SHOW conmgr.client"); got != want {
			t.Errorf("replication=%s: label %q, want %q: %v", replication, got, want, err)
		}
	}
	if got := w.app(client, "plain", w.primary.DSN()).label(); got != "" {
		t.Errorf("past conmgr: label %q", got)
	}
	t.Run("without the extension", func(t *testing.T) { w.in(t).labelsWithoutExtension(client, cm) })
	t.Run("the front of 1.0", func(t *testing.T) { // to which the answer has one more column
		if got := w.in(t).app(client, "front of 1.0", byConmgr(cm)).label(); got != "" {
			t.Errorf("label %q", got)
		}
	})
	// Heartbeats go by IPv4, sessions by IPv6: two hosts, but for the label.
	byIPv6 := fmt.Sprintf("host=%s port=%d", w.db.Addr6, w.primary.Port)
	own, nobodys := w.app(client, "plain", byIPv6+" options='-c conmgr.client="+want+"'"), w.app(client, "plain", byIPv6)
	cut := w.net.Isolate(client)
	w.waitGone(own.pid, patience, "the labelled session by another address")
	if !w.exists(nobodys.pid) {
		t.Error("a session without a label, of an address that no conmgr has proved, was ended")
	}
	cut.Heal()
}

// labelsWithoutExtension: a server that has no watchdog is never named by conmgr; as a server of
// the list it is as it was.
func (w *world) labelsWithoutExtension(client *testnet.Host, cm *cmtest.Conmgr) {
	other := pgtest.New(w, pgtest.Host(w.net.Host("other")), pgtest.Named("other"))
	for _, kind := range appKinds[:2] {
		a := w.app(client, kind, fmt.Sprintf("host=127.0.0.1,%s port=%d,%d target_session_attrs=read-only "+
			"options='-c work_mem=5MB -c default_transaction_read_only=on'", other.Addr(), cm.Addr().Port(), other.Port))
		got, err := a.ask(labelOfSession + " || current_setting('work_mem') || current_setting('cluster_name')")
		if got != "5MBother" {
			w.Errorf("%s: got %s, %v", kind, got, err)
		}
	}
}

// release10 is the build directory of version 1.0, which the first test that wants it has made.
func release10(t *testing.T) string {
	t.Helper()
	root := sourceRoot(t)
	if out, err := exec.Command("git", "-C", root, "cat-file", "-e", "68e5260^{commit}").CombinedOutput(); err != nil {
		t.Skipf("version 1.0 is not in the repository: %v: %s", err, out)
	}
	cmd := exec.Command("flock", "build", "make", "-s", "release-1.0")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make release-1.0: %v: %s", err, out)
	}
	return filepath.Join(root, "build", "1.0", "build")
}

// A server, a conmgr and a front of version 1.0 know no labels, and take what they are given.
func TestLabelsBesideVersion10(t *testing.T) {
	old := release10(t)
	network := testnet.New(t)
	db := network.Host("db")
	w := &world{T: t, net: network, db: db}
	w.primary = pgtest.New(t, pgtest.Host(db), pgtest.Watchdog(), pgtest.BuiltIn(old))
	client, other := network.Host("client"), network.Host("other")
	cm := w.conmgr(client, "1s", "5s")
	if row := cm.Show("SHOW TARGET any")[0]; row["client"] != "" {
		t.Errorf("SHOW TARGET any, of a server of 1.0: %v", row)
	}
	aged := cmtest.Start(t, other, cmtest.Config{Interval: "1s", Timeout: "5s", BuiltIn: old,
		Clusters: []*pgtest.Cluster{w.primary}})
	aged.WaitInstance(0, "state", "established")
	for _, kind := range []string{"front", "go", "front of 1.0"} {
		for name, from := range map[string]struct {
			host *testnet.Host
			cm   *cmtest.Conmgr
		}{"this conmgr": {client, cm}, "conmgr 1.0": {other, aged}} {
			a := w.app(from.host, kind, byConmgr(from.cm)+" options='-c work_mem=5MB'")
			if got, err := a.ask(labelOfSession + " || current_setting('work_mem')"); got != "5MB" {
				t.Errorf("%s, %s, server 1.0: got %s, %v", kind, name, got, err)
			}
		}
	}
}

// pgbouncer starts one in a host that leads to a cluster.
func (w *world) pgbouncer(host *testnet.Host, port int, c *pgtest.Cluster) {
	w.Helper()
	dir, err := testkit.TempDir("wdpgbouncer")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { os.RemoveAll(dir) })
	path, users := filepath.Join(dir, "pgbouncer.ini"), filepath.Join(dir, "users")
	ini := fmt.Sprintf("[databases]\npostgres = host=%s port=%d\n[pgbouncer]\nlisten_addr = *\nlisten_port = %d\n"+
		"unix_socket_dir =\nauth_type = trust\nauth_file = %s\nignore_startup_parameters = extra_float_digits\n",
		c.Addr(), c.Port, port, users)
	for name, text := range map[string]string{path: ini, users: "\"postgres\" \"\"\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			w.Fatal(err)
		}
	}
	var log strings.Builder
	cmd := host.CommandWith(context.Background(), testnet.Options{UID: 65534, GID: 65534}, "pgbouncer", path)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		w.Fatalf("%v\nhint: run 'make deps'", err)
	}
	w.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if w.Failed() {
			w.Logf("pgbouncer:\n%s", &log)
		}
	})
	eventually(w, "pgbouncer listens", func() (bool, string) {
		nc, err := host.Dialer().DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			nc.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
}

// PgBouncer refuses options. Beside the server, at another port, conmgr knows that it is not the
// server that is led to; where it has the server's own port, on another host that hands the
// heartbeats on, the drivers find out.
func TestLabelsAndPgBouncer(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	pooler := w.net.Host("pooler")
	w.pgbouncer(w.db, 6432, w.primary)
	w.pgbouncer(pooler, w.primary.Port, w.primary)
	w.handOn(pooler, w.primary.WatchdogPort)
	for _, c := range []struct {
		name, conf string
		label      bool
	}{
		{"another port", "backend_port0 = 6432\n", false},
		{"the server's port", fmt.Sprintf("backend_hostaddr0 = '%s'\n", pooler.Addr4), true},
	} {
		cm := cmtest.Start(t, client, cmtest.Config{Interval: "1s", Timeout: "5s", Clusters: []*pgtest.Cluster{w.primary},
			Extra: c.conf})
		cm.WaitInstance(0, "state", "established")
		if got := cm.Show("SHOW TARGET any")[0]["client"]; (got != "") != c.label {
			t.Errorf("%s: label %q", c.name, got)
		}
		for _, kind := range appKinds[:2] {
			if got := w.app(client, kind, byConmgr(cm)).label(); got != "" {
				t.Errorf("%s, %s: label %q", c.name, kind, got)
			}
		}
		cm.Signal(syscall.SIGKILL)
		cm.Wait(patience)
	}
}

// handOn carries connections to a port of a host on to the same port of the database host.
func (w *world) handOn(host *testnet.Host, port int) {
	w.Helper()
	l, err := host.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := host.Dialer().Dial("tcp4", fmt.Sprintf("%s:%d", w.db.Addr4, port))
			if err != nil {
				from.Close()
				continue
			}
			go func() { _, _ = io.Copy(to, from); to.Close() }()
			go func() { _, _ = io.Copy(from, to); from.Close() }()
		}
	}()
}
