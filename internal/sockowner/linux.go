//go:build linux

package sockowner

// The kernel's answers: sock_diag(7), SO_PEERCRED, /proc/net/tcp.

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"github.com/pgwatchdog/watchdog/internal/sockdiag"
)

func unixPeer(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, ErrGone
	}
	var cred *syscall.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, ErrGone
	}
	if failed != nil {
		return 0, unknownError(failed.Error())
	}
	return cred.Uid, nil
}

func tcpPeer(c *net.TCPConn) (uid uint32, err error) {
	p, err := pairOf(c)
	if err != nil {
		return 0, err
	}
	s, err := find(p)
	// A peer that has reset the connection has no socket any more, as one elsewhere; but our own
	// end shows it.
	if ownState(c) != established {
		return 0, ErrGone
	}
	if err != nil {
		return 0, err
	}
	return s.owner()
}

func lookup(p pair) (uid uint32, err error) {
	s, err := diag(p)
	switch {
	case err == nil && s.inode != 0:
		return s.uid, nil
	case err == nil, err == syscall.ENOENT:
		return 0, ErrGone
	}
	return 0, unknownError(err.Error())
}

// find asks netlink, and where that does not find the socket, /proc: netlink goes by the interface,
// too, for a socket that is bound to one.
func find(p pair) (socket, error) {
	s, byNetlink := diag(p)
	if byNetlink == nil {
		return s, nil
	}
	if isElsewhere(p.local.Addr()) {
		return socket{}, unknownError("it is on another host, or in another network namespace")
	}
	s, byProc := fromProc(p)
	switch {
	case byProc == nil:
		return s, nil
	case byNetlink != syscall.ENOENT && byProc != syscall.ENOENT:
		return socket{}, unknownError("neither netlink nor /proc/net/tcp can be used")
	}
	return socket{}, unknownError("it is in another network namespace")
}

// isElsewhere: only an address of this network namespace can be bound to. That of a UDP socket
// without a port takes none away.
func isElsewhere(a netip.Addr) bool {
	family, address := syscall.AF_INET6, syscall.Sockaddr(nil)
	if a.Is4() {
		family, address = syscall.AF_INET, &syscall.SockaddrInet4{Addr: a.As4()}
	} else {
		address = &syscall.SockaddrInet6{Addr: a.As16()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	return syscall.Bind(fd, address) == syscall.EADDRNOTAVAIL
}

// ownState is the state of our end, or 0.
func ownState(c *net.TCPConn) (state uint8) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		// The first byte of struct tcp_info, of which the kernel fills as much as there is room
		// for.
		v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		if err == nil {
			var b [4]byte
			binary.NativeEndian.PutUint32(b[:], uint32(v))
			state = b[0]
		}
	})
	return state
}

const loopbackIndex = 1 // of each network namespace's interface lo

// diag asks sock_diag. ENOENT: there is no such socket here, or not for netlink. It is found by no
// interface, unless it is bound to one: to lo, then, as all traffic of a host with itself goes by
// that.
func diag(p pair) (s socket, err error) {
	fd, err := sockdiag.Open()
	if err != nil {
		return socket{}, err
	}
	defer syscall.Close(fd)
	for _, device := range []uint32{0, loopbackIndex} {
		var found sockdiag.Socket
		found, err = sockdiag.Find(fd, sockdiag.ID{Local: p.local, Remote: p.remote, Device: device,
			Cookie: sockdiag.AnyCookie})
		s = socket{pair: pair{local: found.Local, remote: found.Remote}, state: found.State, uid: found.UID, inode: found.Inode}
		if err == nil && s.pair != p {
			err = syscall.ENOENT // a listener is found in place of a connection that is none here
		}
		if err != syscall.ENOENT {
			break
		}
	}
	return s, err
}
