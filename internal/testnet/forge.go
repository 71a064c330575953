package testnet

// Forged segments: the switch sends one TCP segment into a living connection, with the right
// sequence numbers. It asks the receiver for them: a TCP that gets an ACK out of its window answers
// with an ACK of its own, which holds the next sequence number of both sides (RFC 9293, 3.10.7.4).
// So connections on which nothing moves can be hit as well, and no other fault is in the way.
//
// Runs on the caller's goroutine; blocks until the receiver has answered, at most some seconds.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const (
	flagFIN = 1
	flagRST = 4
	flagACK = 16
)

// AddrPort returns the address of one end of a connection, for ForgeFIN and ForgeRST.
func AddrPort(a net.Addr) netip.AddrPort {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		panic(fmt.Sprintf("no address with a port: %v", a))
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// ForgeFIN makes the connection's end at to see the other end, from, close it. from itself learns
// nothing. When it returns, the receiver has taken the FIN.
func (n *Net) ForgeFIN(from, to netip.AddrPort) Window {
	n.t.Helper()
	return n.forge(from, to, flagFIN|flagACK)
}

// ForgeRST makes the connection's end at to see a reset by the other end, from; from itself learns
// nothing until it sends something.
func (n *Net) ForgeRST(from, to netip.AddrPort) Window {
	n.t.Helper()
	return n.forge(from, to, flagRST)
}

// TryForgeRST is ForgeRST for a connection that may have ended meanwhile, which is an error.
func (n *Net) TryForgeRST(from, to netip.AddrPort) error {
	n.t.Helper()
	_, err := n.tryForge(from, to, flagRST)
	return err
}

func (n *Net) forge(from, to netip.AddrPort, flags byte) Window {
	n.t.Helper()
	w, err := n.tryForge(from, to, flags)
	if err != nil {
		n.t.Fatalf("forge a segment from %s to %s: %v", from, to, err)
	}
	return w
}

func (n *Net) tryForge(from, to netip.AddrPort, flags byte) (w Window, err error) {
	n.t.Helper()
	h := n.hostOf(to.Addr())
	if h == nil {
		n.t.Fatalf("forge a segment: no host has address %s", to.Addr())
	}
	err = n.sw.do(func() (err error) {
		w, err = h.forge(from, to, flags)
		return err
	})
	return w, err
}

// injector is a packet socket on the switch's interface towards the receiver.
type injector struct {
	fd       int
	link     unix.SockaddrLinklayer
	from, to netip.AddrPort
}

func (h *Host) forge(from, to netip.AddrPort, flags byte) (w Window, err error) {
	ifi, err := net.InterfaceByName(h.port)
	if err != nil {
		return w, err
	}
	hw, err := net.ParseMAC(h.mac)
	if err != nil {
		return w, err
	}
	proto := uint16(unix.ETH_P_IP)
	if to.Addr().Is6() {
		proto = unix.ETH_P_IPV6
	}
	x := injector{from: from, to: to}
	x.link = unix.SockaddrLinklayer{Protocol: swap16(proto), Ifindex: ifi.Index, Halen: 6}
	copy(x.link.Addr[:], hw)
	x.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return w, fmt.Errorf("packet socket: %w", err)
	}
	defer unix.Close(x.fd)
	if err := unix.Bind(x.fd, &unix.SockaddrLinklayer{Protocol: swap16(proto), Ifindex: ifi.Index}); err != nil {
		return w, fmt.Errorf("bind packet socket to %s: %w", h.port, err)
	}
	if state, err := h.tcpState(to, from); err != nil || state != established {
		return w, fmt.Errorf("no established connection at %s (state %q, error %v)", to, state, err)
	}

	// Data may be faster than the forged segment, so that this has not the next sequence number any
	// more: hence a few tries.
	const tries = 20
	for range tries {
		// An idle connection answers bad segments at most twice a second.
		if err := x.send(rand.Uint32(), rand.Uint32(), flagACK); err != nil {
			return w, err
		}
		seq, ack, err := x.receive(time.Now().Add(600 * time.Millisecond))
		if errors.Is(err, errSilent) {
			continue
		}
		if err != nil {
			return w, err
		}
		w.Before = Now()
		if err := x.send(ack, seq, flags); err != nil {
			return w, err
		}
		err = testkit.Poll(10*time.Millisecond, func() (bool, string) {
			state, e := h.tcpState(to, from)
			return e == nil && state != established, ""
		})
		w.After = Now()
		if err == nil {
			return w, nil
		}
	}
	return w, fmt.Errorf("the connection's end did not take one of %d segments", tries)
}

var errSilent = errors.New("no segment of the receiver")

// receive waits for a segment of this connection, sent by the receiver; if there are several
// already, it returns the last one's numbers.
func (x *injector) receive(deadline time.Time) (seq, ack uint32, err error) {
	buf := make([]byte, 1<<16)
	found := false
	for {
		left := max(0, int(time.Until(deadline).Milliseconds()))
		if found {
			left = 0
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(x.fd), Events: unix.POLLIN}}, left)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, 0, fmt.Errorf("poll packet socket: %w", err)
		case n == 0 && found:
			return seq, ack, nil
		case n == 0:
			return 0, 0, errSilent
		}
		n, sender, err := unix.Recvfrom(x.fd, buf, 0)
		if err != nil {
			return 0, 0, fmt.Errorf("receive from packet socket: %w", err)
		}
		if ll, ok := sender.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		src, dst, tcp, payload := parse(buf[:n])
		if tcp == nil || src != x.to || dst != x.from || tcp[13]&flagACK == 0 || tcp[13]&flagRST != 0 {
			continue
		}
		seq = binary.BigEndian.Uint32(tcp[4:]) + uint32(payload)
		ack = binary.BigEndian.Uint32(tcp[8:])
		found = true
	}
}

// parse returns the addresses, the TCP header and the length of the payload; a nil header if this
// is no whole TCP segment.
func parse(p []byte) (src, dst netip.AddrPort, tcp []byte, payload int) {
	var s, d netip.Addr
	switch {
	case len(p) >= 40 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_TCP:
		s, _ = netip.AddrFromSlice(p[12:16])
		d, _ = netip.AddrFromSlice(p[16:20])
		end := min(len(p), int(binary.BigEndian.Uint16(p[2:])))
		if hl := int(p[0]&15) * 4; hl <= end {
			tcp = p[hl:end]
		}
	case len(p) >= 60 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_TCP:
		s, _ = netip.AddrFromSlice(p[8:24])
		d, _ = netip.AddrFromSlice(p[24:40])
		tcp = p[40:min(len(p), 40+int(binary.BigEndian.Uint16(p[4:])))]
	}
	if len(tcp) < 20 || len(tcp) < int(tcp[12]>>4)*4 {
		return src, dst, nil, 0
	}
	src = netip.AddrPortFrom(s, binary.BigEndian.Uint16(tcp[0:]))
	dst = netip.AddrPortFrom(d, binary.BigEndian.Uint16(tcp[2:]))
	return src, dst, tcp, len(tcp) - int(tcp[12]>>4)*4
}

// send sends a segment without data to the receiver.
func (x *injector) send(seq, ack uint32, flags byte) error {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp[0:], x.from.Port())
	binary.BigEndian.PutUint16(tcp[2:], x.to.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12] = 5 << 4
	tcp[13] = flags
	binary.BigEndian.PutUint16(tcp[14:], 512) // window

	src, dst := x.from.Addr().AsSlice(), x.to.Addr().AsSlice()
	pseudo := append(append(append([]byte{}, src...), dst...), 0, unix.IPPROTO_TCP, 0, byte(len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))

	var ip []byte
	if x.to.Addr().Is4() {
		ip = make([]byte, 20)
		ip[0] = 0x45
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(tcp)))
		ip[8], ip[9] = 64, unix.IPPROTO_TCP
		copy(ip[12:], src)
		copy(ip[16:], dst)
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	} else {
		ip = make([]byte, 40)
		ip[0] = 0x60
		binary.BigEndian.PutUint16(ip[4:], uint16(len(tcp)))
		ip[6], ip[7] = unix.IPPROTO_TCP, 64
		copy(ip[8:], src)
		copy(ip[24:], dst)
	}
	if err := unix.Sendto(x.fd, append(ip, tcp...), 0, &x.link); err != nil {
		return fmt.Errorf("send to packet socket: %w", err)
	}
	return nil
}

// checksum is the Internet checksum of an even number of bytes.
func checksum(p []byte) uint16 {
	var sum uint32
	for i := 0; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func swap16(v uint16) uint16 { return v<<8 | v>>8 }
