package libpqtest

// ODBC: unixODBC and psqlODBC, which sits on libpq, with the front in its place.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// odbc builds the program, and returns the environment in which unixODBC pools connections.
func odbc(t *testing.T) (program string, env []string) {
	t.Helper()
	dir := t.TempDir()
	program = filepath.Join(dir, "odbc")
	if err := run(root, "gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-I/usr/include/postgresql", "-o",
		program, "libpq/test/c/odbc.c", "-lodbc"); err != nil {
		t.Fatalf("%v: install unixodbc-dev, odbc-postgresql", err)
	}
	writeFile(t, filepath.Join(dir, "odbcinst.ini"), "[ODBC]\nPooling = Yes\n\n[PostgreSQL Unicode]\nDriver = psqlodbcw.so\nCPTimeout = 300\n")
	if err := os.Chmod(filepath.Join(dir, "odbcinst.ini"), 0o644); err != nil {
		t.Fatal(err)
	}
	return program, append(byPath(), "ODBCSYSINI="+dir)
}

// As docs/drivers-odbc.md has it.
func odbcString(port, target string, more ...string) string {
	options := strings.Join(append([]string{"target_session_attrs=" + target}, more...), " ")
	return "DRIVER={PostgreSQL Unicode};SERVER=localhost;PORT=" + port + ";DATABASE=postgres;UID=postgres;pqopt={" +
		options + "}"
}

func TestODBC(t *testing.T) {
	app, env := odbc(t)
	// lost: the SQLSTATE of what waits or comes first; later: on the dead handle
	for how, want := range map[string][]string{
		"wait": {"lost: -1 08S01", "dead 1", "later: -1 08S01", "again: port " + standby.port, "dead 0"},
		"idle": {"lost: -1 08S01", "dead 1", "later: -1 08S01", "again: port " + standby.port, "dead 0"},
		// the pool hands the dead connection out once, and then knows
		"pool": {"pooled: -1 08S01", "pooled: port " + standby.port + "\npooled: port " + standby.port + "\n"},
	} {
		if looksFirst(t) && how != "wait" {
			want = []string{": -1 HY000 server closed the connection unexpectedly"} // so it is after any reset, and stays
		}
		t.Run(how, func(t *testing.T) {
			cm := conmgr(t)
			c := converse(t, env, app, how, odbcString(cm.Port(), "read-write", "application_name=odbc"+how))
			wantAll(t, c.until("ready"), "first: port "+primary.port)
			if how == "wait" {
				waitSQL(t, primary, "select count(*) > 0 from pg_stat_activity where wait_event = 'PgSleep' and application_name = 'odbcwait'")
			}
			if err := cm.WaitBound(1); err != nil { // in the pool, too
				t.Fatal(err)
			}
			cm.Set(primary.instance(0, isPrimary), standby.instance(1, isPrimary))
			cm.Lose(0)
			if how != "wait" { // the front has acted on it when the server sees the end
				waitSQL(t, primary, "select count(*) = 0 from pg_stat_activity where application_name = 'odbc"+how+"'")
			}
			fmt.Fprintln(c.in)
			out := c.rest()
			wantAll(t, out, want...)
			wantAll(t, out, why)
		})
	}
	t.Run("targets", func(t *testing.T) {
		cm := conmgr(t)
		for target, want := range map[string]*server{"read-write": primary, "standby": standby,
			"prefer-standby": standby} {
			wantAll(t, output(t, env, app, "once", odbcString(cm.Port(), target)), "first: port "+want.port+"\n")
		}
		isql := program(t, env, "isql", "-v", "-k", odbcString(cm.Port(), "standby"))
		isql.Stdin = strings.NewReader("select inet_server_port()\n")
		out, err := isql.CombinedOutput()
		if err != nil {
			t.Errorf("isql: %v", err)
		}
		wantAll(t, string(out), standby.port)
	})
	t.Run("none matches", func(t *testing.T) {
		out := failure(t, env, app, "once", odbcString(conmgrWith(t).Port(), "read-write"))
		wantAll(t, out, "connect: -1 08001", "no target server address from Connection Manager")
	})
}

// What psqlODBC does not do, with the front or without.
func TestODBCsLimits(t *testing.T) {
	app, env := odbc(t)
	out := output(t, env, app, "async", odbcString(conmgr(t).Port(), "any"))
	wantAll(t, out, "async mode 0", "executes: 0") // SQL_AM_NONE; the call has waited
	// a list of ports is cut to nine characters; in pqopt it arrives whole, if SERVER and PORT
	// leave room for it
	driver := "DRIVER={PostgreSQL Unicode};DATABASE=postgres;UID=postgres;"
	closed, cm := freePort(t), conmgr(t)
	ports := closed + "," + cm.Port()
	wantAll(t, failure(t, env, app, "once", driver+"SERVER=localhost,localhost;PORT="+ports), "connect: -1 08001")
	wantAll(t, output(t, env, app, "once", driver+"SERVER=localhost,localhost;PORT="+cm.Port()),
		"first: port "+primary.port)
	wantAll(t, output(t, env, app, "once", driver+"pqopt={host=localhost,localhost port="+ports+"}"),
		"first: port "+primary.port)
	wantAll(t, failure(t, env, app, "once", driver+"PORT="+closed+";pqopt={port="+cm.Port()+"}"),
		"connect: -1 08001 port parameter in pqopt option conflicts")
}
