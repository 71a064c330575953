package libpqtest

// The whole: real conmgr, real watchdogs, servers on other hosts, and links that are cut. Needs root (network namespaces) and what `make` builds.

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

type cluster struct {
	net           *testnet.Net
	client        *testnet.Host
	db1, db2      *testnet.Host
	first, second *pgtest.Cluster
	cm            *cmtest.Conmgr
	user          string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	w := &cluster{net: testnet.New(t)}
	w.client, w.db1, w.db2 = w.net.Host("client"), w.net.Host("db1"), w.net.Host("db2")
	w.first = pgtest.New(t, pgtest.Host(w.db1), pgtest.Watchdog(), pgtest.Set("max_connections", "600"))
	w.second = w.first.Standby("second", pgtest.Host(w.db2))
	w.cm = cmtest.Start(t, w.client, cmtest.Config{Interval: "200ms", Timeout: "1s", Clusters: []*pgtest.Cluster{w.first, w.second}})
	w.cm.WaitInstance(0, "role", "primary")
	w.cm.WaitInstance(1, "role", "standby")
	w.user = regexp.MustCompile(`user=(\S+)`).FindStringSubmatch(w.first.DSN())[1]
	return w
}

func (w *cluster) dsn(more string) string {
	return fmt.Sprintf("host=localhost port=%d user=%s dbname=postgres %s", w.cm.Addr().Port(), w.user, more)
}

// command runs on the client host, with the front before it.
func (w *cluster) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	p := program(t, byPath(), name, args...)
	cmd := w.client.Command(context.Background(), p.Path, args...)
	cmd.Env = p.Env
	cmd.Dir = scratch
	return cmd
}

func (w *cluster) psql(t *testing.T, conninfo, query string) (string, error) {
	t.Helper()
	out, err := w.command(t, "psql", "-X", "-At", "-d", conninfo, "-c", query).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestPromotionMovesTheNextConnection(t *testing.T) {
	w := newCluster(t)
	truth := func(h *testnet.Host) string { return fmt.Sprintf(`(address "%s") at port "5432"`, h.Addr4) }
	out, err := w.psql(t, w.dsn("target_session_attrs=read-write"), `\conninfo`)
	if err != nil || !strings.Contains(out, w.db1.Addr4.String()) {
		t.Fatalf("%v %s, not %s", err, out, truth(w.db1))
	}
	out, err = w.psql(t, w.dsn("target_session_attrs=standby"), "select inet_server_addr(), pg_is_in_recovery()")
	if err != nil || out != w.db2.Addr4.String()+"|t" {
		t.Fatalf("%v %s", err, out)
	}
	w.second.Promote()
	start := testnet.Monotonic()
	for {
		out, err = w.psql(t, w.dsn("target_session_attrs=read-write"), `\conninfo`)
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if strings.Contains(out, w.db2.Addr4.String()) {
			break
		}
		if testnet.Monotonic()-start > 20*time.Second {
			t.Fatal(out)
		}
	}
	moved := testnet.Monotonic() - start
	t.Logf("the next connection was on the new primary %v after the promotion", moved)
	if moved > 2500*time.Millisecond { // check_attr_interval, and room for a busy machine: each try is a psql
		t.Errorf("took %v", moved)
	}
}

func TestCutLinkWithFiveHundredBlockedQueries(t *testing.T) {
	const n = 500
	w := newCluster(t)
	c := &conversation{t: t, cmd: w.command(t, "many", strconv.Itoa(n), w.dsn("target_session_attrs=primary application_name=many"))}
	c.start()
	c.until("ready")
	for w.first.Value("select count(*) from pg_stat_activity where application_name = 'many' and wait_event = 'PgSleep'") != strconv.Itoa(n) {
		if c.cmd.ProcessState != nil {
			t.Fatal("it has ended")
		}
	}
	if got := len(w.cm.Show("SHOW APPLICATIONS")); got != n {
		t.Errorf("SHOW APPLICATIONS has %d rows", got)
	}
	mark, stalls := w.cm.Mark(), testkit.WatchStalls()
	w.net.Isolate(w.db1)
	// A dead host takes no processor time from the client's; here both are one machine, and its 500 backends, exiting, would be measured as well.
	w.first.Freeze()
	out := c.rest()
	verdict := w.cm.WaitLog(mark, `is lost`, 30*time.Second)
	told := w.cm.WaitLog(mark, `told 500 application connections`, 30*time.Second)
	t.Logf("conmgr had told all %v after its verdict", told.At-verdict.At)
	wantWoken(t, out, n, verdict.At, stalls)
}

func TestDriversOnACutLink(t *testing.T) {
	w := newCluster(t)
	for name := range scripts {
		for _, how := range []string{"sync", "async"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				program, args := script(t, name, how)
				c := &conversation{t: t, cmd: w.command(t, program, append(args, w.dsn("target_session_attrs=standby application_name="+name+how))...)}
				c.start()
				c.until("ready")
				mark := w.cm.Mark()
				cut := w.net.Isolate(w.db2)
				start := testnet.Monotonic()
				out := c.rest()
				if d := testnet.Monotonic() - start; d > 4*time.Second {
					t.Errorf("took %v with a heartbeat timeout of 1 s", d)
				}
				wantAll(t, out, "lost: ")
				w.cm.WaitLog(mark, `is lost`, 10*time.Second)
				cut.Heal()
				w.cm.WaitInstance(1, "state", "established")
			})
		}
	}
}
