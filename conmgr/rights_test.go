package conmgr

// Who sees whom on the console, what it counts, and what drivers and psql say to it of their own
// accord. As several users, with the real psql.

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
)

// as runs statements by psql as another user.
func (r *rig) as(uid uint32, args ...string) string {
	r.t.Helper()
	host, port, _ := strings.Cut(r.addr, ":")
	cmd := exec.Command("psql", append([]string{"-X", "-At", "-h", host, "-p", port, "-U", "x", "-d", "conmgr"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PGAPPNAME=other", "HOME=/")
	out, _ := cmd.CombinedOutput() // what an error says is in it
	return string(out)
}

// Others see their own connections only, unless a setting says otherwise.
func TestWhoSeesWhom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be several users")
	}
	const other, third = 12345, 12346
	for _, x := range []struct {
		conf  string
		sees  bool // user 12345 sees all, and
		rules bool // may drain
	}{
		{"", false, false},
		{"stats_users = '12345'\n", true, false},
		{"stats_users = '*'\n", true, false},
		{"stats_users = '12346, nobody'\n", false, false},
		{"admin_users = '1, 12345'\n", true, true},
		{"admin_users = nobody\n", false, false},
	} {
		r := static(t, x.conf, primary)
		c := r.connect()
		c.query("SHOW TARGET primary")
		const asks = "SHOW TARGET any; SHOW APPLICATIONS"
		got := r.as(other, "-c", asks)
		if !strings.Contains(got, "|other|") || strings.Contains(got, "|test|") != x.sees {
			t.Errorf("%q: user %d: %s", x.conf, other, got)
		}
		waiting := r.connect()
		waiting.send(&pgproto3.Query{String: "SHOW TARGET standby WAIT 1h"})
		eventually(t, "it waits", func() bool { return strings.Contains(c.query("SHOW WAITING"), "test") })
		if got := r.as(other, "-c", "SHOW WAITING"); (got != "") != x.sees {
			t.Errorf("%q: user %d: %q", x.conf, other, got)
		}
		if got := c.query("SHOW APPLICATIONS"); strings.Count(got, " D(") != 1 {
			t.Errorf("%q: root: %s", x.conf, got)
		}
		if got := r.as(third, "-c", asks); strings.Contains(got, "|test|") != strings.Contains(x.conf, "*") &&
			!strings.Contains(x.conf, "12346") {
			t.Errorf("%q: user %d: %s", x.conf, third, got)
		}
		if got := r.as(other, "-c", "DRAIN INSTANCE 0"); strings.Contains(got, "permission denied") == x.rules {
			t.Errorf("%q: user %d: %s", x.conf, other, got)
		}
		for _, open := range []string{"SHOW INSTANCES", "SHOW STATS", "SHOW CONFIG", "SHOW VERSION", "SHOW HELP"} {
			if got := r.as(third, "-c", open); got == "" || strings.Contains(got, "ERROR") {
				t.Errorf("%q: user %d: %s: %s", x.conf, third, open, got)
			}
		}
		r.stop()
	}
}

func TestConsoleSettings(t *testing.T) {
	r := static(t, "target_wait = 1s\n", primary)
	c := r.connect()
	for _, x := range [][2]string{
		{"SET extra_float_digits = 3", "C(SET) Z"},
		{"", "I Z"},
		{" ; -- nothing", "I Z"},
		{"SET application_name = 'shop'; SHOW TARGET any", "S(application_name=shop) C(SET) T " + row0 + " C(SHOW) Z"},
		{"SET application_name = shop", "C(SET) Z"},
		{"RESET ALL", "S(application_name=test) C(RESET) Z"},
		{"SET conmgr.target_wait = 5s", "S(conmgr.target_wait=5000) C(SET) Z"},
		{"SET conmgr.target_wait TO DEFAULT", "S(conmgr.target_wait=1000) C(SET) Z"},
		{"SET conmgr.target_wait = 'soon'", `E(ERROR 22023 invalid value "soon" for "conmgr.target_wait") Z`},
		{"SET conmgr.version = 2", `E(ERROR 42704 unrecognized configuration parameter "conmgr.version") Z`},
	} {
		if got := c.query(x[0]); got != x[1] {
			t.Errorf("%s: got %s, want %s", x[0], got, x[1])
		}
	}
	// as pgJDBC does it
	c.send(&pgproto3.Parse{Query: "SET extra_float_digits = 3"}, &pgproto3.Describe{ObjectType: 'S'}, &pgproto3.Bind{},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
	if got := c.until("Z"); got != "1 t n 2 n C(SET) Z" {
		t.Errorf("got %s", got)
	}
	c.query("SET application_name = shop; SET conmgr.target_wait = '300ms'")
	if got := c.query("SHOW APPLICATIONS"); !strings.Contains(got, ",shop,any,") {
		t.Errorf("got %s", got)
	}
	begin := time.Now()
	if got := c.query("SHOW TARGET standby"); !strings.Contains(got, "08001") || time.Since(begin) < 250*time.Millisecond {
		t.Errorf("after %v: %s", time.Since(begin), got)
	}
}

// What psql's commands ask of catalogs is answered with what can be asked here.
func TestPsqlCommands(t *testing.T) {
	r := static(t, "", primary)
	for _, command := range []string{`\d`, `\dt`, `\l`, `\du`, `\dn`, `\d x`, `\df`, `\dx`, "select * from information_schema.tables"} {
		got := r.as(uint32(os.Geteuid()), "-c", command)
		if !strings.Contains(got, "ERROR:  a Connection Manager has no system catalogs\nHINT:  This is a Connection Manager and not a database: ") ||
			!strings.Contains(got, "SHOW HELP tells its statements") {
			t.Errorf("%s: %s", command, got)
		}
	}
	if got := r.as(uint32(os.Geteuid()), "-c", "select 1"); !strings.Contains(got, "SHOW HELP") {
		t.Errorf("got %s", got)
	}
}

func TestStats(t *testing.T) {
	r := static(t, "max_connections = 2\n", primary, standby)
	c, other := r.connect(), r.connect()
	r.dial().until("EOF")
	c.query("SHOW TARGET standby")
	c.query("SHOW TARGET primary")
	c.query("SHOW TARGET standby WAIT 1ms EXCEPT 1")
	other.query("SHOW TARGET standby")
	r.lose(1)
	other.until("EOF")
	var want []string
	for _, x := range []struct {
		name   string
		counts []int
	}{{"connections", []int{2}}, {"refused", []int{1}}, {"no_target", []int{1}}, {"waited", []int{1}}, {"targets", []int{1, 2}},
		{"relayed", []int{0, 0}}, {"established", []int{0, 0}}, {"losses", []int{0, 0}}, {"told", []int{0, 1}},
		{"would_have_told", []int{0, 0}}} {
		for i, n := range x.counts {
			instance := ""
			if len(x.counts) == 2 {
				instance = fmt.Sprint(i)
			}
			want = append(want, fmt.Sprintf("D(%s,%s,%d)", x.name, instance, n))
		}
	}
	eventually(t, "all is counted", func() bool {
		return c.query("SHOW STATS") == "T "+strings.Join(want, " ")+" C(SHOW) Z"
	})
}
