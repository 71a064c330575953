package main

// The guard: this program as a second process, which waits for the end of the first, and then ends
// and removes what that has left. After an ordinary end, and after Ctrl-C, that is nothing. After
// kill -9 it is servers, some of them stopped, which no death signal ends.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const guardVariable = "WATCHDOG_DEMO_GUARD" // process id of the demo

// tempPrefixes are of all directories that testkit.TempDir makes for this program: of clusters, of
// the copy of PostgreSQL, its own.
var tempPrefixes = []string{"wdpg", "wdpginst", ownPrefix}

const ownPrefix = "wddemo"

type guard struct {
	cmd  *exec.Cmd
	pipe io.Closer // its standard input: the end of this process, however it comes, is the end of that
}

func startGuard() (*guard, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), guardVariable+"="+strconv.Itoa(os.Getpid()))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", self, err)
	}
	return &guard{cmd, pipe}, nil
}

// end is called when everything is cleaned up; an error says that it was not.
func (g *guard) end() error {
	g.pipe.Close()
	if g.cmd.Wait() != nil {
		return errors.New("processes or directories were left behind, and have been removed")
	}
	return nil
}

// runGuard is the guard process. Its exit status is 1 if something was left.
func runGuard(pid string, stdin io.Reader) int {
	_, _ = io.Copy(io.Discard, stdin)
	dirs := leftDirs(os.TempDir(), pid)
	if len(dirs) == 0 {
		return 0
	}
	start := time.Now()
	_ = testkit.Poll(20*time.Second, func() (bool, string) {
		left := processesIn(dirs)
		sig := syscall.SIGQUIT // a postmaster then frees its shared memory
		if time.Since(start) > 5*time.Second {
			sig = syscall.SIGKILL
		}
		for _, p := range left {
			_ = syscall.Kill(p, sig)
			_ = syscall.Kill(p, syscall.SIGCONT)
		}
		return len(left) == 0, ""
	})
	for _, dir := range dirs {
		os.RemoveAll(dir)
	}
	return 1
}

// leftDirs are the temporary directories of a process.
func leftDirs(parent, pid string) (dirs []string) {
	for _, prefix := range tempPrefixes {
		found, _ := filepath.Glob(filepath.Join(parent, prefix+"-"+pid+"-*"))
		dirs = append(dirs, found...)
	}
	return dirs
}

// processesIn are those whose working directory is one of the directories, or inside.
func processesIn(dirs []string) (pids []int) {
	entries, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, path := range entries {
		cwd, err := os.Readlink(path)
		if err != nil {
			continue
		}
		for _, dir := range dirs {
			if strings.HasPrefix(cwd+"/", dir+"/") {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
