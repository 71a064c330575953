//go:build linux

package sockowner

// The same out of /proc/net/tcp and tcp6, where netlink is refused. Reads all sockets of the
// network namespace.

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
)

func fromProc(p pair) (s socket, err error) {
	err = syscall.ENOENT
	for _, name := range []string{"tcp", "tcp6"} { // tcp6 has connections of IPv4, too, as mapped addresses
		f, opening := os.Open("/proc/thread-self/net/" + name)
		if opening != nil {
			if name == "tcp" {
				err = opening
			}
			continue
		}
		s, searching := searchProc(f, p)
		f.Close()
		if searching == nil {
			return s, nil
		}
		if searching != syscall.ENOENT {
			err = searching
		}
	}
	return socket{}, err
}

// eachOfProc calls f with each socket that can be read.
func eachOfProc(f func(socket)) {
	for _, name := range []string{"tcp", "tcp6"} {
		file, err := os.Open("/proc/thread-self/net/" + name)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if s, err := parseProc(lines.Text()); err == nil { // the first line has the names of the columns
				f(s)
			}
		}
		file.Close()
	}
}

func searchProc(r io.Reader, p pair) (socket, error) {
	lines := bufio.NewScanner(r)
	for first := true; lines.Scan(); first = false {
		if first {
			continue // names of the columns
		}
		s, err := parseProc(lines.Text())
		if err != nil {
			return socket{}, err
		}
		if s.pair == p {
			return s, nil
		}
	}
	if err := lines.Err(); err != nil {
		return socket{}, err
	}
	return socket{}, syscall.ENOENT
}

// parseProc takes a line: number, local and remote address, state, queues, timer, retransmits, uid,
// timeout, inode, ...
func parseProc(line string) (s socket, err error) {
	malformed := fmt.Errorf("malformed line %q in /proc/net/tcp", line)
	f := strings.Fields(line)
	if len(f) < 10 {
		return socket{}, malformed
	}
	state, err := strconv.ParseUint(f[3], 16, 8)
	if err != nil {
		return socket{}, malformed
	}
	uid, err := strconv.ParseUint(f[7], 10, 32)
	if err != nil {
		return socket{}, malformed
	}
	if s.inode, err = strconv.ParseUint(f[9], 10, 64); err != nil {
		return socket{}, malformed
	}
	s.state, s.uid = uint8(state), uint32(uid)
	var ok1, ok2 bool
	s.local, ok1 = procAddress(f[1])
	s.remote, ok2 = procAddress(f[2])
	if !ok1 || !ok2 {
		return socket{}, malformed
	}
	return s, nil
}

// procAddress takes ADDRESS:PORT in hexadecimal; the address is in words of 32 bits, each in the
// machine's order.
func procAddress(text string) (netip.AddrPort, bool) {
	a, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(a)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	ip, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), ok
}
