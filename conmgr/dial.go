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
	dial    func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error)
}

var systemNetwork = network{resolve: resolveHost, dial: dialTCP}

// halfAnswer: the addresses of one kind, IPv4 or IPv6, could not be told, those of the other kind
// could.
type halfAnswer struct {
	missing4 bool // IPv4, else IPv6
	error
}

func (e *halfAnswer) Unwrap() error { return e.error }

// missing tells whether an address is of the kind that could not be told.
func (e *halfAnswer) missing(a netip.Addr) bool { return a.Is4() == e.missing4 }

// resolver does not pass half an answer off as a whole one, as the default one does.
var resolver = net.Resolver{StrictErrors: true}

// resolveHost returns the addresses of a name; with a *halfAnswer some of them.
func resolveHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := lookupAddrs(ctx, &resolver, host)
	var dns *net.DNSError
	if err == nil || !errors.As(err, &dns) || dns.IsNotFound {
		return addrs, err
	}
	addrs, lerr := lookupAddrs(ctx, net.DefaultResolver, host)
	if lerr != nil {
		return nil, lerr
	}
	four := slices.ContainsFunc(addrs, netip.Addr.Is4)
	six := slices.ContainsFunc(addrs, netip.Addr.Is6)
	if four && six { // this time it had the whole one
		return addrs, nil
	}
	return addrs, &halfAnswer{missing4: six, error: err}
}

func lookupAddrs(ctx context.Context, r *net.Resolver, host string) (out []netip.Addr, err error) {
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	for _, a := range addrs {
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, err
}

// dialTCP connects from an address of this host, if that is valid and there still, else from the one
// that the kernel chooses.
func dialTCP(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1} // heartbeats do that
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil && errors.Is(err, unix.EADDRNOTAVAIL) && from.IsValid() {
		return dialTCP(ctx, netip.Addr{}, to)
	}
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
