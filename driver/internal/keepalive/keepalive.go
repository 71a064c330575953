// Package keepalive has the kernel look after a connection while nobody else does: while the conmgr
// that watches its other end is away. Blocks on nothing.
package keepalive

import (
	"net"
	"sync"
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
