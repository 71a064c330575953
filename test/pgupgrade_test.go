package test

// pg_upgrade of a cluster that has the extension.

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// olderVariable names an older PostgreSQL and the project as it was built for it, "pg_config:tree":
// scripts/matrix has both.
const olderVariable = "WATCHDOG_TEST_OLDER"

// TestPgUpgrade: the extension and its objects move to the new cluster; the servers that pg_upgrade
// starts have no workers, so that no conmgr takes one of them for an instance.
func TestPgUpgrade(t *testing.T) {
	t.Run("same version", func(t *testing.T) { upgrade(t) })
	if older := os.Getenv(olderVariable); older != "" {
		config, tree, _ := strings.Cut(older, ":")
		t.Run("from an older one", func(t *testing.T) { upgrade(t, pgtest.Release(config, tree)) })
	}
}

func upgrade(t *testing.T, from ...pgtest.Option) {
	old := pgtest.New(t, append(from, pgtest.Watchdog(), pgtest.Named("old"))...)
	old.Exec("CREATE EXTENSION watchdog")
	old.Exec("CREATE VIEW mine AS SELECT conmgr_addr FROM pgx_stat_watchdog")
	old.Stop(pgtest.Fast)
	mark := len(old.Log())
	// The watchdog port of the old one: whoever listens there during the upgrade is seen by conmgr.
	fresh := pgtest.New(t, pgtest.Watchdog(), pgtest.Named("fresh"), pgtest.Stopped())
	t.Logf("from %s to %s", old.Version, fresh.Version)
	if len(from) > 0 && old.Major() >= fresh.Major() {
		t.Fatalf("%s has to be older than %s", old.Version, fresh.Version)
	}
	ports, err := testkit.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	cm := cmtest.Start(t, nil, cmtest.Config{Interval: "100ms", Timeout: "300ms", Port: ports[0],
		Clusters: []*pgtest.Cluster{old, fresh},
		Extra:    "heartbeat_connect_interval = 50ms\n"})

	cmd := fresh.Command(context.Background(), "pg_upgrade", "-b", old.BinDir(), "-B", fresh.BinDir(), "-d",
		old.DataDir, "-D", fresh.DataDir,
		"-U", "postgres", "-s", fresh.SocketDir)
	cmd.Dir = fresh.SocketDir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_upgrade: %v: %s", err, out)
	}
	if l, found := cm.Find(0, `is established`); found {
		t.Errorf("conmgr was connected to a server of pg_upgrade: %s", l.Text)
	}
	if s := old.Log()[mark:]; strings.Contains(s, "listening for heartbeat connections") {
		t.Errorf("a worker ran during pg_upgrade:\n%s", s)
	}
	fresh.Start()
	cm.WaitInstance(1, "role", "primary")
	if n := fresh.Value("SELECT count(*) FROM mine"); n != "1" {
		t.Errorf("the view over pgx_stat_watchdog has %s rows, want 1", n)
	}
	if v := fresh.Value("SELECT count(*) FROM pg_extension WHERE extname = 'watchdog'"); v != "1" {
		t.Errorf("the extension is not there")
	}
}
