package test

// The programs that come with PostgreSQL, of the version that is installed, through the libpq front
// and through a relay port.

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// ownClients runs PostgreSQL's programs in a host, one way.
type ownClients struct {
	*world
	from *testnet.Host
	env  []string
	dir  string
}

func (c *ownClients) run(name string, args ...string) string {
	c.Helper()
	cmd := c.from.Command(context.Background(), c.program(name), args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestOwnClients: each program finds the primary, does its work there, and needs no other options.
func TestOwnClients(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	standby := w.primary.Standby("standby", pgtest.Host(db2))
	// The standby is listed first: who does not ask conmgr, or not for the primary, finds that one.
	conmgr := cmtest.Start(t, client, cmtest.Config{Interval: "200ms", Timeout: "5s",
		Clusters: []*pgtest.Cluster{standby, w.primary}, Extra: relayConf})
	conmgr.WaitInstance(0, "role", "standby")
	conmgr.WaitInstance(1, "role", "primary")
	for _, way := range []struct {
		name string
		env  []string
	}{
		{"front", []string{"PGCMUSER=*", "LD_LIBRARY_PATH=" + filepath.Join(sourceRoot(t), "build", "connmgr"),
			"PGPORT=" + strconv.Itoa(int(conmgr.Addr().Port())), "PGTARGETSESSIONATTRS=read-write"}},
		{"relay", []string{"PGPORT=" + strconv.Itoa(relayReadWrite)}},
	} {
		t.Run(way.name, func(t *testing.T) {
			dir, err := testkit.TempDir("wdclients")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			c := &ownClients{w.in(t), client, append(way.env, "PGHOST=127.0.0.1", "PGUSER=postgres"), dir}
			c.work()
			c.backUp()
		})
	}
}

// work makes a database, uses it, and copies it by a dump.
func (c *ownClients) work() {
	c.run("pg_isready")
	c.run("createdb", "tried")
	c.run("pgbench", "-i", "-q", "tried")
	out := c.run("pgbench", "-c", "4", "-j", "2", "-t", "25", "-M", "prepared", "tried")
	if !strings.Contains(out, "number of transactions actually processed: 100/100") {
		c.Errorf("pgbench: %s", out)
	}
	c.run("vacuumdb", "-z", "-j", "2", "tried")
	c.run("reindexdb", "tried")
	c.run("pg_dump", "-Fd", "-j", "2", "-f", "dump", "tried")
	c.run("createdb", "copied")
	c.run("pg_restore", "-j", "2", "-d", "copied", "dump")
	const all = "SELECT count(*), (SELECT count(*) FROM pgbench_history) FROM pgbench_accounts"
	if got := c.run("psql", "-XAt", "-d", "copied", "-c", all); got != "100000|100" {
		c.Errorf("the copy has %s rows, want 100000|100", got)
	}
	// Up to 17 a sentence, since 18 a table.
	told := c.run("psql", "-X", "-d", "copied", "-c", `\conninfo`)
	if !regexp.MustCompile(`"copied"|Database +\| copied`).MatchString(told) {
		c.Errorf("\\conninfo: %s", told)
	}
	for _, name := range []string{"tried", "copied"} {
		c.run("dropdb", name)
	}
	if out := c.run("pg_dumpall", "--globals-only"); !strings.Contains(out, "CREATE ROLE postgres") {
		c.Errorf("pg_dumpall: %s", out)
	}
}

// backUp copies the primary by the replication protocol.
func (c *ownClients) backUp() {
	c.run("pg_basebackup", "-D", "backup", "-X", "stream", "-c", "fast")
	c.run("pg_verifybackup", "-n", "backup")
	if _, err := os.Stat(filepath.Join(c.dir, "backup", "standby.signal")); err == nil {
		c.Error("the copy is the standby's")
	}
}
