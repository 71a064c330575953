package suite

// Whom an adapter believes, and what: a process that takes conmgr's port must not get a password,
// nor an application.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

// impostor is in conmgr's place, a process of another user: the test program itself, started again.
type impostor struct {
	Path   string // of its Unix-domain socket; empty: TCP
	Script hostile.Script
}

const (
	impostorVariable = "WATCHDOG_TEST_IMPOSTOR"
	stranger         = 54321 // his uid
)

// impostorMain runs an impostor until its standard input ends. It returns false in a program that
// is none.
func impostorMain() bool {
	text := os.Getenv(impostorVariable)
	if text == "" {
		return false
	}
	var i impostor
	err := json.Unmarshal([]byte(text), &i)
	var l net.Listener
	if err == nil {
		network, address := "tcp", "127.0.0.1:0"
		if i.Path != "" {
			network, address = "unix", i.Path
		}
		l, err = net.Listen(network, address)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "impostor:", err)
		os.Exit(1)
	}
	fmt.Println(hostile.Serve(l, i.Script).Addr())
	bufio.NewReader(os.Stdin).ReadByte()
	os.Exit(0)
	return true
}

// start returns the impostor's port.
func (i impostor) start(t *test) (port string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	config, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(t.program())
	cmd.Env = append(os.Environ(), impostorVariable+"="+string(config))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger},
		Pdeathsig: syscall.SIGKILL}
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(strings.TrimSpace(address))
	return port
}

// program is the test program where every user can run it.
func (t *test) program() string {
	t.Helper()
	path := filepath.Join(t.openDir(0o755), "impostor")
	text, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(path, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// openDir is a directory that others can use, with a short path.
func (t *test) openDir(mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "suite")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// thief is a server that asks for the password, and counts who comes.
type thief struct {
	*noServer
	came atomic.Int32
}

func (t *test) thief() *thief {
	th := &thief{}
	th.noServer = t.noServer(func(nc net.Conn) {
		th.came.Add(1)
		nc.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3})
		nc.Read(make([]byte, 64))
	})
	return th
}

// named has an answer name the thief.
func (th *thief) named(host, hostaddr string) hostile.Script { return naming(host, hostaddr, th.port) }

func naming(host, hostaddr string, port int) hostile.Script {
	return hostile.Script{Rows: []hostile.Row{{Instance: "0", Host: host, HostAddr: hostaddr, Port: fmt.Sprint(port),
		Attributes: "primary,read-write"}}}
}

// refusedWith holds an adapter to an error with certain words, and to not having been robbed.
func (t *test) refusedWith(what string, th *thief, connString string, words ...string) error {
	t.Helper()
	err := t.fails(t.open("%s user=app password=secret dbname=postgres", connString))
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: got %v, want something of %q", what, err, w)
		}
	}
	if n := th.came.Load(); n > 0 {
		t.Errorf("%s: %d connections to the server that the impostor has named", what, n)
	}
	return err
}

func foreignConmgr(t *test) {
	th := t.thief()
	port := impostor{Script: th.named("db", "127.0.0.1")}.start(t)
	uid := fmt.Sprintf("user ID %d", stranger)
	for _, mode := range append(t.adapter.SSLModes, "verify-full") {
		connString := fmt.Sprintf("host=localhost port=%s sslmode=%s sslrootcert=%s", port, mode, t.pair.RootCert)
		err := t.refusedWith(mode, th, connString, uid, "who is not trusted to be the Connection Manager", "PGCMUSER",
			"host=DIRECTORY")
		var doubt *driver.TrustError
		if !errors.As(err, &doubt) {
			t.Errorf("%s: %v has no TrustError", mode, err)
		}
	}
	// The next host of the list is tried.
	if got := t.roleOf("host=127.0.0.1,127.0.0.1 port=%s,%d user=postgres sslmode=disable", port,
		t.pair.Primary); got != "primary" {
		t.Errorf("with another host: got %s", got)
	}
	for _, list := range []string{"nosuchuser, 4711", "65534,nobody"} {
		t.Setenv("PGCMUSER", list)
		t.refusedWith("PGCMUSER="+list, th, "host=localhost sslmode=disable port="+port, uid)
	}
	own := impostor{Script: naming(livepg.Name, "127.0.0.1", t.pair.Primary)}.start(t)
	for _, list := range []string{fmt.Sprint(stranger), "*", fmt.Sprintf("root, %d", stranger)} {
		t.Setenv("PGCMUSER", list)
		if got := t.roleOf("host=localhost port=%s user=postgres sslmode=disable", own); got != "primary" {
			t.Errorf("PGCMUSER=%s: got %s", list, got)
		}
	}
}

// It answers before it is asked and closes: the kernel shows its socket as root's then.
func hastyConmgr(t *test) {
	th := t.thief()
	script := th.named("db", "127.0.0.1")
	script.Mode = hostile.Early
	port := impostor{Script: script}.start(t)
	for range 5 { // the impostor's close races the look
		t.refusedWith("it closes", th, "host=localhost sslmode=disable port="+port, "Connection Manager")
	}
}

// Nobody accepts: the context, or connect_timeout, holds.
func neverAccepts(t *test) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	begun := time.Now()
	if got := t.roleOf("%s sslmode=disable connect_timeout=2", list(port, t.pair.Primary)); got != "primary" {
		t.Errorf("got %s", got)
	}
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("it took %v with connect_timeout=2", took)
	}
}

// Answers of a conmgr that is believed are held to be a name, an address and a port.
func unsoundAnswers(t *test) {
	th := t.thief()
	s := t.hostile(hostile.Script{})
	for _, c := range []struct{ host, hostaddr, want string }{
		{"/tmp", "127.0.0.1", "is the directory of a socket"},
		{"/tmp", "", "is the directory of a socket"},
		{"@abstract", "127.0.0.1", "is the directory of a socket"},
		{"a,b", "127.0.0.1", "is a list"},
		{"", "127.0.0.1", "host is empty"},
		{"a\nb", "127.0.0.1", "control character"},
		{"a\x00user\x00boss", "127.0.0.1", "control character"},
		{"db", "localhost", "is not an IP address"},
		{"db", "", "is not an IP address"},
		{"db", "/tmp", "is not an IP address"},
		{"db", "127.0.0.1,127.0.0.2", "is not an IP address"},
	} {
		s.Set(th.named(c.host, c.hostaddr))
		for _, mode := range append(t.adapter.SSLModes, "verify-full") {
			what := fmt.Sprintf("host %q, hostaddr %q, %s", c.host, c.hostaddr, mode)
			connString := fmt.Sprintf("host=localhost port=%d sslmode=%s sslrootcert=%s", s.Port(), mode,
				t.pair.RootCert)
			t.refusedWith(what, th, connString, "could not receive server address from Connection Manager", c.want)
		}
	}
	connString := fmt.Sprintf("host=localhost port=%d sslmode=disable", s.Port())
	const unheard = "could not receive server address from Connection Manager"
	column := func(name, value, want string, set func(*hostile.Row)) {
		script := th.named("db", "127.0.0.1")
		set(&script.Rows[0])
		s.Set(script)
		if strings.ContainsAny(value, "\x00\t") {
			want = "control character"
		}
		t.refusedWith(fmt.Sprintf("%s %q", name, value), th, connString, unheard, want)
	}
	for _, client := range []string{"x", label + "0", strings.ToUpper(label), label[1:] + " ", "-" + label[1:],
		label + "\x00", label + " -c role=postgres"} {
		column("client", client, "is not a label", func(r *hostile.Row) { r.Client = client })
	}
	for _, resume := range []string{"x' EXCEPT '", `x"`, `x\`, "ä", strings.Repeat("x", 256), "x\x00", "x\ty"} {
		column("resume", resume, "is not a token", func(r *hostile.Row) { r.Resume = resume })
	}
	s.Set(naming("db", "127.0.0.1", 0))
	t.refusedWith("port 0", th, connString, "is not a port number")
}

func pinnedHosts(t *test) {
	th := t.thief()
	s := t.conmgr()
	connString := fmt.Sprintf("host=localhost port=%d sslmode=disable", s.Port())
	t.Setenv("PGCMHOSTS", "other, "+strings.ToUpper(livepg.Name))
	if got := t.roleOf("%s user=postgres", connString); got != "primary" {
		t.Errorf("a name that is listed: got %s", got)
	}
	s.Set(scripted.Instance{Host: "db", HostAddr: "127.0.0.1", Port: th.port, Attributes: scripted.Primary})
	t.refusedWith("PGCMHOSTS", th, connString, `host "db" is not one of PGCMHOSTS`)
}

// By the Unix-domain socket of a conmgr: it is asked, and its instance is connected to as its own
// name says.
func unixConmgr(t *test) {
	dir := t.openDir(0o777)
	s, err := scripted.Start(scripted.Options{Socket: scripted.SocketPath(dir, 27546)}, t.pair.Instances()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, mode := range append(t.adapter.SSLModes, "verify-full") {
		connString := fmt.Sprintf("host=%s port=27546 user=postgres sslmode=%s sslrootcert=%s", dir, mode,
			t.pair.RootCert)
		p := t.open("%s target_session_attrs=standby", connString)
		if got := t.role(p); got != "standby" {
			t.Errorf("%s: got %s", mode, got)
		}
		tls, err := p.Value(t.within(), "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
		if want := fmt.Sprint(mode != "disable" && mode != "allow"); err != nil || tls != want {
			t.Errorf("%s: TLS %s, %v, want %s", mode, tls, err, want)
		}
		p.Close()
	}
	if got := t.roleOf("host=%s port=27546 user=postgres sslmode=disable requirepeer=root", dir); os.Geteuid() == 0 &&
		got != "primary" {
		t.Errorf("requirepeer: got %s", got)
	}
	th := t.thief()
	connString := fmt.Sprintf("host=%s port=27546 sslmode=disable requirepeer=daemon", dir)
	t.refusedWith("requirepeer", th, connString, `requirepeer specifies "daemon", but actual peer user name is`)
	impostor{Path: scripted.SocketPath(dir, 1), Script: th.named("db", "127.0.0.1")}.start(t)
	connString = fmt.Sprintf("host=%s port=1 sslmode=disable", dir)
	t.refusedWith("a Unix socket of another user", th, connString, fmt.Sprintf("user ID %d", stranger),
		"use requirepeer")
}

// A zero byte ends a value in the startup packet: what follows it would be another parameter.
func zeroBytes(t *test) {
	s := t.conmgr()
	address := fmt.Sprintf("localhost:%d", s.Port())
	for _, c := range []string{
		"postgres://alice@" + address + "/db%00user%00boss",
		"postgres://alice%00@" + address + "/db",
		"postgres://alice:p%00@" + address + "/db",
		"postgres://alice@" + address + "/db?application_name=a%00user%00boss",
		"postgres://alice@" + address + "/db?options=a%00",
		"postgres://alice@" + address + "/db?search_path=a%00",
		"postgres://alice@" + address + "/db?search_path%00user=boss",
		"postgres://alice@h%00/db",
		"host=localhost user=alice dbname='db\x00user\x00boss'",
		"host=localhost user=alice application_name='a\x00user\x00boss'",
		"host=localhost user=alice search_path='a\x00user\x00boss'",
		"host=localhost user=alice search_path\x00user=boss",
	} {
		p, err := t.adapter.Open(c, Crowd)
		if err == nil {
			p.Close()
			t.Errorf("%q was accepted", c)
		}
	}
	if q := s.Asked(); len(q) > 0 {
		t.Errorf("conmgr was asked %q", q)
	}
}
