package libpqtest

// The drivers of scripting languages, as Debian packages them: unmodified, each with the front in
// the place of libpq.

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var scripts = map[string][]string{
	"psycopg2": {"/usr/bin/python3", "psycopg2_wait.py"},
	"psycopg3": {"/usr/bin/python3", "psycopg3_wait.py"},
	"php":      {"/usr/bin/php", "php_wait.php"},
	"ruby":     {"/usr/bin/ruby", "ruby_wait.rb"},
}

func script(t *testing.T, name, how string) (string, []string) {
	t.Helper()
	s := scripts[name]
	if _, err := exec.LookPath(s[0]); err != nil {
		t.Fatalf("%v: install python3-psycopg2, python3-psycopg, php-cli, php-pgsql, ruby-pg", err)
	}
	return s[0], []string{filepath.Join(root, "libpq/test/clients", s[1]), how}
}

// unknown tells whether this is a driver that the distribution does not have: Debian 11, with libpq
// 13, has no psycopg 3.
func unknown(t *testing.T, name string) bool {
	t.Helper()
	return name == "psycopg3" && libpqVersion(t) < 14 && exec.Command("/usr/bin/python3", "-c", "import psycopg").Run() != nil
}

func TestDrivers(t *testing.T) {
	for name := range scripts {
		if unknown(t, name) {
			t.Log("not tried: ", name)
			continue
		}
		for _, how := range []string{"sync", "async"} {
			for way, env := range map[string]func() []string{"path": byPath, "preload": byPreload} {
				t.Run(name+"/"+how+"/"+way, func(t *testing.T) {
					cm := conmgr(t)
					app := name + how + way
					program, args := script(t, name, how)

					// on a standby, and lost while it waits
					c := converse(t, env(), program, append(args,
						dsn(cm.Port(), "target_session_attrs=standby application_name="+app))...)
					wantAll(t, c.until("ready"), "port "+standby.port)
					waitSQL(t, standby, "select count(*) = 1 from pg_stat_activity where application_name = '"+app+"' and wait_event = 'PgSleep'")
					start := time.Now()
					cm.Lose(1)
					out := c.rest()
					if d := time.Since(start); d > 10*time.Second { // a minute without the loss
						t.Errorf("took %v", d)
					}
					wantAll(t, out, "lost: ", why)
					if strings.Contains(out, "not lost") {
						t.Error(out)
					}

					// on the primary; then, as it connects again, on the new one
					c = converse(t, env(), program, append(args, dsn(cm.Port(), "target_session_attrs=primary"))...)
					wantAll(t, c.until("ready"), "port "+primary.port)
					cm.Lose(0)
					c.rest()
					cm.Set(standby.instance(1, isPrimary))
					c = converse(t, env(), program, append(args, dsn(cm.Port(), "target_session_attrs=primary"))...)
					wantAll(t, c.until("ready"), "port "+standby.port)
					cm.Lose(1)
					c.rest()

					// without conmgr
					c = converse(t, env(), program, append(args, dsn(primary.port, "application_name=plain"+app))...)
					wantAll(t, c.until("ready"), "port "+primary.port)
					waitSQL(t, primary, "select count(*) = 1 from pg_stat_activity where application_name = 'plain"+app+"' and wait_event = 'PgSleep'")
					sql(t, primary, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'plain"+app+"'")
					wantAll(t, c.rest(), "lost: ")
				})
			}
		}
	}
}

// PostgreSQL's own programs, of the version that is installed, say and do by way of conmgr what they
// do with libpq.
func TestClientPrograms(t *testing.T) {
	cm := conmgr(t)
	sql(t, primary, "drop table if exists dumped; create table dumped as select i, repeat('x', 1000) as t from generate_series(1, 2000) i")
	sql(t, primary, "select lo_from_bytea(0, 'large')")
	byConmgr, directly := dsn(cm.Port(), "target_session_attrs=primary"), dsn(primary.port, "")
	// since 17.6 and its like each dump has a key of its own
	key := regexp.MustCompile(`(?m)^\\(un)?restrict .*$`)
	for _, program := range [][]string{{"pg_dump"}, {"pg_dump", "-b", "--inserts", "-t", "dumped"}, {"pg_dumpall", "-g"}} {
		said := func(env []string, conninfo string) string {
			args := append(slices.Clone(program[1:]), "-d", conninfo)
			return key.ReplaceAllString(output(t, env, program[0], args...), "")
		}
		want := said(plain(), directly)
		for _, conninfo := range []string{byConmgr, directly} {
			if got := said(byPath(), conninfo); got != want || len(want) < 100 {
				t.Errorf("%s of %s: %d bytes, not %d", program, conninfo, len(got), len(want))
			}
		}
	}

	// by several connections
	dir := filepath.Join(t.TempDir(), "dump")
	output(t, byPath(), "pg_dump", "-Fd", "-j", "3", "-f", dir, "-d", byConmgr)
	sql(t, primary, "drop table dumped")
	output(t, byPath(), "pg_restore", "-j", "3", "-t", "dumped", "-d", byConmgr, dir)
	if got := sql(t, primary, "select count(*) from dumped"); got != "2000" {
		t.Errorf("%s rows are restored", got)
	}
	output(t, byPath(), "vacuumdb", "-j", "2", "-z", "-q", "-d", byConmgr)
	wantAll(t, output(t, byPath(), "pg_isready", "-d", byConmgr), "accepting connections")
	wantAll(t, output(t, append(byPath(), "PGTARGETSESSIONATTRS=primary"), "psql", "-X", "-At", "-d", byConmgr, "-v", "FETCH_COUNT=100", "-c",
		"select count(i) over () from dumped limit 1000"), strings.Repeat("2000\n", 1000))
	wantAll(t, output(t, byPath(), "psql", "-X", "-At", "-d", byConmgr, "-c", "\\copy (select 42) to stdout"), "42")
}
