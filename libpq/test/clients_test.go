package libpqtest

// The drivers of scripting languages, as Debian packages them: unmodified, each with the front in
// the place of libpq.

import (
	"os/exec"
	"path/filepath"
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

func TestDrivers(t *testing.T) {
	for name := range scripts {
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
					if d := time.Since(start); d > 2*time.Second {
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
