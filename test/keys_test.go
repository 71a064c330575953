package test

// Keys of the heartbeats on real servers. The conmgr is test/clients/conmgr.py, which was written
// from docs/protocol.md alone.

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// TestPythonVectors: the vectors of docs/protocol.md are what the independent reader of the page
// computes.
func TestPythonVectors(t *testing.T) {
	root := sourceRoot(t)
	out, err := exec.Command("python3", filepath.Join(root, "test/clients/conmgr.py"), "vectors",
		filepath.Join(root, "heartbeat/proof/testdata/vectors.txt")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "16 vectors are right") {
		t.Errorf("%s%v", out, err)
	}
}

// keyLine is the line of a key file.
func keyLine(t *testing.T, name string, secret byte) string {
	t.Helper()
	id, err := proof.ParseKeyID(name)
	if err != nil {
		t.Fatal(err)
	}
	return proof.Line(id, proof.Secret{secret})
}

// keyFile writes the key file of a server.
func keyFile(t *testing.T, c *pgtest.Cluster, mode os.FileMode, lines ...string) {
	t.Helper()
	path := filepath.Join(c.DataDir, "keys")
	var owner unix.Stat_t
	err := unix.Stat(c.DataDir, &owner)
	if err == nil {
		err = os.WriteFile(path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	}
	if err == nil {
		err = os.Chown(path+".new", int(owner.Uid), int(owner.Gid))
	}
	if err == nil {
		err = os.Chmod(path+".new", mode)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pyConmgr is one run of conmgr.py.
type pyConmgr struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan string
}

func (w *world) python(from *testnet.Host, args ...string) *pyConmgr {
	w.Helper()
	return w.pythonOf(w.primary, from, args...)
}

// pythonOf is one that asks another server.
func (w *world) pythonOf(c *pgtest.Cluster, from *testnet.Host, args ...string) *pyConmgr {
	w.Helper()
	c.WaitLog(0, "listening for heartbeat connections", patience) // it tries once only
	script := filepath.Join(sourceRoot(w.T), "test/clients/conmgr.py")
	cmd := from.Command(w.Context(), "python3", append([]string{script, "run", c.Addr().String(),
		fmt.Sprint(c.WatchdogPort)}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		w.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	p := &pyConmgr{t: w.T, in: in, lines: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
		_ = cmd.Wait()
	}()
	w.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		<-done
	})
	return p
}

// expect waits for a line that begins so.
func (p *pyConmgr) expect(prefixes ...string) {
	p.t.Helper()
	var seen []string
	for timeout := time.After(patience); ; {
		select {
		case line, ok := <-p.lines:
			if ok && slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) }) {
				return
			}
			if seen = append(seen, line); !ok || !strings.HasPrefix(line, "beat") && !strings.HasPrefix(line, "hello") &&
				!strings.HasPrefix(line, "challenge") {
				p.t.Fatalf("%q instead of %q", seen, prefixes)
			}
		case <-timeout:
			p.t.Fatalf("%q, and no %q", seen, prefixes)
		}
	}
}

func (p *pyConmgr) tell(command string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		p.t.Fatal(err)
	}
}

// reload has the server read its settings, and waits for what the log says. Not before the worker
// listens: a process that is just being started does not hear of a reload.
func (w *world) reload(settings map[string]string, says string) {
	w.Helper()
	w.primary.WaitLog(0, "listening for heartbeat connections", patience)
	for name, value := range settings {
		w.primary.Configure(name, value)
	}
	since := w.primary.LogSize()
	w.primary.Exec("SELECT pg_reload_conf()")
	w.primary.WaitLog(since, says, patience)
}

// TestKeys: both versions of the protocol, with and without keys, under each
// watchdog.authentication; keys come, go, and are replaced at reloads.
func TestKeys(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.key_file", "keys"))
	client := w.net.Host("client")
	key := keyLine(t, "client1", 1)

	for _, version := range []string{"1", "2"} { // off
		p := w.python(client, "--version", version)
		p.expect("welcome version=" + version)
		p.expect("beat 1 ")
		p.tell("goodbye 1")
	}
	w.python(client, "--key", key).expect("refused 6 this server proves nothing: watchdog.authentication is off")

	keyFile(t, w.primary, 0o600, "# of the test", key, keyLine(t, "elsewhere", 2)+" 203.0.113.0/24")
	w.reload(map[string]string{"watchdog.authentication": "prefer"}, `keys of conmgr processes are in force: 2 from "keys"`)
	for _, version := range []string{"1", "2"} {
		p := w.python(client, "--version", version)
		p.expect("welcome version=" + version)
		p.tell("quit")
	}
	p := w.python(client, "--key", key)
	p.expect("welcome version=2")
	p.expect("beat 3 ")
	for _, bad := range []string{keyLine(t, "client1", 3), keyLine(t, "client2", 1), keyLine(t, "elsewhere", 2)} {
		w.python(client, "--key", bad).expect("refused 6 this server needs a proof of a key that it knows")
	}
	w.checkForged(client, key)

	other := w.python(client)
	other.expect("welcome version=2")
	// What the worker says of it may be one line too many.
	w.reload(map[string]string{"watchdog.authentication": "require"}, `"watchdog.authentication" changed to "require"`)
	other.expect("refused 6 ")
	w.python(client).expect("refused 6 ")
	p.expect("beat ")

	// A file that is of no use changes nothing.
	keyFile(t, w.primary, 0o640, keyLine(t, "client1", 9))
	w.reload(nil, `WARNING:  could not load the keys of conmgr processes: key file "keys" has group or world access`)
	keyFile(t, w.primary, 0o600, "client1 x")
	w.reload(nil, `WARNING:  could not load the keys of conmgr processes: keys:1: the secret of keyid "client1" is not base64`)
	w.python(client, "--key", key).expect("welcome version=2")
	p.expect("beat ")

	// The secret is replaced: first both, then the new one.
	next := keyLine(t, "client1", 4)
	keyFile(t, w.primary, 0o600, key, next)
	w.reload(nil, `keys of conmgr processes are in force`)
	stays := w.python(client, "--key", next)
	stays.expect("welcome version=2")
	p.expect("beat ")
	keyFile(t, w.primary, 0o600, next)
	w.reload(nil, `keys of conmgr processes are in force`)
	p.expect(`refused 7 the key of keyid "client1" is not known any more`)
	w.python(client, "--key", key).expect("refused 6 ")

	w.reload(map[string]string{"watchdog.allowed_addresses": "203.0.113.0/24"}, `parameter "watchdog.allowed_addresses" changed`)
	stays.expect("closed", "reset")                           // the postmaster has logged that, and the worker goes by it now
	w.python(client, "--key", next).expect("closed", "reset") // by what has come already, and is not read
}

// checkForged: what is not proved ends nothing.
func (w *world) checkForged(client *testnet.Host, key string) {
	w.Helper()
	s := w.session(client)
	for _, command := range []string{"plain", "flip", "reflect"} {
		p := w.python(client, "--key", key, "--id", strings.Repeat("ab", 16), "--timeout", "60000")
		p.expect("welcome version=2")
		p.expect("beat ")
		since := w.primary.LogSize()
		p.tell(command)
		w.primary.WaitLog(since, `heartbeat connection is broken: conmgr`, patience)
		p.expect("closed")
	}
	if err := s.conn.PingContext(w.Context()); err != nil {
		w.Errorf("a session has ended: %v", err)
	}
}

// TestKeysAtStart: with a key file that is of no use the server starts, and nobody is accepted.
func TestKeysAtStart(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.key_file", "keys"), pgtest.Set("watchdog.authentication", "require"))
	w.primary.WaitLog(0, `(?s)WARNING:  could not load the keys of conmgr processes: could not open key file "keys": no such file.*`+
		`No conmgr process is accepted, as watchdog.authentication is require`, patience)
	client := w.net.Host("client")
	key := keyLine(t, "client1", 1)
	w.python(client).expect("refused 6 ")
	w.python(client, "--key", key).expect("refused 6 ")
	keyFile(t, w.primary, 0o600, key)
	w.primary.WaitLog(0, `keys of conmgr processes are in force: 1 from`, patience) // without a reload
	p := w.python(client, "--key", key, "--id", strings.Repeat("cd", 16), "--timeout", "8000")
	p.expect("welcome version=2")
	if id := w.primary.Value("SELECT keyid FROM pgx_stat_watchdog"); id != "client1" {
		t.Errorf("the view shows the keyid %q", id)
	}
	// Another worker reads it again and again; what was proved before is still that keyid's, and
	// nobody is judged meanwhile.
	keyFile(t, w.primary, 0o640, key)
	since := w.primary.LogSize()
	if err := unix.Kill(w.primary.Worker(workerTitle), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.expect("closed")
	w.primary.WaitLog(since, `WARNING:  could not load the keys of conmgr processes: key file "keys" has group or world access`, patience)
	w.primary.WaitLog(since, `listening for heartbeat connections`, patience)
	waitQuiet(8500 * time.Millisecond)
	w.noLog(since, `heartbeat is timed out`)
	keyFile(t, w.primary, 0o600, key)
	w.primary.WaitLog(since, `keys of conmgr processes are in force: 1 from`, patience)
	p = w.python(client, "--key", key, "--id", strings.Repeat("cd", 16), "--timeout", "8000", "--attempt", "2")
	p.expect("welcome version=2 flags=3 proved")
	w.python(client, "--id", strings.Repeat("cd", 16), "--timeout", "8000", "--attempt", "3").expect("refused 6 ")
}

// conmgrKey writes the key file of a conmgr.
func conmgrKey(t *testing.T, path string, lines ...string) {
	t.Helper()
	err := os.WriteFile(path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	if err == nil {
		err = os.Chown(path+".new", cmtest.UID, cmtest.UID)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeysOfConmgr: our conmgr with a key waits for a server that proves it, serves under prefer
// and require, and goes on without a loss when the secret is replaced; a dead host's sessions end
// as ever.
func TestKeysOfConmgr(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.key_file", "keys"))
	client, other := w.net.Host("client"), w.net.Host("other")
	mine, first, second := filepath.Join(keyDirectory(t), "key"), keyLine(t, "client1", 1), keyLine(t, "client1", 2)
	conmgrKey(t, mine, first)
	config := cmtest.Config{Interval: "200ms", Timeout: "1s", Clusters: []*pgtest.Cluster{w.primary},
		Extra: "heartbeat_connect_interval = 100ms\n"}
	keyed := config
	keyed.Extra += "heartbeat_key_file = '" + mine + "'\n"
	cm := cmtest.Start(w, client, keyed)
	cm.WaitLog(0, `without the proof of its key, watchdog says: this server proves nothing: watchdog.authentication is off`, patience)

	keyFile(t, w.primary, 0o600, first)
	w.reload(map[string]string{"watchdog.authentication": "prefer"}, `keys of conmgr processes are in force: 1 from`)
	cm.WaitInstance(0, "state", "established")
	s := w.session(client)
	plain := cmtest.Start(w, other, config)
	plain.WaitInstance(0, "state", "established")

	mark := cm.Mark()
	keyFile(t, w.primary, 0o600, first, second)
	w.reload(nil, `keys of conmgr processes are in force`)
	conmgrKey(t, mine, second)
	keyFile(t, w.primary, 0o600, second)
	w.reload(nil, `keys of conmgr processes are in force`) // what it says of each peer may be one line too many
	cm.WaitLog(mark, `another key of keyid "client1" is used`, patience)
	cm.WaitLog(mark, `heartbeat connection is established`, patience)
	cm.WaitInstance(0, "state", "established")
	if v := w.primary.Value("SELECT resumed_count FROM pgx_stat_watchdog WHERE conmgr_addr = '" + client.Addr4.String() + "'"); v == "0" {
		t.Error("the conmgr did not resume")
	}

	mark = plain.Mark()
	w.reload(map[string]string{"watchdog.authentication": "require"}, `"watchdog.authentication" changed to "require"`)
	plain.WaitLog(mark, `this server needs a proof of a key that it knows`, patience)
	if err := s.conn.PingContext(w.Context()); err != nil {
		t.Errorf("a session has ended: %v", err)
	}
	if text := cm.Log(); strings.Contains(text, "is lost") {
		t.Errorf("the instance was lost:\n%s", text)
	}

	cut := w.net.Isolate(client)
	end := w.waitGone(s.pid, 5*time.Second, "the session of the dead host")
	t.Logf("its session ended %v after the cut", since(end, cut))
	cut.Heal()
}

// keyDirectory is one for key files of conmgrs, which everybody may enter.
func keyDirectory(t *testing.T) string {
	t.Helper()
	dir, err := testkit.TempDir("watchdog-keys-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// keyOf writes a key file for a conmgr of the test's own, and returns the line of conmgr.conf.
func keyOf(t *testing.T, line string) string {
	t.Helper()
	path := filepath.Join(keyDirectory(t), "key")
	conmgrKey(t, path, line)
	return "heartbeat_key_file = '" + path + "'\n"
}

// TestKeysBesideVersion10: while an installation is on its way from 1.0 to keys, an old conmgr is
// served by a new server under prefer, and a new conmgr without a key by an old server; one with a
// key waits for a server that proves it, and loses nothing by that.
func TestKeysBesideVersion10(t *testing.T) {
	old := release10(t)
	first := keyLine(t, "client1", 1)
	for name, c := range map[string]struct {
		server, conmgr string // build directories
	}{"old conmgr, new server": {"", old}, "new conmgr, old server": {old, ""}} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, net: testnet.New(t)}
			w.db = w.net.Host("db")
			options := []pgtest.Option{pgtest.Host(w.db), pgtest.Watchdog()}
			if c.server != "" {
				options = append(options, pgtest.BuiltIn(c.server))
			} else {
				options = append(options, pgtest.Set("watchdog.key_file", "keys"))
			}
			w.primary = pgtest.New(t, options...)
			w.admin = w.primary.Admin()
			t.Cleanup(func() { w.admin.Close() })
			if c.server == "" {
				keyFile(t, w.primary, 0o600, first)
				w.reload(map[string]string{"watchdog.authentication": "prefer"}, `keys of conmgr processes are in force: 1 from`)
			}
			client, other := w.net.Host("client"), w.net.Host("other")
			config := cmtest.Config{Interval: "300ms", Timeout: "900ms", Clusters: []*pgtest.Cluster{w.primary}}
			keyed, plain := config, config
			plain.BuiltIn = c.conmgr
			keyed.Extra = keyOf(t, first)
			cmtest.Start(w, client, plain).WaitInstance(0, "state", "established")
			s := w.session(client)
			with := cmtest.Start(w, other, keyed)
			if c.server == "" {
				with.WaitInstance(0, "state", "established")
			} else {
				with.WaitLog(0, `without the proof of its key, watchdog says: conmgr speaks versions 2 to 2`, patience)
				if strings.Contains(with.Log(), "is lost") {
					t.Error("it has lost what it never had")
				}
			}
			cut := w.net.Isolate(client)
			end := w.waitGone(s.pid, 5*time.Second, "the session of the dead host")
			t.Logf("its session ended %v after the cut", since(end, cut))
			cut.Heal()
		})
	}
}
