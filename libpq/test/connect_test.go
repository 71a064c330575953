package libpqtest

// Connecting: what connection strings lead to, directly, by way of conmgr, and mixed.

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

// psql connects and answers the port of the server, or fails.
func connectedPort(t *testing.T, conninfo string, env ...string) string {
	t.Helper()
	return strings.TrimSpace(output(t, append(byPath(), env...), "psql", "-X", "-At", "-d", conninfo, "-c",
		"select inet_server_port()"))
}

func TestEveryFamily(t *testing.T) {
	cm := conmgr(t)
	for name, env := range map[string]func() []string{"path": byPath, "preload": byPreload} {
		t.Run(name, func(t *testing.T) {
			wantAll(t, output(t, env(), "families", dsn(primary.port, "")), "port="+primary.port, "socket=no")
			wantAll(t, output(t, env(), "families", dsn(cm.Port(), "target_session_attrs=primary")),
				"port="+primary.port, "socket=yes")
		})
	}
}

func TestEventProceduresSeeTheApplicationsHandle(t *testing.T) {
	cm := conmgr(t)
	want := output(t, plain(), "events", dsn(primary.port, ""))
	for _, port := range []string{primary.port, cm.Port()} {
		if got := output(t, byPath(), "events", dsn(port, "")); got != want {
			t.Errorf("%s, with the installed libpq %s", got, want)
		}
	}
}

func TestSettingsOutliveTheSteps(t *testing.T) {
	cm := conmgr(t)
	want := output(t, plain(), "settings", dsn(primary.port, ""))
	wantAll(t, want, "LOCATION", "CONTEXT", "traced: 1 0")
	for _, conninfo := range []string{dsn(primary.port, ""), dsn(cm.Port(), ""), dsn(cm.Port(), "sslmode=prefer")} {
		if got := output(t, byPath(), "settings", conninfo); got != want {
			t.Errorf("%s\ngot:\n%swith the installed libpq:\n%s", conninfo, got, want)
		}
	}
}

func TestTargetsByConmgr(t *testing.T) {
	cm := conmgr(t)
	for target, want := range map[string]*server{"": primary, "any": primary, "read-write": primary, "primary": primary,
		"read-only": standby, "standby": standby, "prefer-standby": standby, "prefer-read": standby} {
		more := ""
		if target != "" {
			more = "target_session_attrs=" + target
		}
		if got := connectedPort(t, dsn(cm.Port(), more)); got != want.port {
			t.Errorf("%q led to port %s, not to the %s", target, got, want.name)
		}
	}
	cm.Set(primary.instance(0, isPrimary))
	if got := connectedPort(t, dsn(cm.Port(), "target_session_attrs=prefer-standby")); got != primary.port {
		t.Errorf("prefer-standby without a standby led to %s", got)
	}
	out := failure(t, byPath(), "psql", "-X", "-d", dsn(cm.Port(), "target_session_attrs=standby"), "-c", "select 1")
	wantAll(t, out, `connection to server at "localhost", port `+cm.Port()+" failed: no target server address from Connection Manager", "DETAIL:  No instance has the attribute standby: instance 0 ")
}

// wantConninfo wants what \conninfo of psql has said, in words, or since 18 in a table, to lead there.
func wantConninfo(t *testing.T, out, database, host, hostaddr, port string) {
	t.Helper()
	words := strings.NewReplacer("|", " ", `"`, " ", "(", " ", ")", " ").Replace(out)
	said := strings.Join(strings.Fields(words), " ")
	if !strings.Contains(said, "Server Port") {
		wantAll(t, said, "database "+database+" ", "on host "+host+" address "+hostaddr+" at port "+port)
		return
	}
	wantAll(t, said, "Database "+database+" ", " Host "+host+" ", " Host Address "+hostaddr+" ", " Server Port "+port+" ")
}

func TestConninfoTellsTheTruth(t *testing.T) {
	cm := conmgr(t)
	uri := fmt.Sprintf("postgresql://postgres@localhost:%s/postgres?target_session_attrs=read-write", cm.Port())
	out := output(t, byPath(), "psql", "-X", "-d", uri, "-c", `\conninfo`)
	wantConninfo(t, out, "postgres", "localhost", "127.0.0.1", primary.port)

	// After a promotion elsewhere, the same string leads there; \c asks conmgr again.
	c := converse(t, byPath(), "psql", "-X", "-At", "-d", uri)
	fmt.Fprintln(c.in, `\conninfo`)
	fmt.Fprintln(c.in, `\echo ready`)
	wantAll(t, c.until("ready"), primary.port)
	cm.Set(primary.instance(0, isStandby), standby.instance(1, isPrimary))
	fmt.Fprintln(c.in, `\c`)
	fmt.Fprintln(c.in, `\conninfo`)
	c.in.Close()
	wantAll(t, c.rest(), standby.port)
}

func TestApplicationsAreShownByConmgr(t *testing.T) {
	cm := conmgr(t)
	c := converse(t, byPath(), "waits", "idle", dsn(cm.Port(), "application_name=ledger target_session_attrs=standby"))
	c.until("ready")
	if err := cm.WaitBound(1); err != nil {
		t.Fatal(err)
	}
	if a := cm.Applications()[0]; a.Name != "ledger" || a.Target != "standby" || a.Instance != 1 {
		t.Errorf("%+v", a)
	}
	cm.Lose(1)
	c.rest()
}

// The front must say what libpq says.
func TestErrorsOfPlainConnectionsAreLibpqs(t *testing.T) {
	closed := freePort(t)
	for _, conninfo := range []string{
		"host=localhost port=" + closed, "host=localhost,localhost port=" + closed + "," + freePort(t), "nonsense",
		"nosuch=1", "host=a,b hostaddr=127.0.0.1",
		"host=a,b,c port=1,2", "service=none", "host=nosuch.invalid port=1",
		"host=/nonexistent," + "localhost port=1," + closed,
		dsn(primary.port, "sslmode=bogus"), dsn(primary.port, "connect_timeout=x"), dsn("a", ""), dsn("70000", ""),
		dsn(primary.port, "target_session_attrs=bogus"), dsn(primary.port, "target_session_attrs=''"),
		"host=localhost port=" + primary.port + " user=nosuch dbname=postgres",
		"host=localhost,localhost user=nosuch dbname=postgres port=" + primary.port + "," + standby.port,
		"postgresql://postgres@localhost:" + primary.port + "/nosuch", dsn(primary.port, "sslmode=require"),
		dsn(primary.port, "keepalives=x"),
	} {
		ask := []string{"-X", "-d", conninfo, "-c", "select 1"}
		want := failure(t, plain(), "psql", ask...)
		if got := failure(t, byPath(), "psql", ask...); got != want {
			t.Errorf("%s\ngot:  %swant: %s", conninfo, got, want)
		}
	}
	// The front's own check, with the words of libpq since 14: 13 knows read-write alone, and has other ones for that.
	for conninfo, want := range map[string]string{
		dsn(primary.port, "target_session_attrs=standby"):    "server is not in hot standby mode",
		dsn(primary.port, "target_session_attrs=read-only"):  "session is not read-only",
		dsn(standby.port, "target_session_attrs=read-write"): "session is read-only",
		dsn(standby.port, "target_session_attrs=primary"):    "server is in hot standby mode",
	} {
		if libpqVersion(t) >= 14 {
			asLibpq(t, conninfo, want)
		}
		wantAll(t, failure(t, byPath(), "psql", "-X", "-d", conninfo, "-c", "select 1"), "connection to server at ", want)
	}
}

// A handle that was never connected says why, and from its first use on what libpq says of such a
// one.
func TestFailedHandle(t *testing.T) {
	closed := freePort(t)
	want := output(t, plain(), "async", dsn(closed, ""))
	wantAll(t, want, "Connection refused", "then: no connection to the server")
	if got := output(t, byPath(), "async", dsn(closed, "")); got != want {
		t.Errorf("got: %swant: %s", got, want)
	}
	wantAll(t, output(t, byPath(), "async", dsn(conmgrWith(t).Port(), "")),
		"no target server address from Connection Manager", "then: no connection to the server")
}

func TestPlainLists(t *testing.T) {
	closed := freePort(t)
	both := "host=localhost,localhost user=postgres dbname=postgres port=" + primary.port + "," + standby.port
	for conninfo, want := range map[string]*server{
		both: primary, both + " target_session_attrs=standby": standby,
		both + " target_session_attrs=read-only":      standby,
		both + " target_session_attrs=prefer-standby": standby, both + " target_session_attrs=prefer-read": standby,
		both + " target_session_attrs=read-write": primary,
		"host=localhost user=postgres dbname=postgres target_session_attrs=prefer-standby port=" +
			primary.port: primary,
		"hostaddr=127.0.0.1,127.0.0.1 user=postgres dbname=postgres port=" + closed + "," +
			standby.port: standby,
		"host=/nonexistent,localhost user=postgres dbname=postgres port=1," +
			standby.port: standby,
	} {
		if got := connectedPort(t, conninfo); got != want.port {
			t.Errorf("%s led to port %s, not to the %s", conninfo, got, want.name)
		}
	}
}

func TestUnixSocketsNeedNoConmgr(t *testing.T) {
	out := output(t, byPath(), "families", "host="+primary.SocketDir+" user=postgres dbname=postgres port="+primary.port)
	wantAll(t, out, "host="+primary.SocketDir, "socket=no")
}

func TestEnvironmentServiceAndPassfile(t *testing.T) {
	cm := conmgr(t)
	service := write(t, "service", "[orders]\nhost=localhost\nport="+cm.Port()+"\nuser=postgres\ndbname=postgres\ntarget_session_attrs=standby\n")
	other := write(t, "other", "[orders]\nhost=localhost\nport="+cm.Port()+"\nuser=postgres\ndbname=postgres\n[else]\napplication_name=wrong\n")
	for name, c := range map[string]struct {
		conninfo string
		env      []string
		want     *server
	}{
		"environment": {"", []string{"PGHOST=localhost", "PGPORT=" + cm.Port(), "PGUSER=postgres",
			"PGDATABASE=postgres", "PGTARGETSESSIONATTRS=standby"}, standby},
		"service":   {"service=orders", []string{"PGSERVICEFILE=" + service}, standby},
		"PGSERVICE": {"", []string{"PGSERVICEFILE=" + service, "PGSERVICE=orders"}, standby},
		"overridden": {"service=orders target_session_attrs=primary", []string{"PGSERVICEFILE=" + service},
			primary},
		"not PGSERVICE": {"service=orders", []string{"PGSERVICEFILE=" + other, "PGSERVICE=else"}, primary},
		"URI with a list": {"postgresql://postgres@localhost:1,localhost:" + cm.Port() +
			"/postgres?target_session_attrs=standby", nil, standby},
	} {
		out := output(t, append(byPath(), c.env...), "psql", "-X", "-At", "-d", c.conninfo, "-c",
			"select inet_server_port(), current_setting('application_name')")
		if got := strings.TrimSpace(out); got != c.want.port+"|psql" {
			t.Errorf("%s: %s, not the %s", name, got, c.want.name)
		}
	}
}

func TestListsThatMixConmgrsAndServers(t *testing.T) {
	knows := conmgr(t)
	empty := conmgrWith(t)
	writer := conmgrWith(t, primary.instance(0, isPrimary))
	closed := freePort(t)
	list := func(target string, ports ...string) string {
		return "host=" + strings.Repeat("localhost,", len(ports)-1) + "localhost port=" + strings.Join(ports, ",") +
			" user=postgres dbname=postgres target_session_attrs=" + target
	}
	for conninfo, want := range map[string]*server{
		list("read-write", empty.Port(), knows.Port()):              primary,
		list("standby", primary.port, knows.Port()):                 standby,
		list("any", primary.port, knows.Port()):                     primary,
		list("primary", closed, knows.Port()):                       primary,
		list("primary", empty.Port(), closed, primary.port):         primary,
		list("prefer-standby", primary.port, knows.Port()):          standby,
		list("prefer-standby", empty.Port(), primary.port):          primary,
		list("prefer-standby", writer.Port(), standby.port):         standby,
		list("prefer-standby", writer.Port(), closed):               primary,
		list("standby", closed, empty.Port(), standby.port):         standby,
		list("read-only", primary.port, empty.Port(), knows.Port()): standby,
	} {
		if got := connectedPort(t, conninfo); got != want.port {
			t.Errorf("%s led to port %s, not to the %s", conninfo, got, want.name)
		}
	}
	out := failure(t, byPath(), "psql", "-X", "-d", list("standby", empty.Port(), primary.port, closed), "-c",
		"select 1")
	wantAll(t, out, "no target server address from Connection Manager", "server is not in hot standby mode",
		"Connection refused")
}

// An instance that refuses the SQL connection: another one is asked for, before the next host.
func TestRefusedByTheInstance(t *testing.T) {
	closed := freePort(t)
	dead := at(0, "localhost", closed, isStandby)
	cm := conmgrWith(t, dead, standby.instance(1, isStandby))
	if got := connectedPort(t, dsn(cm.Port(), "target_session_attrs=standby")); got != standby.port {
		t.Errorf("led to %s", got)
	}
	wantAll(t, strings.Join(cm.Asked(), "\n"), "SHOW TARGET standby\nSHOW TARGET standby EXCEPT 0")

	// Instances have numbers; a name is quoted all the same.
	other := freePort(t)
	odd := hostileWith(t, hostile.Script{Rows: []hostile.Row{row("0", closed), row("a'b", other)}})
	out := failure(t, byPath(), "psql", "-X", "-d", dsn(odd.Port(), ""), "-c", "select 1")
	for _, port := range []string{closed, other} {
		wantAll(t, out, "Connection refused", "port "+port, since14(t, "port "+port+" failed: Connection refused"))
	}
	wantAll(t, strings.Join(odd.Asked(), "\n"), "SHOW TARGET any EXCEPT 0, 'a''b'")
}

func TestTimeoutHoldsForStageOne(t *testing.T) {
	frozen := conmgr(t)
	frozen.Freeze(true)
	cm := conmgr(t)
	start := time.Now()
	two := fmt.Sprintf("host=localhost,localhost port=%s,%s user=postgres dbname=postgres connect_timeout=2",
		frozen.Port(), cm.Port())
	if got := connectedPort(t, two); got != primary.port {
		t.Errorf("led to %s", got)
	}
	if d := time.Since(start); d < 1900*time.Millisecond || d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	out := failure(t, byPath(), "psql", "-X", "-d", dsn(frozen.Port(), "connect_timeout=2"), "-c", "select 1")
	wantAll(t, out, "timeout expired")
	// libpq before 17 takes a second for two
	shortest := 900 * time.Millisecond
	if libpqVersion(t) < 17 {
		shortest = 1900 * time.Millisecond
	}
	start = time.Now()
	failure(t, byPath(), "psql", "-X", "-d", dsn(frozen.Port(), "connect_timeout=1"), "-c", "select 1")
	if d := time.Since(start); d < shortest || d > 10*time.Second {
		t.Errorf("connect_timeout=1 took %v", d)
	}
	out = failure(t, byPath(), "psql", "-X", "-d", dsn(frozen.Port(), "connect_timeout=2 sslmode=require"), "-c",
		"select 1")
	wantAll(t, out, "could not receive server address from Connection Manager: timeout expired")
}

// load_balance_hosts=random goes through a list of conmgrs in any order; a libpq that does not know
// the option says so.
func TestLoadBalanceHosts(t *testing.T) {
	first, second := conmgrWith(t, primary.instance(0, isPrimary)), conmgrWith(t, standby.instance(0, isPrimary))
	list := "host=localhost,localhost user=postgres dbname=postgres port=" + first.Port() + "," + second.Port()
	const tries = 40
	count := func(conninfo string) (n int) {
		t.Helper()
		for range tries {
			if connectedPort(t, conninfo) == primary.port {
				n++
			}
		}
		return n
	}
	if n := count(list); n != tries {
		t.Errorf("without the option, %d of %d at the first", n, tries)
	}
	if libpqVersion(t) < 16 {
		ask := []string{"-X", "-d", list + " load_balance_hosts=random", "-c", "select 1"}
		want := failure(t, plain(), "psql", ask...)
		if got := failure(t, byPath(), "psql", ask...); got != want || !strings.Contains(got, "load_balance_hosts") {
			t.Errorf("got: %swant: %s", got, want)
		}
		return
	}
	if n := count(list + " load_balance_hosts=disable"); n != tries {
		t.Errorf("disable: %d of %d at the first", n, tries)
	}
	if n := count(list + " load_balance_hosts=random"); n == 0 || n == tries { // by chance: 1 of 2^39
		t.Errorf("random: %d of %d at the first", n, tries)
	}
	// whatever comes first, the one that can be reached is reached
	if n := count("host=localhost,localhost user=postgres dbname=postgres load_balance_hosts=random port=" +
		freePort(t) + "," + first.Port()); n != tries {
		t.Errorf("random, the other host closed: %d of %d", n, tries)
	}
	wantAll(t, failure(t, byPath(), "psql", "-X", "-d", list+" load_balance_hosts=bogus", "-c", "select 1"),
		`invalid load_balance_hosts value: "bogus"`)
}

func TestPgbench(t *testing.T) {
	cm := conmgr(t)
	init := append(byPath(), "PGHOST=localhost", "PGPORT="+cm.Port(), "PGUSER=postgres", "PGDATABASE=postgres",
		"PGTARGETSESSIONATTRS=primary")
	output(t, init, "pgbench", "-i", "-q", "-s", "1")
	out := output(t, init, "pgbench", "-c", "4", "-j", "2", "-t", "100", "-M", "prepared")
	wantAll(t, out, "400/400")
	out = output(t, init, "pgbench", "-c", "2", "-C", "-t", "20", "-S")
	wantAll(t, out, "40/40")
	waitSQL(t, standby, "select pg_last_wal_replay_lsn() >= '"+sql(t, primary, "select pg_current_wal_lsn()")+"'")
	reading := append(byPath(), "PGHOST=localhost", "PGPORT="+cm.Port(), "PGUSER=postgres", "PGDATABASE=postgres",
		"PGTARGETSESSIONATTRS=standby")
	wantAll(t, output(t, reading, "pgbench", "-n", "-c", "2", "-S", "-t", "20"), "40/40")
	// after a promotion, and without conmgr
	cm.Set(primary.instance(1, isPrimary), standby.instance(0, isStandby))
	wantAll(t, output(t, init, "pgbench", "-n", "-c", "2", "-t", "20"), "40/40")
	wantAll(t, output(t, byPath(), "pgbench", "-n", "-c", "2", "-t", "20", dsn(primary.port, "")), "40/40")
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	writeFile(t, path, text)
	return path
}

// The instance is lost while it is being connected to, and so is the next one: that is all in the
// time of one host.
func TestTimeoutGoesOnAfterALoss(t *testing.T) {
	hole := func(number int) scripted.Instance {
		return at(number, "localhost", newHole(t), isPrimary)
	}
	cm := conmgrWith(t, hole(0), hole(1))
	start := time.Now()
	bound, lost := make(chan error, 1), make(chan *time.Timer, 1)
	go func() {
		bound <- cm.WaitBound(1)
		lost <- time.AfterFunc(3*time.Second, func() { cm.Lose(0) })
	}()
	defer func() { (<-lost).Stop() }()
	out := failure(t, byPath(), "psql", "-X", "-d", dsn(cm.Port(), "connect_timeout=5"), "-c", "select 1")
	if err := <-bound; err != nil {
		t.Fatal(err)
	}
	wantAll(t, out, why, "timeout expired")
	// 8 s if it began anew
	if d := time.Since(start); d < 4900*time.Millisecond || d > 7500*time.Millisecond {
		t.Errorf("took %v", d)
	}
}

// A name with two addresses, the first of which takes the connection and never answers: the
// blocking functions go on, as libpq's own.
func TestTimeoutGoesOnToTheNextAddress(t *testing.T) {
	port := newHole(t)
	relay(t, "127.0.0.2:"+port, "127.0.0.1:"+primary.port)
	// getaddrinfo puts 127.0.0.1 first: it is the nearer one
	hosts := write(t, "hosts", "127.0.0.1 localhost\n127.0.0.1 two.example\n127.0.0.2 two.example\n")
	for name, env := range map[string]func() []string{"libpq": plain, "front": byPath} {
		start := time.Now()
		out := output(t, env(), "unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/hosts && shift && exec "$@"`, "sh",
			hosts,
			filepath.Join(pgbin, "psql"), "-X", "-At", "-d",
			"host=two.example user=postgres dbname=postgres connect_timeout=2 port="+port,
			"-c", `\conninfo`)
		wantConninfo(t, out, "postgres", "two.example", "127.0.0.2", port)
		if d := time.Since(start); d < 1500*time.Millisecond || d > 10*time.Second {
			t.Errorf("%s: %v", name, d)
		}
	}
}
