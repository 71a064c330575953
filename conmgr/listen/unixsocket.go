package listen

// Unix sockets of the service: "<directory>/.s.PGSQL.<port>" and its lock file, as a PostgreSQL
// server has them, and who is at the other end of a connection. Opened and removed by the main
// goroutine; blocks on the file system only.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/control"
)

// unixSocket is an open socket file.
type unixSocket struct {
	path string
	file os.FileInfo
	lock *control.SocketLock
}

// listenUnix opens the socket of each directory. That the conmgr directory is one by default keeps
// no conmgr from starting.
func (s *Door) listenUnix(admit func(net.Conn)) error {
	for _, dir := range s.Conf.Load().SocketDirs {
		err := s.listenUnixIn(dir, admit)
		var used *control.SocketInUseError
		if err != nil && s.Conf.Load().SocketDirsDefault && !errors.As(err, &used) {
			s.Events.Emit(event.NoUnixSocket{Err: err})
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Door) listenUnixIn(dir string, admit func(net.Conn)) error {
	path := cm.SocketPath(dir, s.Conf.Load().Port)
	if dir[0] == '@' { // an abstract socket has no file
		l, err := s.inherited.Take("unix", path), error(nil)
		if l == nil {
			l, err = openUnix(path, nil)
		}
		if err != nil {
			return fmt.Errorf("could not listen on Unix socket \"%s\": %s", path, netio.Text(err))
		}
		s.local = append(s.local, listener{l, admit})
		return nil
	}
	for _, u := range s.sockets { // one directory under two names
		if a, err := os.Stat(filepath.Dir(u.path)); err == nil {
			if b, err := os.Stat(dir); err == nil && os.SameFile(a, b) {
				return nil
			}
		}
	}
	if l, u := s.inheritUnix(path); l != nil {
		s.sockets = append(s.sockets, u)
		s.local = append(s.local, listener{l, admit})
		return nil
	}
	lock, err := control.LockSocket(path, control.Info{Dir: s.Conf.Load().Dir, Port: s.Conf.Load().Port})
	if err != nil {
		return fmt.Errorf("could not listen on a Unix socket: %w", err)
	}
	l, err := openUnix(path, &s.Conf.Load().SocketMode)
	if err != nil {
		lock.Remove()
		return fmt.Errorf("could not listen on Unix socket \"%s\": %s", path, netio.Text(err))
	}
	u := unixSocket{path: path, lock: lock}
	u.file, _ = os.Lstat(path)
	s.sockets = append(s.sockets, u)
	s.local = append(s.local, listener{l, admit})
	return nil
}

// openUnix sets the permissions before anybody can connect.
func openUnix(path string, mode *os.FileMode) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close() // the listener has a descriptor of its own
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	if mode != nil {
		err = os.Chmod(path, *mode)
	}
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	var l net.Listener
	if err == nil {
		l, err = net.FileListener(file)
	}
	if err != nil && mode != nil {
		os.Remove(path)
	}
	return l, err
}

// removeSockets removes the socket files that are still ours, then their locks.
func (s *Door) removeSockets() {
	for _, u := range s.sockets {
		if now, err := os.Lstat(u.path); err == nil && u.file != nil && os.SameFile(now, u.file) {
			os.Remove(u.path)
		}
		u.lock.Remove()
	}
	s.sockets = nil
}

// credentials is the process at the other end of a Unix socket, as it was when it connected.
func credentials(conn *net.UnixConn) (c *unix.Ucred) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	raw.Control(func(fd uintptr) { c, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return c
}
