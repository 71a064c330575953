//go:build linux

package driver

// The environment of a program with somebody else's privileges is heeded by nobody. This program,
// started again by another user.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv("DRIVER_TEST_ENVIRON") != "" {
		fmt.Println("listed:", environ("PGCMUSER"))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestEnvironmentOfThePrivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make such programs")
	}
	dir, err := os.MkdirTemp("/tmp", "privileged")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "program")
	text, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(path, text, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	// VFS_CAP_REVISION_2 with the effective bit, and CAP_NET_BIND_SERVICE permitted.
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, c := range []struct {
		name, want string
		mode       os.FileMode
		capable    bool
	}{
		{"an ordinary program", "[daemon]", 0o755, false},
		{"set-user-ID", "[]", 0o755 | os.ModeSetuid, false},
		{"set-group-ID", "[]", 0o755 | os.ModeSetgid, false},
		{"with capabilities", "[]", 0o755, true},
	} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		if c.capable {
			if err := syscall.Setxattr(path, "security.capability", capability, 0); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(path)
		cmd.Dir, cmd.Env = "/", []string{"DRIVER_TEST_ENVIRON=1", "PGCMUSER=daemon"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4711, Gid: 4711}}
		out, err := cmd.CombinedOutput()
		if want := "listed: " + c.want; err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: got %q, %v, want %q", c.name, out, err, want)
		}
	}
}
