package netio

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Hand is a descriptor of a socket beside Go's own, for another process, or another part of this one.
// It is above those of standard input and output.
func Hand(conn syscall.Conn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	if cerr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 3) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// Take is the connection of a descriptor, which it closes.
func Take(fd int) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "connection")
	defer file.Close() // the connection has one of its own
	return net.FileConn(file)
}
