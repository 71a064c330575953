package conmgr

// From an instance's name to a TCP connection. resolve and dial run in goroutines of their own,
// started by the instance's goroutine, which waits for them and goes on judging meanwhile. They
// block at most until their context ends.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// network is what instances need of the outside; tests replace it.
type network struct {
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	dial    func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error)
}

var systemNetwork = network{resolve: resolveHost, dial: dialTCP}

func resolveHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, nil
}

func dialTCP(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1} // heartbeats do that
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// setUserTimeout makes the kernel give up an unacknowledged connection after the given time.
func setUserTimeout(c *net.TCPConn, d time.Duration) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
	}
}

// result of an operation that runs in a goroutine of its own.
type result[T any] struct {
	value T
	err   error
}

// netText is the operating system's part of a network error: the rest of it says what our own text
// says already.
func netText(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Err
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// preferring puts the address that worked last time first.
func preferring(addrs []netip.Addr, last netip.Addr) []netip.Addr {
	if i := slices.Index(addrs, last); i > 0 {
		addrs = append([]netip.Addr{last}, slices.Delete(slices.Clone(addrs), i, i+1)...)
	}
	return addrs
}
