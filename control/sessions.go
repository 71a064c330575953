package control

// How many SQL connections of this host the servers end when conmgr ends: counted for cm_ctl stop
// and restart. Blocks until conmgr has answered, for at most askLimit, and on /proc.

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// askLimit: a conmgr that does not answer is stopped all the same.
const askLimit = 2 * time.Second

const tcpEstablished = "01"

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// warnOfSessions says what the end of conmgr does to this host's sessions, if there are any.
func (r *run) warnOfSessions(ctx context.Context, info Info) {
	answers, err := ask(ctx, info, askLimit, "SHOW INSTANCES")
	if err != nil {
		return // the end of a conmgr that hangs is not held up by a question
	}
	var servers []netip.AddrPort
	for i := range answers[0].values {
		f := answers[0].row(i)
		a, err := netip.ParseAddr(f.shown("hostaddr"))
		port := f.number("port")
		if err == nil && port != nil && f.shown("state") == "established" {
			servers = append(servers, netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(*port)))
		}
	}
	n := 0
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		n += countConnections(table, servers)
	}
	if n == 0 {
		return
	}
	r.hint(fmt.Sprintf("NOTICE: The servers end all SQL sessions of this host now, also those that do not use\n"+
		"the Connection Manager, unless watchdog.terminate_on_close is off there. At present\n"+
		"there are %d connections to them. Replication connections stay.", n))
}

// countConnections counts the established connections in a table of /proc/net that lead to one of
// the servers. 0 if the table cannot be read.
func countConnections(table string, servers []netip.AddrPort) (n int) {
	file, err := os.Open(table)
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// sl local_address rem_address st ...
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[3] != tcpEstablished {
			continue
		}
		if remote, ok := parseProcAddress(f[2]); ok && slices.Contains(servers, remote) {
			n++
		}
	}
	return n
}

// parseProcAddress reads ADDRESS:PORT of /proc/net/tcp and tcp6: the address is in words of four
// bytes, each in this machine's order.
func parseProcAddress(s string) (netip.AddrPort, bool) {
	address, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(address)
	p, perr := strconv.ParseUint(port, 16, 16)
	if err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	if littleEndian {
		for i := 0; i < len(b); i += 4 {
			slices.Reverse(b[i : i+4])
		}
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), ok
}
