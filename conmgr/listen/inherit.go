package listen

// Ports that stay open over a restart: a client that connects meanwhile waits in the kernel's
// backlog. Run by the main goroutine; blocks on the file system only.

import (
	"net"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/control"
)

// Inherit tells which ports are open already, before Listen.
func (s *Door) Inherit(open []handover.Listener) { s.inherited = open }

// inherit is the one at an address, nil if it is not open.
func (s *Door) inherit(network, address string) net.Listener {
	i := slices.IndexFunc(s.inherited, func(l handover.Listener) bool { return l.Network == network && l.Address == address })
	if i < 0 {
		return nil
	}
	file := os.NewFile(uintptr(s.inherited[i].FD), address)
	s.inherited = slices.Delete(s.inherited, i, i+1)
	defer file.Close() // the listener has a descriptor of its own
	l, err := net.FileListener(file)
	if err != nil {
		return nil
	}
	return l
}

// inheritUnix is the same for a Unix socket with its files.
func (s *Door) inheritUnix(path string) (l net.Listener, u unixSocket) {
	if l = s.inherit("unix", path); l == nil {
		return nil, u
	}
	u = unixSocket{path: path, lock: control.AdoptSocketLock(path)}
	u.file, _ = os.Lstat(path)
	if err := os.Chmod(path, s.Conf.SocketMode); err != nil {
		l.Close()
		return nil, u
	}
	return l, u
}

// leaveUnused shuts those that conmgr.conf does not have any more.
func (s *Door) leaveUnused() {
	for _, l := range s.inherited {
		_ = unix.Close(l.FD)
		if l.Network == "unix" && l.Address[0] != '@' {
			_ = os.Remove(l.Address)
			_ = control.AdoptSocketLock(l.Address).Remove()
		}
	}
	s.inherited = nil
}

// Leave stops accepting, and adds the open ports to a record.
func (s *Door) Leave(r *handover.Record) error {
	for _, l := range s.listeners {
		raw, err := l.Listener.(syscall.Conn).SyscallConn()
		if err != nil {
			return err
		}
		fd := -1
		if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) }); cerr != nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		a := l.Addr()
		r.Listeners = append(r.Listeners, handover.Listener{Network: a.Network(), Address: a.String(), FD: fd})
	}
	for _, l := range s.listeners {
		if u, ok := l.Listener.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		_ = l.Close()
	}
	s.listeners, s.sockets = nil, nil
	return nil
}
