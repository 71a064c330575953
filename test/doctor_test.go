package test

// cm_ctl doctor: ten misconfigurations are each found, with what to do, and nothing else is; and a
// healthy set gives no warning.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// finding is one of cm_ctl doctor --json.
type finding struct {
	Check, Level, Text, Advice string
	Instance                   *int
}

// examination is a way to run cm_ctl doctor.
type examination struct {
	from  *testnet.Host // nil: loopback
	dir   string
	shell string   // before it, in the same shell
	env   []string // beside the usual
	args  []string
	user  int // of root, 0
}

const withSQL = "user=postgres dbname=postgres sslmode=disable"

// doctor runs it.
func (w *world) doctor(x examination) (all []finding, status int) {
	w.Helper()
	w.primary.WaitLog(0, "listening for heartbeat connections", patience)
	dir := w.TempDir()
	bin := filepath.Join(dir, "cm_ctl")
	b, err := os.ReadFile(filepath.Join(sourceRoot(w.T), "build/cm_ctl"))
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(bin, b, 0o755); err != nil {
		w.Fatal(err)
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			w.Fatal(err)
		}
	}
	script := `exec "$@"`
	if x.shell != "" {
		script = x.shell + "; " + script
	}
	args := append([]string{"-c", script, "sh", bin, "doctor", "--json", "-t", "2", "-D", x.dir}, x.args...)
	cmd := exec.Command("sh", args...)
	if x.from != nil {
		cmd = x.from.CommandWith(context.Background(), testnet.Options{UID: x.user, GID: x.user}, "sh", args...)
	}
	cmd.Env = append(os.Environ(), x.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !asExit(err, &exit) {
		w.Fatalf("cm_ctl doctor: %v\n%s", err, stderr.String())
	}
	var report struct{ Findings []finding }
	if err := json.Unmarshal(out, &report); err != nil {
		w.Fatalf("cm_ctl doctor: %v\n%s%s", err, out, stderr.String())
	}
	return report.Findings, cmd.ProcessState.ExitCode()
}

func asExit(err error, to **exec.ExitError) (is bool) {
	*to, is = err.(*exec.ExitError)
	return is
}

// expected is a finding that has to be there; pattern is of its text, and advice of what to do.
type expected struct{ check, level, pattern, advice string }

func (e expected) String() string { return fmt.Sprintf("%s of %s: %s", e.level, e.check, e.pattern) }

// notRunning is what is said in any case where no conmgr runs.
var notRunning = expected{"conmgr", "warning", "no conmgr process runs", "cm_ctl start"}

// finds holds an examination to what it has to find: all of that, and nothing else.
func (w *world) finds(name string, x examination, want ...expected) {
	w.Helper()
	all, status := w.doctor(x)
	found := make([]bool, len(want))
	worst := 0
	for _, f := range all {
		if f.Level == "ok" {
			continue
		}
		worst = max(worst, map[string]int{"warning": 1, "error": 2}[f.Level])
		known := false
		for i, e := range want {
			if e.check == f.Check && e.level == f.Level && regexp.MustCompile(e.pattern).MatchString(f.Text) &&
				regexp.MustCompile(e.advice).MatchString(f.Advice) {
				found[i], known = true, true
			}
		}
		if !known {
			w.Errorf("%s: found, and nothing is wrong: %s: %s: %s (%s)", name, f.Level, f.Check, f.Text, f.Advice)
		}
	}
	for i, e := range want {
		if !found[i] {
			w.Errorf("%s: not found: %s (%s)", name, e, e.advice)
		}
	}
	if status != worst {
		w.Errorf("%s: exit status %d, want %d", name, status, worst)
	}
	if w.Failed() {
		for _, f := range all {
			w.Logf("%s: %s: %s: %s -> %s", name, f.Level, f.Check, f.Text, f.Advice)
		}
	}
}

// configured is a directory with a conmgr.conf, in which no conmgr runs.
func (w *world) configured(lines string) string {
	w.Helper()
	dir := w.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "conmgr.conf"), []byte(lines), 0o644); err != nil {
		w.Fatal(err)
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			w.Fatal(err)
		}
	}
	return dir
}

// entry is an instance of conmgr.conf.
func entry(n int, c *pgtest.Cluster, port, watchdogPort int) string {
	return fmt.Sprintf("backend_hostaddr%d = '%s'\nbackend_port%d = %d\nwatchdog_port%d = %d\n", n, c.Addr(), n, port, n, watchdogPort)
}

func entryOf(n int, c *pgtest.Cluster) string { return entry(n, c, c.Port, c.WatchdogPort) }

// A primary, a standby and a conmgr, as they should be: no warning, with credentials and without, and
// beside a conmgr that does not run the one that it does not.
func TestDoctorOfAHealthySet(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	standby := w.primary.Standby("standby", pgtest.Host(db2))
	cm := cmtest.Start(w, client, cmtest.Config{Interval: "200ms", Timeout: "2s", Clusters: []*pgtest.Cluster{w.primary, standby}})
	cm.WaitInstance(0, "state", "established")
	cm.WaitInstance(1, "state", "established")
	front := "LD_LIBRARY_PATH=" + filepath.Join(sourceRoot(t), "build/connmgr")
	w.session(client)
	services := filepath.Join(w.configured(""), "services")
	if err := os.WriteFile(services, []byte("[mine]\nhost=elsewhere.invalid\nport=1\nuser=postgres\ndbname=postgres\nsslmode=disable\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]examination{
		"without credentials": {},
		"with the front":      {env: []string{front}},
		"with credentials":    {args: []string{"-d", withSQL}, env: []string{front}},
		"by the environment":  {env: []string{"PGUSER=postgres", "PGDATABASE=postgres", "PGSSLMODE=disable"}},
		"by a service":        {env: []string{"PGSERVICE=mine", "PGSERVICEFILE=" + services}},
	} {
		x.from, x.dir = client, cm.Dir
		w.finds(name, x)
	}
	all, _ := w.doctor(examination{from: client, dir: cm.Dir, args: []string{"-d", withSQL}})
	said := fmt.Sprint(all)
	for _, text := range []string{"runs, and answers", "is the primary, at timeline 1", "heartbeats go, with", "has loaded watchdog",
		"TCP_USER_TIMEOUT is 4000 ms, as set", "clocks of this host and of the servers agree", "sees this host at its own address " + client.Addr4.String(),
		"no other conmgr"} {
		if !strings.Contains(said, text) {
			t.Errorf("does not say %q: %s", text, said)
		}
	}
	// Whoever asks is no conmgr: nobody's sessions depend on him.
	if n := w.viewRows(); n != 1 {
		t.Errorf("%d rows of pgx_stat_watchdog", n)
	}
	w.finds("no conmgr runs", examination{from: w.net.Host("other"), dir: w.configured(entryOf(0, w.primary) + entryOf(1, standby))}, notRunning)
}

// What is near to the healthy set, and not it.
func TestDoctorFindsMore(t *testing.T) {
	w := newWorld(t)
	client, db2, db3 := w.net.Host("client"), w.net.Host("db2"), w.net.Host("db3")
	in := func(lines string, more ...string) examination {
		return examination{from: client, dir: w.configured(lines), args: more}
	}
	w.finds("IPv6 only", in(fmt.Sprintf("backend_hostaddr0 = '%s'\nbackend_port0 = %d\n", w.db.Addr6, w.primary.Port)), notRunning)
	w.finds("a name that does not resolve", in("backend_host0 = 'nowhere.invalid'\n"), notRunning,
		expected{"name", "error", `"nowhere.invalid" cannot be resolved`, "Correct backend_host0"})
	w.finds("an erroneous file", in(entryOf(0, w.primary)+"heartbeat_timeout = soon\n"), notRunning,
		expected{"configuration", "error", `conmgr.conf:4: invalid value "soon" for parameter "heartbeat_timeout"`, ""})
	w.finds("a user that is not there", in(entryOf(0, w.primary), "-d", "user=nobody_here dbname=postgres sslmode=disable"), notRunning,
		expected{"SQL", "warning", `could not connect by SQL: role "nobody_here" does not exist`, "the same as psql"})
	plain := pgtest.New(t, pgtest.Host(db2), pgtest.Named("plain"), pgtest.Fresh())
	w.finds("no watchdog", in(entry(0, plain, plain.Port, 27545), "-d", withSQL), notRunning,
		expected{"watchdog port", "error", "nobody listens at", "shared_preload_libraries"},
		expected{"SQL", "error", "watchdog is not in shared_preload_libraries", "restart the server"})
	shut := pgtest.New(t, pgtest.Host(db3), pgtest.Named("shut"), pgtest.Fresh(), pgtest.Watchdog(), pgtest.Set("listen_addresses", "127.0.0.1"),
		pgtest.Set("watchdog.listen_addresses", "*"))
	shut.WaitLog(0, "listening for heartbeat connections", patience)
	w.finds("listen_addresses", in(entryOf(0, shut)), notRunning,
		expected{"SQL port", "error", "nobody listens at", "does its listen_addresses let this host in"})

	cm := cmtest.Start(w, client, cmtest.Config{Interval: "200ms", Timeout: "2s", Clusters: []*pgtest.Cluster{w.primary},
		Extra: "http_port = 8008\nrelay_port_any = 27700\nunix_socket_directories = '., @doctor'\n"})
	cm.WaitInstance(0, "state", "established")
	w.finds("HTTP, relay ports, sockets", examination{from: client, dir: cm.Dir})
	file := filepath.Join(cm.Dir, "conmgr.conf")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, "target_wait = 3s\nport = 27888\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	changed := func(names string) expected {
		return expected{"conmgr", "warning", "does not use what conmgr.conf has now: " + names + "$", "cm_ctl reload"}
	}
	w.finds("a file that was not read again", examination{from: client, dir: cm.Dir}, changed("port, target_wait"))
	cm.Show("RELOAD")
	w.finds("one that needs a restart", examination{from: client, dir: cm.Dir}, changed("port"))
	cm.Signal(syscall.SIGSTOP)
	w.finds("a conmgr that is stopped", examination{from: client, dir: cm.Dir},
		expected{"conmgr", "error", "runs, and could not be asked: .*timeout", "Look at its log"})
	cm.Signal(syscall.SIGCONT)
}

// Server and client on one host.
func TestDoctorOnLoopback(t *testing.T) {
	primary := pgtest.New(t, pgtest.Watchdog())
	primary.Exec("CREATE EXTENSION watchdog")
	w := &world{T: t, primary: primary}
	cm := cmtest.Start(t, nil, cmtest.Config{Interval: "200ms", Timeout: "2s", Clusters: []*pgtest.Cluster{primary}, Port: 27611})
	cm.WaitInstance(0, "state", "established")
	w.finds("by address", examination{dir: cm.Dir, args: []string{"-d", withSQL}})
	named := w.configured(fmt.Sprintf("backend_host0 = localhost\nbackend_port0 = %d\nwatchdog_port0 = %d\n", primary.Port, primary.WatchdogPort))
	another := expected{"other conmgr", "warning", "1 other conmgr at this host's address 127.0.0.1", "heartbeat_key_file"}
	w.finds("by name", examination{dir: named}, notRunning, another)
}

func TestDoctorFindsWrongPorts(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	p := w.primary
	for name, x := range map[string]struct {
		port, watchdogPort int
		want               []expected
	}{
		"watchdog_port, where nobody listens": {p.Port, 1, []expected{{"watchdog port", "error", "nobody listens at .*:1: connection refused",
			"watchdog_port0 has to be its watchdog.port"}}},
		"watchdog_port, the server's": {p.Port, p.Port, []expected{{"watchdog port", "error", "is a PostgreSQL server, and no watchdog",
			"Set watchdog_port0 to the server's watchdog.port"}}},
		"backend_port, where nobody listens": {1, p.WatchdogPort, []expected{{"SQL port", "error", fmt.Sprintf("takes SQL connections on port %d", p.Port),
			fmt.Sprintf("Set backend_port0 to %d", p.Port)}}},
		"backend_port, the watchdog's": {p.WatchdogPort, p.WatchdogPort, []expected{{"SQL port", "error", "takes SQL connections on port",
			fmt.Sprintf("Set backend_port0 to %d", p.Port)}}},
		"both": {1, 2, []expected{{"SQL port", "error", "nobody listens at .*:1", "backend_port0"}, {"watchdog port", "error", "nobody listens at .*:2",
			"watchdog_port0"}}},
	} {
		w.finds(name, examination{from: client, dir: w.configured(entry(0, p, x.port, x.watchdogPort))}, append(x.want, notRunning)...)
	}
}

func TestDoctorFindsFirewalls(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	dir := w.configured(entryOf(0, w.primary))
	open := fmt.Sprintf("Open TCP port %d", w.primary.WatchdogPort)
	w.firewall("DROP", client, dir, "", expected{"watchdog port", "error", "the host is there: a firewall drops", open})
	w.firewall("REJECT", client, dir, "icmpx admin-prohibited", expected{"watchdog port", "error", "rejected by " + w.db.Addr4.String() + ".*a firewall does that", open})
	w.firewall("REJECT as port unreachable", client, dir, "icmpx port-unreachable", expected{"watchdog port", "error", "rejected by .*a firewall does that", open})
	w.firewall("reset", client, dir, "tcp reset", expected{"watchdog port", "error", "nobody listens at", "A firewall that rejects with a reset looks the same"})

	// and in front of PostgreSQL itself
	fault := w.net.CutPort(client, w.db, uint16(w.primary.Port))
	w.finds("DROP of SQL", examination{from: client, dir: dir},
		expected{"SQL port", "error", "the host is there: a firewall drops", fmt.Sprintf("Open TCP port %d", w.primary.Port)}, notRunning)
	fault.Heal()
}

func (w *world) firewall(name string, client *testnet.Host, dir, with string, want expected) {
	w.Helper()
	undo := w.net.Reject(w.db, w.primary.WatchdogPort, with)
	defer undo()
	w.finds(name, examination{from: client, dir: dir}, want, notRunning)
}

func TestDoctorFindsNAT(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	w.net.Masquerade(testnet.Floating(1), client)
	cm := w.conmgr(client, "200ms", "2s")
	want := expected{"address", "warning", fmt.Sprintf("NAT: this host connects from %s, and the server sees it at %s", client.Addr4, testnet.Floating(1)),
		"heartbeat_key_file"}
	w.finds("NAT", examination{from: client, dir: cm.Dir}, want)
	w.finds("NAT, with credentials", examination{from: client, dir: cm.Dir, args: []string{"-d", withSQL}}, want)
}

func TestDoctorFindsASecondAddress(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	second := testnet.Floating(2)
	w.net.Assign(second, client)
	cm := w.conmgr(client, "200ms", "2s")
	w.finds("none is used", examination{from: client, dir: cm.Dir})
	w.net.Prefer(second, client)
	w.finds("what connects now", examination{from: client, dir: cm.Dir}, expected{"address", "warning", "what connects now comes from " + second.String(), "backend_hostaddr0"})
	w.session(client)
	w.net.Prefer(client.Addr4, client)
	w.finds("a session", examination{from: client, dir: cm.Dir},
		expected{"address", "warning", "1 connection of this host comes to it from " + second.String() + ", and heartbeats come from " + client.Addr4.String(), "backend_hostaddr0"})
}

// A second conmgr of the same address.
func TestDoctorFindsAnotherConmgr(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "200ms", "2s")
	want := expected{"other conmgr", "warning", "the server knows 1 other conmgr at this host's address " + client.Addr4.String(), "heartbeat_key_file"}
	w.finds("from a directory of its own", examination{from: client, dir: w.configured(entryOf(0, w.primary))}, want, notRunning)
	cmtest.Start(w, client, cmtest.Config{Interval: "200ms", Timeout: "2s", Clusters: []*pgtest.Cluster{w.primary}, Port: 27600}).
		WaitInstance(0, "state", "established")
	w.finds("two that run", examination{from: client, dir: cm.Dir}, want)
}

func TestDoctorFindsMissingRights(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	destroys := w.configured(entryOf(0, w.primary) + "destroy_sockets = on\n")
	w.finds("no capability", examination{from: client, dir: destroys, user: cmtest.UID},
		expected{"capability", "error", "has not the capability CAP_NET_ADMIN", "AmbientCapabilities=CAP_NET_ADMIN"}, notRunning)
	cm := cmtest.Start(w, client, cmtest.Config{Interval: "200ms", Timeout: "2s", Clusters: []*pgtest.Cluster{w.primary}, NetAdmin: true,
		Extra: "destroy_sockets = on\n"})
	cm.WaitInstance(0, "state", "established")
	w.finds("with the capability", examination{from: client, dir: cm.Dir, user: cmtest.UID})

	other := w.net.Host("other")
	many := w.configured(entryOf(0, w.primary) + "max_connections = 1000\n")
	w.finds("too few descriptors", examination{from: other, dir: many, shell: "ulimit -n 500"},
		expected{"descriptors", "error", "limit of 500 open file descriptors .* is too low: conmgr.conf needs more than 1011", "LimitNOFILE"}, notRunning)
	w.finds("few descriptors", examination{from: other, dir: w.configured(entryOf(0, w.primary)), shell: "ulimit -n 64"},
		expected{"descriptors", "warning", "leaves places for", "LimitNOFILE"}, notRunning)
}

func TestDoctorFindsWrongServers(t *testing.T) {
	w := newWorld(t)
	client, db2, db3 := w.net.Host("client"), w.net.Host("db2"), w.net.Host("db3")
	standby := w.primary.Standby("standby", pgtest.Host(db2))
	standby.WaitLog(0, "listening for heartbeat connections", patience)
	other := pgtest.New(t, pgtest.Host(db3), pgtest.Watchdog(), pgtest.Named("other"), pgtest.Fresh())
	other.WaitLog(0, "listening for heartbeat connections", patience)
	cluster := expected{"cluster", "error", "instance 2 .* is of another cluster", "backend_host2.*watchdog_succeeds"}
	dir := w.configured(entryOf(0, w.primary) + entryOf(1, standby) + entryOf(2, other))
	w.finds("other cluster", examination{from: client, dir: dir}, cluster, notRunning)
	cm := cmtest.Start(w, client, cmtest.Config{Interval: "200ms", Timeout: "2s", Clusters: []*pgtest.Cluster{w.primary, standby, other}})
	for i := range 3 {
		cm.WaitInstance(i, "state", "established")
	}
	refused := expected{"heartbeat", "warning", "no application is sent there: .*system identifier", "rule of choice"}
	w.finds("other cluster, as conmgr sees it", examination{from: client, dir: cm.Dir}, cluster, refused)
	w.finds("one server twice", examination{from: db3, dir: w.configured(entryOf(0, w.primary) + entryOf(1, w.primary))},
		expected{"cluster", "warning", "instance 0 .* and instance 1 .* are the same server", "Take one of the two out"},
		expected{"configuration", "warning", "instance 1 is the same as instance 0", ""}, notRunning)

	standby.Promote()
	cm.WaitInstance(1, "role", "primary") // its watchdog looks now and then
	unfenced := expected{"primary", "error", "an old primary is not fenced: instance 0 .* at timeline 1; the primary is instance 1 .* at timeline 2", "pg_rewind"}
	w.finds("unfenced primary", examination{from: db3, dir: w.configured(entryOf(0, w.primary) + entryOf(1, standby))}, unfenced, notRunning)
}

func TestDoctorFindsTheClock(t *testing.T) {
	w := newWorld(t, pgtest.ShiftedClock())
	client := w.net.Host("client")
	dir := w.configured(entryOf(0, w.primary))
	sql := examination{from: client, dir: dir, args: []string{"-d", withSQL}}
	unwatched := expected{"SQL", "warning", `watchdog_doctor\(\): conmgr processes: None is connected`, "Start conmgr"}
	w.finds("the clock is right", sql, notRunning, unwatched)
	since := w.primary.LogSize()
	w.primary.ShiftClock(time.Hour)
	w.primary.WaitLog(since, "the clock of this machine was set by 3600.0 s", patience)
	w.finds("an hour ahead", sql, notRunning, unwatched,
		expected{"SQL", "warning", `watchdog_doctor\(\): clock: It was set by 3600.0 s`, "NTP"}, expected{"clock", "warning", "the clock of this host is 1h0m0s behind that of instance 0", "chrony"})
	w.primary.ShiftClock(-time.Hour)
	w.finds("an hour behind", sql, notRunning, unwatched,
		expected{"SQL", "warning", `watchdog_doctor\(\): clock: The server has started in the future`, "NTP"}, expected{"clock", "warning", "the clock of this host is 1h0m0s ahead of that of instance 0", "chrony"})
	w.primary.ShiftClock(0)
}

func TestDoctorFindsAnOldFront(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	dir := w.configured(entryOf(0, w.primary))
	front := func(source string) []string {
		lib := w.configured("")
		file := filepath.Join(lib, "front.c")
		if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", filepath.Join(lib, "libpq.so.5"), file).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return []string{"LD_LIBRARY_PATH=" + lib}
	}
	old := expected{"front", "warning", `is older than ".*libpq.so.5": it lacks \d+ functions`, "Install the libpq front of this version"}
	w.finds("old front", examination{from: client, dir: dir, env: front("int PQcmSocket(void) { return -1; }\nint PQconnectdb(void) { return 0; }\n")}, old, notRunning)
	w.finds("no front", examination{from: client, dir: dir, env: front("int PQconnectdb(void) { return 0; }\n")}, notRunning)
}

// Keys, and what a server allows, as its watchdog tells.
func TestDoctorOfKeysAndLimits(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.max_heartbeat_timeout", "5s"), pgtest.Set("watchdog.key_file", "keys"))
	client := w.net.Host("client")
	w.finds("heartbeat_timeout", examination{from: client, dir: w.configured(entryOf(0, w.primary) + "heartbeat_interval = 1\nheartbeat_timeout = 10\n")},
		expected{"settings", "error", "heartbeat_timeout is 10000 ms, and the server allows no more than 5000 ms", "watchdog.max_heartbeat_timeout"}, notRunning)
	key := filepath.Join(keyDirectory(t), "key")
	conmgrKey(t, key, keyLine(t, "client1", 1))
	const times = "heartbeat_interval = 1\nheartbeat_timeout = 3\n"
	keyed := examination{from: client, user: cmtest.UID, dir: w.configured(entryOf(0, w.primary) + times + "heartbeat_key_file = '" + key + "'\n")}
	plain := examination{from: client, dir: w.configured(entryOf(0, w.primary) + times)}
	w.finds("authentication is off", keyed,
		expected{"key", "error", "the server proves nothing: watchdog.authentication is off", "watchdog.key_file"}, notRunning)
	keyFile(t, w.primary, 0o600, keyLine(t, "other", 2))
	w.reload(map[string]string{"watchdog.authentication": "require"}, `keys of conmgr processes are in force: 1 from "keys"`)
	w.finds("an unknown key", keyed, expected{"key", "error", "does not know the key", "watchdog.key_file"}, notRunning)
	w.finds("no key", plain, expected{"key", "error", "the server needs a key", "cm_ctl genkey"}, notRunning)
	keyFile(t, w.primary, 0o600, keyLine(t, "other", 2), keyLine(t, "client1", 1))
	w.reload(nil, `keys of conmgr processes are in force: 2 from "keys"`)
	w.finds("the right key", keyed, notRunning)
}
