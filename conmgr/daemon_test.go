package conmgr

// Tests of the real process: cmd/conmgr, run as an unprivileged user, with signals, its pid file
// and systemd's socket.

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/control"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const nobody = 65534

var binaryDir string // of conmgrBinary, once it is built

// conmgrBinary is cmd/conmgr, built once, in a directory that the unprivileged user can enter.
var conmgrBinary = sync.OnceValues(func() (string, error) {
	dir, err := testkit.TempDir("conmgr-test")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	file := filepath.Join(dir, "conmgr")
	out, err := exec.Command("go", "build", "-o", file, "../cmd/conmgr").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return file, err
})

func TestMain(m *testing.M) {
	status := m.Run()
	if binaryDir != "" {
		os.RemoveAll(binaryDir)
	}
	os.Exit(status)
}

type process struct {
	t      *testing.T
	dir    string
	port   int
	cmd    *exec.Cmd
	stderr *os.File // read by log
	ended  chan struct{}
}

// conmgrDir makes a directory with conmgr.conf and a free port in it.
func conmgrDir(t *testing.T, conf string) (dir string, port int) {
	t.Helper()
	checkLeaks(t)
	dir, err := testkit.TempDir("cmdir")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ports, err := testkit.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	port = ports[0]
	conf += fmt.Sprintf("\nport = %d\nlisten_addresses = 127.0.0.1\n", port)
	if err := os.WriteFile(filepath.Join(dir, cm.ConfigFile), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		os.Chown(dir, nobody, nobody)
	}
	return dir, port
}

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	file, err := conmgrBinary()
	if err != nil {
		t.Fatal(err)
	}
	if name == "" {
		name = file
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CONMGR="+file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

// runOnce runs conmgr to its end and returns its exit status and stderr.
func runOnce(t *testing.T, cmd *exec.Cmd) (int, string) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	err := cmd.Run()
	timer.Stop()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func start(t *testing.T, conf string, env ...string) *process {
	t.Helper()
	dir, port := conmgrDir(t, conf)
	return startIn(t, dir, port, env...)
}

// setConf replaces the configuration of a directory.
func setConf(t *testing.T, dir, conf string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, cm.ConfigFile), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
}

// startIn starts conmgr in a directory that has a configuration.
func startIn(t *testing.T, dir string, port int, env ...string) *process {
	t.Helper()
	return startCommand(t, command(t, "", "-D", dir), dir, port, env...)
}

// startCommand starts conmgr by a command of the caller's.
func startCommand(t *testing.T, cmd *exec.Cmd, dir string, port int, env ...string) *process {
	t.Helper()
	p := &process{t: t, dir: dir, port: port, cmd: cmd, ended: make(chan struct{})}
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	p.stderr = f
	p.cmd.Stderr = f
	p.cmd.Env = append(p.cmd.Env, env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGCONT)
		p.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-p.ended:
		case <-time.After(patience):
			t.Error("conmgr did not end at SIGQUIT")
			p.cmd.Process.Kill()
			<-p.ended
		}
		if t.Failed() {
			t.Logf("log of conmgr:\n%s", p.log())
		}
		f.Close()
	})
	eventually(t, "conmgr listens", func() bool {
		c, err := net.Dial("tcp", p.addr())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p
}

func (p *process) addr() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

func (p *process) log() string {
	b, _ := os.ReadFile(p.stderr.Name())
	return string(b)
}

func (p *process) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// end waits for the exit, and returns its status.
func (p *process) end() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("conmgr does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) status() control.Status {
	info, err := control.ReadPidFile(p.dir)
	if err != nil {
		return ""
	}
	return info.Status
}

func (p *process) client() *client {
	p.t.Helper()
	r := &rig{t: p.t, addr: p.addr()}
	return r.connect()
}

func TestCommandLine(t *testing.T) {
	dir, _ := conmgrDir(t, "backend_host0 = a")
	bad, _ := conmgrDir(t, "port = 0\nbackend_host = a\n")
	few, _ := conmgrDir(t, "backend_host0 = a\nmax_connections = 100")
	for _, x := range []struct {
		name   string
		cmd    *exec.Cmd
		status int
		want   string
	}{
		{"version", command(t, "", "--version"), 0, "conmgr (watchdog) " + cm.Version + "\n"},
		{"unknown", command(t, "", "--nonsense"), 1, "conmgr: unrecognized option '--nonsense'\nTry \"conmgr --help\" for more information.\n"},
		{"check", command(t, "", "--check", "-D", dir), 0, ""},
		{"check bad", command(t, "", "-D"+bad, "--check"), 1, "ERROR:  " + bad + `/conmgr.conf:1: invalid value "0" for parameter "port": allowed are 1 to 65535` +
			"\nERROR:  " + bad + `/conmgr.conf:2: unknown parameter "backend_host": an instance number is missing` + "\nHINT:  Write backend_host0 for the first instance.\n"},
		{"no file", command(t, "", "-D", "/nowhere"), 1, "ERROR:  /nowhere/conmgr.conf: could not open the configuration file: no such file or directory\n"},
		{"descriptors", command(t, "sh", "-c", "ulimit -n 111; exec $CONMGR -D "+few), 1,
			"FATAL:  the limit of 111 open file descriptors is too low: 1 instances and max_connections = 100 need more than 111\n" +
				"DETAIL:  The limit must be greater than 9 + 2 * (number of instances) + max_connections.\n" +
				"HINT:  Raise it (\"ulimit -n\", or LimitNOFILE of the service), or lower max_connections.\n"},
	} {
		if status, out := runOnce(t, x.cmd); status != x.status || out != x.want {
			t.Errorf("%s: status %d, output\n%s\nwant %d\n%s", x.name, status, out, x.status, x.want)
		}
	}
	if os.Geteuid() == 0 {
		cmd := command(t, "", "-D", dir)
		cmd.SysProcAttr.Credential = nil
		if status, out := runOnce(t, cmd); status != 1 || !strings.HasPrefix(out, "FATAL:  conmgr cannot be run as root\n") {
			t.Errorf("as root: %d %s", status, out)
		}
	} else if err := CheckUser(); err != nil {
		t.Error(err)
	}
}

func TestFastShutdown(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	p := start(t, quick+instanceConf(0, w.port())+"heartbeat_timeout = 30")
	if s := p.status(); s != control.StatusStarting {
		t.Errorf("status %q", s)
	}
	wc := w.next()
	if wc.hello.Boot == (hb.ID{}) || wc.hello.ID == (hb.ID{}) {
		t.Errorf("HELLO %+v", wc.hello)
	}
	wc.welcome(1, 7, primary)
	eventually(t, "the pid file says complete", func() bool { return p.status() == control.StatusComplete })
	bound, idle := p.client(), p.client()
	if got := bound.query("show target primary"); !strings.HasPrefix(got, "T "+strings.TrimSuffix(row0, ")")) {
		t.Fatalf("got %s", got)
	}
	p.signal(syscall.SIGHUP)
	p.signal(syscall.SIGPIPE)
	begin := time.Now()
	p.signal(syscall.SIGTERM)
	for _, c := range []*client{bound, idle} {
		if got := c.until(""); got != "E(FATAL 57P01 the Connection Manager is shutting down) EOF" {
			t.Errorf("got %s", got)
		}
		c.c.Close()
	}
	if code := wc.goodbye(); code != hb.GoodbyeConmgrEnds {
		t.Errorf("GOODBYE %d", code)
	}
	if status := p.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "conmgr.pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pid file: %v", err)
	}
	for _, want := range []string{"LOG:  received fast shutdown request", "LOG:  closing all application connections"} {
		if !strings.Contains(p.log(), want) {
			t.Errorf("not in the log: %s", want)
		}
	}
}

func TestSmartThenFastShutdown(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	conf := quick + instanceConf(0, w.port()) + "heartbeat_timeout = 30"
	for _, override := range []bool{false, true} {
		p := start(t, conf)
		w.next().welcome(1, 7, primary)
		eventually(t, "ready", func() bool { return p.status() == control.StatusComplete })
		bound := p.client()
		bound.query("show target primary")
		p.signal(syscall.SIGINT)
		eventually(t, "the shutdown has begun", func() bool { return p.status() == control.StatusStopping })
		c := p.client() // looks on, and does not hold up the shutdown
		if got := c.query("show target any"); !strings.HasPrefix(got, "E(ERROR 57P03 ") {
			t.Errorf("got %s", got)
		}
		if got := c.query("show applications"); strings.Count(got, "D(") != 1 {
			t.Errorf("got %s", got)
		}
		if got := bound.query("show version"); !strings.HasSuffix(got, "Z") {
			t.Errorf("bound: %s", got)
		}
		if override {
			p.signal(syscall.SIGTERM)
			if got := bound.until(""); !strings.HasPrefix(got, "E(FATAL 57P01 ") {
				t.Errorf("got %s", got)
			}
		}
		bound.c.Close()
		if status := p.end(); status != 0 {
			t.Errorf("exit status %d", status)
		}
	}
}

func TestImmediateShutdown(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	p := start(t, quick+instanceConf(0, w.port())+"heartbeat_timeout = 30")
	c := w.next()
	c.welcome(1, 7, primary)
	eventually(t, "ready", func() bool { return p.status() == control.StatusComplete })
	p.signal(syscall.SIGQUIT)
	if status := p.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if code := c.goodbye(); code != 0 {
		t.Errorf("GOODBYE %d", code)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "conmgr.pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pid file: %v", err)
	}
}

// ready is written when a primary is there, complete when all are; neither is withdrawn.
func TestPidFileStatus(t *testing.T) {
	w0, w1 := newWatchdog(t, "127.0.0.1:0"), newWatchdog(t, "127.0.0.1:0")
	p := start(t, "heartbeat_connect_interval = 50ms\n"+instanceConf(0, w0.port())+instanceConf(1, w1.port()))
	c0, c1 := w0.next(), w1.next()
	c0.welcome(1, 7, standby)
	cl := p.client()
	eventually(t, "the standby is established", func() bool { return strings.Contains(cl.query("show target standby"), "D(0,") })
	if s := p.status(); s != control.StatusStarting {
		t.Errorf("with a standby: %q", s)
	}
	c0.beat(primary)
	eventually(t, "ready", func() bool { return p.status() == control.StatusReady })
	c1.welcome(2, 7, standby)
	eventually(t, "complete", func() bool { return p.status() == control.StatusComplete })
	c1.c.Close()
	w1.next()
	if s := p.status(); s != control.StatusComplete {
		t.Errorf("afterwards: %q", s)
	}
}

func TestSecondConmgr(t *testing.T) {
	p := start(t, "backend_hostaddr0 = 127.0.0.1\nwatchdog_port0 = 1")
	want := fmt.Sprintf("FATAL:  another conmgr process(PID %d) is running\n", p.cmd.Process.Pid)
	if status, out := runOnce(t, command(t, "", "-D", p.dir)); status != 1 || out != want {
		t.Errorf("same directory: %d %s", status, out)
	}
	other, _ := conmgrDir(t, "")
	conf := fmt.Sprintf("backend_hostaddr0 = 127.0.0.1\nlisten_addresses = 127.0.0.1\nport = %d", p.port)
	if err := os.WriteFile(filepath.Join(other, cm.ConfigFile), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	want = fmt.Sprintf("FATAL:  could not listen on 127.0.0.1:%d: address already in use\n", p.port)
	if status, out := runOnce(t, command(t, "", "-D", other)); status != 1 || !strings.HasSuffix(out, want) {
		t.Errorf("same port: %d %s", status, out)
	}
	if _, err := os.Stat(filepath.Join(other, "conmgr.pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pid file after a failed start: %v", err)
	}
}

func TestSystemd(t *testing.T) {
	checkLeaks(t)
	dir, err := testkit.TempDir("cmsd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	os.Chmod(path, 0o777)
	p := start(t, "backend_hostaddr0 = 127.0.0.1\nwatchdog_port0 = 1", "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=100000")
	expect := func(want string) {
		t.Helper()
		l.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 500)
		for {
			n, err := l.Read(buf)
			if err != nil {
				t.Fatalf("no %s: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	expect("READY=1")
	expect("WATCHDOG=1")
	expect("WATCHDOG=1")
	p.signal(syscall.SIGTERM)
	expect("STOPPING=1")
	p.end()
}

// A conmgr that was stopped for longer than the timeout declares nothing when it wakes.
func TestFrozenProcess(t *testing.T) {
	w0, w1 := newWatchdog(t, "127.0.0.1:0"), newWatchdog(t, "127.0.0.1:0")
	p := start(t, quick+instanceConf(0, w0.port())+instanceConf(1, w1.port()))
	c0, c1 := w0.next(), w1.next()
	c0.welcome(1, 7, primary)
	c1.welcome(2, 7, standby)
	stop0 := c0.beating(50*time.Millisecond, primary)
	stop1 := c1.beating(50*time.Millisecond, standby)
	eventually(t, "complete", func() bool { return p.status() == control.StatusComplete })
	app := p.client()
	app.query("show target primary")
	p.signal(syscall.SIGSTOP)
	stop1()
	c1.c.Close() // this one has to connect again, with its deadline long past
	select {
	case <-p.ended:
	case <-time.After(1500 * time.Millisecond): // the length of the stop: more than three timeouts
	}
	p.signal(syscall.SIGCONT)
	c1 = w1.next()
	if c1.hello.Generation != 0 {
		t.Errorf("instance 1: generation %d", c1.hello.Generation)
	}
	c1.welcome(2, 7, standby)
	stop1 = c1.beating(50*time.Millisecond, standby)
	for i := 0; i < 10; i++ {
		if got := app.query("show instances"); strings.Contains(got, "EOF") || strings.Contains(got, "lost") {
			t.Fatalf("got %s", got)
		}
		c1.frame()
	}
	if strings.Contains(p.log(), "lost") {
		t.Error("a loss was declared")
	}
	stop0()
	stop1()
	if got := app.until(""); !strings.HasPrefix(got, "E(FATAL 57P01 instance 0") { // but silence is still found
		t.Errorf("got %s", got)
	}
}

// The panic of a goroutine ends conmgr in order, and not with success.
func TestPanicEndsTheDaemon(t *testing.T) {
	r := static(t, "", primary)
	c := r.connect()
	c.query("show target primary")
	r.d.group.OnPanic = (&failure{log: r.d.log, first: r.d.failed}).panicked
	r.d.group.Go("victim", func() { panic("oops") })
	err := r.d.wait(nil, r.cancel)
	if !errors.Is(err, errPanic) {
		t.Errorf("got %v", err)
	}
	if got := c.until(""); !strings.HasPrefix(got, "E(FATAL 57P01 the Connection Manager is shutting down because of an internal error)") {
		t.Errorf("got %s", got)
	}
	r.d.log.Flush(patience)
	if r.logged("PANIC:  victim: oops") != 1 || r.logged("daemon_test.go") == 0 {
		t.Errorf("log: %s", r.log)
	}
}

// What is not a file does not keep anybody waiting; root may look.
func TestCheckOfNoFile(t *testing.T) {
	dir, _ := conmgrDir(t, "backend_host0 = a\n")
	file := filepath.Join(dir, cm.ConfigFile)
	binary, err := conmgrBinary()
	if err != nil {
		t.Fatal(err)
	}
	check := func() (int, string) {
		cmd := exec.Command(binary, "--check", "-D", dir) // as the user of the test, who may be root
		return runOnce(t, cmd)
	}
	if code, out := check(); code != 0 || out != "" {
		t.Errorf("exit status %d\n%s", code, out)
	}
	for _, x := range []struct {
		what string
		make func() error
		want string
	}{
		{"FIFO", func() error { return unix.Mkfifo(file, 0o644) }, "it is not a regular file"},
		{"directory", func() error { return os.Mkdir(file, 0o755) }, "it is not a regular file"},
		{"device", func() error { return os.Symlink("/dev/zero", file) }, "it is not a regular file"},
		{"dangling link", func() error { return os.Symlink("nowhere", file) }, "no such file or directory"},
	} {
		os.Remove(file)
		if err := x.make(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if code, out := check(); code != 1 || !strings.Contains(out, file+": ") || !strings.Contains(out, x.want) {
			t.Errorf("%s: exit status %d\n%s", x.what, code, out)
		}
		if d := time.Since(begin); d > patience {
			t.Errorf("%s: %v", x.what, d)
		}
	}
}
