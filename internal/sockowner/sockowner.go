// Package sockowner finds out which user's process is at the other end of a connection on this
// machine: for clients that have to know whom they believe, and for servers that give each local
// user a share.
//
// The answer is the kernel's. On a Unix-domain socket it is SO_PEERCRED. On TCP it is the owner of
// the peer's socket, looked up by the exact addresses and ports with sock_diag, which needs no
// privilege, or in /proc/net/tcp where netlink is refused.
//
// Called by whoever owns the connection, in its goroutine; blocks on nothing but the kernel's
// answer.
package sockowner

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"strconv"
)

// ErrUnknown says that the kernel does not tell: the peer is on another machine or in another
// network namespace, or this process may not ask.
var ErrUnknown = errors.New("the owner of the peer's socket is not known")

// unknownError is an [ErrUnknown] with the reason alone for its text.
type unknownError string

func (e unknownError) Error() string { return string(e) }

func (e unknownError) Is(target error) bool { return target == ErrUnknown }

// ErrGone says that the peer's process has closed its socket. Who it was cannot be told any more:
// the kernel shows such a socket as root's.
var ErrGone = errors.New("the process at the other end has closed the connection")

// Nobody is the number that the kernel gives for users whom it cannot name here: those of another
// user namespace. It tells nothing.
const Nobody = 65534

// Peer returns the number of the user who owns the other end of a connection, as *net.TCPConn or
// *net.UnixConn. The error is, or wraps, [ErrUnknown] or [ErrGone].
//
// A peer that has not accepted the connection yet has no owner: read its first bytes before.
func Peer(conn net.Conn) (uid uint32, err error) {
	switch c := conn.(type) {
	case *net.UnixConn:
		return unixPeer(c)
	case *net.TCPConn:
		return tcpPeer(c)
	}
	return 0, unknownError(fmt.Sprintf("%T is no socket", conn))
}

// Lookup asks the kernel who holds the socket of this network namespace with these two addresses. The
// error is [ErrGone] if no process does, or there is no such socket, and wraps [ErrUnknown] if the
// kernel does not tell. It does not read /proc: whoever has many connections can ask often.
func Lookup(local, remote netip.AddrPort) (uid uint32, err error) {
	return lookup(pair{unmapped(local), unmapped(remote)})
}

// IsUser tells whether a user is the one of a name, which the system's files may have, or a number.
func IsUser(name string, uid uint32) bool {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n) == uid
	}
	u, err := user.Lookup(name)
	return err == nil && u.Uid == strconv.FormatUint(uint64(uid), 10)
}

// Connections calls f with the addresses of each established TCP connection of this network
// namespace, as /proc shows them. What cannot be read is left out.
func Connections(f func(local, remote netip.AddrPort)) {
	eachOfProc(func(s socket) {
		if s.state == established {
			f(s.local, s.remote)
		}
	})
}

func unmapped(p netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// pair is a connection as its peer's socket sees it.
type pair struct{ local, remote netip.AddrPort }

func pairOf(c *net.TCPConn) (pair, error) {
	local, ok1 := c.RemoteAddr().(*net.TCPAddr)
	remote, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		return pair{}, ErrGone
	}
	p := pair{unmapped(local.AddrPort()), unmapped(remote.AddrPort())}
	if p.local.Addr().Is4() != p.remote.Addr().Is4() {
		return pair{}, unknownError(fmt.Sprintf("the addresses %s and %s are of two kinds", p.remote, p.local))
	}
	return p, nil
}

// socket is what the kernel says of one.
type socket struct {
	pair
	state uint8 // of TCP
	uid   uint32
	inode uint64 // 0: no process has it open
}

// owner judges what was found.
func (s socket) owner() (uint32, error) {
	if s.state != established || s.inode == 0 {
		return 0, ErrGone
	}
	return s.uid, nil
}

const established = 1 // TCP_ESTABLISHED
