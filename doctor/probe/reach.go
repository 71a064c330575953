package probe

// A TCP connection, and why there is none: by the error queue of the socket the kernel tells an ICMP
// message, which firewalls send, from a reset.

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/doctor"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

// dial connects within a time; the connection is nil if there is none.
func dial(to netip.AddrPort, limit time.Duration) (net.Conn, doctor.Reach) {
	conn, r, err := connect(to, limit)
	if err != nil {
		r.Cause = text(err)
		if r.Outcome == doctor.Connected {
			r.Outcome = doctor.Unreachable
		}
		return nil, r
	}
	r.Local = addressOf(conn.LocalAddr())
	return conn, r
}

func addressOf(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap().WithZone("")
}

func text(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

func connect(to netip.AddrPort, limit time.Duration) (net.Conn, doctor.Reach, error) {
	family, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR
	address := rawsys.Sockaddr(to.Addr().Unmap(), int(to.Port()))
	if to.Addr().Unmap().Is6() {
		family, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, doctor.Reach{}, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "probe")
	defer file.Close()
	_ = unix.SetsockoptInt(fd, level, option, 1)
	err = unix.Connect(fd, address)
	if errors.Is(err, unix.EINPROGRESS) {
		err = await(fd, limit)
	}
	switch {
	case err == nil:
		conn, err := net.FileConn(file)
		return conn, doctor.Reach{}, err
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ETIMEDOUT):
		return nil, doctor.Reach{Outcome: doctor.Silent}, err
	}
	if by, is := icmp(fd); is {
		return nil, doctor.Reach{Outcome: doctor.Rejected, By: by}, err
	}
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) {
		return nil, doctor.Reach{Outcome: doctor.Refused}, err
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) { // by this host's own rules
		return nil, doctor.Reach{Outcome: doctor.Rejected}, err
	}
	return nil, doctor.Reach{Outcome: doctor.Unreachable}, err
}

// await is the end of a connect(2) that goes on.
func await(fd int, limit time.Duration) error {
	until := time.Now().Add(limit)
	for {
		left := time.Until(until)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if n > 0 && err == nil {
			break
		}
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

// icmp reads the error queue: who has sent the message that has ended the attempt. A host's own
// kernel, which has no answer of its neighbour, is none.
func icmp(fd int) (by netip.Addr, is bool) {
	var data [512]byte
	var control [512]byte
	_, n, _, _, err := unix.Recvmsg(fd, data[:], control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return by, false
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return by, false
	}
	for _, m := range messages {
		// struct sock_extended_err: errno 4, origin 1, type 1, code 1, pad 1, info 4, data 4; then the
		// offender's sockaddr
		if len(m.Data) < 16 {
			continue
		}
		if o := m.Data[4]; o != unix.SO_EE_ORIGIN_ICMP && o != unix.SO_EE_ORIGIN_ICMP6 {
			continue
		}
		return offender(m.Data[16:]), true
	}
	return by, false
}

func offender(sa []byte) netip.Addr {
	if len(sa) < 2 {
		return netip.Addr{}
	}
	switch family := binary.NativeEndian.Uint16(sa); {
	case family == unix.AF_INET && len(sa) >= 8:
		return netip.AddrFrom4([4]byte(sa[4:8]))
	case family == unix.AF_INET6 && len(sa) >= 24:
		return netip.AddrFrom16([16]byte(sa[8:24])).Unmap()
	}
	return netip.Addr{}
}
