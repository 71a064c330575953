package testnet

// The state of a host's TCP sockets, as /proc/net/tcp and tcp6 show it.

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

const established = "01" // TCP_ESTABLISHED

// tcpState returns the kernel's state, two hexadecimal digits, of the connection with these ends;
// "" if there is none.
func (h *Host) tcpState(local, remote netip.AddrPort) (state string, err error) {
	err = h.Do(func() error {
		for _, file := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
			table, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for _, line := range strings.Split(string(table), "\n")[1:] {
				f := strings.Fields(line)
				if len(f) > 3 && parseProcAddr(f[1]) == local && parseProcAddr(f[2]) == remote {
					state = f[3]
					return nil
				}
			}
		}
		return nil
	})
	return state, err
}

// parseProcAddr reads an address such as 0100007F:0035: words of the machine's byte order, then the
// port.
func parseProcAddr(text string) netip.AddrPort {
	words, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(words)
	var p uint16
	if _, e := fmt.Sscanf(port, "%X", &p); err != nil || e != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), p)
}
