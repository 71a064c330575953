package conmgr

// What the kernel knows of the other end of a connection within this network namespace: whose it
// is, and whether it is still open. Called by accepting and relay goroutines; the kernel answers
// while it is asked, at most after destroyTime.

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerSocket is the socket at the other end.
type peerSocket struct {
	uid   uint32
	inode uint32 // 0: no process holds it any more
}

// withinHost tells whether both ends of a connection are certainly sockets of this network
// namespace.
func withinHost(own, peer netip.Addr) bool {
	own, peer = own.Unmap().WithZone(""), peer.Unmap().WithZone("")
	return peer.IsLoopback() || own == peer
}

// lookUpPeer asks for the other end of a connection. ok is false if that cannot be known: it is
// elsewhere, or the kernel does not answer.
func lookUpPeer(own, peer netip.AddrPort) (s peerSocket, ok bool) {
	if !withinHost(own.Addr(), peer.Addr()) {
		return s, false
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return s, false
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(destroyTime.Nanoseconds())
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	family, id := diagID(peer, own) // as the other end sees it
	if unix.Sendto(fd, diagRequest(unix.SOCK_DIAG_BY_FAMILY, 0, family, 1<<12-1, id), 0,
		&unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return s, false
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return s, false
	}
	messages, err := syscall.ParseNetlinkMessage(buf[:n])
	if err != nil || len(messages) == 0 {
		return s, false
	}
	switch m := messages[0]; {
	case m.Header.Type == unix.NLMSG_ERROR:
		return s, netlinkError(m.Data) == unix.ENOENT // it is gone
	case m.Header.Type != unix.SOCK_DIAG_BY_FAMILY || len(m.Data) < diagMsgSize:
		return s, false
	case binary.BigEndian.Uint16(m.Data[6:]) != own.Port(): // a listener with that port, which is not what we look for
		return s, true
	default:
		return peerSocket{uid: binary.NativeEndian.Uint32(m.Data[diagInode-4:]),
			inode: binary.NativeEndian.Uint32(m.Data[diagInode:])}, true
	}
}

// diagID is the inet_diag_sockid of a socket by its own address and its peer's.
func diagID(own, peer netip.AddrPort) (family byte, id []byte) {
	id = make([]byte, diagIDSize)
	binary.BigEndian.PutUint16(id, own.Port())
	binary.BigEndian.PutUint16(id[2:], peer.Port())
	a, b := own.Addr().Unmap(), peer.Addr().Unmap()
	family = unix.AF_INET6
	if a.Is4() {
		family = unix.AF_INET
	}
	copy(id[4:], a.AsSlice())
	copy(id[20:], b.AsSlice())
	binary.NativeEndian.PutUint64(id[40:], ^uint64(0)) // no cookie
	return family, id
}
