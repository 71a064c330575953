package test

// The extension built, installed and checked as PGXS does it.

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// TestInstallCheck: make, make install and make installcheck in a copy of extension/, with regression
// and TAP tests.
func TestInstallCheck(t *testing.T) {
	server := pgtest.New(t, pgtest.Watchdog(), pgtest.Stopped())
	out, err := server.Command(context.Background(), "pg_config", "--bindir").Output()
	if err != nil {
		t.Fatal(err)
	}
	pgConfig := "PG_CONFIG=" + filepath.Join(strings.TrimSpace(string(out)), "pg_config")
	work := copyOfExtension(t)
	build := exec.Command("make", "-C", work, "install", pgConfig, "COPT=-Werror")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	server.Start()
	if out, err := exec.Command("chmod", "-R", "a+rwX", filepath.Dir(work)).CombinedOutput(); err != nil {
		t.Fatalf("chmod: %v: %s", err, out) // the servers' user writes what comes of it there
	}
	check := server.Command(context.Background(), "make", "-C", work, "installcheck", pgConfig)
	check.Env = append(check.Env, "PGHOST="+server.Addr().String(), "PGPORT="+server.Value("SHOW port"), "PGUSER=postgres")
	out, err = check.CombinedOutput()
	if err != nil {
		diffs, _ := os.ReadFile(filepath.Join(work, "regression.diffs"))
		t.Fatalf("make installcheck: %v\n%s\n%s", err, out, diffs)
	}
	for _, want := range []string{`All 3 tests passed`, `Files=1, Tests=\d+`, `Result: PASS`} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestVersions: the library says of itself what the control file says of the extension.
func TestVersions(t *testing.T) {
	said := map[string]string{}
	for file, pattern := range map[string]string{
		"watchdog.h":       `#define WATCHDOG_SQL_VERSION\s+"([^"]+)"`,
		"watchdog.control": `default_version = '([^']+)'`,
	} {
		text, err := os.ReadFile(filepath.Join(sourceRoot(t), "extension", file))
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(pattern).FindSubmatch(text); m != nil {
			said[file] = string(m[1])
		}
	}
	if v := said["watchdog.h"]; v == "" || v != said["watchdog.control"] {
		t.Errorf("the versions differ: %v", said)
	}
}

// copyOfExtension is a copy of extension/, whose parent has the heartbeat library that make has built.
func copyOfExtension(t *testing.T) string {
	t.Helper()
	root := sourceRoot(t)
	dir, err := os.MkdirTemp("", "watchdog-pgxs") // t.TempDir() is not for other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "build"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte("build/watchdog_go.so:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"extension": "extension", "build/watchdog_go.so": "build/watchdog_go.so"} {
		out, err := exec.Command("cp", "-r", filepath.Join(root, from), filepath.Join(dir, to)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return filepath.Join(dir, "extension")
}
