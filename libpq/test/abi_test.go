package libpqtest

// What the front exports, and how it is made.

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// installedLibpq is the libpq that the front stands before.
func installedLibpq(t *testing.T) string {
	t.Helper()
	// libpq.pc has no libdir before 15
	for _, ask := range [][]string{{"pkg-config", "--variable=libdir", "libpq"}, {"pg_config", "--libdir"}} {
		out, err := exec.Command(ask[0], ask[1:]...).Output()
		path := filepath.Join(strings.TrimSpace(string(out)), "libpq.so.5")
		if err == nil && filepath.IsAbs(path) && exists(path) {
			return path
		}
	}
	// nor has a machine it that builds nothing
	if all, _ := filepath.Glob("/usr/lib/*/libpq.so.5"); len(all) == 1 {
		return all[0]
	}
	t.Fatal("there is no libpq")
	return ""
}

// libpqVersion is its major version, by the name of its file: libpq.so.5.17.
func libpqVersion(t *testing.T) (major int) {
	t.Helper()
	file, err := filepath.EvalSymlinks(installedLibpq(t))
	if err == nil {
		major, err = strconv.Atoi(strings.TrimPrefix(filepath.Ext(file), "."))
	}
	if err != nil {
		t.Fatal(err)
	}
	return major
}

func exports(t *testing.T, path string) (names []string) {
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

func TestSoname(t *testing.T) {
	f, err := elf.Open(filepath.Join(front, "libpq.so.5"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if name, _ := f.DynString(elf.DT_SONAME); !slices.Equal(name, []string{"libpq.so.5"}) {
		t.Errorf("SONAME %v", name)
	}
	if needed, _ := f.ImportedLibraries(); slices.ContainsFunc(needed,
		func(n string) bool { return strings.HasPrefix(n, "libpq") }) {
		t.Errorf("needs %v: the real libpq is to be found by path alone", needed)
	}
	if target, _ := os.Readlink(filepath.Join(front, "libpq.so")); target != "libpq.so.5" {
		t.Errorf("libpq.so leads to %q", target)
	}
}

// A function that libpq gains must stop the build, not reach an application with a handle that it
// does not know.
func TestGeneratorRefusesAnUnknownFunction(t *testing.T) {
	list, err := os.ReadFile(filepath.Join(root, "libpq/functions.list"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(text string) (string, error) {
		path := filepath.Join(t.TempDir(), "functions.list")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", "run", "./libpq/gen", "-check", path, installedLibpq(t))
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := check(string(list)); err != nil {
		t.Errorf("the list itself: %v\n%s", err, out)
	}
	var less []string
	for line := range strings.Lines(string(list)) {
		if !strings.Contains(line, "*PQgetResult(") {
			less = append(less, line)
		}
	}
	if out, err := check(strings.Join(less, "")); err == nil || !strings.Contains(out, "PQgetResult") {
		t.Errorf("a list without PQgetResult: %v\n%s", err, out)
	}
}

func TestUnusableRealLibpqIsReported(t *testing.T) {
	for path, want := range map[string]string{
		"/nonexistent/libpq.so.5":                "could not load the real libpq",
		"libpq.so.5":                             "must be an absolute path",
		filepath.Join(front, "libpq.so.5"):       "is not a libpq that the Connection Manager's libpq can stand before",
		"/lib/x86_64-linux-gnu/libm.so.6":        "is not a libpq",
		filepath.Join(root, "build/libpq-cm.pc"): "could not load the real libpq",
	} {
		out := output(t, append(byPath(), "WATCHDOG_LIBPQ="+path), "async", dsn(primary.port, ""))
		wantAll(t, out, want)
	}
	out := output(t, append(byPath(), "WATCHDOG_LIBPQ="+installedLibpq(t)), "async", dsn(primary.port, ""))
	wantAll(t, out, "connected")
}
