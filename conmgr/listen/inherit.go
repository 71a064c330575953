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
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/control"
)

// Inherited are ports that are open already, as the process before has left them.
type Inherited []handover.Listener

// Add has a port stay open when l is closed.
func (open *Inherited) Add(l net.Listener) error {
	fd, err := netio.Hand(l.(syscall.Conn))
	if err == nil {
		a := l.Addr()
		*open = append(*open, handover.Listener{Network: a.Network(), Address: a.String(), FD: fd})
	}
	return err
}

// Take is the one at an address, nil if it is not open.
func (open *Inherited) Take(network, address string) net.Listener {
	i := slices.IndexFunc(*open, func(l handover.Listener) bool { return l.Network == network && l.Address == address })
	if i < 0 {
		return nil
	}
	file := os.NewFile(uintptr((*open)[i].FD), address)
	*open = slices.Delete(*open, i, i+1)
	defer file.Close() // the listener has a descriptor of its own
	l, err := net.FileListener(file)
	if err != nil {
		return nil
	}
	return l
}

// Close shuts those that nobody has taken.
func (open *Inherited) Close() {
	for _, l := range *open {
		_ = unix.Close(l.FD)
	}
	*open = nil
}

// Inherit tells which ports are open already, before Listen.
func (s *Door) Inherit(open []handover.Listener) { s.inherited = open }

// inheritUnix is Take for a Unix socket with its files.
func (s *Door) inheritUnix(path string) (l net.Listener, u unixSocket) {
	if l = s.inherited.Take("unix", path); l == nil {
		return nil, u
	}
	u = unixSocket{path: path, lock: control.AdoptSocketLock(path)}
	u.file, _ = os.Lstat(path)
	if err := os.Chmod(path, s.Conf.Load().SocketMode); err != nil {
		l.Close()
		return nil, u
	}
	return l, u
}

// leaveUnused shuts those that conmgr.conf does not have any more.
func (s *Door) leaveUnused() {
	for _, l := range s.inherited {
		if l.Network == "unix" && l.Address[0] != '@' {
			_ = os.Remove(l.Address)
			_ = control.AdoptSocketLock(l.Address).Remove()
		}
	}
	s.inherited.Close()
}

// Leave stops accepting, and adds the open ports to a record.
func (s *Door) Leave(r *handover.Record) error {
	open := Inherited(r.Listeners)
	for _, l := range s.listeners {
		if err := open.Add(l.Listener); err != nil {
			return err
		}
	}
	r.Listeners = open
	for _, l := range s.listeners {
		if u, ok := l.Listener.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		_ = l.Close()
	}
	s.listeners, s.sockets = nil, nil
	return nil
}
