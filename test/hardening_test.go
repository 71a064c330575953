package test

// What make builds is hardened, and a client host can build and install its part without a server's
// headers.

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

func sourceRoot(t *testing.T) string {
	t.Helper()
	root, err := pgtest.SourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestHardening: position independent, no writable code or executable stack, all symbols bound at
// the start and read only then; C with stack canaries and the C library's checked functions.
func TestHardening(t *testing.T) {
	root := sourceRoot(t)
	for _, c := range []struct {
		file               string
		canary, checkedLib bool
	}{
		{"watchdog.so", true, false}, // PostgreSQL has printf functions of its own
		{"watchdog_go.so", true, true},
		{"connmgr/libpq.so.5", true, true},
		{"conmgr", false, false}, // no C
		{"cm_ctl", false, false},
	} {
		f, err := elf.Open(filepath.Join(root, "build", c.file))
		if err != nil {
			t.Errorf("%v; run \"make\" first", err)
			continue
		}
		defer f.Close()
		fault := func(format string, args ...any) {
			t.Helper()
			t.Errorf("%s: %s", c.file, fmt.Sprintf(format, args...))
		}
		if all, err := os.ReadFile(filepath.Join(root, "build", c.file)); err != nil || bytes.Contains(all, []byte(root)) {
			fault("contains the name of the directory in which it was built (%v): make reproducible will fail", err)
		}
		if f.Type != elf.ET_DYN {
			fault("is %v: not position independent", f.Type)
		}
		relro := false
		for _, p := range f.Progs {
			relro = relro || p.Type == elf.PT_GNU_RELRO
			if p.Type == elf.PT_GNU_STACK && p.Flags&elf.PF_X != 0 {
				fault("has an executable stack")
			}
			if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && p.Flags&elf.PF_W != 0 {
				fault("has writable code")
			}
		}
		if !relro {
			fault("has no RELRO segment")
		}
		if flags, err := f.DynValue(elf.DT_FLAGS); err != nil || len(flags) == 0 ||
			elf.DynFlag(flags[0])&elf.DF_BIND_NOW == 0 {
			fault("is not bound at once: %v %v", flags, err)
		}
		if text, err := f.DynValue(elf.DT_TEXTREL); err == nil && len(text) > 0 {
			fault("has relocations of code")
		}
		symbols, _ := f.ImportedSymbols()
		imported := func(match func(string) bool) bool {
			return slices.ContainsFunc(symbols, func(s elf.ImportedSymbol) bool { return match(s.Name) })
		}
		if c.canary && !imported(func(s string) bool { return s == "__stack_chk_fail" }) {
			fault("has no stack canaries")
		}
		if c.checkedLib && !imported(func(s string) bool { return strings.HasSuffix(s, "_chk") }) {
			fault("calls no checked function: %v", symbols)
		}
	}
	commands, err := exec.Command("make", "-C", root, "-n", "-B", "build/watchdog.so").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, commands)
	}
	// the latter two: the server's own
	for _, flag := range []string{"-D_FORTIFY_SOURCE=2", "-fno-strict-aliasing", "-fwrapv"} {
		if !strings.Contains(string(commands), flag) {
			t.Errorf("watchdog.so is built without %s", flag)
		}
	}
}

// stubbed is an environment in which pg_config is a script, first in PATH.
func stubbed(t *testing.T, script string) []string {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "pg_config"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "PG_CONFIG=pg_config")
}

// TestClientHost: what a client host builds, installs and removes, with no pg_config and with one
// that has no server's headers.
func TestClientHost(t *testing.T) {
	root := sourceRoot(t)
	client := []string{"usr/bin/cm_ctl", "usr/bin/conmgr", "usr/include/libpq-cm.h", "usr/lib/connmgr/libpq.so",
		"usr/lib/connmgr/libpq.so.5",
		"usr/lib/pkgconfig/libpq-cm.pc",
		"usr/share/bash-completion/completions/cm_ctl", "usr/share/bash-completion/completions/conmgr", "usr/share/man/man1/cm_ctl.1", "usr/share/man/man1/conmgr.1",
		"usr/share/man/man5/conmgr.conf.5",
		"usr/share/watchdog/conmgr.conf.sample", "usr/share/watchdog/conmgr@.service",
		"usr/share/watchdog/doctor.schema.json", "usr/share/watchdog/monitoring/alerts.yml",
		"usr/share/watchdog/monitoring/grafana-dashboard.json", "usr/share/watchdog/monitoring/queries.yaml",
		"usr/share/watchdog/status.schema.json",
		"usr/share/zsh/site-functions/_cm_ctl", "usr/share/zsh/site-functions/_conmgr"}
	for name, script := range map[string]string{
		"no pg_config":        "#!/bin/sh\nexit 127\n",
		"no server's headers": "#!/bin/sh\ncase $1 in --version) echo PostgreSQL 15.1 ;; --libdir) ;; *) echo /nonexistent ;; esac\n",
	} {
		t.Run(name, func(t *testing.T) {
			staged := t.TempDir()
			env := stubbed(t, script)
			run := func(target string) (string, error) {
				cmd := exec.Command("make", "-C", root, "--no-print-directory", "-s", target, "prefix=/usr",
					"DESTDIR="+staged)
				cmd.Env = env
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			for _, target := range []string{"client", "install-client"} {
				if out, err := run(target); err != nil {
					t.Fatalf("make %s: %v\n%s", target, err, out)
				}
			}
			if got := filesBelow(t, staged); !slices.Equal(got, client) {
				t.Errorf("installed: %v\nwant: %v", got, client)
			}
			for _, target := range []string{"install-server", "uninstall-server"} {
				if out, err := run(target); err == nil || !contains(out, "a client host needs") {
					t.Errorf("make %s: %v\n%s", target, err, out)
				}
			}
			if out, err := run("uninstall-client"); err != nil {
				t.Errorf("make uninstall-client: %v\n%s", err, out)
			}
			if got := filesBelow(t, staged); len(got) > 0 {
				t.Errorf("left: %v", got)
			}
		})
	}
}

// TestServerHost: make install-server touches the server's directories only, and is undone.
func TestServerHost(t *testing.T) {
	root, staged := sourceRoot(t), t.TempDir()
	run := func(target string) {
		t.Helper()
		if out, err := exec.Command("make", "-C", root, "--no-print-directory", "-s", target,
			"DESTDIR="+staged).CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
	}
	run("install-server")
	var names []string
	for _, f := range filesBelow(t, staged) {
		names = append(names, filepath.Base(f))
	}
	slices.Sort(names)
	want := []string{"watchdog--1.0--1.1.sql", "watchdog--1.0.sql", "watchdog--1.1--1.2.sql", "watchdog.control", "watchdog.so", "watchdog_go.so"}
	if !slices.Equal(names, want) {
		t.Errorf("installed: %v, want %v", names, want)
	}
	run("uninstall-server")
	if got := filesBelow(t, staged); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
}

// filesBelow are the files and links below a directory, sorted, relative to it.
func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}
