package rawsys

// Writing to a socket that Go's net has, without its deadlines: of a process that stands still, one
// may be over before the write has begun. Nothing here waits but WriteWithin.

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SendNow sends what the send buffer takes, and returns what is left.
func SendNow(conn syscall.Conn, p []byte) (rest []byte) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return p
	}
	raw.Control(func(fd uintptr) {
		for len(p) > 0 {
			n, err := Send(int(fd), p) // never waits: Go's sockets are non-blocking
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return
			}
			p = p[n:]
		}
	})
	return p
}

// WriteWithin writes, and waits for a reader that is slow for that time at most.
func WriteWithin(conn interface {
	net.Conn
	syscall.Conn
}, p []byte, limit time.Duration) error {
	rest := SendNow(conn, p)
	if len(rest) == 0 {
		return nil
	}
	if err := conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err := conn.Write(rest)
	return err
}
