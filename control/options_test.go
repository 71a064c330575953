package control

// The command line, and what cm_ctl refuses before it does anything.

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

// captured runs the command as a caller that reads until the end of its output.
func captured(t *testing.T, kind string, cmd *exec.Cmd) string {
	t.Helper()
	var ours, theirs *os.File
	if kind == "pipe" {
		var err error
		if ours, theirs, err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
	} else {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs = os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	}
	defer ours.Close()
	cmd.Stdout, cmd.Stderr = theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	if err := ours.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(ours)
	if err != nil {
		t.Errorf("conmgr holds the output open: %v", err)
	}
	_ = cmd.Wait()
	return string(b)
}

func TestOptions(t *testing.T) {
	plain := options{action: "start", wait: true, mode: modeFast, items: "all"}
	with := func(change func(o *options)) options { o := plain; change(&o); return o }
	for line, want := range map[string]options{
		"start":                       plain,
		"start -D /d -W":              with(func(o *options) { o.dir, o.wait = "/d", false }),
		"-W -D /d start":              with(func(o *options) { o.dir, o.wait = "/d", false }),
		"start -WD/d":                 with(func(o *options) { o.dir, o.wait = "/d", false }),
		"--directory=/d start --no-w": with(func(o *options) { o.dir, o.wait = "/d", false }),
		"--dir /d -W -w start":        with(func(o *options) { o.dir, o.waits = "/d", true }),
		"drain -i 2":                  with(func(o *options) { o.action, o.items, o.instance = "drain", "2", 2 }),
		"drain --wait --instance=0": with(func(o *options) {
			o.action, o.items, o.waits = "drain", "0", true
		}),
		"undrain -i0 -w -W":            with(func(o *options) { o.action, o.items, o.wait = "undrain", "0", false }),
		"start -t5":                    with(func(o *options) { o.timeout = 5 * time.Second }),
		"start --timeout=5":            with(func(o *options) { o.timeout = 5 * time.Second }),
		"start -t 5 --complete -l x":   with(func(o *options) { o.timeout, o.complete, o.log = 5*time.Second, true, "x" }),
		"-ms stop":                     with(func(o *options) { o.action, o.mode = "stop", modeSmart; o.asked = true }),
		"stop --mode=immediate":        with(func(o *options) { o.action, o.mode = "stop", modeImmediate; o.asked = true }),
		"status --json -i application": with(func(o *options) { o.action, o.json, o.items = "status", true, "application" }),
		"status --items=instance":      with(func(o *options) { o.action, o.items = "status", "instance" }),
		"-D /d -- restart":             with(func(o *options) { o.action, o.dir = "restart", "/d" }),
		"start -D -W":                  with(func(o *options) { o.dir = "-W" }),
		"--help --nonsense":            with(func(o *options) { o.action, o.help = "", true }),
		"start -?":                     with(func(o *options) { o.action, o.help = "", true }),
		"events --json -f":             with(func(o *options) { o.action, o.json, o.follow = "events", true, true }),
		"genkey a":                     with(func(o *options) { o.action, o.name = "genkey", "a" }),
		"-V":                           with(func(o *options) { o.action, o.version = "", true }),
		"--version -x":                 with(func(o *options) { o.action, o.version = "", true }),
	} {
		if got, err := parseOptions(strings.Fields(line)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
	for line, want := range map[string]string{
		"":                              "no operation specified",
		"start stop":                    "too many command-line arguments (first is \"stop\")",
		"drain":                         "no instance specified: use -i with its number in conmgr.conf",
		"undrain -i all":                "no instance specified",
		"drain -i db1":                  "invalid instance \"db1\": must be its number in conmgr.conf",
		"genkey":                        "no name specified",
		"genkey a b":                    "too many command-line arguments (first is \"b\")",
		"launch":                        "unrecognized operation mode \"launch\"",
		"start --zz":                    "unrecognized option '--zz'",
		"start --co=1":                  "option '--complete' doesn't allow an argument",
		"start --":                      "",
		"start -Wz":                     "invalid option -- 'z'",
		"start -t":                      "option requires an argument -- 't'",
		"start --log":                   "option '--log' requires an argument",
		"start --wa":                    "",
		"stop -m slow":                  "unrecognized shutdown mode \"slow\"",
		"stop -m":                       "option requires an argument -- 'm'",
		"status -i server":              "unrecognized item \"server\"",
		"start -t 0":                    "invalid timeout \"0\"",
		"start -t -1":                   "invalid timeout \"-1\"",
		"start -t 1.5":                  "invalid timeout",
		"start -t 99999999999999999999": "invalid timeout",
		"start --=x":                    "ambiguous",
	} {
		_, err := parseOptions(strings.Fields(line))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	d := newDesk(t, "prompt")
	run := func(args ...string) result { return d.run(context.Background(), args...) }
	const try = "Try \"cm_ctl --help\" for more information."
	d.want(run("start"), 1, "cm_ctl: no directory specified and environment variable CMDATA unset", try)
	d.want(run("start", "-x"), 1, "cm_ctl: invalid option -- 'x'", try)
	d.want(run("--help"), 0, "Usage:", "cm_ctl restart", "CMDATA", "--complete", "--json")
	d.want(run("--version"), 0, "cm_ctl (watchdog) "+cm.Version+"\n")

	d.want(run("genkey", "a/b"), 1, "cm_ctl: invalid name \"a/b\": a keyid has 1 to 16 characters out of")

	missing := filepath.Join(d.dir, "missing")
	for action, code := range map[string]int{"start": 1, "stop": 1, "restart": 1, "status": 4} {
		d.want(run(action, "-D", missing), code, "directory \""+missing+"\" does not exist")
		d.want(run(action, "-D", t.TempDir()), code, "is not a directory of a conmgr process")
		d.want(run(action, "-D", filepath.Join(d.dir, cm.ConfigFile)), code, "is not a directory")
	}
	d.env["CMDATA"] = d.dir
	d.want(run("status"), 3, "no conmgr process running")
	d.env["CMDATA"] = missing
	d.want(run("status"), 4)
	d.want(run("status", "-D", d.dir), 3)
}

func TestRootIsRefused(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for _, args := range [][]string{{"start"}, {"stop"}, {"restart"}, {"status"}, {"nonsense"}, {"--help"}, {"--version"}} {
		want := 1
		if strings.HasPrefix(args[0], "--") {
			want = 0
		}
		c := Command{Args: append(args, "-D", t.TempDir()), Getenv: os.Getenv, Stdout: out, Stderr: out, Euid: 0}
		if code := c.Run(context.Background()); code != want {
			t.Errorf("%v: exit status %d", args, code)
		}
	}
	b, err := os.ReadFile(out.Name())
	if n := strings.Count(string(b), "cm_ctl: cannot be run as root\nPlease log in"); err != nil || n != 5 {
		t.Errorf("%s, %v", b, err)
	}
}

// Who may not look into the directory is told so, and nothing is taken for "not running".
func TestUnreadableDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root may look everywhere: be nobody for this test.
		exe := filepath.Join(t.TempDir(), "control.test")
		b, err := os.ReadFile(os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(exe, b, 0o755); err != nil {
			t.Fatal(err)
		}
		for dir := filepath.Dir(exe); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(exe, "-test.run=^TestUnreadableDirectory$", "-test.v")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestUnreadableDirectory") {
			t.Fatalf("%s%v", out, err)
		}
		return
	}
	d := newDesk(t, "prompt")
	if err := os.Chmod(d.dir, 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(d.dir, 0o700)
	for action, code := range map[string]int{"start": 1, "stop": 1, "restart": 1, "status": 4} {
		d.want(d.cmctl(action), code, "could not access directory", "permission denied")
	}
	if _, running, err := Running(d.dir); running || err == nil {
		t.Errorf("%v, %v", running, err)
	}
	if _, err := CreatePidFile(d.dir, Info{Port: 1}); err == nil {
		t.Error("created")
	}
	if err := os.Chmod(d.dir, 0o500); err != nil {
		t.Fatal(err)
	}
	d.want(d.cmctl("start"), 1, "could not create PID file", "permission denied", "could not start conmgr process")
	if err := os.Chmod(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.touch(cm.PidFile)
	if err := os.Chmod(filepath.Join(d.dir, cm.PidFile), 0); err != nil {
		t.Fatal(err)
	}
	d.want(d.cmctl("status"), 4, "could not open PID file", "permission denied")
	d.want(d.cmctl("stop"), 1, "could not open PID file")
}

func TestAddresses(t *testing.T) {
	for listen, want := range map[string]string{
		"localhost": "127.0.0.1 ::1", "*": "127.0.0.1 ::1", "": "127.0.0.1 ::1", "0.0.0.0": "127.0.0.1", "::": "::1 127.0.0.1",
		"192.0.2.1": "192.0.2.1", "192.0.2.1, localhost": "127.0.0.1 ::1 192.0.2.1", "db, ::1": "::1 db", "127.0.0.2": "127.0.0.2",
	} {
		if got := strings.Join(addressesOf(listen), " "); got != want {
			t.Errorf("%q: %s, want %s", listen, got, want)
		}
	}
}
