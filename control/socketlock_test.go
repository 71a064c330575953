package control

// Tests of the lock files of Unix sockets: what is stale is replaced, what lives is named.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestSocketLock(t *testing.T) {
	living := exec.Command("sleep", "1000")
	if err := living.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { living.Process.Kill(); living.Wait() }()
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	ticks, err := startTicks(living.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	head := func(pid int) string { return fmt.Sprintf("%d\n/data\n1\n5432\n/run\n", pid) }
	for _, x := range []struct {
		name, text string
		pid        int // that is named; 0: the lock is taken over
	}{
		{"none", "", 0},
		{"a dead process", head(dead.Process.Pid), 0},
		{"a living process", head(living.Process.Pid), living.Process.Pid},
		{"a living process, pid only", fmt.Sprint(living.Process.Pid), living.Process.Pid},
		{"a conmgr that lives", head(living.Process.Pid) + fmt.Sprintf("%s %d\n", boot, ticks), living.Process.Pid},
		{"its pid is another's by now", head(living.Process.Pid) + fmt.Sprintf("%s %d\n", boot, ticks-1), 0},
		{"another boot", head(living.Process.Pid) + fmt.Sprintf("%s %d\n", "x"+boot, ticks), 0},
		{"this process's own pid", head(os.Getpid()), 0},
		{"empty", "\n", 0},
		{"nonsense", "nonsense\n", 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), ".s.PGSQL.1")
			if x.text != "" {
				if err := os.WriteFile(lockOf(socket), []byte(x.text), 0o600); err != nil {
					t.Fatal(err)
				}
				l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
				if err != nil {
					t.Fatal(err)
				}
				l.SetUnlinkOnClose(false)
				l.Close() // as after a crash
			}
			lock, err := LockSocket(socket, Info{Dir: "/data", Port: 1})
			if x.pid > 0 {
				var used *SocketInUseError
				if !errors.As(err, &used) || used.Pid != x.pid {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(socket); !os.IsNotExist(err) {
				t.Errorf("the stale socket: %v", err)
			}
			b, _ := os.ReadFile(lockOf(socket))
			if pid, used := socketOwner(lockOf(socket), socket); used || len(b) == 0 {
				t.Errorf("pid %d\n%s", pid, b)
			}
			if err := lock.Remove(); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(filepath.Dir(socket)); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// Whoever accepts has the socket, whatever a lock file says.
func TestSocketLockOfAListener(t *testing.T) {
	socket := filepath.Join(t.TempDir(), ".s.PGSQL.1")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var used *SocketInUseError
	if _, err := LockSocket(socket, Info{Dir: "/data", Port: 1}); !errors.As(err, &used) || used.Pid != os.Getpid() {
		t.Errorf("without a lock file: %v", err)
	}
	if _, err := os.Lstat(lockOf(socket)); !os.IsNotExist(err) {
		t.Errorf("the lock file: %v", err)
	}
	if err := os.WriteFile(lockOf(socket), []byte("4194305\n"), 0o600); err != nil { // no pid is so high
		t.Fatal(err)
	}
	if _, err := LockSocket(socket, Info{Dir: "/data", Port: 1}); !errors.As(err, &used) || used.Pid != os.Getpid() {
		t.Errorf("with a stale one: %v", err)
	}
}

// A lock file that another process has taken over meanwhile is not removed.
func TestSocketLockRemovesItsOwnOnly(t *testing.T) {
	socket := filepath.Join(t.TempDir(), ".s.PGSQL.1")
	lock, err := LockSocket(socket, Info{Dir: "/data", Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	other := lockOf(socket) + ".other"
	if err := os.WriteFile(other, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, lockOf(socket)); err != nil {
		t.Fatal(err)
	}
	if err := lock.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(lockOf(socket)); err != nil {
		t.Error(err)
	}
}
