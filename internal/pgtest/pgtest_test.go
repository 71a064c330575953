package pgtest

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

func TestLoopback(t *testing.T) {
	leak.Check(t)
	c := New(t, Set("work_mem", "1MB"), Set("application_name", "it's quoted"))
	if got := c.Value("show work_mem"); got != "1MB" {
		t.Errorf("got work_mem %s", got)
	}
	uid, _ := serverUser()
	if info, err := os.Stat(c.DataDir); err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != uid {
		t.Errorf("data directory %v, %v: want owner %d", info, err, uid)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		db := c.open(nil, c.DSNOf(host, "postgres")+" application_name=tcp")
		var name string
		if err := db.QueryRow("select application_name from pg_stat_activity where pid = pg_backend_pid()").Scan(&name); err != nil || name != "tcp" {
			t.Errorf("over %s: got %q, %v", host, name, err)
		}
		db.Close()
	}
	// The extension's files go into the private copy.
	if got := c.Value("select setting from pg_config where name = 'PKGLIBDIR'"); got != c.inst.pkglib {
		t.Errorf("the server uses %s, want the private copy %s", got, c.inst.pkglib)
	}
	c.Exec("create extension pg_prewarm") // through the links

	c.Configure("work_mem", "2MB")
	c.Reload()
	testkit.Eventually(t, 10*time.Second, "the reload",
		func() (bool, string) { got := c.Value("show work_mem"); return got == "2MB", got })

	since := c.LogSize()
	pid := c.PostmasterPid()
	c.Restart()
	if now := c.PostmasterPid(); now == 0 || now == pid {
		t.Errorf("postmaster is %d after %d", now, pid)
	}
	if m := c.WaitLog(since, `received (\w+) shutdown request`, 5*time.Second); m[1] != "fast" {
		t.Errorf("got a %s shutdown", m[1])
	}
	testkit.Eventually(t, patience, "a walwriter, whose title comes after its fork", func() (bool, string) {
		return c.WorkerPid("walwriter") != 0, fmt.Sprint(c.Processes())
	})
	c.Kill9()
	if left := c.Processes(); len(left) != 0 || c.PostmasterPid() != 0 {
		t.Errorf("processes %v are still there after the end of the postmaster", left)
	}
	c.Start() // over the remains
	c.Stop(Immediate)
	if _, err := c.TryQuery("select 1"); err == nil {
		t.Error("a stopped server answers")
	}
}

func TestStartFailure(t *testing.T) {
	c := New(t, Stopped(), Set("shared_preload_libraries", "no_such_library"))
	if err := c.TryStart(); err == nil || !strings.Contains(err.Error(), "ended at its start") {
		t.Errorf("got %v, want a failure", err)
	}
	c.WaitLog(0, `could not access file "no_such_library"`, time.Second)
}

// hangs checks that a statement does not end soon, and returns how it will.
func hangs(t *testing.T, db *sql.DB, statement string) <-chan error {
	t.Helper()
	answer := make(chan error, 1)
	go func() {
		_, err := db.Exec(statement)
		answer <- err
	}()
	select {
	case err := <-answer:
		t.Fatalf("%s: ended with %v, want no answer", statement, err)
	case <-time.After(200 * time.Millisecond):
	}
	return answer
}

func TestStandbyAndPromotionInHosts(t *testing.T) {
	leak.Check(t)
	n := testnet.New(t)
	client, db1, db2 := n.Host("client1"), n.Host("db1"), n.Host("db2")
	primary := New(t, Host(db1))
	standby := primary.Standby("standby1", Host(db2))
	if got := standby.Value("select pg_is_in_recovery()"); got != "true" {
		t.Fatalf("standby says pg_is_in_recovery() = %s", got)
	}
	primary.Exec("create table t (a int)")

	db := primary.Open(client, "application_name=app connect_timeout=5")
	defer db.Close()
	if _, err := db.Exec("insert into t values (1)"); err != nil {
		t.Fatal(err)
	}
	var app, walsender Backend
	for _, b := range primary.Backends() {
		switch b.Application {
		case "app":
			app = b
		case "standby1":
			walsender = b
		}
	}
	if app.ClientAddr != client.Addr4.String() || app.State != "idle" || walsender.ClientAddr != db2.Addr4.String() ||
		walsender.Type != "walsender" {
		t.Errorf("got backends %+v and %+v", app, walsender)
	}
	testkit.Eventually(t, 10*time.Second, "the row on the standby", func() (bool, string) {
		rows, err := standby.TryQuery("select a from t")
		return err == nil && len(rows) == 1, fmt.Sprint(rows, err)
	})

	isolation := n.Isolate(db1)
	primary.Exec("insert into t values (2)") // the Unix socket is not cut
	answer := hangs(t, db, "insert into t values (3)")
	standby.Promote()
	other := standby.Open(client, "connect_timeout=5")
	defer other.Close()
	if _, err := other.Exec("insert into t values (4)"); err != nil {
		t.Error(err)
	}
	if got := standby.Value("select string_agg(a::text, ',' order by a) from t"); got != "1,4" {
		t.Errorf("the promoted standby has rows %s", got)
	}
	isolation.Heal()
	if err := <-answer; err != nil {
		t.Errorf("after the isolation: %v", err)
	}
}

func TestFreeze(t *testing.T) {
	c := New(t)
	db := c.Open(nil, "")
	defer db.Close()
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	c.Freeze()
	answer := hangs(t, db, "select 1")
	c.Thaw()
	if err := <-answer; err != nil {
		t.Errorf("after the thaw: %v", err)
	}
	c.Exec("select 1")
	c.Freeze() // the end of the test copes with it
}

func TestHBA(t *testing.T) {
	c := New(t, HBA("local all postgres trust", "host all all 127.0.0.1/32 reject"))
	db := c.Open(nil, "")
	defer db.Close()
	var e *pq.Error
	if err := db.Ping(); !errors.As(err, &e) || e.Code != "28000" {
		t.Errorf("got %v, want a rejection", err)
	}
}

// A server dies with a test process that is killed; the files and namespaces go with the next test
// process.
func TestKilledTestProcess(t *testing.T) {
	if os.Getenv("PGTEST_CHILD") != "" {
		c := New(t, Host(testnet.New(t).Host("db1")))
		d := New(t)
		fmt.Println("ready", c.DataDir, d.DataDir)
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledTestProcess$")
	cmd.Env = append(os.Environ(), "PGTEST_CHILD=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	dirs := strings.Fields(line)
	if err != nil || len(dirs) != 3 {
		t.Fatalf("got %q, %v", line, err)
	}
	clusters := []*Cluster{{DataDir: dirs[1]}, {DataDir: dirs[2]}}
	for _, c := range clusters {
		testkit.Eventually(t, patience, "the processes of "+c.DataDir, func() (bool, string) {
			return len(c.Processes()) >= 5, fmt.Sprint(c.Processes())
		})
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for _, c := range clusters {
		testkit.Eventually(t, 20*time.Second, "end of the server of a killed process", func() (bool, string) {
			left := c.Processes()
			return len(left) == 0, fmt.Sprint(left)
		})
	}
	New(t, Stopped())
	testnet.New(t) // removes the namespaces, too
	for _, c := range clusters {
		if _, err := os.Stat(c.DataDir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", c.DataDir, err)
		}
	}
}
