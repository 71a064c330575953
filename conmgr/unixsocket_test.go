package conmgr

// Tests of the Unix sockets: the real process with psql, its files, and the configuration.

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// A directory that is asked for and not there is an error.
func TestUnixSocketDirectoryMissing(t *testing.T) {
	dir, port := conmgrDir(t, "backend_host0 = 127.0.0.1\nunix_socket_directories = 'sub'\n")
	code, out := runOnce(t, command(t, "", "-D", dir))
	want := fmt.Sprintf("FATAL:  could not listen on a Unix socket: could not create lock file \"%s/sub/.s.PGSQL.%d.lock\": no such file", dir, port)
	if code != 1 || !strings.Contains(out, want) {
		t.Errorf("exit status %d\n%s\nwant %s", code, out, want)
	}
}

// unixConf has the default directory and an abstract socket, which no other test has.
const unixConf = "backend_host0 = 127.0.0.1\nunix_socket_directories = '., @conmgr-test'\nunix_socket_permissions = 0750\n"

// reached says why nobody listens at a socket file.
func reached(socket string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	return c.Close()
}

func TestUnixSocketFiles(t *testing.T) {
	p := start(t, unixConf)
	socket := filepath.Join(p.dir, fmt.Sprintf(".s.PGSQL.%d", p.port))
	st, err := os.Lstat(socket)
	if err != nil || st.Mode() != os.ModeSocket|0o750 {
		t.Fatalf("%v %v", st, err)
	}
	lock, err := os.ReadFile(socket + ".lock")
	if want := fmt.Sprintf("%d\n%s\n", p.cmd.Process.Pid, p.dir); err != nil ||
		!strings.HasPrefix(string(lock), want) ||
		strings.Split(string(lock), "\n")[3] != fmt.Sprint(p.port) || strings.Split(string(lock), "\n")[4] != p.dir {
		t.Errorf("lock file:\n%s%v", lock, err)
	}
	for _, dir := range []string{p.dir, "@conmgr-test"} {
		out, err := exec.Command("psql", "-XAtc", "SHOW VERSION", "-h", dir, "-p", fmt.Sprint(p.port), "-U",
			"x").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "conmgr (watchdog)") {
			t.Errorf("psql -h %s: %v\n%s", dir, err, out)
		}
	}

	// A second one in another directory that wants the same socket is told who has it.
	dir, _ := conmgrDir(t, fmt.Sprintf("backend_host0 = 127.0.0.1\nport = %d\nunix_socket_directories = '%s'\n", p.port,
		p.dir))
	setConf(t, dir, fmt.Sprintf("backend_host0 = 127.0.0.1\nport = %d\nlisten_addresses = 127.0.0.2\nunix_socket_directories = '%s'\n", p.port, p.dir))
	code, out := runOnce(t, command(t, "", "-D", dir))
	if want := fmt.Sprintf("another process (PID %d) uses the socket file \"%s\"", p.cmd.Process.Pid,
		socket); code != 1 || !strings.Contains(out, want) {
		t.Errorf("exit status %d\n%s\nwant %s", code, out, want)
	}
	if err := reached(socket); err != nil {
		t.Errorf("the first one's socket: %v", err)
	}

	// What a crash leaves is replaced, and an ordered end leaves nothing.
	p.signal(syscall.SIGKILL)
	p.end()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatal(err)
	}
	q := startIn(t, p.dir, p.port)
	if err := reached(socket); err != nil {
		t.Errorf("after a crash: %v", err)
	}
	q.signal(syscall.SIGTERM)
	q.end()
	for _, name := range []string{socket, socket + ".lock"} {
		if _, err := os.Lstat(name); !os.IsNotExist(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The kernel tells who the client is.
func TestUnixSocketPeer(t *testing.T) {
	dir, err := testkit.TempDir("sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := staticWith(t, "", func(r *rig) { r.conf.SocketDirs, r.conf.SocketMode = []string{dir}, 0o777 }, primary)
	conn, err := net.Dial("unix", filepath.Join(dir, ".s.PGSQL.0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := r.clientOf(conn).login()
	c.query("SHOW TARGET any")
	for _, m := range r.d.registry.Members() {
		if s := m.Place(); s.Local == nil || s.Local.Uid != uint32(os.Geteuid()) || s.Local.Pid != int32(os.Getpid()) ||
			s.Peer.IsValid() {
			t.Errorf("%+v", s)
		}
	}
	if got := c.query("SHOW APPLICATIONS"); !strings.Contains(got, "D(,-1,test,any,0,") {
		t.Errorf("got %s", got)
	}
	r.lose(0)
	if got := c.until(""); !strings.HasPrefix(got, "E(FATAL 57P01 instance 0 ") {
		t.Errorf("got %s", got)
	}
}

func TestUnixSocketsInConfig(t *testing.T) {
	long := "/" + strings.Repeat("d", 95)
	for _, x := range []struct {
		file, text string
		dirs       string
		diag       string
	}{
		{"/d/conmgr.conf", "", "[/d]", ""},
		{"/d/conmgr.conf", "unix_socket_directories = ''", "[]", ""},
		{"/d/conmgr.conf", "unix_socket_directories = '/run/a, b, ., /d, @c'", "[/run/a /d/b /d @c]", ""},
		{long + "/conmgr.conf", "unix_socket_directories = /d\nport = 1", "[/d]", ""},
		{long + "/conmgr.conf", "port = 1", "[" + long + "]", ""}, // 107 bytes
		{long + "/conmgr.conf", "port = 12", "[]", "/conmgr.conf: no Unix socket is opened: the path \"" + long +
			"/.s.PGSQL.12\" has 108 bytes: allowed are 107"},
		{"/d/conmgr.conf", "port = 12\nunix_socket_directories = " + long, "", "conf:2: invalid value \"" + conf.Clip(long) +
			"\" for parameter \"unix_socket_directories\": the path of the Unix socket \"" + long +
			"/.s.PGSQL.12\" has 108 bytes: allowed are 107"},
		{"/d/conmgr.conf", "unix_socket_permissions = 0778", "", `invalid value "0778" for parameter "unix_socket_permissions": allowed are octal numbers from 0000 to 0777`},
		{"/d/conmgr.conf", "unix_socket_permissions = 01777", "", "allowed are octal numbers from 0000 to 0777"},
		{"/d/conmgr.conf", "unix_socket_permissions = 770", "[/d]", ""},
	} {
		c, diags := conf.Parse(x.file, []byte(x.text+"\nbackend_host0 = a"))
		got := ""
		if len(diags) > 0 {
			got = diags[0].String()
		}
		if len(diags) > 1 || !strings.HasSuffix(got, x.diag) || (x.diag == "") != (got == "") {
			t.Errorf("%q: %v\nwant %s", x.text, diags, x.diag)
		}
		if (c == nil) != (x.dirs == "") || c != nil && fmt.Sprint(c.SocketDirs) != x.dirs {
			t.Errorf("%q: %+v, want %s", x.text, c, x.dirs)
		}
		if c != nil && strings.HasSuffix(x.text, "= 770") && c.SocketMode != 0o770 {
			t.Errorf("mode %o", c.SocketMode)
		}
	}
}

// A default directory whose path is too long, or that takes no socket, keeps no conmgr from
// starting.
func TestNoDefaultUnixSocket(t *testing.T) {
	base, err := testkit.TempDir("long")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, strings.Repeat("d", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	from, port := conmgrDir(t, "backend_host0 = 127.0.0.1\n")
	conf, err := os.ReadFile(filepath.Join(from, cm.ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	setConf(t, dir, string(conf))
	if os.Geteuid() == 0 {
		os.Chown(dir, nobody, nobody)
	}
	p := startIn(t, dir, port)
	eventually(t, "the log warns", func() bool { // the log is written by a goroutine of its own
		return strings.Contains(p.log(), "WARNING:  "+dir+"/conmgr.conf: no Unix socket is opened")
	})
	p.signal(syscall.SIGTERM)
	p.end()

	// The socket's name is taken by something else.
	if err := os.Mkdir(filepath.Join(from, fmt.Sprintf(".s.PGSQL.%d", port)), 0o700); err != nil {
		t.Fatal(err)
	}
	q := startIn(t, from, port)
	eventually(t, "the log warns", func() bool { // the log is written by a goroutine of its own
		return strings.Contains(q.log(), "could not replace the socket file")
	})
}
