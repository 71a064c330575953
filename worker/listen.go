package worker

// Listening sockets, by the rules of PostgreSQL's listen_addresses. Names are resolved here, before
// the reactor uses the result, as a resolver may block for seconds: see Reactor.listen.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

const (
	backlog = 1024 // connections that are accepted in a turn
	// waiting may so many, or as net.core.somaxconn has it: all conmgrs come at once when a worker is
	// started again, and those for which there is no place try again after a second.
	waiting = 1 << 14
)

// resolve turns listen_addresses into addresses to bind: '*' is every address of both families, an
// empty list none.
func resolve(ctx context.Context, list string) (addrs []netip.Addr, errs []error) {
	seen := make(map[netip.Addr]bool)
	add := func(a netip.Addr) {
		if !seen[a] {
			seen[a] = true
			addrs = append(addrs, a)
		}
	}
	for _, name := range strings.Split(list, ",") {
		name = trim(name)
		if found, ok := literal(name); ok {
			for _, a := range found {
				add(a)
			}
			continue
		}
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		if err != nil {
			errs = append(errs, fmt.Errorf("could not translate host name \"%s\" of watchdog.listen_addresses to address: %w", name, err))
			continue
		}
		for _, a := range found {
			add(a.Unmap())
		}
	}
	return addrs, errs
}

// literals are the addresses of the list for which no resolver is needed. names: there are others.
func literals(list string) (addrs []netip.Addr, names bool) {
	for _, name := range strings.Split(list, ",") {
		found, ok := literal(trim(name))
		addrs, names = append(addrs, found...), names || !ok
	}
	return addrs, names
}

func literal(name string) (addrs []netip.Addr, ok bool) {
	switch name {
	case "":
		return nil, true
	case "*":
		return []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}, true
	}
	a, err := netip.ParseAddr(name)
	if err != nil {
		return nil, false
	}
	return []netip.Addr{a.Unmap()}, true
}

func trim(name string) string { return strings.Trim(strings.TrimSpace(name), `"`) }

// errNoFamily: this machine does not have the address family at all.
var errNoFamily = errors.New("address family is not supported")

// listen opens a non-blocking listening socket.
func listen(addr netip.Addr, port int) (fd int, err error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		if err == unix.EAFNOSUPPORT {
			return -1, errNoFamily
		}
		return -1, fmt.Errorf("could not create a socket for %s: %w", watchdog.HostPort(addr, uint16(port)), err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil && family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	rawsys.QuickTCP(fd) // for what it accepts
	if err == nil {
		err = unix.Bind(fd, rawsys.Sockaddr(addr, port))
	}
	if err == nil {
		err = unix.Listen(fd, waiting)
	}
	if err != nil {
		unix.Close(fd)
		if err == unix.EADDRNOTAVAIL && addr == netip.IPv6Unspecified() {
			return -1, errNoFamily // IPv6 is compiled in, but switched off
		}
		return -1, fmt.Errorf("could not listen for heartbeat connections on %s: %w", watchdog.HostPort(addr, uint16(port)), err)
	}
	return fd, nil
}

// fromSockaddr is the peer's address, IPv4-mapped ones unmapped, the zone of a link-local one as a
// number.
func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 && addr.Is6() {
			addr = addr.WithZone(fmt.Sprint(sa.ZoneId))
		}
		return netip.AddrPortFrom(addr, uint16(sa.Port))
	}
	return netip.AddrPort{}
}
