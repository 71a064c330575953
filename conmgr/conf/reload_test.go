package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// files writes files into a new directory.
func files(t *testing.T, all map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestInclude(t *testing.T) {
	many := map[string]string{"conmgr.conf": "backend_host0 = a\ninclude '0'\n"}
	for i := range 20 {
		many[fmt.Sprint(i)] = fmt.Sprintf("include '%d'\n", i+1)
	}
	for name, x := range map[string]struct {
		files map[string]string
		port  int    // that counts
		want  string // part of the only error; "": none
	}{
		"before":   {map[string]string{"conmgr.conf": "backend_host0 = a\ninclude = 'more'\nport = 1", "more": "port = 2"}, 1, ""},
		"behind":   {map[string]string{"conmgr.conf": "backend_host0 = a\nport = 1\ninclude 'sub/more'", "sub/more": "include next", "sub/next": "port = 3"}, 3, ""},
		"if there": {map[string]string{"conmgr.conf": "backend_host0 = a\nport = 1\ninclude_if_exists 'more'"}, 1, ""},
		"missing":  {map[string]string{"conmgr.conf": "backend_host0 = a\ninclude 'more'"}, 0, "conmgr.conf:2: \"DIR/more\": could not open the configuration file: no such file"},
		"itself":   {map[string]string{"conmgr.conf": "backend_host0 = a\ninclude 'conmgr.conf'"}, 0, "conmgr.conf:2: configuration file recursion in \"DIR/conmgr.conf\""},
		"too deep": {many, 0, "9:1: could not open configuration file \"DIR/10\": maximum nesting depth exceeded (10)"},
		"directory": {map[string]string{"conmgr.conf": "backend_host0 = a\ninclude_dir 'd'", "d/b.conf": "port = 2", "d/a.conf": "port = 1", "d/c": "port = 3",
			"d/.e.conf": "port = 4", "d/f.conf/x": ""}, 2, ""},
		"no directory":  {map[string]string{"conmgr.conf": "backend_host0 = a\ninclude_dir 'd'"}, 0, "could not open configuration directory \"DIR/d\""},
		"nothing":       {map[string]string{"conmgr.conf": "backend_host0 = a\ninclude_dir ''"}, 0, "include_dir names no configuration directory"},
		"error in it":   {map[string]string{"conmgr.conf": "backend_host0 = a\ninclude 'more'", "more": "\nport = none"}, 0, "more:2: invalid value \"none\" for parameter \"port\""},
		"host included": {map[string]string{"conmgr.conf": "include 'more'\nport = 4", "more": "backend_host0 = a"}, 4, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := files(t, x.files)
			c, diags := Load(dir)
			want := strings.ReplaceAll(x.want, "DIR", dir)
			if want == "" {
				if c == nil || len(diags) > 0 || c.Port != x.port {
					t.Fatalf("got %+v, %v; want port %d", c, diags, x.port)
				}
				return
			}
			if c != nil || len(diags) != 1 || !strings.Contains(diags[0].String(), want) {
				t.Errorf("got %v; want %s", diags, want)
			}
		})
	}
}

// TestLinkedFile: what a linked conmgr.conf names is beside the file where the link leads, as in
// /etc/conmgr/NAME; its Unix socket is in conmgr's own directory.
func TestLinkedFile(t *testing.T) {
	id, err := proof.ParseKeyID("client1")
	if err != nil {
		t.Fatal(err)
	}
	etc := files(t, map[string]string{
		"conmgr.conf": "backend_host0 = a\ninclude = 'more'\nheartbeat_key_file = 'key'",
		"more":        "port = 7", "key": proof.Line(id, proof.Secret{1}) + "\n",
	})
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(etc, "conmgr.conf"), filepath.Join(dir, "conmgr.conf")); err != nil {
		t.Fatal(err)
	}
	c, diags := Load(dir)
	if c == nil || len(diags) > 0 {
		t.Fatalf("got %v", diags)
	}
	if c.Port != 7 || c.KeyFile != filepath.Join(etc, "key") || c.Dir != dir || !slices.Equal(c.SocketDirs, []string{dir}) {
		t.Errorf("got port %d, key %s, directory %s, sockets %v", c.Port, c.KeyFile, c.Dir, c.SocketDirs)
	}
}

// TestPackagedFile: what packages install as conmgr@main's configuration is right once the comments
// before its instances and times are taken away, and these times are the defaults.
func TestPackagedFile(t *testing.T) {
	text, err := os.ReadFile("../../packaging/conmgr.conf")
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`(?m)^#(\w+ = )`).ReplaceAllString(string(text), "$1")
	dir := files(t, map[string]string{"conmgr.conf": used})
	c, diags := Load(dir)
	if c == nil || len(diags) > 0 {
		t.Fatalf("got %v", diags)
	}
	defaults, _ := Load(files(t, map[string]string{"conmgr.conf": "backend_host0 = a\n"}))
	if len(c.Instances) != 2 || !slices.Equal(c.SocketDirs, []string{dir, "/run/conmgr/main"}) ||
		c.HeartbeatInterval != defaults.HeartbeatInterval || c.HeartbeatTimeout != defaults.HeartbeatTimeout {
		t.Errorf("got %+v", c)
	}
}

// described are changes as text.
func described(changes []Change) (out []string) {
	for _, c := range changes {
		out = append(out, fmt.Sprintf("%s=%s/%d", c.Name, c.Value, c.Context))
	}
	return out
}

func TestReload(t *testing.T) {
	dir := files(t, map[string]string{"conmgr.conf": "backend_host0 = a\nport = 1000\n"})
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "conmgr.conf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running, _ := Load(dir)
	for _, x := range []struct {
		text string
		want []string // nil: an error
	}{
		{"backend_host0 = a\nport = 1000\n", []string{}},
		{"# other lines\nport = 1000\nbackend_host0 = 'a'\ntarget_wait = 0s", []string{}},
		{"backend_host0 = a\nport = 1000\ntarget_wait = 5s", []string{"target_wait=5s/1"}},
		{"backend_host0 = a\nbackend_port0 = 5432\nport = 1000", []string{"backend_port0=5432/0"}},
		{"backend_host0 = a\nbackend_host1 = b\nport = 1000", []string{"backend_host1=b/0"}},
		{"backend_host1 = b\nport = 1000", []string{"backend_host0=/0", "backend_host1=b/0"}},
		{"backend_host0 = a\nport = 2000\nheartbeat_interval = 1", []string{"heartbeat_interval=1/0", "port=2000/2"}},
		{"backend_host0 = a\n", []string{"port=27546/2"}},
		{"backend_host0 = a\nport = none", nil},
	} {
		write(x.text)
		next, changes, diags := Reload(running)
		if x.want == nil {
			if next != nil || changes != nil || len(diags) == 0 {
				t.Errorf("%q: got %v, %v", x.text, described(changes), diags)
			}
			continue
		}
		if got := described(changes); next == nil || !slices.Equal(got, x.want) {
			t.Errorf("%q: got %v, %v; want %v", x.text, got, diags, x.want)
		}
	}

	write("backend_host0 = a\nbackend_host1 = b\nport = 2000\ntarget_wait = 5s\nlisten_addresses = '*'")
	next, changes, _ := Reload(running)
	merged := running.With(next, changes)
	if merged.TargetWait != 5*time.Second || merged.Port != 1000 || len(merged.Instances) != 1 || running.TargetWait != 0 {
		t.Errorf("got %+v", merged)
	}
	for name, want := range map[string]bool{"port": true, "listen_addresses": true, "target_wait": false, "idle_timeout": false} {
		if s := merged.Setting(name); s.Pending != want {
			t.Errorf("%s: pending %v", name, s.Pending)
		}
	}
	after, diags := LoadKept(dir, running.Keep(changes))
	if after == nil || after.Port != 1000 || len(after.ListenAddresses) != 1 || len(after.Instances) != 2 || !after.Setting("port").Pending {
		t.Errorf("got %+v, %v", after, diags)
	}
	// what is kept is kept again, and is no change once the file says so
	if _, changes, _ = Reload(after); !slices.Equal(described(changes), []string{"listen_addresses=*/2", "port=2000/2"}) {
		t.Errorf("got %v", described(changes))
	}
	if again := after.Keep(changes); *again["port"] != "1000" || again["listen_addresses"] != nil {
		t.Errorf("got %v", again)
	}
}
