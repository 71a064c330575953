package libpqtest

// PQping, and a conmgr that shuts down.

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func TestPing(t *testing.T) {
	cm, empty, smart, last, closed := conmgr(t), conmgrWith(t), conmgr(t), conmgr(t), freePort(t)
	smart.SmartShutdown()
	last.Shutdown()
	for _, c := range []struct{ want, host, port, env string }{
		{"ok", "localhost", primary.port, ""},
		{"ok", "localhost", cm.Port(), ""},
		{"ok", "localhost", cm.Port(), "PGPASSWORD=unused"},
		{"no response", "localhost", empty.Port(), ""},
		{"no response", "localhost", closed, ""},
		{"reject", "localhost", smart.Port(), ""},
		{"reject", "localhost", smart.Port(), "PGSSLMODE=require"},
		{"reject", "localhost", last.Port(), ""},
		{"no attempt", "a,b", "1,2,3", ""},
		// the last one of a list counts, as with libpq
		{"reject", "localhost,localhost", closed + "," + smart.Port(), ""},
		{"no response", "localhost,localhost", smart.Port() + "," + closed, ""},
		{"ok", "localhost,localhost", smart.Port() + "," + cm.Port(), ""},
		{"ok", "localhost,localhost", smart.Port() + "," + primary.port, ""},
	} {
		out := output(t, append(byPath(), c.env), "pings",
			"host="+c.host+" port="+c.port+" user=postgres dbname=postgres", c.host, c.port)
		if want := "PQping " + c.want + "\nPQpingParams " + c.want + "\n"; out != want {
			t.Errorf("%s %s:\n%swant:\n%s", c.port, c.env, out, want)
		}
	}
	for port, want := range map[string]string{primary.port: "accepting connections", cm.Port(): "accepting connections",
		smart.Port(): "rejecting connections",
		empty.Port(): "no response"} {
		out, _ := program(t, byPath(), "pg_isready", "-h", "localhost", "-p", port, "-U", "nosuch").CombinedOutput()
		wantAll(t, string(out), want)
	}
}

// A conmgr that shuts down: the next host of the list, and a message that says why if there is
// none.
func TestConmgrThatShutsDown(t *testing.T) {
	cm, other := conmgr(t), conmgr(t)
	for _, last := range []bool{false, true} {
		cm.SmartShutdown()
		if last {
			cm.Shutdown()
		}
		for _, more := range []string{"", " sslmode=require"} {
			out := failure(t, byPath(), "psql", "-X", "-d", dsn(cm.Port(), more), "-c", "select 1")
			if more == "" || !last { // at the very end it does not say that it is one
				wantAll(t, out, since14(t, `connection to server at "localhost"`), since14(t, ", port "+cm.Port()+" failed: "),
					"the Connection Manager is shutting down")
			}
		}
		list := "host=localhost,localhost user=postgres dbname=postgres port=" + cm.Port() + "," + other.Port()
		if got := connectedPort(t, list); got != primary.port {
			t.Errorf("led to %s", got)
		}
	}
}

// The real one: a smart shutdown waits for an application that holds a connection.
func TestSmartShutdown(t *testing.T) {
	port := freePort(t)
	number, _ := strconv.Atoi(port)
	// The server does not end the session: whose word comes first would be a matter of chance.
	server := pgtest.New(t, pgtest.Watchdog(), pgtest.Set("watchdog.terminate_on_close", "off"))
	cm := cmtest.Start(t, nil, cmtest.Config{Clusters: []*pgtest.Cluster{server}, Port: number})
	cm.WaitInstance(0, "role", "primary")
	before := output(t, trusting(), "pings", dsn(port, ""), "localhost", port)
	holds := converse(t, trusting(), "waits", "socket", dsn(port, ""))
	holds.until("ready")
	mark := cm.Mark()
	if err := syscall.Kill(cm.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cm.WaitLog(mark, "smart shutdown", 10*time.Second)
	if before != "PQping ok\nPQpingParams ok\n" {
		t.Errorf("before: %s", before)
	}
	testkit.Eventually(t, 10*time.Second, "it refuses, what it does when it has said so", func() (bool, string) {
		during := output(t, trusting(), "pings", dsn(port, ""), "localhost", port)
		return during == "PQping reject\nPQpingParams reject\n", during
	})
	wantAll(t, failure(t, trusting(), "psql", "-X", "-d", dsn(port, ""), "-c", "select 1"),
		"port "+port+" failed: the Connection Manager is shutting down")
	if err := syscall.Kill(cm.Pid, syscall.SIGTERM); err != nil { // it does not wait any longer
		t.Fatal(err)
	}
	wantAll(t, holds.rest(), "PQgetResult: result PGRES_FATAL_ERROR", "lost the Connection Manager at")
}
