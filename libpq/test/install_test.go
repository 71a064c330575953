package libpqtest

// What make install leaves behind, and the three ways in which an application uses it.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstalledFront(t *testing.T) {
	prefix, staged := filepath.Join(scratch, "prefix"), filepath.Join(scratch, "staged")
	t.Cleanup(func() { os.RemoveAll(staged); os.Remove(prefix) })
	// Staged, as nothing of this belongs into the system; the link makes prefix what the installed
	// files think it is.
	if err := run(root, "make", "-s", "install", "prefix="+prefix, "DESTDIR="+staged); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(staged, prefix), prefix); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(filepath.Join(prefix, "lib/connmgr/libpq.so")); target != "libpq.so.5" {
		t.Errorf("libpq.so leads to %q, %v", target, err)
	}

	cm := conmgr(t)
	want := "connected port " + primary.port + " socket yes awaited yes draining 0"
	flags := exec.Command("pkg-config", "--cflags", "--libs", "libpq-cm")
	flags.Env = append(os.Environ(), "PKG_CONFIG_PATH="+filepath.Join(prefix, "lib/pkgconfig"))
	out, err := flags.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := filepath.Join(staged, "linked")
	if err := run(root, "gcc", append([]string{"-Wall", "-Wextra", "-Werror", "-o", linked, "libpq/test/c/linked.c"},
		strings.Fields(string(out))...)...); err != nil {
		t.Fatal(err)
	}
	wantAll(t, output(t, nil, linked, dsn(cm.Port(), "target_session_attrs=primary")), want)

	library := filepath.Join(prefix, "lib/connmgr/libpq.so.5")
	for _, env := range []string{"LD_LIBRARY_PATH=" + filepath.Dir(library), "LD_PRELOAD=" + library} {
		wantAll(t, output(t, []string{env}, "async", dsn(cm.Port(), "target_session_attrs=primary")),
			"connected: port "+primary.port+" awaited conmgr yes")
	}
}
