package control

// A process that was killed, and whose parent has not asked for its exit status: its socket is
// free.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func TestSocketOfAZombie(t *testing.T) {
	socket := filepath.Join(t.TempDir(), ".s.PGSQL.1")
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	info := Info{Pid: cmd.Process.Pid, Dir: filepath.Dir(socket), Port: 1}
	if err := info.complete(info.Dir); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%d\n%s\n%d\n1\n%s\n%s %d\n", info.Pid, info.Dir, info.Started.Unix(), info.Dir, info.BootID,
		info.StartTicks)
	if err := os.WriteFile(lockOf(socket), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var used *SocketInUseError
	if _, err := LockSocket(socket, Info{Dir: info.Dir, Port: 1}); !errors.As(err, &used) || used.Pid != info.Pid {
		t.Errorf("while it lives: %v", err)
	}
	_ = cmd.Process.Kill()
	testkit.Eventually(t, 10*time.Second, "it is a zombie", func() (bool, string) { return zombie(info.Pid), "" })
	if lock, err := LockSocket(socket, Info{Dir: info.Dir, Port: 1}); err != nil {
		t.Error(err)
	} else {
		_ = lock.Remove()
	}
	_ = cmd.Wait()
}
