package sockdestroy

// destroy_sockets: when an instance is lost, the TCP connections of this network namespace to its
// SQL port are aborted in the kernel, so that whoever waits there gets an error at once
// (ECONNABORTED), whatever the driver. One goroutine a loss; it blocks on the kernel only, which
// answers while it is asked, and at most for destroyTime where it does not.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/internal/sockdiag"
)

// destroyTime bounds each answer of the kernel.
const destroyTime = time.Second

// Layout of linux/inet_diag.h. Ports and addresses are big-endian, the rest is in the machine's
// order.
const (
	diagIDSize   = sockdiag.IDSize
	diagMsgSize  = sockdiag.MessageSize
	diagInode    = 4 + diagIDSize + 16 // of inet_diag_msg
	destroyBatch = 64                  // sockets a request
)

// destroyStates are those of a connection that somebody may be waiting for: never LISTEN or
// TIME_WAIT.
const destroyStates = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_SYN_SENT | 1<<unix.BPF_TCP_FIN_WAIT1 | 1<<unix.BPF_TCP_FIN_WAIT2 | 1<<unix.BPF_TCP_CLOSE_WAIT

// Destroyer is what the board calls.
type Destroyer struct {
	Events *event.Hub
	Group  *group.Group
}

// Lost aborts the connections to an instance, without waiting.
func (d *Destroyer) Lost(entries []bind.Entry, index int) {
	in, targets := event.Of(entries[index].Config), destroyTargets(entries, index)
	d.Group.Go("socket destroy", func() {
		begin := time.Now()
		n, err := destroyConnections(targets)
		if err != nil {
			d.Events.Emit(event.SocketsNotDestroyed{Instance: in, Err: err})
		}
		d.Events.Emit(event.SocketsDestroyed{Instance: in, N: n, To: targets, Took: time.Since(begin)})
	})
}

// destroyTargets are the addresses of an instance: all that its name had when its heartbeats were
// established, but none at which another instance is alive.
func destroyTargets(entries []bind.Entry, index int) (out []netip.AddrPort) {
	e := &entries[index]
	for _, a := range append([]netip.Addr{e.Address()}, e.Addrs...) {
		t := netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(e.Config.Port))
		alive := slices.ContainsFunc(entries, func(o bind.Entry) bool {
			return o.Config != e.Config && o.Config.Port == e.Config.Port && o.Established() &&
				o.Address().Unmap().WithZone("") == t.Addr()
		})
		if a.IsValid() && !alive && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// destroyConnections aborts this network namespace's connections to the given addresses, and
// returns how many.
func destroyConnections(to []netip.AddrPort) (n int, err error) {
	if len(to) == 0 {
		return 0, nil
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("socket(AF_NETLINK): %w", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(destroyTime.Nanoseconds())
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	var ports []uint16
	for _, t := range to {
		if !slices.Contains(ports, t.Port()) {
			ports = append(ports, t.Port())
		}
	}
	for _, port := range ports {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} { // the latter has the IPv4-mapped ones too
			ids, err := listConnections(fd, family, port, to)
			if err != nil {
				return n, err
			}
			for batch := range slices.Chunk(ids, destroyBatch) {
				k, err := destroyBatchOf(fd, family, batch)
				n += k
				if err != nil {
					return n, err
				}
			}
		}
	}
	return n, nil
}

// listConnections returns the ids of the connections to one of the addresses with that port. The
// kernel looks at the port.
func listConnections(fd int, family byte, port uint16, to []netip.AddrPort) (ids [][]byte, err error) {
	var id [diagIDSize]byte
	binary.BigEndian.PutUint16(id[2:], port)
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Sendto(fd, sockdiag.Request(sockdiag.ByFamily, unix.NLM_F_DUMP, family, 0, destroyStates, id[:]), 0,
		kernel); err != nil {
		return nil, fmt.Errorf("list of connections: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list of connections: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, fmt.Errorf("list of connections: %w", err)
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return ids, nil
			case unix.NLMSG_ERROR:
				return nil, fmt.Errorf("list of connections: %w", netlinkError(m.Data))
			case unix.SOCK_DIAG_BY_FAMILY:
				if diagMatches(m.Data, to) {
					ids = append(ids, slices.Clone(m.Data[4:4+diagIDSize]))
				}
			}
		}
	}
}

// diagMatches tells whether an inet_diag_msg is of a connection to one of the addresses that a
// process holds.
func diagMatches(m []byte, to []netip.AddrPort) bool {
	if len(m) < diagMsgSize || 1<<m[1]&destroyStates == 0 || binary.NativeEndian.Uint32(m[diagInode:]) == 0 {
		return false
	}
	id := m[4:]
	var remote netip.Addr
	switch m[0] {
	case unix.AF_INET:
		remote = netip.AddrFrom4([4]byte(id[20:24]))
	case unix.AF_INET6:
		remote = netip.AddrFrom16([16]byte(id[20:36])).Unmap()
	}
	return slices.Contains(to, netip.AddrPortFrom(remote, binary.BigEndian.Uint16(id[2:])))
}

// destroyBatchOf asks for the end of some connections. The kernel has done it when the request is
// sent; it answers only what failed.
func destroyBatchOf(fd int, family byte, ids [][]byte) (n int, err error) {
	var b []byte
	for _, id := range ids {
		b = append(b, sockdiag.Request(unix.SOCK_DESTROY, 0, family, 0, 0, id)...)
	}
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("SOCK_DESTROY: %w", err)
	}
	n = len(ids)
	buf := make([]byte, 64<<10)
	for {
		k, _, rerr := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case rerr == unix.EINTR:
			continue
		case rerr != nil: // EAGAIN: no more
			return n, err
		}
		messages, perr := syscall.ParseNetlinkMessage(buf[:k])
		if perr != nil {
			return n, perr
		}
		for _, m := range messages {
			if m.Header.Type != unix.NLMSG_ERROR {
				continue
			}
			n--
			if e := netlinkError(m.Data); !errors.Is(e, unix.ENOENT) { // that is: has ended meanwhile
				err = fmt.Errorf("SOCK_DESTROY: %w", e)
			}
		}
	}
}

func netlinkError(data []byte) error {
	if len(data) < 4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(data)))
}

// Check tries, at start, on a connection of its own, whether sockets can be destroyed.
func Check() error {
	path, err := os.Executable()
	if err != nil {
		path = "conmgr"
	}
	hint := "Give it to the service (CapabilityBoundingSet=CAP_NET_ADMIN and AmbientCapabilities=CAP_NET_ADMIN in its systemd unit), or set " +
		"destroy_sockets to off."
	if err := checkFileCapabilities(path, "/proc/self/exe"); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil || data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return &conf.StartError{Text: "destroy_sockets is on, but conmgr has not the capability CAP_NET_ADMIN", Hint: hint}
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return &conf.StartError{Text: "could not try whether sockets can be destroyed: " + netio.Text(err)}
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	conn, err := net.DialTimeout("tcp4", to.String(), destroyTime)
	if err != nil {
		return &conf.StartError{Text: "could not try whether sockets can be destroyed: " + netio.Text(err)}
	}
	defer conn.Close()
	n, err := destroyConnections([]netip.AddrPort{to})
	return destroyVerdict(n, err, hint)
}

// checkFileCapabilities refuses a program that has capabilities of its own and that everybody may
// run: he could do so with a configuration of his, and abort the connections of others.
func checkFileCapabilities(name, path string) error {
	var st unix.Stat_t
	if n, err := unix.Getxattr(path, "security.capability", nil); err != nil || n == 0 || unix.Stat(path, &st) != nil ||
		st.Mode&unix.S_IXOTH == 0 {
		return nil
	}
	return &conf.StartError{Text: fmt.Sprintf("destroy_sockets is on, but the program \"%s\" has file capabilities, and everybody may run it", name),
		Detail: "Any local user could have it abort the connections of others.",
		Hint: fmt.Sprintf(`Take them away ("setcap -r %s") and give CAP_NET_ADMIN to the service (AmbientCapabilities in its systemd unit), or let only `+
			`conmgr's group run the program ("chgrp conmgr %s; chmod 0750 %s", before setcap).`, name, name, name)}
}

// destroyVerdict explains what came of the try.
func destroyVerdict(n int, err error, hint string) error {
	const text = "destroy_sockets is on, but sockets cannot be destroyed: "
	switch {
	case err == nil && n == 1:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return &conf.StartError{Text: text + "CAP_NET_ADMIN does not hold for this network namespace", Hint: hint}
	case errors.Is(err, unix.EAFNOSUPPORT):
		return &conf.StartError{Text: text + err.Error(), Hint: "Add AF_NETLINK to RestrictAddressFamilies of the systemd unit."}
	case errors.Is(err, unix.EOPNOTSUPP):
		return &conf.StartError{Text: text + "the kernel does not support it",
			Detail: "It is built without CONFIG_INET_DIAG_DESTROY.", Hint: "Set destroy_sockets to off."}
	case errors.Is(err, unix.ENOENT):
		return &conf.StartError{Text: text + "the kernel has no socket diagnostics for TCP",
			Hint: `Load the kernel module tcp_diag ("modprobe tcp_diag", as root), or set destroy_sockets to off.`}
	case err != nil:
		return &conf.StartError{Text: text + err.Error(), Hint: "Set destroy_sockets to off."}
	}
	return &conf.StartError{Text: text + "the kernel does not show a connection of conmgr's own",
		Hint: "Set destroy_sockets to off."}
}
