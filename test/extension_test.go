package test

// The extension as an administrator meets it: settings, loading, the view, dump and upgrade.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lib/pq"
	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// TestActivity: pg_stat_activity shows both workers, once each and also after a restart, where the
// version has room for them.
func TestActivity(t *testing.T) {
	c := pgtest.New(t, pgtest.Watchdog())
	const query = `SELECT coalesce(string_agg(backend_type, ', ' ORDER BY backend_type), 'none')
		FROM pg_stat_activity WHERE backend_type IN ('watchdog worker', 'terminator worker')`
	want := "none"
	if c.Value("SELECT current_setting('server_version_num')::int >= 170000") == "true" {
		want = "terminator worker, watchdog worker"
	}
	shown := func() (bool, string) { v := c.Value(query); return v == want, v }
	eventually(t, "the workers are shown: "+want, shown)
	for _, title := range []string{workerTitle, terminatorTitle} {
		old := c.Worker(title)
		if err := unix.Kill(old, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, title+" is back", func() (bool, string) {
			pid := c.WorkerPid(title)
			return pid != 0 && pid != old, fmt.Sprint(pid)
		})
	}
	eventually(t, "the workers are shown again: "+want, shown)
}

// TestSettings: every setting as documented; a wrong one is pointed out.
func TestSettings(t *testing.T) {
	c := pgtest.New(t, pgtest.Watchdog(), pgtest.Set("max_connections", "37"),
		pgtest.Set("watchdog.no_such_setting", "1"))
	want := [][]string{
		// name, unit, context, type, lowest, highest, default
		{"watchdog.allowed_addresses", "", "sighup", "string", "", "", ""},
		{"watchdog.authentication", "", "sighup", "enum", "", "", "off"},
		{"watchdog.check_attr_interval", "ms", "sighup", "integer", "1", "2147483647", "1000"},
		{"watchdog.drain_grace", "ms", "sighup", "integer", "-1", "2147483647", "-1"},
		{"watchdog.drain_limit", "ms", "sighup", "integer", "-1", "2147483647", "-1"},
		{"watchdog.draining", "", "sighup", "bool", "", "", "off"},
		{"watchdog.kernel_evidence", "", "sighup", "bool", "", "", "on"},
		{"watchdog.key_file", "", "sighup", "string", "", "", ""},
		{"watchdog.listen_addresses", "", "sighup", "string", "", "", c.Value("SHOW listen_addresses")},
		{"watchdog.max_application_grace", "ms", "sighup", "integer", "0", "3600000", "60000"},
		{"watchdog.max_heartbeat_connections", "", "postmaster", "integer", "1", "2147483647", "37"},
		{"watchdog.max_heartbeat_timeout", "ms", "sighup", "integer", "1000", "2147483647", "3600000"},
		{"watchdog.min_heartbeat_interval", "ms", "sighup", "integer", "10", "60000", "10"},
		{"watchdog.port", "", "sighup", "integer", "1", "65535", "27545"},
		{"watchdog.terminate", "", "sighup", "bool", "", "", "on"},
		{"watchdog.terminate_on_close", "", "sighup", "bool", "", "", "on"},
		{"watchdog.terminate_on_silence_only", "", "sighup", "string", "", "", ""},
		{"watchdog.verdict_history", "", "postmaster", "integer", "0", "10000", "100"},
	}
	got := c.Query(`SELECT name, unit, context, vartype, min_val, max_val, boot_val FROM pg_settings WHERE name LIKE 'watchdog.%' AND context <> 'internal' ORDER BY name`)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("pg_settings:\n%v, want\n%v", got, want)
	}
	if v := c.Value("SHOW watchdog.max_heartbeat_connections"); v != "37" {
		t.Errorf("watchdog.max_heartbeat_connections is %s, want max_connections", v)
	}
	c.WaitLog(0, `WARNING: .*"watchdog.no_such_setting"`, patience)
	refused := []string{"watchdog.port = 1", "watchdog.terminate_on_close = off"}
	if c.Major() >= 15 { // since then a module can reserve its prefix
		refused = append(refused, "watchdog.no_such_setting = 1")
	}
	for _, set := range refused {
		if _, err := c.TryQuery("SET " + set); err == nil {
			t.Errorf("SET %s: no error", set)
		}
	}
	for _, set := range []string{"watchdog.port = 0", "watchdog.port = 65536", "watchdog.check_attr_interval = 0",
		"watchdog.max_heartbeat_connections = 0",
		"watchdog.max_heartbeat_timeout = 999", "watchdog.verdict_history = 10001"} {
		if _, err := c.TryQuery("ALTER SYSTEM SET " + set); err == nil ||
			!contains(err.Error(), "is outside the valid range") {
			t.Errorf("ALTER SYSTEM SET %s: %v", set, err)
		}
	}
	for set, detail := range map[string]string{`'"" , pg_rewind'`: "An application's name is empty.",
		"'pg_rewind,'": "List syntax is invalid."} {
		_, err := c.TryQuery("ALTER SYSTEM SET watchdog.terminate_on_silence_only = " + set)
		var e *pq.Error
		if !errors.As(err, &e) || e.Code != "22023" || e.Detail != detail {
			t.Errorf("ALTER SYSTEM SET watchdog.terminate_on_silence_only = %s: %v", set, err)
		}
	}
	for list, entry := range map[string]int{"": 0, "10.0.0.0/8": 0, "10.0.0.1 , 2001:db8::/32": 0, "0.0.0.0/0,::/0": 0,
		"10.0.0.0/33": 1, "10.0.0.1/8": 1, "::1,2001:db8::1/32": 2, "10.0.0.0/8,": 2, "host": 1, "10.0.0.0/+8": 1,
		"10.0.0.0/08": 1, "::ffff:10.0.0.0/104": 1, "10.0.0.0/8,,::1": 2, "fe80::1%lo": 1, "10.0.0.0/": 1} {
		_, err := c.TryQuery("ALTER SYSTEM SET watchdog.allowed_addresses = '" + list + "'")
		var e *pq.Error
		if entry == 0 && err != nil || entry != 0 && (!errors.As(err, &e) || e.Code != "22023" ||
			e.Detail != fmt.Sprintf("Entry %d of the list is no network.", entry)) {
			t.Errorf("ALTER SYSTEM SET watchdog.allowed_addresses = %s: %v", list, err)
		}
	}
}

// TestWithoutPreload: a server whose shared_preload_libraries does not name watchdog, before and
// after the extension was in use.
func TestWithoutPreload(t *testing.T) {
	c := pgtest.New(t, pgtest.Watchdog())
	c.Exec("CREATE EXTENSION watchdog")
	c.Configure("shared_preload_libraries", "")
	c.Restart() // with watchdog.port still in its file
	if pid := c.WorkerPid(workerTitle); pid != 0 {
		t.Errorf("there is a watchdog worker: %d", pid)
	}
	refused := func(statement string) {
		t.Helper()
		_, err := c.TryQuery(statement)
		var e *pq.Error
		if !errors.As(err, &e) || e.Code != "55000" || !contains(e.Message, "must be loaded by",
			"shared_preload_libraries") || !contains(e.Hint, "restart the server") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	refused("SELECT * FROM pgx_stat_watchdog")
	refused("LOAD 'watchdog'")
	c.Exec("DROP EXTENSION watchdog")
	refused("CREATE EXTENSION watchdog")
	refused("SELECT 1; LOAD '$libdir/watchdog'; SELECT 2")
	if n := c.Value("SELECT count(*) FROM pg_extension WHERE extname = 'watchdog'"); n != "0" {
		t.Errorf("the extension is there")
	}
	if log := c.Log(); contains(log, "was terminated by signal") || contains(log, "PANIC") {
		t.Errorf("a process crashed")
	}
	c.Configure("shared_preload_libraries", "watchdog")
	c.Restart()
	c.Exec("CREATE EXTENSION watchdog")
	if n := c.Value("SELECT count(*) FROM pgx_stat_watchdog"); n != "0" {
		t.Errorf("%s rows in the view, want 0", n)
	}
}

// columns of the view: the guide's four first.
var columns = [][]string{
	{"conmgr_addr", "inet"}, {"conmgr_port", "integer"}, {"heartbeat_interval", "integer"},
	{"heartbeat_timeout", "integer"},
	{"heartbeat_interval_ms", "bigint"}, {"heartbeat_timeout_ms", "bigint"},
	{"connected_since", "timestamp with time zone"}, {"last_received", "timestamp with time zone"},
	{"received_count", "bigint"}, {"sent_count", "bigint"}, {"resumed_count", "bigint"}, {"generation", "bigint"},
	{"conmgr_id", "uuid"}, {"suspended_count", "bigint"}, {"keyid", "text"}, {"sessions_to_drain", "bigint"},
}

// TestView: what the view shows of two conmgrs, to whom, and that nothing which is done to the
// extension in SQL touches heartbeats.
func TestView(t *testing.T) {
	w := newWorld(t)
	quick, slow := w.net.Host("quick"), w.net.Host("slow")
	cm := w.conmgr(quick, "500ms", "1500ms")
	w.conmgr(slow, "2s", "7s")
	mark := cm.Mark()
	s := w.session(quick, "BEGIN")
	for _, statement := range []string{"CREATE ROLE watcher LOGIN IN ROLE pg_monitor", "CREATE ROLE granted LOGIN",
		"CREATE ROLE plain LOGIN"} {
		w.primary.Exec(statement)
	}
	as := func(role, database string) error {
		db := w.primary.OpenAt(nil, strings.Replace(w.primary.DSNOf(w.primary.SocketDir, database), "user=postgres",
			"user="+role, 1))
		defer db.Close()
		var n int
		err := db.QueryRow("SELECT count(*) FROM pgx_stat_watchdog").Scan(&n)
		if err == nil && n != 2 {
			err = fmt.Errorf("%d rows", n)
		}
		return err
	}

	t.Run("columns and rows", func(t *testing.T) {
		got := w.primary.Query(`SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
			WHERE attrelid = 'pgx_stat_watchdog'::regclass AND attnum > 0 ORDER BY attnum`)
		if !reflect.DeepEqual(got, columns) {
			t.Errorf("columns: %v\nwant: %v", got, columns)
		}
		got = w.primary.Query(`SELECT host(conmgr_addr), heartbeat_interval, heartbeat_timeout, heartbeat_interval_ms, heartbeat_timeout_ms, generation,
				conmgr_port BETWEEN 1024 AND 65535 AND conmgr_port <> 27546, connected_since <= last_received AND last_received <= clock_timestamp(),
				now() - connected_since < '1 minute'
			FROM pgx_stat_watchdog ORDER BY heartbeat_timeout`)
		want := [][]string{
			{quick.Addr4.String(), "1", "2", "500", "1500", "0", "true", "true", "true"},
			{slow.Addr4.String(), "2", "7", "2000", "7000", "0", "true", "true", "true"},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("rows: %v\nwant: %v", got, want)
		}
		if n := w.primary.Value("SELECT count(DISTINCT conmgr_id) FROM pgx_stat_watchdog"); n != "2" {
			t.Errorf("%s conmgr ids, want 2", n)
		}
	})
	t.Run("privileges", func(t *testing.T) {
		if err := as("watcher", "postgres"); err != nil {
			t.Errorf("a member of pg_monitor: %v", err)
		}
		var e *pq.Error
		if err := as("plain", "postgres"); !errors.As(err, &e) || e.Code != "42501" {
			t.Errorf("an ordinary role: %v", err)
		}
	})
	t.Run("dump and restore", func(t *testing.T) {
		w.primary.Exec("GRANT SELECT ON pgx_stat_watchdog TO granted")
		w.primary.Exec("GRANT EXECUTE ON FUNCTION pgx_stat_get_watchdog_1_1() TO granted")
		w.primary.Exec("CREATE DATABASE copy")
		dump := w.client("pg_dump", "-d", "postgres")
		if !contains(dump, "CREATE EXTENSION IF NOT EXISTS watchdog") || strings.Contains(dump, "CREATE VIEW") {
			t.Errorf("pg_dump:\n%s", dump)
		}
		file := filepath.Join(t.TempDir(), "dump.sql")
		if err := os.WriteFile(file, []byte(dump), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(file), 0o755); err != nil { // psql is another user
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		w.client("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "copy", "-f", file)
		for _, role := range []string{"postgres", "watcher", "granted"} {
			if err := as(role, "copy"); err != nil {
				t.Errorf("%s, in the restored database: %v", role, err)
			}
		}
		var e *pq.Error
		if err := as("plain", "copy"); !errors.As(err, &e) || e.Code != "42501" {
			t.Errorf("an ordinary role, in the restored database: %v", err)
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		script := filepath.Join(strings.TrimSpace(w.client("pg_config", "--sharedir")), "extension",
			"watchdog--1.2--1.3.sql")
		text := "\\echo Use \"ALTER EXTENSION watchdog UPDATE\" to load this file. \\quit\n" +
			"CREATE OR REPLACE VIEW pgx_stat_watchdog AS SELECT *, 'made up'::text AS made_up FROM pgx_stat_get_watchdog_1_1();\n"
		if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(script)
		w.primary.Exec("ALTER EXTENSION watchdog UPDATE TO '1.3'")
		got := w.primary.Query("SELECT extversion, (SELECT string_agg(DISTINCT made_up, '') FROM pgx_stat_watchdog) FROM pg_extension WHERE extname = 'watchdog'")
		if !reflect.DeepEqual(got, [][]string{{"1.3", "made up"}}) {
			t.Errorf("after the upgrade: %v", got)
		}
		if err := as("granted", "postgres"); err != nil {
			t.Errorf("a grant of before the upgrade: %v", err)
		}
	})
	t.Run("drop and create", func(t *testing.T) {
		const identity = "SELECT conmgr_id, conmgr_port, connected_since, resumed_count FROM pgx_stat_watchdog ORDER BY 1"
		before := w.primary.Query(identity)
		w.primary.Exec("DROP EXTENSION watchdog")
		w.primary.Exec("CREATE EXTENSION watchdog")
		if after := w.primary.Query(identity); !reflect.DeepEqual(before, after) {
			t.Errorf("before the drop: %v\nafter: %v", before, after)
		}
	})
	if l, ok := cm.Find(mark, `is lost|closed|refused`); ok {
		t.Errorf("conmgr: %s", l.Text)
	}
	w.alive(s, "a session of a host with a conmgr")
}

// client runs a program of PostgreSQL on the server's host, by Unix socket, and returns its output.
func (w *world) client(name string, args ...string) string {
	w.Helper()
	if name != "pg_config" {
		args = append([]string{"-h", w.primary.SocketDir, "-p", fmt.Sprint(w.primary.Port), "-U", "postgres"}, args...)
	}
	cmd := w.primary.Command(context.Background(), name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.Fatalf("%s: %v: %s", name, err, stderr.String())
	}
	return string(out)
}
