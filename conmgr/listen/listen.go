package listen

// Listening and accepting. One goroutine an address accepts; it blocks on nothing else.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
)

// Door is where applications come in: all ports and Unix sockets, and who is let in.
type Door struct {
	Conf     *conf.Current
	Events   *event.Hub
	Group    *group.Group
	Registry *bind.Registry

	listeners []listener   // those of the port first
	local     []listener   // by Unix sockets, until they are appended to listeners
	sockets   []unixSocket // their files
	inherited Inherited
	refusing  atomic.Int32 // connections that are told why they are refused
}

// New makes one that is shut.
func New(c *conf.Current, events *event.Hub, g *group.Group, r *bind.Registry) *Door {
	return &Door{Conf: c, Events: events, Group: g, Registry: r}
}

// listener is an open port, and what becomes of a connection to it.
type listener struct {
	net.Listener
	admit func(net.Conn)
}

// lookupTime bounds the resolution of listen_addresses.
const lookupTime = 10 * time.Second

// Listen opens the port and the Unix sockets, whose connections admit takes, and the relay ports,
// whose connections relay takes.
func (s *Door) Listen(ctx context.Context, admit func(net.Conn), relay func(*net.TCPConn, conf.RelayPort)) error {
	err := s.listenUnix(admit) // first: who can connect by TCP finds the socket, too
	if err == nil {
		err = s.listenPort(ctx, s.Conf.Load().Port, admit)
	}
	for _, p := range s.Conf.Load().RelayPorts {
		if err == nil {
			err = s.listenPort(ctx, p.Port, func(conn net.Conn) { relay(conn.(*net.TCPConn), p) })
		}
	}
	s.listeners, s.local = append(s.listeners, s.local...), nil
	s.leaveUnused()
	if err != nil {
		s.Close()
	}
	return err
}

// Addr is that of the n-th listener: the port's come first, then the relay ports' in the order of
// conmgr.conf, then the Unix sockets.
func (s *Door) Addr(n int) net.Addr { return s.listeners[n].Addr() }

// listenPort opens a port on all addresses of listen_addresses.
func (s *Door) listenPort(ctx context.Context, port int, admit func(net.Conn)) error {
	all, err := Open(ctx, "listen_addresses", s.Conf.Load().ListenAddresses, port, s.inherited.Take)
	for _, l := range all {
		s.listeners = append(s.listeners, listener{l, admit})
	}
	return err
}

// Open opens a port on all addresses that a parameter names. Of the several addresses of one name,
// those that this host does not have are left out, as long as one works. What was opened is returned
// with an error, too. inherit is what is open already, nil: nothing.
func Open(ctx context.Context, param string, names []string, port int,
	inherit func(network, address string) net.Listener) (all []net.Listener, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	seen := map[netip.Addr]bool{}
	for _, name := range names {
		addrs, err := listenAddresses(ctx, name)
		if err != nil {
			return all, fmt.Errorf("could not resolve %q of %s: %s", name, param, netio.Text(err))
		}
		opened, last := 0, error(nil)
		for _, a := range addrs {
			if seen[a] {
				opened++
				continue
			}
			l, err := listenOn(ctx, a, port, inherit)
			if err != nil {
				last = fmt.Errorf("could not listen on %s: %s", net.JoinHostPort(a.String(), strconv.Itoa(port)),
					netio.Text(err))
				if missing(err) {
					continue
				}
				return all, last
			}
			seen[a] = true
			opened++
			all = append(all, l)
		}
		if opened == 0 {
			if last == nil {
				last = fmt.Errorf("%q of %s has no address", name, param)
			}
			return all, last
		}
	}
	return all, nil
}

// missing: this host does not have the address, or its family.
func missing(err error) bool {
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)
}

func listenAddresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if name == "*" {
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
	}
	return netio.Resolve(ctx, name)
}

// listenOn opens one address; an IPv6 one takes no IPv4 connections.
func listenOn(ctx context.Context, a netip.Addr, port int,
	inherit func(network, address string) net.Listener) (net.Listener, error) {
	network := "tcp4"
	if a.Is6() {
		network = "tcp6"
	}
	if inherit != nil {
		if l := inherit("tcp", netip.AddrPortFrom(a, uint16(port)).String()); l != nil {
			return l, nil
		}
	}
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, network, netip.AddrPortFrom(a, uint16(port)).String())
}

// Serve accepts connections until the listeners are closed.
func (s *Door) Serve(stop <-chan struct{}) {
	for _, l := range s.listeners {
		s.Group.Go("listener", func() { s.accept(l, stop) })
	}
}

// Close shuts all ports, and removes the files of Unix sockets.
func (s *Door) Close() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.removeSockets()
}

// acceptPause follows an accept(2) that failed for want of descriptors or memory: nothing tells
// when there are some.
const acceptPause = 100 * time.Millisecond

func (s *Door) accept(l listener, stop <-chan struct{}) {
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			l.admit(conn)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNABORTED):
			continue
		}
		s.Events.Emit(event.AcceptFailed{Why: acceptText(err)})
		t := time.NewTimer(acceptPause)
		select {
		case <-stop:
		case <-t.C:
		}
		t.Stop()
	}
}

// acceptText names the limit that an administrator can raise.
func acceptText(err error) string {
	text := netio.Text(err)
	if errors.Is(err, unix.EMFILE) {
		text += " (the limit of open file descriptors is reached, ulimit -n)"
	}
	return text
}
