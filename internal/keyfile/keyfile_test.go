package keyfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode, owner int) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
		if owner >= 0 {
			if err := os.Chown(p, owner, -1); err != nil {
				t.Skip("needs root: ", err)
			}
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(path, want string) {
		t.Helper()
		text, err := Read(path, "the user", 4)
		if want == "" && (err != nil || text != "text") || want != "" && (err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path)) {
			t.Errorf("%s: %q, %v; want %q", path, text, err, want)
		}
	}
	check(file("mine", 0o600, -1), "")
	check(file("read_only", 0o400, -1), "")
	check(file("group", 0o640, -1), "has group or world access")
	check(file("world", 0o604, -1), "has group or world access")
	check(file("executable_by_group", 0o610, -1), "has group or world access")
	check(filepath.Join(dir, "missing"), "could not open key file")
	check(dir, "is not a regular file")
	check(fifo, "is not a regular file")
	long := file("long", 0o600, -1)
	if err := os.WriteFile(long, []byte("texts"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(long, "is larger than 4 bytes")
	if os.Geteuid() == 0 {
		check(file("others", 0o600, 1234), "must be owned by the user or root")
	}
}

// TestOwnedByRoot: root's file may be read by its group, which is how packages hand secrets out.
func TestOwnedByRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root owns its files as any user does")
	}
	st, err := os.Stat("/etc/passwd") // 0644
	if err != nil {
		t.Fatal(err)
	}
	if err := permissions("f", "the user", st); err == nil || !strings.Contains(err.Error(), "0640") {
		t.Error(err)
	}
}
