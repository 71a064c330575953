//go:build linux

// Package sockdiag asks the kernel for TCP sockets of this network namespace: sock_diag(7). Exact
// look-ups, by both ends of a connection, are answered while they are asked; they need no
// privilege. Whoever asks has a netlink socket of his own; any goroutine, blocks on nothing.
package sockdiag

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"time"
)

// Constants of linux/sock_diag.h and linux/inet_diag.h.
const (
	netlinkSockDiag = 4
	ByFamily        = 20 // the kind of a request for sockets, and of the answer
	IDSize          = 48 // inet_diag_sockid: ports, addresses of 16 bytes each, interface, cookie
	requestSize     = 8 + IDSize
	MessageSize     = 4 + IDSize + 20 // inet_diag_msg
	AllStates       = ^uint32(0)
	AnyCookie       = ^uint64(0)
	infoAttribute   = 2 // INET_DIAG_INFO: struct tcp_info

	headerSize = syscall.SizeofNlMsghdr
)

// ID is what the kernel knows a socket by.
type ID struct {
	Local, Remote netip.AddrPort
	Device        uint32 // 0: bound to none
	Cookie        uint64 // AnyCookie: whichever has the rest
}

func (id ID) family() byte {
	if id.Local.Addr().Is4() {
		return syscall.AF_INET
	}
	return syscall.AF_INET6
}

// append writes an inet_diag_sockid. Ports and addresses are big-endian, the rest is in the
// machine's order.
func (id ID) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, id.Local.Port())
	b = binary.BigEndian.AppendUint16(b, id.Remote.Port())
	for _, a := range [...]netip.Addr{id.Local.Addr(), id.Remote.Addr()} {
		b = append(b, a.AsSlice()...)
		b = append(b, make([]byte, 16-a.BitLen()/8)...)
	}
	b = binary.NativeEndian.AppendUint32(b, id.Device)
	b = binary.NativeEndian.AppendUint32(b, uint32(id.Cookie))
	return binary.NativeEndian.AppendUint32(b, uint32(id.Cookie>>32))
}

// Request is a message to the kernel: kind is ByFamily or SOCK_DESTROY, id an inet_diag_sockid.
func Request(kind, flags uint16, family, extensions byte, states uint32, id []byte) []byte {
	b := make([]byte, headerSize+requestSize)
	e := binary.NativeEndian
	e.PutUint32(b, uint32(len(b)))
	e.PutUint16(b[4:], kind)
	e.PutUint16(b[6:], flags|syscall.NLM_F_REQUEST)
	e.PutUint32(b[8:], 1) // sequence; the kernel fills in the port
	b[16], b[17], b[18] = family, syscall.IPPROTO_TCP, extensions
	e.PutUint32(b[20:], states)
	copy(b[24:], id)
	return b
}

// Socket is one that was found.
type Socket struct {
	ID
	State byte
	UID   uint32
	Inode uint64
	// Silent is since when nothing was received on it, neither data nor acknowledgements: of Heard.
	Silent time.Duration
}

// Open makes a netlink socket for questions.
func Open() (fd int, err error) {
	return syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
}

// Find looks a socket up by all of its ID. ENOENT: there is no such socket here. A listener may be
// found in place of a connection that is none: see the ID.
func Find(fd int, id ID) (Socket, error) {
	return ask(fd, Request(ByFamily, 0, id.family(), 0, AllStates, id.append(nil)))
}

// Heard is Find, with Silent. What else has the same ends is not found.
func Heard(fd int, id ID) (Socket, error) {
	s, err := ask(fd, Request(ByFamily, 0, id.family(), 1<<(infoAttribute-1), AllStates, id.append(nil)))
	if err == nil && (s.Local != id.Local || s.Remote != id.Remote || s.Silent < 0) {
		err = syscall.ENOENT
	}
	return s, err
}

func ask(fd int, question []byte) (Socket, error) {
	if err := syscall.Sendto(fd, question, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return Socket{}, err
	}
	var b [2048]byte
	for {
		// The kernel has answered before Sendto returned.
		n, from, err := syscall.Recvfrom(fd, b[:], syscall.MSG_DONTWAIT)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return Socket{}, err
		}
		if kernel, ok := from.(*syscall.SockaddrNetlink); !ok || kernel.Pid != 0 {
			continue // another process can write to a netlink socket, too
		}
		return Parse(b[:n])
	}
}

var errMalformed = errors.New("sock_diag: malformed answer")

// Parse takes an answer, with its header.
func Parse(b []byte) (Socket, error) {
	if len(b) < headerSize {
		return Socket{}, errMalformed
	}
	kind, body := binary.NativeEndian.Uint16(b[4:]), b[headerSize:]
	switch {
	case kind == syscall.NLMSG_ERROR && len(body) >= 4:
		return Socket{}, syscall.Errno(-int32(binary.NativeEndian.Uint32(body)))
	case kind != ByFamily || len(body) < MessageSize:
		return Socket{}, errMalformed
	}
	e := binary.NativeEndian
	return Socket{
		ID: ID{
			Local:  netip.AddrPortFrom(address(body, 8), binary.BigEndian.Uint16(body[4:])),
			Remote: netip.AddrPortFrom(address(body, 24), binary.BigEndian.Uint16(body[6:])),
			Device: e.Uint32(body[40:]),
			Cookie: uint64(e.Uint32(body[44:])) | uint64(e.Uint32(body[48:]))<<32,
		},
		State:  body[1],
		UID:    e.Uint32(body[64:]),
		Inode:  uint64(e.Uint32(body[68:])),
		Silent: silent(body[MessageSize:]),
	}, nil
}

func address(body []byte, at int) netip.Addr {
	if body[0] == syscall.AF_INET {
		return netip.AddrFrom4([4]byte(body[at : at+4]))
	}
	return netip.AddrFrom16([16]byte(body[at : at+16])).Unmap()
}

// silent reads the attributes; -1: there is no struct tcp_info.
func silent(attributes []byte) time.Duration {
	const lastDataReceived, lastAckReceived = 52, 56 // milliseconds ago
	e := binary.NativeEndian
	for len(attributes) >= 4 {
		n, kind := int(e.Uint16(attributes)), e.Uint16(attributes[2:])
		if n < 4 || n > len(attributes) {
			break
		}
		if info := attributes[4:n]; kind == infoAttribute && len(info) >= lastAckReceived+4 {
			ms := min(e.Uint32(info[lastDataReceived:]), e.Uint32(info[lastAckReceived:]))
			return time.Duration(ms) * time.Millisecond
		}
		attributes = attributes[min((n+3)&^3, len(attributes)):]
	}
	return -1
}
