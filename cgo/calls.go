package main

// System calls without a word to Go's scheduler: worker.Calls. Called by the reactor's goroutine only. The descriptors are
// non-blocking; Wait, for some milliseconds at most, holds up a garbage collection.

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/worker"
)

type rawCalls struct{}

var _ worker.Calls = rawCalls{}

func (rawCalls) Read(fd int, p []byte) (int, error) {
	return result(unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))))
}

func (rawCalls) Send(fd int, p []byte) (int, error) {
	return result(unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0))
}

// Wait uses epoll_pwait, which all architectures have.
func (rawCalls) Wait(epfd int, events []unix.EpollEvent, ms int) (int, error) {
	return result(unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0))
}

func (rawCalls) SetTimer(fd int, d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	_, err := result(unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(fd), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0))
	return err
}

// rawWrite writes to an eventfd.
func rawWrite(fd int, p []byte) {
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
}

func result(n, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
