package worker

// The system calls that are made for every heartbeat, and the wait for the next one.

import (
	"time"

	"golang.org/x/sys/unix"
)

// Calls are those system calls. The ones of cgo/ go past Go's scheduler, which would cost more than the heartbeats themselves; see docs/design.md.
type Calls interface {
	Read(fd int, p []byte) (n int, err error)
	Send(fd int, p []byte) (n int, err error)                                // never blocks, raises no signal
	WaitShort(epfd int, events []unix.EpollEvent, ms int) (n int, err error) // epoll_wait; blocks for shortWait at most
}

// shortWait is for how long a goroutine may block without the scheduler's knowledge.
const shortWait = 20 * time.Millisecond

// ordinaryCalls serve everywhere.
type ordinaryCalls struct{}

func (ordinaryCalls) Read(fd int, p []byte) (int, error) { return unix.Read(fd, p) }

func (ordinaryCalls) Send(fd int, p []byte) (int, error) {
	return unix.SendmsgN(fd, p, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

func (ordinaryCalls) WaitShort(epfd int, events []unix.EpollEvent, ms int) (int, error) {
	return unix.EpollWait(epfd, events, ms)
}
