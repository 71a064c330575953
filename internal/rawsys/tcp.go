package rawsys

import "golang.org/x/sys/unix"

// Linux 6.15 and 6.17 have these; x/sys has no names for them yet.
const (
	tcpRTOMaxMS = 44
	tcpRTOMinUS = 45
)

// QuickTCP has the kernel send again soon what was lost on a connection that carries little: after
// 50 ms and a round trip, not 200 ms at least, the first times without doubling that, and never
// later than after a second. Connections that a listening socket accepts inherit it. A kernel that
// does not know one of these does without.
func QuickTCP(fd int) {
	for opt, v := range map[int]int{unix.TCP_THIN_LINEAR_TIMEOUTS: 1, tcpRTOMinUS: 50_000, tcpRTOMaxMS: 1000} {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, opt, v)
	}
}
