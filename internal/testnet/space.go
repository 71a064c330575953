package testnet

// One network namespace: making it, entering it with a thread, seeing who is in it.

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

type space struct {
	name string
	file *os.File // what setns takes; keeps the namespace
	ino  uint64
}

func newSpace(name string) (*space, error) {
	if err := ip("netns add " + name); err != nil {
		return nil, err
	}
	s, err := openSpace(name)
	if err != nil {
		return nil, err
	}
	if err := s.do(func() error { return ip("link set lo up") }); err != nil {
		return nil, err
	}
	return s, nil
}

func openSpace(name string) (*space, error) {
	f, err := os.Open(filepath.Join(netnsDir, name))
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("fstat %s: %w", f.Name(), err)
	}
	return &space{name: name, file: f, ino: st.Ino}, nil
}

func (s *space) remove() error {
	s.file.Close()
	return ip("netns del " + s.name)
}

// do runs fn on a thread in the namespace. Sockets that fn makes, and processes that it starts,
// belong to the namespace for ever.
func (s *space) do(fn func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", s.name, err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("cannot leave network namespace %s: %v", s.name, err))
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// sysctl sets parameters below /proc/sys/net, which shows the namespace of the thread that opens
// it.
func (s *space) sysctl(values map[string]string) error {
	return s.do(func() error {
		for name, value := range values {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *space) nft(commands string) error {
	return s.do(func() error { return run("nft", []string{"-f", "-"}, commands) })
}

// inhabitants returns the processes whose main thread is in one of the namespaces.
func inhabitants(spaces []*space) []int {
	var pids []int
	entries, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, path := range entries {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if pid == os.Getpid() {
			continue // a main thread that is inside do
		}
		for _, s := range spaces {
			if st.Ino == s.ino {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func killHard(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }
