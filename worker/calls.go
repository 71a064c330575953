package worker

// The system calls that are made for every heartbeat.

import (
	"time"

	"golang.org/x/sys/unix"
)

// Calls are those system calls. Those of cgo/ go past Go's scheduler, which would cost more than the heartbeats themselves.
type Calls interface {
	Read(fd int, p []byte) (n int, err error) // of a non-blocking socket
	Send(fd int, p []byte) (n int, err error) // never blocks, raises no signal
	Wait(epfd int, events []unix.EpollEvent, ms int) (n int, err error)
	SetTimer(fd int, d time.Duration) error // of a timerfd, relative; 0: never
}

// ordinaryCalls serve everywhere.
type ordinaryCalls struct{}

func (ordinaryCalls) Read(fd int, p []byte) (int, error) { return unix.Read(fd, p) }

func (ordinaryCalls) Send(fd int, p []byte) (int, error) {
	return unix.SendmsgN(fd, p, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

func (ordinaryCalls) Wait(epfd int, events []unix.EpollEvent, ms int) (int, error) {
	return unix.EpollWait(epfd, events, ms)
}

func (ordinaryCalls) SetTimer(fd int, d time.Duration) error {
	return unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
}
