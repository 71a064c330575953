package test

// watchdog_succeeds(): a cluster that takes another one's place says so, to conmgrs at once, and
// for as long as its data lives.

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// rawConmgr is a heartbeat connection whose frames the test reads.
type rawConmgr struct {
	*world
	conn    net.Conn
	welcome heartbeat.Welcome
	buf     []byte
}

func (w *world) rawConmgr(id byte) *rawConmgr {
	w.Helper()
	r := &rawConmgr{world: w, conn: w.dialHeartbeat()}
	w.Cleanup(func() { r.conn.Close() })
	// no beat but those of a change
	h := heartbeat.Hello{MinVersion: 1, MaxVersion: 1, Interval: time.Minute, Timeout: 2 * time.Minute}
	h.ID[0] = id
	if _, err := r.conn.Write(h.Append(nil)); err != nil {
		w.Fatal(err)
	}
	f := r.next(heartbeat.TypeWelcome)
	var err error
	if r.welcome, err = heartbeat.ParseWelcome(f); err != nil {
		w.Fatal(err)
	}
	return r
}

// next reads frames up to the next one of a type, and returns its payload.
func (r *rawConmgr) next(want heartbeat.Type) []byte {
	r.Helper()
	_ = r.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		f, n, err := heartbeat.Next(r.buf)
		if err != nil {
			r.Fatal(err)
		}
		if n > 0 {
			payload := append([]byte(nil), f.Payload...)
			r.buf = append([]byte(nil), r.buf[n:]...)
			if f.Type == want {
				return payload
			}
			continue
		}
		chunk := make([]byte, heartbeat.MaxFrame)
		n, err = r.conn.Read(chunk)
		if err != nil {
			r.Fatalf("wait for a frame of type %v: %v", want, err)
		}
		r.buf = append(r.buf, chunk[:n]...)
	}
}

// hears waits for a beat with a succession.
func (r *rawConmgr) hears(want heartbeat.Succession) {
	r.Helper()
	for {
		b, err := heartbeat.ParseWatchdogBeat(r.next(heartbeat.TypeBeat), 1)
		if err != nil {
			r.Fatal(err)
		}
		if b.Succeeds == want {
			return
		}
	}
}

// succession is what watchdog_succession() shows on a cluster.
func succession(c *pgtest.Cluster) string {
	row := c.Query("SELECT system_identifier, timeline FROM watchdog_succession()")[0]
	return strings.Join(row, " ")
}

func TestSuccession(t *testing.T) {
	w := newWorld(t)
	none := succession(w.primary)
	r := w.rawConmgr(1)
	if r.welcome.Succeeds != (heartbeat.Succession{}) || int(r.welcome.PostmasterPort) != w.primary.Port {
		t.Errorf("WELCOME: %+v", r.welcome)
	}
	own := w.primary.Value("SELECT system_identifier FROM pg_control_system()")
	refused := func(c *pgtest.Cluster, args, code, message string) {
		t.Helper()
		_, err := c.TryQuery("SELECT watchdog_succeeds(" + args + ")")
		var e *pq.Error
		if !errors.As(err, &e) || string(e.Code) != code || !contains(e.Message, message) {
			t.Errorf("watchdog_succeeds(%s): %v, want %s %s", args, err, code, message)
		}
	}
	refused(w.primary, own+", 1", "22023", "cannot succeed itself")
	refused(w.primary, "0, 1", "22023", "must not be 0")
	refused(w.primary, "4711, 0", "22023", "timeline must be greater than 0")
	refused(w.primary, "4711, -1", "22023", "timeline must be greater than 0")
	w.primary.Exec("SELECT watchdog_succeeds(NULL, 1)") // STRICT: nothing
	if s := succession(w.primary); s != none {
		t.Errorf("after what was refused: %s", s)
	}

	declare := func(system, timeline string, want heartbeat.Succession) {
		t.Helper()
		w.primary.Exec("SELECT watchdog_succeeds(" + system + ", " + timeline + ")")
		r.hears(want)
		if s := succession(w.primary); s != system+" "+timeline {
			t.Errorf("watchdog_succession(): %s", s)
		}
	}
	start := time.Now()
	for i := range 10 { // each begins right after what the worker does once a second anyway
		declare("4711", fmt.Sprint(i+1), heartbeat.Succession{SystemIdentifier: 4711, Timeline: uint32(i + 1)})
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("ten declarations took %v to arrive", d)
	}
	declare("-2", "2147483647", heartbeat.Succession{SystemIdentifier: 1<<64 - 2, Timeline: 1<<31 - 1})

	// Everything that reads it anew: the worker, the server, after a crash, a standby, and that one
	// as a primary.
	again := func(what string, id byte) {
		t.Helper()
		if got := w.rawConmgr(id).welcome.Succeeds; got.SystemIdentifier != 1<<64-2 || got.Timeline != 1<<31-1 {
			t.Errorf("%s: WELCOME has %+v", what, got)
		}
		if s := succession(w.primary); s != "-2 2147483647" {
			t.Errorf("%s: watchdog_succession(): %s", what, s)
		}
	}
	since := w.primary.LogSize()
	_ = syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM)
	w.primary.WaitLog(since, `exited(?s:.*)listening for heartbeat connections`, patience)
	again("another worker", 2)
	since = w.primary.LogSize()
	w.primary.Restart()
	w.primary.WaitLog(since, `listening for heartbeat connections`, patience)
	again("after a restart", 3)
	since = w.primary.LogSize()
	w.primary.Kill9()
	w.primary.Start()
	w.primary.WaitLog(since, `listening for heartbeat connections`, patience)
	again("after a crash", 4)
	standby := w.primary.Standby("standby", pgtest.Host(w.net.Host("standby")), pgtest.Watchdog())
	standby.WaitLog(0, `listening for heartbeat connections`, patience)
	if s := succession(standby); s != "-2 2147483647" {
		t.Errorf("the standby says %s", s)
	}
	refused(standby, "4712, 1", "55000", "recovery is in progress")
	standby.Promote()
	if s := succession(standby); s != "-2 2147483647" {
		t.Errorf("the promoted standby says %s", s)
	}
	standby.Exec("SELECT watchdog_succeeds(4712, 1)")
	if s := succession(standby); s != "4712 1" {
		t.Errorf("the promoted standby says %s after a declaration of its own", s)
	}
}

// TestSuccessionFile: a file that cannot be used is pointed out, and is no reason not to serve.
func TestSuccessionFile(t *testing.T) {
	w := newWorld(t)
	none := succession(w.primary)
	w.primary.Exec("SELECT watchdog_succeeds(4711, 3)")
	file := filepath.Join(w.primary.DataDir, "watchdog.succession")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.primary.DataDir, "pgsql_tmp*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	restart := func(text []byte) (since int) {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		since = w.primary.LogSize()
		_ = syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM)
		w.primary.WaitLog(since, `exited(?s:.*)listening for heartbeat connections`, patience)
		return since
	}
	digit := append([]byte(nil), good...)
	digit[len("watchdog 1\ncluster 1")] ^= 1
	for name, bad := range map[string][]byte{
		"empty": {}, "cut off": good[:len(good)-5], "one digit": digit,
		"random": []byte(strings.Repeat("\x00\xff%n", 200)),
	} {
		since := restart(bad)
		w.primary.WaitLog(since, `WARNING: .*file "watchdog.succession" is ignored(?s:.*)DETAIL: .*checksum is wrong`,
			patience)
		if s := succession(w.primary); s != none {
			t.Errorf("%s: %s", name, s)
		}
	}
	since := restart(good)
	w.noLog(since, `is ignored`)
	if s := succession(w.primary); s != "4711 3" {
		t.Errorf("the file as it was written: %s", s)
	}

	// The file of another cluster; so is this one after pg_resetwal gave it another system
	// identifier.
	text := string(good[:strings.Index(string(good), "checksum")])
	text = regexp.MustCompile(`cluster \d+`).ReplaceAllString(text, "cluster 4712")
	foreign := fmt.Appendf(nil, "%schecksum %08x\n", text,
		crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
	w.primary.WaitLog(restart(foreign), `WARNING: .*is ignored(?s:.*)DETAIL: .*written for another cluster`, patience)
	if s := succession(w.primary); s != none {
		t.Errorf("with the file of another cluster: %s", s)
	}
}

// TestExtensionUpdate: 1.0's objects with the new library, the update, what it grants, and a dump.
func TestExtensionUpdate(t *testing.T) {
	w := newWorld(t)
	w.primary.Exec("DROP EXTENSION watchdog")
	w.primary.Exec("CREATE EXTENSION watchdog VERSION '1.0'")
	w.rawConmgr(0xab)
	w.waitView(1)
	objects := func() [][]string { // since 17 the types of views are among them
		return w.primary.Query(`SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
			WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid <> 'pg_type'::regclass
			AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'watchdog') ORDER BY 1`)
	}
	if got := objects(); len(got) != 2 {
		t.Errorf("objects of 1.0: %v", got)
	}
	shown := w.primary.Value("SELECT conmgr_id FROM pgx_stat_watchdog")
	if strings.HasPrefix(shown, "ab000000") || len(shown) != 36 {
		t.Errorf("the view shows the id itself: %s", shown)
	}
	w.primary.Exec("CREATE ROLE granted LOGIN; GRANT SELECT ON pgx_stat_watchdog TO granted;" +
		" GRANT EXECUTE ON FUNCTION pgx_stat_get_watchdog() TO granted")
	w.primary.Exec("ALTER EXTENSION watchdog UPDATE")
	if v := w.primary.Value("SELECT has_function_privilege('granted', 'pgx_stat_get_watchdog_1_1()', 'EXECUTE')" +
		" AND NOT has_function_privilege('public', 'pgx_stat_get_watchdog_1_1()', 'EXECUTE')"); v != "true" {
		t.Error("who could read the view of 1.0 cannot read it any more, or everybody can")
	}
	if v := w.primary.Value("SELECT extversion FROM pg_extension WHERE extname = 'watchdog'"); v != "1.2" {
		t.Errorf("version %s", v)
	}
	updated := objects()
	w.primary.Exec("DROP EXTENSION watchdog")
	w.primary.Exec("CREATE EXTENSION watchdog")
	if created := objects(); !reflect.DeepEqual(created, updated) || len(created) != 16 {
		t.Errorf("created: %v\nupdated: %v", created, updated)
	}
	for _, statement := range []string{"CREATE ROLE watcher LOGIN IN ROLE pg_monitor", "CREATE ROLE plain LOGIN",
		"CREATE ROLE operator LOGIN",
		"GRANT EXECUTE ON FUNCTION watchdog_succeeds(bigint, integer) TO operator"} {
		w.primary.Exec(statement)
	}
	for role, want := range map[string][2]string{"plain": {"42501", "42501"}, "watcher": {"42501", ""},
		"operator": {"", "42501"}} {
		db := w.primary.OpenAt(nil, strings.Replace(w.primary.DSNOf(w.primary.SocketDir, "postgres"), "user=postgres",
			"user="+role, 1))
		for i, call := range []string{"SELECT watchdog_succeeds(4711, 1)", "SELECT * FROM watchdog_succession()"} {
			_, err := db.Exec(call)
			var e *pq.Error
			if want[i] == "" && err != nil || want[i] != "" && (!errors.As(err, &e) || string(e.Code) != want[i]) {
				t.Errorf("%s by %s: %v, want %q", call, role, err, want[i])
			}
		}
		db.Close()
	}
	if dump := w.client("pg_dump", "-d", "postgres"); !contains(dump, "CREATE EXTENSION IF NOT EXISTS watchdog") ||
		!contains(dump, "GRANT ALL ON FUNCTION public.watchdog_succeeds") || strings.Contains(dump, "CREATE FUNCTION") {
		t.Errorf("pg_dump:\n%s", dump)
	}
}
