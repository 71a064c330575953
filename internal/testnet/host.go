package testnet

// A host: its link to the switch, the processes and sockets in its namespace.

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host is a network namespace with one interface, eth0, besides loopback.
type Host struct {
	Name  string
	Addr4 netip.Addr
	Addr6 netip.Addr

	net        *Net
	space      *space
	index      int
	port       string // the switch's interface towards this host
	mac, gwMAC string
	gw4, gw6   string
}

// connect plugs the host into the switch.
func (h *Host) connect() error {
	err := h.space.sysctl(map[string]string{
		"ipv6/conf/default/addr_gen_mode":        "1", // no link-local address
		"ipv6/conf/default/accept_dad":           "0",
		"ipv6/conf/default/accept_ra":            "0",
		"ipv6/conf/default/router_solicitations": "0",
		"ipv4/ip_unprivileged_port_start":        "0",
	})
	if err != nil {
		return err
	}
	err = h.net.sw.do(func() error {
		return ip(
			fmt.Sprintf("link add %s address %s type veth peer name eth0 address %s netns %s", h.port, h.gwMAC, h.mac,
				h.space.name),
		)
	})
	if err != nil {
		return err
	}
	err = h.space.do(func() error {
		return ip(
			fmt.Sprintf("addr add %s/30 dev eth0", h.Addr4),
			fmt.Sprintf("addr add %s/64 dev eth0 nodad", h.Addr6),
			"link set eth0 up",
			fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", h.gw4, h.gwMAC),
			fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", h.gw6, h.gwMAC),
			"route add default via "+h.gw4,
			"route add ::/0 via "+h.gw6,
		)
	})
	if err != nil {
		return err
	}
	return h.plug()
}

// plug sets the switch's side of the link up, with all that setting it down removes.
func (h *Host) plug() error {
	return h.net.sw.do(func() error {
		return ip(
			fmt.Sprintf("addr replace %s/30 dev %s", h.gw4, h.port),
			fmt.Sprintf("addr replace %s/64 dev %s nodad", h.gw6, h.port),
			fmt.Sprintf("link set %s up", h.port),
			fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", h.Addr4, h.mac, h.port),
			fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", h.Addr6, h.mac, h.port),
		)
	})
}

// LinkDown unplugs the host: its eth0 loses the carrier. Heal plugs it in again.
func (h *Host) LinkDown() *Fault {
	h.net.t.Helper()
	w, err := measure(func() error {
		return h.net.sw.do(func() error { return ip("link set " + h.port + " down") })
	})
	if err != nil {
		h.net.t.Fatalf("link of %s down: %v", h.Name, err)
	}
	return &Fault{Applied: w, net: h.net, heal: h.plug}
}

// LinkUp plugs the host in again.
func (h *Host) LinkUp() Window {
	h.net.t.Helper()
	w, err := measure(h.plug)
	if err != nil {
		h.net.t.Fatalf("link of %s up: %v", h.Name, err)
	}
	return w
}

// Options of a command.
type Options struct {
	UID, GID    int            // run as this user and group; 0, 0: as root
	DeathSignal syscall.Signal // sent to the process if the test process dies; 0: SIGKILL
}

// Command returns a command that runs inside the host, as root and in a process group of its own,
// which is killed when ctx ends, and at the end of the test. The process dies with the test
// process, however that ends.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return h.CommandWith(ctx, Options{}, name, args...)
}

// CommandWith is Command with options.
func (h *Host) CommandWith(ctx context.Context, o Options, name string, args ...string) *exec.Cmd {
	if o.DeathSignal == 0 {
		o.DeathSignal = syscall.SIGKILL
	}
	argv := []string{"--net=" + filepath.Join(netnsDir, h.space.name), "--"}
	if o.UID != 0 || o.GID != 0 {
		// A change of user clears the death signal: setpriv sets it again afterwards.
		argv = append(argv, "setpriv", "--reuid="+strconv.Itoa(o.UID), "--regid="+strconv.Itoa(o.GID), "--clear-groups",
			"--pdeathsig", strings.TrimPrefix(unix.SignalName(o.DeathSignal), "SIG"), "--")
	}
	argv = append(append(argv, name), args...)
	cmd := exec.CommandContext(h.net.command(ctx), "nsenter", argv...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: o.DeathSignal}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 3 * time.Second
	return cmd
}

// Do runs fn on a thread inside the host; sockets that fn makes, and processes that it starts, stay
// there. Goroutines that fn starts are not inside.
func (h *Host) Do(fn func() error) error { return h.space.do(fn) }

// Listen listens inside the host. MPTCP, Go's default for listeners, is off: the switch is to see
// plain TCP.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	var l net.Listener
	err := h.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// Dialer dials from inside a host. It has the methods of lib/pq's Dialer and DialerContext.
type Dialer struct {
	host *Host
	base net.Dialer
}

// Dialer returns a dialer with the kernel's own settings: no keepalive probes, no user timeout,
// unless Control sets them.
func (h *Host) Dialer() *Dialer { return &Dialer{host: h, base: net.Dialer{KeepAlive: -1}} }

// DialContext connects to an IP address and port; or to a Unix socket, which no namespace
// separates. Names are refused: they would be resolved by other threads, outside of the host.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "unix" {
		if _, err := netip.ParseAddrPort(address); err != nil {
			return nil, fmt.Errorf("dial from host %s: want an IP address and a port: %w", d.host.Name, err)
		}
	}
	var c net.Conn
	err := d.host.Do(func() (err error) {
		c, err = d.base.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Dial is DialContext without a limit.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout is DialContext with a time limit.
func (d *Dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}
