package control

// Tests of cm_ctl drain and undrain, by conmgr's own console, and of the file of what is drained.

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/pgwatchdog/watchdog/cm"
)

// drained are the two columns of instance 0.
func (d *desk) drained() (by string, bound int64) {
	d.t.Helper()
	var s statusReport
	r := d.cmctl("status", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || len(s.Instances) == 0 || s.Instances[0].Bound == nil {
		d.t.Fatalf("%+v, %v", r, err)
	}
	if s.Instances[0].Draining != nil {
		by = *s.Instances[0].Draining
	}
	return by, *s.Instances[0].Bound
}

// begin is run that is not waited for: what it has said until now, and its end.
func (d *desk) begin(ctx context.Context, args ...string) (said func() string, ended <-chan result) {
	d.t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp(d.t.TempDir(), "out")
		if err != nil {
			d.t.Fatal(err)
		}
		files[i] = f
	}
	text := func(i int) string {
		b, err := os.ReadFile(files[i].Name())
		if err != nil {
			d.t.Error(err)
		}
		return string(b)
	}
	c := Command{Args: args, Getenv: func(n string) string { return d.env[n] }, Stdin: d.tty, Stdout: files[0],
		Stderr: files[1], Euid: 1000, Conmgr: os.Args[0]}
	results := make(chan result, 1)
	go func() {
		code := c.Run(ctx)
		results <- result{code, text(0), text(1)}
		files[0].Close()
		files[1].Close()
	}()
	return func() string { return text(0) }, results
}

// waitDrained has cm_ctl wait for the drain of instance 0, which has begun.
func (d *desk) waitDrained(ctx context.Context, more ...string) <-chan result {
	d.t.Helper()
	said, waited := d.begin(ctx, append([]string{"drain", "-D", d.dir, "--wait", "-t", "60", "-i", "0"}, more...)...)
	eventually(d.t, "it waits", func() bool { return strings.Contains(said(), "waiting for applications to leave") })
	if by, _ := d.drained(); by != "here" {
		d.t.Errorf("drained by %q", by)
	}
	return waited
}

func TestDrainAndUndrain(t *testing.T) {
	d := newDesk(t, "prompt")
	for _, action := range []string{"drain", "undrain"} {
		d.want(d.cmctl(action, "-i", "0"), 1, "does not exist\nIs conmgr process running?")
	}
	d.want(d.cmctl("start"), 0)
	app := application(t, wantRunning(t, d.dir, true).Port, "shop")
	d.want(d.cmctl("drain", "-i", "0"), 0, "instance 0 is draining; 1 application is bound to it\n")
	if by, bound := d.drained(); by != "here" || bound != 1 {
		t.Errorf("drained by %q, %d are bound", by, bound)
	}
	d.want(d.cmctl("status"), 0, "not used: it is draining, by cm_ctl drain on this host",
		"draining (here): 1 application is bound to it")

	// It waits until nobody is left, and says who is.
	d.want(d.cmctl("drain", "-i", "0", "--wait", "-t", "1"), 1, "waiting for applications to leave instance 0", " failed\n",
		"cm_ctl: instance 0: 1 application is bound to it still\n", "cm_ctl status -i application")
	if by, _ := d.drained(); by != "here" {
		t.Errorf("drained by %q", by)
	}
	d.want(d.cmctl("undrain", "-i", "0"), 0, "instance 0 is not draining any more; 1 application is bound to it\n")
	waited := d.waitDrained(context.Background())
	app.Close()
	d.want(<-waited, 0, "no application is bound to instance 0 any more\n")
	d.want(d.cmctl("drain", "-i", "0", "-w"), 0, "instance 0 is draining; no application is bound to it\n")
	d.want(d.cmctl("undrain", "-i", "0"), 0, "instance 0 is not draining any more; no application is bound to it\n")
	d.want(d.cmctl("undrain", "-i", "0"), 0, "is not draining any more")
	if by, _ := d.drained(); by != "" {
		t.Errorf("drained by %q", by)
	}
	application(t, wantRunning(t, d.dir, true).Port, "shop")
	for _, action := range []string{"drain", "undrain"} {
		d.want(d.cmctl(action, "-i", "12"), 1, "has not done so: ", " INSTANCE 12: ERROR: instance 12 is not configured")
	}
}

// Who waits for a drain that somebody else ends does not wait for ever, nor for a conmgr that ends.
func TestDrainIsUndone(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("start"), 0)
	info := wantRunning(t, d.dir, true)
	application(t, info.Port, "shop")
	waited := d.waitDrained(context.Background())
	d.want(d.cmctl("undrain", "-i", "0"), 0)
	d.want(<-waited, 1, "instance 0 is not drained on this host any more: somebody has undrained it")
	waited = d.waitDrained(context.Background())
	if err := syscall.Kill(info.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.want(<-waited, 1, "does not answer on port")
}

// To a conmgr that is restarted, applications come back within application_grace: that none is there
// before that is not that they have left.
func TestDrainIsNotOverByARestart(t *testing.T) {
	d := newDesk(t, "becomes")
	d.want(d.cmctl("start"), 0)
	info := wantRunning(t, d.dir, true)
	app := application(t, info.Port, "shop")
	waited := d.waitDrained(context.Background(), "-t", "4")
	if err := syscall.Kill(info.Pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is restarted", func() bool { return wantRunning(t, d.dir, true).Again.Image == "2" })
	app.Close()
	d.want(<-waited, 1, "instance 0: conmgr was restarted, and applications may still come back to it")
}

func TestDrainInterrupted(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("start"), 0)
	application(t, wantRunning(t, d.dir, true).Port, "shop")
	ctx, cancel := context.WithCancel(context.Background())
	waited := d.waitDrained(ctx)
	cancel()
	d.want(<-waited, 130)
}

// A conmgr of before does not know the statement.
func TestDrainOfAnOlderConmgr(t *testing.T) {
	d := newDesk(t, "fixed")
	d.want(d.cmctl("start", "-W"), 0)
	d.want(d.cmctl("drain", "-i", "0"), 1, "has not done so: DRAIN INSTANCE 0: ERROR: no")
}

func TestDrainFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, cm.DrainFile)
	for _, want := range [][]Drained{nil, {{0, "db1", 5432}}, {{0, "db1", 5432}, {9999, "a \"b\"\n", 1}}, nil, nil} {
		if err := SaveDrained(dir, want); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadDrained(dir); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if _, err := os.Stat(path); os.IsNotExist(err) != (want == nil) {
			t.Errorf("%v: %v", want, err)
		}
	}
	const known = "version = 1\ncolour = red\n"
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(withChecksum(known + "instance = 1 5432 \"db\"\n"))
	if got, err := LoadDrained(dir); err != nil || len(got) != 1 {
		t.Errorf("with a name of a later version: %v, %v", got, err)
	}
	for text, want := range map[string]string{
		"version = 2\n":                     `line 1: version "2" is not one that this program knows`,
		known + "instance = 1\n":            `line 3: invalid instance "1"`,
		known + "instance = -1 1 \"a\"\n":   "invalid instance",
		known + "instance = 1 0 \"a\"\n":    "invalid instance",
		known + "instance = 1 5432 a\n":     "invalid instance",
		known + "instance = 10000 1 \"\"\n": "invalid instance",
	} {
		write(withChecksum(text))
		if got, err := LoadDrained(dir); got != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	write([]byte(known))
	if _, err := LoadDrained(dir); err == nil || !strings.Contains(err.Error(), "it is damaged") {
		t.Errorf("without a checksum: %v", err)
	}
	if err := SaveDrained(filepath.Join(dir, "missing"), []Drained{{0, "a", 1}}); err == nil {
		t.Error("saved")
	}
}
