package keepalive

import "syscall"

const tcpUserTimeout = 0x12 // TCP_USER_TIMEOUT, which package syscall lacks

// options in the order of the fields of settings.
func (s *settings) options() []struct {
	level, name int
	value       *int
} {
	return []struct {
		level, name int
		value       *int
	}{
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, &s.on},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, &s.idle},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, &s.interval},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, &s.count},
		{syscall.IPPROTO_TCP, tcpUserTimeout, &s.userTimeout},
	}
}

func read(fd int) *settings {
	s := &settings{}
	for _, o := range s.options() {
		*o.value, _ = syscall.GetsockoptInt(fd, o.level, o.name)
	}
	return s
}

func (s *settings) write(fd int) {
	for _, o := range s.options() {
		_ = syscall.SetsockoptInt(fd, o.level, o.name, *o.value)
	}
}

// peek looks at what has come, and was not read.
func peek(fd int) (first byte, there, closed bool) {
	var b [1]byte
	n, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch err {
	case nil:
		return b[0], n > 0, n == 0
	case syscall.EAGAIN, syscall.EINTR:
		return 0, false, false
	}
	return 0, false, true
}
