// Package netio is what the daemon needs of the network: from a name to a TCP connection, the texts of
// its errors, and connections that are handed on.
package netio

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

	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

// Network is what instances need of the outside; tests replace it.
type Network struct {
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial    func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error)
}

// System is that of the operating system.
var System = Network{Resolve: Resolve, Dial: Dial}

// HalfAnswer is an error: the addresses of one kind, IPv4 or IPv6, could not be told, those of the
// other kind could.
type HalfAnswer struct {
	Missing4 bool // IPv4, else IPv6
	Err      error
}

func (e *HalfAnswer) Error() string { return e.Err.Error() }

// Unwrap is the error of the half that is missing.
func (e *HalfAnswer) Unwrap() error { return e.Err }

// Missing tells whether an address is of the kind that could not be told.
func (e *HalfAnswer) Missing(a netip.Addr) bool { return a.Is4() == e.Missing4 }

// resolver does not pass half an answer off as a whole one, as the default one does.
var resolver = net.Resolver{StrictErrors: true}

// Resolve returns the addresses of a name; with a *HalfAnswer some of them.
func Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
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
	return addrs, &HalfAnswer{Missing4: six, Err: err}
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

// Dial connects from an address of this host, if that is valid and there still, else from the one
// that the kernel chooses.
func Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1} // heartbeats do that
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil && errors.Is(err, unix.EADDRNOTAVAIL) && from.IsValid() {
		return Dial(ctx, netip.Addr{}, to)
	}
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// ForHeartbeats makes the kernel send soon again what was lost, and give up an unacknowledged
// connection after the given time.
func ForHeartbeats(c *net.TCPConn, d time.Duration) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			rawsys.QuickTCP(int(fd))
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
	}
}

// Text is the operating system's part of a network error: the rest of it says what our own text
// says already.
func Text(err error) string {
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

// LongPast wakes a reader or a writer.
var LongPast = time.Unix(1, 0)
