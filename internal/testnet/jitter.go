package testnet

// Delay that differs from packet to packet. The kernels of some test machines have no sch_netem, so
// the switch hands these packets to a TUN device each way, from which a goroutine takes them and to
// which it gives them back when they are due.

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Jitter delays each packet between two hosts by up to most, by chance. They keep their order, as
// in a queue that is now longer and now shorter. What else the switch does to packets (Loss, say) it
// does twice to these. One pair of hosts has one such fault at a time.
func (n *Net) Jitter(a, b *Host, most time.Duration) *Fault {
	n.t.Helper()
	var ways []*detour
	w, err := measure(func() error {
		for _, hosts := range [][2]*Host{{a, b}, {b, a}} {
			d, err := n.detour(hosts[0], hosts[1], most)
			if err != nil {
				return err
			}
			ways = append(ways, d)
		}
		return nil
	})
	if err != nil {
		n.t.Fatalf("delay packets between %s and %s: %v", a.Name, b.Name, err)
	}
	f := &Fault{Applied: w, net: n, heal: func() error { return errors.Join(ways[0].end(), ways[1].end()) }}
	n.t.Cleanup(func() { f.Heal() })
	return f
}

// detour is the way of packets from one host to another by a TUN device, which has a routing table
// of its own.
type detour struct {
	net   *Net
	tun   *os.File
	ways  map[string]string // what leads packets there, by family
	ended chan struct{}
}

const maxPacket = 1 << 16

func (n *Net) detour(from, to *Host, most time.Duration) (*detour, error) {
	name := fmt.Sprintf("late%d_%d", from.index, to.index)
	table := 1000 + from.index*maxHosts + to.index
	d := &detour{net: n, ended: make(chan struct{}), ways: map[string]string{}}
	for family, to := range map[string]netip.Addr{"-4": to.Addr4, "-6": to.Addr6} {
		d.ways[family] = fmt.Sprintf("iif %s to %s lookup %d", from.port, to, table)
	}
	err := n.sw.do(func() (err error) {
		if d.tun, err = openTun(name); err != nil {
			return err
		}
		if err := ip("link set " + name + " up"); err != nil {
			return err
		}
		for family, way := range d.ways {
			commands := fmt.Sprintf("route add default dev %s table %d\nrule add %s\n", name, table, way)
			if err := run("ip", []string{family, "-batch", "-"}, commands); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	go d.carry(most)
	return d, nil
}

// openTun makes the device; it lives as long as its file.
func openTun(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil // in Go's poller, so that Close ends a Read
}

type late struct {
	due    time.Time
	packet []byte
}

// carry runs until the device is closed.
func (d *detour) carry(most time.Duration) {
	defer close(d.ended)
	queue := make(chan late, 4096)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for p := range queue {
			<-time.After(time.Until(p.due))
			d.tun.Write(p.packet) // an error is a packet that is lost
		}
	}()
	var last time.Time
	for buf := make([]byte, maxPacket); ; {
		n, err := d.tun.Read(buf)
		if err != nil {
			break
		}
		due := time.Now().Add(rand.N(most + 1))
		if due.Before(last) {
			due = last
		}
		last = due
		select {
		case queue <- late{due, append([]byte(nil), buf[:n]...)}:
		default: // as any queue that is full
		}
	}
	close(queue)
	<-written
}

// end leads packets the direct way again; those that wait are lost.
func (d *detour) end() error {
	err := d.net.sw.do(func() error {
		for family, way := range d.ways {
			if err := run("ip", append([]string{family, "rule", "del"}, strings.Fields(way)...), ""); err != nil {
				return err
			}
		}
		return nil
	})
	d.tun.Close()
	<-d.ended
	return err
}
