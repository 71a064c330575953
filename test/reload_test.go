package test

// conmgr.conf read again under sessions: instances come, change and go, and nobody is told or ended.

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// reloading is a conmgr whose configuration changes.
type reloading struct {
	*world
	cm   *cmtest.Conmgr
	base string // its conmgr.conf in the beginning
}

// reloading begins with what conmgr.conf has now.
func (w *world) reloading(cm *cmtest.Conmgr) *reloading {
	w.Helper()
	text, err := os.ReadFile(filepath.Join(cm.Dir, "conmgr.conf"))
	if err != nil {
		w.Fatal(err)
	}
	return &reloading{w, cm, string(text)}
}

// write puts lines behind those of the beginning.
func (r *reloading) write(lines ...string) {
	r.Helper()
	text := r.base + strings.Join(append(lines, ""), "\n")
	if err := os.WriteFile(filepath.Join(r.cm.Dir, cm.ConfigFile), []byte(text), 0o644); err != nil {
		r.Fatalf("%v", err)
	}
}

// config is what SHOW CONFIG tells, by name; a value that waits for a restart has a star.
func (r *reloading) config() (all map[string]string) {
	r.Helper()
	eventually(r, "SHOW CONFIG", func() (bool, string) {
		rows, err := r.cm.Try("SHOW CONFIG")
		if err != nil {
			return false, err.Error()
		}
		all = map[string]string{}
		for _, row := range rows {
			all[row["name"]] = row["setting"] + map[string]string{"on": "*"}[row["pending_restart"]]
		}
		return true, ""
	})
	return all
}

// reload has it read again, and waits until that is in effect. want are settings then.
func (r *reloading) reload(want map[string]string) {
	r.Helper()
	mark := r.cm.Mark()
	rows, err := r.cm.Try("RELOAD")
	if err != nil {
		r.Fatalf("RELOAD: %v", err)
	}
	for _, row := range rows {
		if row["effect"] == "in place" {
			r.cm.WaitLog(mark, `starting Connection Manager`, patience)
			break
		}
	}
	eventually(r, "the changes are in effect", func() (bool, string) {
		all := r.config()
		for name, value := range want {
			if got, is := all[name]; got != value || is != (value != "") {
				return false, fmt.Sprintf("%s is %q, want %q", name, got, value)
			}
		}
		return true, ""
	})
}

// refused has it read an erroneous file, of which nothing is taken.
func (r *reloading) refused(says string) {
	r.Helper()
	before := r.config()
	if _, err := r.cm.Try("RELOAD"); err == nil || !regexp.MustCompile(says).MatchString(err.Error()) {
		r.Errorf("RELOAD of an erroneous file: %v", err)
	}
	after := r.config()
	for name, value := range before {
		if after[name] != value {
			r.Errorf("%s is %q, was %q: the file was erroneous", name, after[name], value)
		}
	}
}

// counted is what SHOW STATS tells of conmgr, and of instance 0.
func counted(c *cmtest.Conmgr) map[string]int {
	all := map[string]int{}
	for _, row := range c.Show("SHOW STATS") {
		if n, err := strconv.Atoi(row["count"]); err == nil && (row["instance"] == "" || row["instance"] == "0") {
			all[row["statistic"]] = n
		}
	}
	return all
}

// TestReload: reloads that add, change and remove instances and whatever else can change, one in five
// of them erroneous, under sessions by the front, the Go client and a relay port, and busy ones.
func TestReload(t *testing.T) {
	w := newWorld(t, pgtest.Set("max_connections", "250"))
	standby := w.primary.Standby("standby", pgtest.Host(w.net.Host("db2")))
	client := w.net.Host("client")
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "900ms",
		Clusters: []*pgtest.Cluster{w.primary}, Extra: relayConf + "application_grace = 3s\n"})
	cm.WaitInstance(0, "state", "established")
	r := w.reloading(cm)
	reader := standby.OpenAt(client, standby.DSN())
	defer reader.Close()
	reader.SetMaxOpenConns(1)
	session := func() (pid int, err error) {
		err = reader.QueryRow("SELECT pg_backend_pid()").Scan(&pid)
		return pid, err
	}
	read, err := session()
	if err != nil {
		t.Fatal(err)
	}
	var all []*app
	for range rounds(t, 3) {
		all = append(all, w.app(client, "front", byConmgr(cm)), w.app(client, "go", byConmgr(cm)))
	}
	relayed := []*transaction{w.transaction(client, relayDSN(relayReadWrite), "a relayed session"), w.transaction(client, w.primary.DSN(), "a session")}
	carried := w.busy(w.transaction(client, relayDSN(relayReadWrite), "a busy relayed session"))
	bound := func() {
		t.Helper()
		eventually(t, "all are bound", func() (bool, string) {
			rows, err := cm.Try("SHOW INSTANCES")
			if err != nil {
				return false, err.Error()
			}
			return rows[0]["bound"] == strconv.Itoa(len(all)+2), rows[0]["bound"] + " are bound"
		})
	}
	bound()
	since, pid := w.primary.LogSize(), cm.Pid
	counts, events := counted(cm), cm.Show("SHOW EVENTS")
	second := fmt.Sprintf("backend_hostaddr1 = '%s'\nbackend_port1 = %d\nwatchdog_port1 = %d", standby.Addr(), standby.Port, standby.WatchdogPort)
	for i := range rounds(t, 10) {
		name := fmt.Sprintf("reload %d", i)
		w.answered(all, name, func() {
			switch i % 5 {
			case 0: // an instance comes
				r.write(second, "notify_loss = on")
				r.reload(map[string]string{"backend_hostaddr1": standby.Addr().String(), "target_wait": "0"})
				cm.WaitInstance(1, "state", "established")
			case 1: // the beats of all change, and what is looked at when it is needed
				r.write(second, "heartbeat_interval = 200ms", "heartbeat_timeout = 1s", "target_wait = 3s", "log_min_messages = DEBUG")
				r.reload(map[string]string{"heartbeat_interval": "200ms", "heartbeat_timeout": "1s", "target_wait": "3s", "log_min_messages": "DEBUG"})
				cm.WaitInstance(1, "state", "established")
			case 2:
				r.write("heartbeat_timeout = soon", "target_wait = 7s")
				r.refused(`invalid value "soon" for parameter "heartbeat_timeout"`)
			case 3: // and goes
				r.write()
				r.reload(map[string]string{"backend_hostaddr1": "", "target_wait": "0", "heartbeat_interval": "300ms", "log_min_messages": "INFO"})
			case 4: // ports
				r.write(fmt.Sprintf("relay_port_any = %d", relayReadWrite+50), "port = 27999", "max_waiting = 7")
				r.reload(map[string]string{"relay_port_any": strconv.Itoa(relayReadWrite + 50), "max_waiting": "7", "port": "27546*"})
			}
			bound()
		})
		for _, x := range relayed {
			w.goesOn(x, name)
		}
		if t.Failed() {
			return
		}
	}
	carried()
	// the server of an instance that has gone does not wait for a process that has no need of it
	waitQuiet(4 * time.Second) // more than the grace after which it would end what the process has
	if now, err := session(); err != nil || now != read {
		t.Errorf("a session of the standby: %d, was %d: %v", now, read, err)
	}
	for name, n := range counted(cm) {
		if n < counts[name] || name == "established" && n < counts[name]+rounds(t, 10)*3/5 {
			t.Errorf("SHOW STATS: %d %s, were %d", n, name, counts[name])
		}
	}
	if now := cm.Show("SHOW EVENTS"); len(now) <= len(events) || now[0]["number"] != events[0]["number"] {
		t.Errorf("SHOW EVENTS: the first is %v, was %v", now[0], events[0])
	}
	if cm.Pid != pid {
		t.Errorf("process %d, was %d", cm.Pid, pid)
	}
	w.noLog(since, `terminated connections`)
	if line, found := cm.Find(0, `told [0-9]+ application|reset [0-9]+ relayed`); found {
		t.Errorf("conmgr: %s", line.Text)
	}
}

// TestReloadRefused: what is right as a file and cannot be on this machine is refused as an erroneous file
// is, and conmgr goes on with what it has: as a new process it would have ended by it.
func TestReloadRefused(t *testing.T) {
	w, client, cm := relaying(t)
	r := w.reloading(cm)
	l, err := client.Listen("tcp", "127.0.0.1:27990")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	app, relayed := cm.Bind("primary"), w.transaction(client, relayDSN(relayReadWrite), "a relayed session")
	for _, x := range []struct{ line, says string }{
		{"relay_port_any = 27990", `conmgr.conf:[0-9]+: parameter "relay_port_any": could not listen on 127.0.0.1:27990: address already in use`},
		{"http_port = 27990", `conmgr.conf:[0-9]+: parameter "http_port": could not listen on 127.0.0.1:27990: address already in use`},
		{"health_port0 = 27990", `conmgr.conf:[0-9]+: parameter "health_port0": could not listen on 127.0.0.1:27990: address already in use`},
		{"http_port = 27991\nhttp_listen_addresses = '192.0.2.77'", `parameter "http_(port|listen_addresses)": could not listen on 192.0.2.77`},
		{"max_connections = 100000000", `conmgr.conf:[0-9]+: parameter "max_connections": the limit of [0-9]+ open file descriptors is too low`},
		{"destroy_sockets = on", `conmgr.conf:[0-9]+: parameter "destroy_sockets": .*CAP_NET_ADMIN`},
		// the port is kept until a restart, and is in the way
		{"port = 27992\nrelay_port_any = 27546", `parameter "relay_port_any" has the same port as parameter "port", which is 27546`},
	} {
		mark := cm.Mark()
		r.write(x.line, "target_wait = 7s")
		r.refused(x.says)
		cm.WaitLog(mark, `conmgr.conf contains errors; no changes were applied`, patience)
	}
	mark := cm.Mark()
	r.write("relay_port_any = 27990")
	cm.Signal(syscall.SIGUSR2) // cm_ctl restart
	cm.WaitLog(mark, `could not restart: .*conmgr.conf:[0-9]+: parameter "relay_port_any": could not listen`, patience)
	if err := app.Wait(100 * time.Millisecond); err != nil {
		t.Errorf("the application was told: %v", err)
	}
	w.goesOn(relayed, "after reloads that were refused")
	l.Close()
	// who has typed RELOAD sees what comes of it, in one session
	typed := client.Command(t.Context(), "psql", "-X", "-At", "-h", "127.0.0.1", "-p", "27546", "-d", "conmgr", "-U", "x",
		"-c", "SET conmgr.target_wait = '3s'", "-c", "RELOAD", "-c", "SHOW CONFIG", "-c", "SHOW TARGET primary")
	r.write("max_waiting = 77")
	if out, err := typed.CombinedOutput(); err != nil || !contains(string(out), "max_waiting|77|in place\n", "max_waiting|77|1000|", "|primary,read-write|") {
		t.Errorf("psql: %v\n%s", err, out)
	}
	r.write("http_port = 27990", "target_wait = 7s")
	r.reload(map[string]string{"http_port": "27990", "target_wait": "7s"})
	w.goesOn(relayed, "after one that was not")
}

// TestReloadLooksOnce: a reload that goes on in place asks the program that it will be once, and not again
// when it has answered.
func TestReloadLooksOnce(t *testing.T) {
	w, built := newWorld(t), t.TempDir()
	program, err := os.ReadFile(filepath.Join(sourceRoot(t), "build", "conmgr"))
	if err == nil {
		err = os.WriteFile(filepath.Join(built, "conmgr"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cm := cmtest.Start(t, w.net.Host("client"), cmtest.Config{Interval: "300ms", Timeout: "900ms", BuiltIn: built,
		Clusters: []*pgtest.Cluster{w.primary}})
	r := w.reloading(cm)
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", cm.Pid))
	if err == nil {
		err = os.Rename(path, path+".real")
	}
	if err == nil {
		err = os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\necho \"$*\" >> %s/asked\nexec %s.real \"$@\"\n", cm.Dir, path), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.write("max_waiting = 77")
	r.reload(map[string]string{"max_waiting": "77"})
	asked, err := os.ReadFile(filepath.Join(cm.Dir, "asked"))
	d := "-D " + cm.Dir
	if want := fmt.Sprintf("--check %s\n--check %s --handover=1\n%s\n", d, d, d); err != nil || string(asked) != want {
		t.Errorf("the program was called with %q, want %q; %v", asked, want, err)
	}
}

// TestNotifyLossOff: with notify_loss = off a loss ends nothing, and is told to nobody but the log and the
// counters.
func TestNotifyLossOff(t *testing.T) {
	w, client, cm := relaying(t)
	r := w.reloading(cm)
	r.write("notify_loss = off")
	r.reload(map[string]string{"notify_loss": "off"})
	w.primary.Exec("ALTER SYSTEM SET watchdog.terminate = off")
	w.primary.Exec("SELECT pg_reload_conf()")
	bound, generation := cm.Bind("primary"), cm.Show("SHOW INSTANCES")[0]["generation"]
	relayed := w.transaction(client, relayDSN(relayReadWrite), "a relayed session")
	mark := cm.Mark()
	cut := w.net.Cut(client, w.db)
	cm.WaitLog(mark, `would have told 1 application connections of the loss of .*, and reset 1 relayed ones`, patience)
	if _, err := cm.Try("SHOW TARGET primary"); err == nil || !contains(err.Error(), "no target server address") {
		t.Errorf("a lost instance is offered: %v", err)
	}
	cut.Heal()
	cm.WaitInstance(0, "state", "established")
	w.goesOn(relayed, "after a loss that was only reported")
	if now := cm.Show("SHOW INSTANCES")[0]["generation"]; now != generation {
		t.Errorf("generation %s, was %s: the server is told of a loss that nobody knows", now, generation)
	}
	if err := bound.Wait(500 * time.Millisecond); err != nil {
		t.Errorf("the application was told: %v", err)
	}
	for _, row := range cm.Show("SHOW STATS") {
		if want := map[string]string{"told": "0", "would_have_told": "2", "losses": "1"}[row["statistic"]]; want != "" && row["count"] != want {
			t.Errorf("%s: %s, want %s", row["statistic"], row["count"], want)
		}
	}

	r.write()
	r.reload(map[string]string{"notify_loss": "on"})
	cm.WaitInstance(0, "state", "established")
	cm.Bind("primary")
	mark = cm.Mark()
	cut = w.net.Cut(client, w.db)
	cm.WaitLog(mark, `told 1 application connections of the loss`, patience)
	cut.Heal()
}
