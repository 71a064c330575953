package control

// cm_ctl against a conmgr of the tests' own: what it says, what it returns, and that it neither hangs nor
// signals anybody else.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

// result is what a run of cm_ctl gave.
type result struct {
	code           int
	stdout, stderr string
}

// desk is a directory of a conmgr process and a user of cm_ctl.
type desk struct {
	t   *testing.T
	dir string
	env map[string]string
	tty *os.File // its standard input, if any
}

func newDesk(t *testing.T, behaviour string) *desk {
	t.Helper()
	t.Setenv(roleVariable, "conmgr")
	t.Setenv(behaviourVariable, behaviour)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector would hold up the end of each process
	d := &desk{t: t, dir: t.TempDir(), env: map[string]string{}}
	d.touch(cm.ConfigFile)
	t.Cleanup(func() {
		info, running, err := Running(d.dir)
		if err != nil || !running {
			return
		}
		if p, err := openProcess(info); err == nil {
			_ = p.signal(syscall.SIGKILL)
			p.waitExit(context.Background(), time.Now().Add(20*time.Second))
			p.close()
		}
	})
	return d
}

func (d *desk) touch(name string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), nil, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// cmctl runs cm_ctl with -D, in this process.
func (d *desk) cmctl(args ...string) result {
	d.t.Helper()
	return d.run(context.Background(), append(args, "-D", d.dir)...)
}

func (d *desk) run(ctx context.Context, args ...string) result {
	d.t.Helper()
	_, ended := d.begin(ctx, args...)
	return <-ended
}

func (d *desk) want(r result, code int, texts ...string) {
	d.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			d.t.Errorf("does not say %q", text)
		}
	}
	if r.code != code {
		d.t.Errorf("exit status %d, want %d", r.code, code)
	}
	if d.t.Failed() {
		d.t.Fatalf("stdout: %s\nstderr: %s", r.stdout, r.stderr)
	}
}

func (d *desk) pid() int {
	d.t.Helper()
	return wantRunning(d.t, d.dir, true).Pid
}

func TestStartStatusStop(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("status"), 3, "no conmgr process running")
	d.want(d.cmctl("start"), 0, "starting conmgr process\n", "waiting conmgr process to connect to watchdog", "conmgr process is ready\n",
		"started conmgr process successfully\n", "hello from prompt")
	pid := d.pid()
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v: conmgr would die with the terminal", sid, err)
	}
	d.want(d.cmctl("start"), 1, fmt.Sprintf("another conmgr process(PID %d) is running", pid))
	d.want(d.cmctl("status"), 0, fmt.Sprintf("conmgr process is running (PID: %d)", pid), "Instances:", "db0", "read-write", "Applications:")
	d.want(d.cmctl("status", "-i", "instance"), 0, "Instances:")
	if r := d.cmctl("status", "-i", "application"); strings.Contains(r.stdout, "Instances") || !strings.Contains(r.stdout, "Applications") {
		t.Error(r.stdout)
	}
	if err := os.WriteFile(filepath.Join(d.dir, cm.ConfigFile), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.want(d.cmctl("stop"), 0, "conmgr process shutting down", "stopped conmgr process successfully")
	wantRunning(t, d.dir, false)
	d.want(d.cmctl("stop"), 1, fmt.Sprintf("PID file \"%s/conmgr.pid\" does not exist\nIs conmgr process running?", d.dir))
}

func TestStatusJSON(t *testing.T) {
	d := newDesk(t, "fixed")
	none := `{"pid":null,"state":"not running","port":null,"instances":[],"applications":[],"waiting":[],"version":null,` +
		`"directory":"` + d.dir + `","listen_addresses":null,"started":null}` + "\n"
	if r := d.cmctl("status", "--json"); r.code != 3 || r.stdout != none {
		t.Fatalf("%+v", r)
	}
	d.want(d.cmctl("start"), 0)
	d.want(d.cmctl("status"), 0, "?[31mred") // an application's name does nothing to the terminal
	info := wantRunning(t, d.dir, true)
	head := fmt.Sprintf(`{"pid":%d,"state":"running","port":%d,`, info.Pid, info.Port)
	tail := fmt.Sprintf(`,"waiting":[],"version":"1.0","directory":%q,"listen_addresses":"localhost","started":%q}`+"\n", d.dir,
		info.Started.Format(time.RFC3339))
	const (
		instances = `"instances":[{"instance":0,"host":"db0","hostaddr":"10.0.0.1","port":27500,"watchdog_port":27545,` +
			`"state":"established","role":"primary","read_only":false,"timeline":3,"last_heartbeat_ms":412,"generation":0,` +
			`"detail":null,"used_for":"any,read-write","not_used":null,"last_role":"primary",` +
			`"system_identifier":"7000000000000000001","draining":"here","bound":3,"lag_bytes":null,"lag_ms":null},` +
			`{"instance":2,"host":"db2","hostaddr":null,"port":5432,"watchdog_port":27545,` +
			`"state":"lost","role":"unknown","read_only":null,"timeline":null,"last_heartbeat_ms":null,"generation":1,` +
			`"detail":"refused","used_for":null,"not_used":"unreachable","last_role":"primary","system_identifier":null,"draining":null,"bound":null,` +
			`"lag_bytes":4096,"lag_ms":12}]`
		applications = `"applications":[{"client_addr":"127.0.0.1","client_port":40000,"application_name":"\u001b[31mred","target":"read-write","instance":0,"connected_at":"2026-01-02T03:04:05Z","via":"bind"}]`
	)
	for items, want := range map[string]string{
		"all":         head + instances + "," + applications + tail,
		"instance":    head + instances + `,"applications":[]` + tail,
		"application": head + `"instances":[],` + applications + tail,
	} {
		if r := d.cmctl("status", "--json", "-i", items); r.code != 0 || r.stdout != want || r.stderr != "" {
			t.Errorf("-i %s:\n%s%s\nwant\n%s", items, r.stdout, r.stderr, want)
		}
	}
}

// An answer that could not be written, as on a full disk, is no success.
func TestAnswerIsLost(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("start"), 0)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"status", "-D", d.dir}, {"status", "--json", "-D", d.dir}, {"--help"}, {"--version"}} {
		said := filepath.Join(t.TempDir(), "stderr")
		stderr, err := os.Create(said)
		if err != nil {
			t.Fatal(err)
		}
		c := Command{Args: args, Getenv: os.Getenv, Stdout: full, Stderr: stderr, Euid: 1000}
		code := c.Run(context.Background())
		stderr.Close()
		text, _ := os.ReadFile(said)
		if want := "cm_ctl: could not write to standard output: no space left on device\n"; code != 1 || string(text) != want {
			t.Errorf("%v: exit status %d, %q", args, code, text)
		}
	}
}

func TestStatusOfAConmgrThatDoesNotAnswer(t *testing.T) {
	for behaviour, text := range map[string]string{"full": "max_connections may be reached", "postgres": "not a Connection Manager", "garbled": "malformed DataRow", "endless": "length 2147483647"} {
		t.Run(behaviour, func(t *testing.T) {
			d := newDesk(t, behaviour)
			d.want(d.cmctl("start"), 0)
			d.want(d.cmctl("status"), 0, "conmgr process is running", "does not answer on port", text)
			r := d.cmctl("status", "--json")
			var report statusReport
			if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 0 || report.State != "running" {
				t.Errorf("%+v, %v", r, err)
			}
			reason := fmt.Sprintf("conmgr process (PID %d) does not answer on port %d: ", *report.Pid, *report.Port)
			if !strings.Contains(r.stdout, `"instances":[],"applications":[],"error":"`+reason) || !strings.Contains(r.stdout, text) {
				t.Errorf("--json: %s", r.stdout)
			}
		})
	}
}

func TestFrozenConmgr(t *testing.T) {
	d := newDesk(t, "frozen")
	d.want(d.cmctl("start"), 0)
	pid := d.pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every thread of conmgr is stopped", func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, file := range stats {
			b, _ := os.ReadFile(file)
			if after := string(b[bytes.LastIndexByte(b, ')')+1:]); !strings.HasPrefix(after, " T") {
				return false
			}
		}
		return len(stats) > 0
	})
	began := time.Now()
	d.want(d.cmctl("status", "-t1"), 0, "conmgr process is running", "does not answer", "timeout")
	d.want(d.cmctl("status", "-t1", "--json"), 0, `"instances":[],"applications":[],"error":"conmgr process`, "timeout")
	d.want(d.cmctl("stop", "-t1", "-m", "smart"), 1, "conmgr process does not shut down", "HINT: The \"-m fast\" option")
	if took := time.Since(began); took < 3*time.Second || took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	d.want(d.cmctl("stop", "-W"), 0)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "conmgr ended", func() bool { _, running, _ := Running(d.dir); return !running })
}

func TestStartWaitsForWhatWasAsked(t *testing.T) {
	d := newDesk(t, "slow")
	began := time.Now()
	d.want(d.cmctl("start", "-t", "1"), 1, "stopped waiting", "could not start conmgr process in time")
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	d.want(d.cmctl("status"), 0, "conmgr process is starting")
	d.want(d.cmctl("stop"), 0)

	d.want(d.cmctl("start", "-W"), 0, "starting conmgr process")
	d.pid()
	d.want(d.cmctl("stop", "-m", "i"), 0)

	d.touch("ready")
	d.want(d.cmctl("start"), 0, "conmgr process is ready")
	d.want(d.cmctl("restart", "--complete", "-t1"), 1, "could not start conmgr process in time")
	d.want(d.cmctl("stop"), 0)
	d.touch("complete")
	d.want(d.cmctl("start", "--complete"), 0, "started conmgr process successfully")
}

// Without a primary, plain start waits on, although all instances are there. The pid file of version
// 1.0 does not tell.
func TestStartWithoutPrimary(t *testing.T) {
	for _, conmgr := range []string{"standbys", "standbys of 1.0"} {
		t.Run(conmgr, func(t *testing.T) { startWithoutPrimary(t, newDesk(t, conmgr)) })
	}
}

func startWithoutPrimary(t *testing.T, d *desk) {
	d.want(d.cmctl("start", "--complete"), 0)
	d.want(d.cmctl("stop"), 0)
	d.want(d.cmctl("start", "-t", "1"), 1, "could not start conmgr process in time")
	d.want(d.cmctl("stop"), 0)
	go func() {
		eventually(t, "conmgr has all instances", func() bool { info, err := ReadPidFile(d.dir); return err == nil && info.Status == StatusComplete })
		d.touch("promoted")
	}()
	d.want(d.cmctl("start"), 0, "conmgr process is ready")
}

// conmgr holds nothing that cm_ctl has inherited: not the lock of flock(1), for one.
func TestStartKeepsDescriptorsFromConmgr(t *testing.T) {
	d := newDesk(t, "prompt")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := cmCtlProcess("prompt", "start", "-D", d.dir, "-l", filepath.Join(d.dir, "log"))
	cmd.ExtraFiles = []*os.File{w}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s%v", out, err)
	}
	_ = w.Close()
	d.pid()
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the pipe is still held: %v", err)
	}
}

func TestStartOfAConmgrThatFails(t *testing.T) {
	defer func(d time.Duration) { noWaitGrace = d }(noWaitGrace)
	noWaitGrace = time.Minute // it ends, however slowly
	for behaviour, text := range map[string]string{"broken": "unrecognized parameter", "dies": "hello"} {
		for _, args := range [][]string{{"start"}, {"start", "-W"}, {"start", "--complete"}, {"restart"}} {
			d := newDesk(t, behaviour)
			d.want(d.cmctl(args...), 1, "could not start conmgr process", "exit status 1", "Examine the log output.", text)
		}
	}
	d := newDesk(t, "broken")
	log := filepath.Join(t.TempDir(), "log")
	d.want(d.cmctl("start", "-l", log), 1, "Examine the log output in \""+log)
	st, err := os.Stat(log)
	if err != nil || st.Mode().Perm() != 0o600 || st.Size() == 0 {
		t.Errorf("%v, %v", st, err)
	}
	d.want(d.cmctl("start", "-l", filepath.Join(d.dir, "missing", "log")), 1, "could not open log file")
}

func TestStopModes(t *testing.T) {
	for mode, sig := range map[string]syscall.Signal{"smart": syscall.SIGINT, "s": syscall.SIGINT, "fast": syscall.SIGTERM, "f": syscall.SIGTERM,
		"immediate": syscall.SIGQUIT, "i": syscall.SIGQUIT, "": syscall.SIGTERM} {
		d := newDesk(t, "prompt")
		d.touch("applications-gone")
		d.want(d.cmctl("start"), 0)
		args := []string{"stop"}
		if mode != "" {
			args = append(args, "-m", mode)
		}
		d.want(d.cmctl(args...), 0)
		if b, err := os.ReadFile(filepath.Join(d.dir, "signalled")); err != nil || string(b) != sig.String() {
			t.Errorf("mode %q: %q, %v", mode, b, err)
		}
	}
	d := newDesk(t, "prompt")
	d.want(d.cmctl("start"), 0)
	d.want(d.cmctl("stop", "-m", "smart", "-t", "1"), 1, "does not shut down")
	d.want(d.cmctl("status"), 0, "conmgr process is stopping")
	d.want(d.cmctl("stop"), 0)
}

func TestRestart(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("restart"), 0, "does not exist", "trying to start conmgr process anyway", "started conmgr process successfully")
	first := d.pid()
	d.want(d.cmctl("restart"), 0, "stopped conmgr process successfully", "started conmgr process successfully")
	second := d.pid()
	if first == second {
		t.Error("not restarted")
	}
	if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool { _, running, _ := Running(d.dir); return !running })
	gone := fmt.Sprintf("conmgr process (PID %d) is gone", second)
	d.want(d.cmctl("status"), 3, "is stale", gone)
	d.want(d.cmctl("stop"), 1, "is stale", gone, "Is conmgr process running?")
	d.want(d.cmctl("restart"), 0, gone, "trying to start", "replacing the stale PID file")
	d.pid()
}

// A restart without a mode ends nothing: in place where the program can, else by an end and a start
// of which the servers know.
func TestRestartInPlace(t *testing.T) {
	for _, x := range []struct {
		name, file string // that the program obeys
		args       []string
		code       int
		signal     string // that the process gets; empty: none
		same       bool   // it is still that process
		says       []string
	}{
		{"in place", "", []string{"restart"}, 0, "user defined signal 2", true,
			[]string{"conmgr process restarting", "restarted conmgr process successfully"}},
		{"in place, to the end", "", []string{"restart", "--complete"}, 0, "user defined signal 2", true,
			[]string{"restarted conmgr process successfully"}},
		{"its output goes elsewhere", "", []string{"restart", "-l", os.DevNull}, 0, "user defined signal 1", false,
			[]string{"stopped conmgr process successfully", "started conmgr process successfully"}},
		{"a program that does not know how", "knows-nothing", []string{"restart"}, 0, "user defined signal 1", false,
			[]string{"stopped conmgr process successfully", "started conmgr process successfully"}},
		{"a mode", "", []string{"restart", "-m", "fast"}, 0, "terminated", false,
			[]string{"stopped conmgr process successfully", "started conmgr process successfully"}},
		{"one that does not", "refuses", []string{"restart"}, 1, "user defined signal 2", true,
			[]string{`goes on as it is: no "way"?`, "\nnor another one\n"}},
		{"a configuration that is wrong", "bad-conf", []string{"restart"}, 1, "", true,
			[]string{"conmgr.conf:1: unrecognized parameter", "goes on as it is"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			d := newDesk(t, "becomes")
			d.want(d.cmctl("start"), 0)
			before := d.pid()
			if x.file != "" {
				d.touch(x.file)
			}
			d.want(d.cmctl(x.args...), x.code, x.says...)
			if now := d.pid(); (now == before) != x.same {
				t.Errorf("process %d, was %d", now, before)
			}
			if got, _ := os.ReadFile(filepath.Join(d.dir, "signalled")); string(got) != x.signal {
				t.Errorf("it got %q", got)
			}
		})
	}
}

// Whoever has the pid of a stale file by now is left alone, and start takes the file over.
func TestStopSparesAStranger(t *testing.T) {
	d := newDesk(t, "prompt")
	stranger := play(t, "stranger")
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := Info{Pid: stranger.pid(), Dir: d.dir, Started: time.Now(), Port: 1, BootID: boot, StartTicks: 1, Status: StatusReady}.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, cm.PidFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range shutdownModes {
		d.want(d.cmctl("stop", "-m", mode.name), 1, "is stale")
	}
	d.want(d.cmctl("start"), 0, "replacing the stale PID file")
	d.want(d.cmctl("stop"), 0)
	if st, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", stranger.pid())); err != nil || strings.Contains(string(st), ") Z ") {
		t.Errorf("the stranger was ended: %s, %v", st, err)
	}
}

// out=$(cm_ctl start) returns although conmgr lives on.
func TestStartDoesNotHoldThePipe(t *testing.T) {
	for _, kind := range []string{"pipe", "socket"} {
		t.Run(kind, func(t *testing.T) {
			d := newDesk(t, "prompt")
			out := captured(t, kind, cmCtlProcess("prompt", "start", "-D", d.dir))
			for _, text := range []string{"messages of conmgr process go to", "started conmgr process successfully"} {
				if strings.Count(out, text) != 1 {
					t.Errorf("%q not once in %s", text, out)
				}
			}
			d.pid()
			if b, err := os.ReadFile(filepath.Join(d.dir, logFileName)); err != nil || !strings.Contains(string(b), "hello") {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	d := newDesk(t, "broken")
	if err := os.WriteFile(filepath.Join(d.dir, logFileName), []byte("of yesterday\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := captured(t, "pipe", cmCtlProcess("broken", "start", "-D", d.dir))
	if !strings.Contains(out, "unrecognized parameter") || strings.Contains(out, "yesterday") {
		t.Errorf("failed start: %s", out)
	}
}

func TestInterruptedStart(t *testing.T) {
	d := newDesk(t, "slow")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		eventually(t, "conmgr is starting", func() bool { _, running, _ := Running(d.dir); return running })
		cancel()
	}()
	d.want(d.run(ctx, "start", "-D", d.dir), 130, "interrupted")
	eventually(t, "conmgr ended", func() bool { _, running, _ := Running(d.dir); return !running })
}

func TestTwoStartsAtOnce(t *testing.T) {
	d := newDesk(t, "prompt")
	done := make(chan result, 4)
	for range 4 {
		go func() { done <- d.cmctl("start") }()
	}
	started := 0
	for range 4 {
		switch r := <-done; {
		case r.code == 0:
			started++
		case !strings.Contains(r.stderr, "another conmgr process(PID "):
			t.Errorf("%+v", r)
		}
	}
	if started != 1 {
		t.Errorf("%d started", started)
	}
}
