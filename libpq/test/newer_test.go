package libpqtest

// Programs that are newer than the installed libpq, and libpqs that are newer than the front.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// listed gives the names of functions.list.
func listed(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "libpq/functions.list"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^(?:[a-z]+\S*) +\d+ +(?:.*[ *])?(\w+)(?:\(.*)?$`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	if len(names) < 200 {
		t.Fatalf("only %d names in functions.list", len(names))
	}
	return names
}

// Whatever libpq it was built with, the front exports what any libpq has: a program is linked with
// the one of another day.
func TestExportsAreThoseOfEveryLibpq(t *testing.T) {
	want := append(listed(t), "PQcmSocket", "PQcmDraining")
	slices.Sort(want)
	if got := exports(t, filepath.Join(front, "libpq.so.5")); !slices.Equal(got, want) {
		t.Errorf("exports %v\nwant %v", got, want)
	}
	for _, name := range exports(t, installedLibpq(t)) {
		if !slices.Contains(want, name) {
			t.Errorf("%s of the installed libpq is missing", name)
		}
	}
}

// linkedWithTheNewest builds a program with a libpq that has every name of the list, and no code.
func linkedWithTheNewest(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	var stub strings.Builder
	for _, f := range listed(t) {
		fmt.Fprintf(&stub, "void %s(void) {}\n", f)
	}
	source := filepath.Join(dir, "stub.c")
	writeFile(t, source, stub.String())
	program := filepath.Join(dir, name)
	for _, args := range [][]string{
		{"-w", "-fno-builtin", "-shared", "-fPIC", "-Wl,-soname,libpq.so.5", "-o", filepath.Join(dir, "libpq.so"),
			source},
		{"-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-I/usr/include/postgresql", "-o", program,
			"libpq/test/c/" + name + ".c", "-L" + dir, "-lpq", "-ldl"},
	} {
		if err := run(root, "gcc", args...); err != nil {
			t.Fatal(err)
		}
	}
	return program
}

func TestProgramNewerThanTheInstalledLibpq(t *testing.T) {
	newer := linkedWithTheNewest(t, "newer")
	for _, port := range []string{conmgr(t).Port(), primary.port} {
		for _, now := range []string{"", "LD_BIND_NOW=1"} { // looked up when called, and all at the start
			env := byPath()
			if now != "" {
				env = append(env, now)
			}
			out := output(t, env, newer, dsn(port, ""), installedLibpq(t))
			wantAll(t, out, "ok, ")
			if v := libpqVersion(t); v < 18 && strings.Contains(out, ", 0 lacking") {
				t.Errorf("libpq %d lacks nothing", v)
			}
		}
	}
}

// libpq is found by pkg-config or by pg_config; where there is none, the build says what it looked
// for, and what pkg-config says.
func TestBuildFindsLibpq(t *testing.T) {
	makefile := write(t, "show.mk", "include libpq/front.mk\nshow:\n\t@echo $(REAL_LIBPQ) $(LIBPQ_INCLUDE) $(LIBPQ_VERSION)\n")
	show := func(args ...string) string {
		cmd := exec.Command("make", append([]string{"-s", "-f", makefile, "show"}, args...)...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	want := show()
	wantAll(t, want, installedLibpq(t)+" /")
	for _, args := range [][]string{{"PKG_CONFIG=false"}, {"PKG_CONFIG=/nonexistent"}, {"PG_CONFIG=/nonexistent"}} {
		if got := show(args...); strings.Fields(got)[0] != strings.Fields(want)[0] ||
			strings.Fields(got)[1] != strings.Fields(want)[1] {
			t.Errorf("%s: %s, not %s", args[0], got, want)
		}
	}
	// before 15, the directories stand in Cflags and Libs alone
	old := write(t, "old", "#!/bin/sh\ncase $1 in --libs-only-L) echo -L"+filepath.Dir(installedLibpq(t))+
		" ;; --cflags-only-I) echo -I"+strings.Fields(want)[1]+" ;; --variable=*) echo ;; *) exec pkg-config \"$@\" ;; esac\n")
	os.Chmod(old, 0o755)
	if got := show("PKG_CONFIG="+old, "PG_CONFIG=/nonexistent"); got != want {
		t.Errorf("libpq.pc without libdir: %s, not %s", got, want)
	}

	// What is missing is named, with what pkg-config says of it.
	silent := write(t, "silent", "#!/bin/sh\n[ $1 != --print-errors ] || echo \"Package 'libcurl', required by 'libpq', not found\" >&2\nexit 1\n")
	os.Chmod(silent, 0o755)
	for _, c := range []struct{ args, want []string }{
		{[]string{"REAL_LIBPQ=/nonexistent/libpq.so.5"}, []string{"there is no libpq at '/nonexistent/libpq.so.5'", "REAL_LIBPQ="}},
		{[]string{"PKG_CONFIG=" + silent, "PG_CONFIG=/nonexistent"},
			[]string{"there is no libpq at '/libpq.so.5'", "required by 'libpq', not found", "install libpq-dev"}},
		{[]string{"PKG_CONFIG=/nonexistent", "PG_CONFIG=/nonexistent"},
			[]string{"there is no libpq at '/libpq.so.5'", "there is no /nonexistent\n"}},
		{[]string{"LIBPQ_INCLUDE=/nonexistent"}, []string{"there is no libpq-fe.h", "LIBPQ_INCLUDE is '/nonexistent'"}},
	} {
		dir := t.TempDir()
		cmd := exec.Command("make", append([]string{"-s", "-f", "libpq/front.mk", "front", "FRONT_OUT=" + dir, "FRONT_GEN=" + dir},
			c.args...)...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s: built: %s", c.args, out)
		}
		wantAll(t, string(out), c.want...)
	}
}
