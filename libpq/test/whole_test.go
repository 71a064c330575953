package libpqtest

// The whole: real conmgr, real watchdogs, servers on other hosts, and links that are cut. Needs
// root (network namespaces) and what `make` builds.

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
	w.cm = cmtest.Start(t, w.client, cmtest.Config{Interval: "200ms", Timeout: "1s",
		Extra:    "application_grace = 60s\n", // a busy machine takes its time to start it again
		Clusters: []*pgtest.Cluster{w.first, w.second}})
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
	p := program(t, trusting(), name, args...)
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
	start, stalls := testnet.Monotonic(), testkit.WatchStalls()
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
	moved, stall := testnet.Monotonic()-start, stalls.Longest()
	t.Logf("the next connection was on the new primary %v after the promotion (this machine stalled for up to %v)", moved, stall)
	// check_attr_interval, and room for a busy machine: each try is a psql
	if limit := 2500*time.Millisecond + 5*stall; moved > limit {
		t.Errorf("took %v, more than %v", moved, limit)
	}
}

func TestCutLinkWithFiveHundredBlockedQueries(t *testing.T) {
	const n = 500
	w := newCluster(t)
	c := &conversation{t: t, cmd: w.command(t, "many", strconv.Itoa(n),
		w.dsn("target_session_attrs=primary application_name=many"))}
	c.start()
	c.until("ready")
	for w.first.Value("select count(*) from pg_stat_activity where application_name = 'many' and wait_event = 'PgSleep'") != strconv.Itoa(n) {
		if c.cmd.ProcessState != nil {
			t.Fatal("it has ended")
		}
	}
	shown := w.cm.Show("SHOW APPLICATIONS")
	if len(shown) != n || shown[0]["application_name"] != "many" || shown[0]["target"] != "primary" ||
		shown[0]["instance"] != "0" {
		t.Errorf("SHOW APPLICATIONS has %d rows, such as %v", len(shown), shown[:min(1, len(shown))])
	}
	mark, stalls := w.cm.Mark(), testkit.WatchStalls()
	w.net.Isolate(w.db1)
	// A dead host takes no processor time from the client's; here both are one machine, and its 500
	// backends, exiting, would be measured as well.
	w.first.Freeze()
	out := c.rest()
	verdict := w.cm.WaitLog(mark, `is lost`, 30*time.Second)
	told := w.cm.WaitLog(mark, `told 500 application connections`, 30*time.Second)
	t.Logf("conmgr had told all %v after its verdict", told.At-verdict.At)
	wantWoken(t, out, n, verdict.At, stalls)
}

// Every client waits in a query when the link is cut, and has its error within the heartbeat
// timeout.
func TestClientsOnACutLink(t *testing.T) {
	w := newCluster(t)
	sleep := write(t, "sleep.sql", "select pg_sleep(60);\n")
	type client struct {
		command []string
		target  string // "": the program says itself what it wants, read-write among it
		want    []string
	}
	clients := map[string]client{
		"psql": {[]string{"psql", "-X", "-c", "select pg_sleep(60)", "-d"}, "standby",
			[]string{"server closed the connection unexpectedly", "lost the server at"}},
		"pgbench": {[]string{"pgbench", "-n", "-f", sleep, "-t", "1", "-c", "4", "-j", "2"}, "standby",
			[]string{"aborted"}},
		"ecpg": {[]string{"bank", fmt.Sprint(w.cm.Addr().Port())}, "",
			[]string{"query: sqlstate 5", "reader after: sqlstate 00000"}},
		"C": {[]string{"waits", "exec"}, "standby",
			[]string{"PQexec: result PGRES_FATAL_ERROR sqlstate none status bad", "lost the server at"}},
	}
	for name := range scripts {
		if unknown(t, name) {
			continue
		}
		for _, how := range []string{"sync", "async"} {
			program, args := script(t, name, how)
			clients[name+" "+how] = client{append([]string{program}, args...), "standby", []string{"lost: "}}
		}
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			server, host, number, app := w.second, w.db2, 1, "cut-"+strings.ReplaceAll(name, " ", "-")
			args := c.command[1:]
			if c.target != "" {
				args = append(args, w.dsn("application_name="+app+" target_session_attrs="+c.target))
			} else {
				server, host, number, app = w.first, w.db1, 0, "writer"
			}
			p := &conversation{t: t, cmd: w.command(t, c.command[0], args...)}
			p.start()
			testkit.Eventually(t, 20*time.Second, "the query runs", func() (bool, string) {
				return server.Value("select count(*) > 0 from pg_stat_activity where wait_event = 'PgSleep' and application_name = $1", app) == "true", ""
			})
			mark := w.cm.Mark()
			cut := w.net.Isolate(host)
			start := testnet.Monotonic()
			out, _ := p.end()
			if d := testnet.Monotonic() - start; d > 4*time.Second {
				t.Errorf("took %v with a heartbeat timeout of 1 s", d)
			}
			wantAll(t, out, c.want...)
			if strings.Contains(out, "not lost") {
				t.Error(out)
			}
			w.cm.WaitLog(mark, `is lost`, 10*time.Second)
			cut.Heal()
			w.cm.WaitInstance(number, "state", "established")
		})
	}
}
