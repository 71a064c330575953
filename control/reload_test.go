package control

// cm_ctl reload: what it says of each change, and its exit status, as those of pg_ctl.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func (d *desk) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func TestReload(t *testing.T) {
	const done = "reloaded conmgr process successfully\n"
	const changed = "parameter \"target_wait\" changed to \"5s\"\n"
	for _, x := range []struct {
		name, file string // that the process obeys
		reload     string
		args       []string
		code       int
		stdout     string
		stderr     []string // in this order
		image      string   // of the process afterwards
	}{
		{name: "nothing has changed", stdout: done, image: "1"},
		{name: "at once", reload: "target_wait 5s now", stdout: changed + done, image: "1"},
		{name: "in place", reload: "target_wait 5s now\nbackend_host1 db1 in place",
			stdout: changed + "parameter \"backend_host1\" changed to \"db1\"\n" + done, image: "2"},
		{name: "at a restart", reload: "port 5000 restart\ntarget_wait 5s now",
			stdout: "parameter \"port\" cannot be changed without restarting conmgr\n" + changed + done,
			stderr: []string{"\"cm_ctl restart\" ends no session"}, image: "1"},
		{name: "an erroneous file", reload: "ERROR a.conf:1: invalid\x1b value", code: 1,
			stderr: []string{"goes on as it is: ERROR: a.conf:1: invalid? value\n", "DETAIL:  a.conf:2: another", "\nHINT:  of that\n",
				"HINT:  Look there. Nothing was changed.\n"}, image: "1"},
		{name: "it ends meanwhile", file: "dies", reload: "backend_host1 db1 in place", code: 1,
			stdout: "parameter \"backend_host1\" changed to \"db1\"\n", stderr: []string{"has ended", "Examine its log output."}},
		{name: "it does not go on", file: "stays", reload: "backend_host1 db1 in place", args: []string{"-t", "1"}, code: 1,
			stdout: "parameter \"backend_host1\" changed to \"db1\"\n", stderr: []string{"has not restarted in time"}, image: "1"},
		{name: "it tells why it does not", file: "refuses", reload: "backend_host1 db1 in place", code: 1,
			stdout: "parameter \"backend_host1\" changed to \"db1\"\n", stderr: []string{"goes on as it is: no \"way\"?\nnor another one\n"}, image: "1"},
		{name: "without waiting", file: "unready", reload: "backend_host1 db1 in place", args: []string{"-W"},
			stdout: "parameter \"backend_host1\" changed to \"db1\"\n" + done, image: "2"},
		{name: "its primary is not there", file: "unready", reload: "backend_host1 db1 in place", args: []string{"-t", "1"}, code: 1,
			stdout: "parameter \"backend_host1\" changed to \"db1\"\n", stderr: []string{"goes on as a new one, and is not connected"}, image: "2"},
	} {
		t.Run(x.name, func(t *testing.T) {
			d := newDesk(t, "becomes")
			d.want(d.cmctl("start"), 0)
			d.write("reload", x.reload)
			if x.file != "" {
				d.touch(x.file)
			}
			r := d.cmctl(append([]string{"reload"}, x.args...)...)
			said := r.stderr
			for _, text := range x.stderr {
				_, rest, is := strings.Cut(said, text)
				if !is {
					t.Errorf("%q is not there, or not in its place: %s", text, r.stderr)
				}
				said = rest
			}
			if len(x.stderr) == 0 && r.stderr != "" {
				t.Errorf("complains: %s", r.stderr)
			}
			if r.code != x.code || strings.TrimLeft(r.stdout, ".") != x.stdout {
				t.Errorf("exit status %d, %q", r.code, r.stdout)
			}
			if x.image == "" {
				eventually(t, "it has ended", func() bool { _, running, _ := Running(d.dir); return !running })
				return
			}
			if now := wantRunning(t, d.dir, true).Again.Image; now != x.image {
				t.Errorf("the process is the image %s", now)
			}
		})
	}
}

// A conmgr that is not connected to a primary is reloaded all the same, and nobody waits for one.
func TestReloadWithoutPrimary(t *testing.T) {
	d := newDesk(t, "becomes")
	d.touch("unready")
	d.want(d.cmctl("start", "-W"), 0)
	eventually(t, "it runs", func() bool { _, running, _ := Running(d.dir); return running })
	d.write("reload", "backend_host1 db1 in place")
	d.want(d.cmctl("reload"), 0, "reloaded conmgr process successfully")
}

func TestReloadWithoutConmgr(t *testing.T) {
	d := newDesk(t, "becomes")
	d.want(d.cmctl("reload"), 1, "conmgr.pid\" does not exist\nIs conmgr process running?")
	d.want(d.cmctl("start"), 0)
	if p, err := openProcess(wantRunning(t, d.dir, true)); err != nil {
		t.Fatal(err)
	} else {
		_ = p.signal(9)
		p.close()
	}
	eventually(t, "it is gone", func() bool { _, running, _ := Running(d.dir); return !running })
	d.want(d.cmctl("reload"), 1, "is stale")
	nobody := newDesk(t, "full") // no place is free
	nobody.want(nobody.cmctl("start"), 0)
	nobody.want(nobody.cmctl("reload", "-t", "1"), 1, "goes on as it is", "max_connections may be reached")
	if r := d.cmctl("reload", "--nonsense"); r.code != 1 || !strings.Contains(r.stderr, "Try \"cm_ctl --help\"") {
		t.Errorf("%+v", r)
	}
}
