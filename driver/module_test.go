package driver_test

// What an application's module gets by importing one adapter.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAdapterAlone: an application that imports one adapter has the other one's library neither in
// go.mod nor among what it vendors and builds. (Go prunes what is required by a module for packages
// that nobody imports: a module for each adapter would bring no more.) It may download, as such a
// module's build does: the requirements of what is required are looked at, and not built here.
func TestAdapterAlone(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	const pq, pgx = "github.com/lib/pq", "github.com/jackc/pgx"
	for adapter, want := range map[string]struct{ library, other string }{"pqcm": {pq, pgx}, "pgxcm": {pgx, pq}} {
		t.Run(adapter, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write("go.mod", "module app\n\ngo 1.25.0\n\nrequire github.com/pgwatchdog/watchdog v0.0.0\n\n"+
				"replace github.com/pgwatchdog/watchdog => "+root+"\n")
			write("main.go", "package main\n\nimport _ \"github.com/pgwatchdog/watchdog/driver/"+adapter+"\"\n\nfunc main() {}\n")
			sums, err := os.ReadFile(filepath.Join(root, "go.sum")) // of more than is needed
			if err != nil {
				t.Fatal(err)
			}
			write("go.sum", string(sums))
			run := func(args ...string) string {
				cmd := exec.Command("go", args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("go %s: %v\n%s", args[0], err, out)
				}
				return string(out)
			}
			run("build", "-mod=mod", "-o", "app")
			run("mod", "vendor")
			got := map[string]string{"the program": run("version", "-m", "app")}
			for _, name := range []string{"go.mod", "vendor/modules.txt"} {
				text, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				got[name] = string(text)
			}
			for name, text := range got {
				if strings.Contains(text, want.other) || !strings.Contains(text, want.library) {
					t.Errorf("%s should have %s, and not %s:\n%s", name, want.library, want.other, text)
				}
			}
		})
	}
}
