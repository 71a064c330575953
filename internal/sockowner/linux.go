//go:build linux

package sockowner

// The kernel's answers: sock_diag(7), SO_PEERCRED, /proc/net/tcp.

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
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

// Constants of linux/sock_diag.h and linux/inet_diag.h.
const (
	netlinkSockDiag  = 4
	sockDiagByFamily = 20
	headerSize       = syscall.SizeofNlMsghdr
	requestSize      = headerSize + 56
	messageSize      = 72
	loopbackIndex    = 1 // of each network namespace's interface lo
)

// request asks for one socket.
func request(p pair, device uint32) []byte {
	b := make([]byte, 0, requestSize)
	b = binary.NativeEndian.AppendUint32(b, requestSize)
	b = binary.NativeEndian.AppendUint16(b, sockDiagByFamily)
	b = binary.NativeEndian.AppendUint16(b, syscall.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, 1) // sequence
	b = binary.NativeEndian.AppendUint32(b, 0) // port: the kernel fills it in
	family := byte(syscall.AF_INET6)
	if p.local.Addr().Is4() {
		family = syscall.AF_INET
	}
	b = append(b, family, syscall.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // all states
	b = binary.BigEndian.AppendUint16(b, p.local.Port())
	b = binary.BigEndian.AppendUint16(b, p.remote.Port())
	for _, a := range []netip.Addr{p.local.Addr(), p.remote.Addr()} {
		b = append(b, a.AsSlice()...)
		b = append(b, make([]byte, 16-a.BitLen()/8)...)
	}
	b = binary.NativeEndian.AppendUint32(b, device)
	return binary.NativeEndian.AppendUint64(b, ^uint64(0)) // any cookie
}

// diag asks sock_diag. ENOENT: there is no such socket here, or not for netlink. It is found by no
// interface, unless it is bound to one: to lo, then, as all traffic of a host with itself goes by
// that.
func diag(p pair) (s socket, err error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return socket{}, err
	}
	defer syscall.Close(fd)
	for _, device := range []uint32{0, loopbackIndex} {
		s, err = ask(fd, request(p, device))
		if err == nil && s.pair != p {
			err = syscall.ENOENT // a listener is found in place of a connection that is none here
		}
		if err != syscall.ENOENT {
			break
		}
	}
	return s, err
}

func ask(fd int, question []byte) (socket, error) {
	if err := syscall.Sendto(fd, question, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return socket{}, err
	}
	b := make([]byte, 4096)
	for {
		// The kernel has answered before Sendto returned.
		n, from, err := syscall.Recvfrom(fd, b, syscall.MSG_DONTWAIT)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return socket{}, err
		}
		if kernel, ok := from.(*syscall.SockaddrNetlink); !ok || kernel.Pid != 0 {
			continue // another process can write to a netlink socket, too
		}
		return parseDiag(b[:n])
	}
}

// parseDiag takes the answer, with its header.
func parseDiag(b []byte) (socket, error) {
	short := errors.New("sock_diag: malformed answer")
	if len(b) < headerSize {
		return socket{}, short
	}
	kind, body := binary.NativeEndian.Uint16(b[4:]), b[headerSize:]
	switch {
	case kind == syscall.NLMSG_ERROR && len(body) >= 4:
		return socket{}, syscall.Errno(-int32(binary.NativeEndian.Uint32(body)))
	case kind != sockDiagByFamily || len(body) < messageSize:
		return socket{}, short
	}
	address := func(at int) netip.Addr {
		if body[0] == syscall.AF_INET {
			return netip.AddrFrom4([4]byte(body[at : at+4]))
		}
		return netip.AddrFrom16([16]byte(body[at : at+16])).Unmap()
	}
	return socket{
		pair: pair{
			local:  netip.AddrPortFrom(address(8), binary.BigEndian.Uint16(body[4:])),
			remote: netip.AddrPortFrom(address(24), binary.BigEndian.Uint16(body[6:])),
		},
		state: body[1],
		uid:   binary.NativeEndian.Uint32(body[64:]),
		inode: uint64(binary.NativeEndian.Uint32(body[68:])),
	}, nil
}
