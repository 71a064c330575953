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
	rest, _ = sendNow(conn, p)
	return rest
}

// sendNow says also what it failed by; a full send buffer is no failure.
func sendNow(conn syscall.Conn, p []byte) (rest []byte, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return p, err
	}
	if closed := raw.Control(func(fd uintptr) {
		for len(p) > 0 {
			var n int
			n, err = Send(int(fd), p) // never waits: Go's sockets are non-blocking
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return
			}
			p = p[n:]
		}
	}); closed != nil {
		return p, closed
	}
	if err == unix.EAGAIN {
		err = nil
	}
	return p, err
}

// WriteWithin writes, and waits for a reader that is slow for that time at most.
func WriteWithin(conn interface {
	net.Conn
	syscall.Conn
}, p []byte, limit time.Duration) error {
	rest, err := sendNow(conn, p)
	if err != nil || len(rest) == 0 {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err = conn.Write(rest)
	return err
}
