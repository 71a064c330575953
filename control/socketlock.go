package control

// Lock files of Unix sockets, "<socket>.lock", as a PostgreSQL server has them: its first five
// lines are a server's, the sixth tells the process from a later one with its pid. Run by conmgr's
// main goroutine; blocks on the file system only.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SocketInUseError tells that somebody listens on the socket, or is about to.
type SocketInUseError struct {
	Socket string
	Pid    int // 0: not known
}

func (e *SocketInUseError) Error() string {
	who := "another process"
	if e.Pid > 0 {
		who = fmt.Sprintf("another process (PID %d)", e.Pid)
	}
	return fmt.Sprintf("%s uses the socket file \"%s\", by its lock file \"%s\"", who, e.Socket, lockOf(e.Socket))
}

func lockOf(socket string) string { return socket + ".lock" }

// SocketLock is the lock file of this process.
type SocketLock struct {
	path string
	file fs.FileInfo
}

// LockSocket creates the lock file of a socket; a stale one is replaced, and a stale socket
// removed. The error is a *SocketInUseError if another process has it.
func LockSocket(socket string, info Info) (*SocketLock, error) {
	if err := info.complete(filepath.Dir(socket)); err != nil {
		return nil, err
	}
	path := lockOf(socket)
	text := fmt.Sprintf("%d\n%s\n%d\n%d\n%s\n%s %d\n", info.Pid, info.Dir, info.Started.Unix(), info.Port,
		filepath.Dir(socket), info.BootID,
		info.StartTicks)
	for range 100 { // each time lost to somebody who starts or ends at this very moment
		lock, err := writeSocketLock(path, text)
		if err == nil {
			if err = removeStaleSocket(socket); err != nil {
				_ = lock.Remove()
				return nil, err
			}
			return lock, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("could not create lock file \"%s\": %w", path, cause(err))
		}
		old, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !old.Mode().IsRegular() {
			return nil, fmt.Errorf("could not create lock file \"%s\": there is something that is not a regular file",
				path)
		}
		if pid, used := socketOwner(path, socket); used {
			return nil, &SocketInUseError{Socket: socket, Pid: pid}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("could not remove old lock file \"%s\": %w", path, cause(err))
		}
	}
	return nil, fmt.Errorf("could not create lock file \"%s\": others keep creating it", path)
}

// writeSocketLock: a reader never finds less than all of it.
func writeSocketLock(path, text string) (*SocketLock, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = io.WriteString(f, text)
	st, serr := f.Stat()
	if err = errors.Join(err, serr, f.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), path); err != nil {
		if le := (*os.LinkError)(nil); errors.As(err, &le) {
			err = le.Err
		}
		return nil, err
	}
	return &SocketLock{path: path, file: st}, nil
}

// socketOwner tells whether the process that a lock file names is there, or anybody listens on the
// socket.
func socketOwner(path, socket string) (pid int, used bool) {
	if pid, ok := listening(socket); ok {
		return pid, true
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) > maxPidFile {
		return 0, false
	}
	lines := strings.Split(string(b), "\n")
	pid, err = strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 0 || pid == os.Getpid() {
		return 0, false
	}
	if len(lines) > 5 {
		boot, ticks, found := strings.Cut(lines[5], " ")
		if n, err := strconv.ParseUint(ticks, 10, 64); found && err == nil {
			return pid, Info{Pid: pid, BootID: boot, StartTicks: n}.matches() && !zombie(pid)
		}
	}
	return pid, unix.Kill(pid, 0) == nil // another user's process cannot have written a file of ours
}

// listening tells whether somebody accepts on a socket, and who.
func listening(socket string) (pid int, ok bool) {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return 0, errors.Is(err, unix.EAGAIN) // its backlog is full
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, true
	}
	_ = raw.Control(func(fd uintptr) {
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(c.Pid)
		}
	})
	return pid, true
}

// removeStaleSocket removes what a process has left that did not end in order. The lock is held.
func removeStaleSocket(socket string) error {
	st, err := os.Lstat(socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && st.Mode().Type() != fs.ModeSocket:
		err = errors.New("it is not a socket")
	case err == nil:
		if pid, ok := listening(socket); ok {
			return &SocketInUseError{Socket: socket, Pid: pid}
		}
		err = os.Remove(socket)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("could not replace the socket file \"%s\": %w", socket, cause(err))
	}
	return nil
}

// AdoptSocketLock is the lock file of a socket that this process had before it became another program.
func AdoptSocketLock(socket string) *SocketLock {
	l := &SocketLock{path: lockOf(socket)}
	l.file, _ = os.Lstat(l.path)
	return l
}

// Remove removes the lock file, if it is still this process's.
func (l *SocketLock) Remove() error {
	now, err := os.Lstat(l.path)
	if err != nil || l.file == nil || !os.SameFile(now, l.file) {
		return nil
	}
	return os.Remove(l.path)
}
