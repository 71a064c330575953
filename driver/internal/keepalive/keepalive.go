// Package keepalive asks the kernel of a connection what nobody else tells: it has it look after one
// while the conmgr that watches its other end is away, and finds one that was ended while it was
// idle. Blocks on nothing.
package keepalive

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// Guard returns what switches that on, with how long the other end may be silent at most, and off
// again: 0. Afterwards the socket is as it was before.
func Guard(nc net.Conn) func(silence time.Duration) {
	tcp, is := nc.(*net.TCPConn)
	if !is {
		return func(time.Duration) {} // a Unix-domain socket: its other end cannot be silent and dead
	}
	var mu sync.Mutex
	var before *settings
	return func(silence time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		raw, err := tcp.SyscallConn()
		if err != nil {
			return
		}
		raw.Control(func(fd uintptr) { // an error is that of a connection that is closed
			switch {
			case silence > 0 && before == nil:
				before = read(int(fd))
				within(silence).write(int(fd))
			case silence == 0 && before != nil:
				before.write(int(fd))
				before = nil
			}
		})
	}
}

// settings of a socket, in seconds, a number, and milliseconds.
type settings struct{ on, idle, interval, count, userTimeout int }

// probes are how many may stay unanswered.
const probes = 3

// within are such that a silent end is noticed after the silence, whether or not data is under way.
// Whole seconds are the kernel's for the probes.
func within(silence time.Duration) *settings {
	interval := max(1, int(silence/time.Second)/(probes+1))
	return &settings{on: 1, idle: interval, interval: interval, count: probes,
		userTimeout: max(1000, int(silence/time.Millisecond))}
}

// Ended tells whether the server has ended a session that is idle: it has closed, or says why it
// does, which is all that begins with an E then. Within TLS that cannot be told from a notice.
func Ended(nc net.Conn) (ended bool) {
	c, is := nc.(syscall.Conn)
	if !is {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		first, there, closed := peek(int(fd))
		const tls, tlsEnd = 20, 24 // types of records
		ended = closed || there && (first == 'E' || first >= tls && first <= tlsEnd)
	})
	return ended || err != nil
}
