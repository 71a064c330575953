package rawsys

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func TestSendRecv(t *testing.T) {
	a, b := pair(t)
	buf := make([]byte, 8)
	if n, err := Recv(b, buf); n != -1 || err != unix.EAGAIN {
		t.Errorf("nothing was sent: %d, %v", n, err)
	}
	if n, err := Send(a, []byte("abc")); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := Recv(b, buf); n != 3 || err != nil || string(buf[:3]) != "abc" {
		t.Errorf("%d, %v, %q", n, err, buf)
	}
	if err := unix.Shutdown(a, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if n, err := Recv(b, buf); n != 0 || err != nil {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if n, err := Send(a, []byte("x")); n != -1 || err != unix.EPIPE {
		t.Errorf("after the end: %d, %v", n, err)
	}
}

func TestReadWrite(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	one := binary.NativeEndian.AppendUint64(nil, 1)
	if n, err := Write(fd, one); n != 8 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	buf := make([]byte, 8)
	if n, err := Read(fd, buf); n != 8 || err != nil || !bytes.Equal(buf, one) {
		t.Errorf("%d, %v, %v", n, err, buf)
	}
	if n, err := Read(fd, buf); n != -1 || err != unix.EAGAIN {
		t.Errorf("%d, %v", n, err)
	}
}

func TestSetTimer(t *testing.T) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := SetTimer(fd, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(fd, make([]byte, 8)); n != 8 || err != nil { // blocks until it has fired
		t.Errorf("%d, %v", n, err)
	}
	if err := SetTimer(fd, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := SetTimer(fd, 0); err != nil {
		t.Fatal(err)
	}
	var spec unix.ItimerSpec
	if err := unix.TimerfdGettime(fd, &spec); err != nil || spec.Value.Nano() != 0 {
		t.Errorf("the timer is set: %v, %v", spec, err)
	}
	if err := SetTimer(-1, 0); err != unix.EBADF {
		t.Errorf("got %v", err)
	}
}

func TestEpollWait(t *testing.T) {
	a, b := pair(t)
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ep) })
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, b, &unix.EpollEvent{Events: unix.EPOLLIN,
		Fd: int32(b)}); err != nil {
		t.Fatal(err)
	}
	events := make([]unix.EpollEvent, 4)
	if n, err := EpollWait(ep, events, 0); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := Send(a, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := EpollWait(ep, events, 1000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil || events[0].Fd != int32(b) {
			t.Errorf("%d, %v, %v", n, err, events[0])
		}
		break
	}
}

// The garbage collector stops all threads that run Go code: one that waits here must hear of it,
// and the program must not stand still until the timeout.
func TestCollectorIsNotHeldUp(t *testing.T) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ep) })
	const timeout = 20 * time.Second
	started := make(chan struct{})
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(started)
		_, err = EpollWait(ep, make([]unix.EpollEvent, 1), int(timeout/time.Millisecond))
		close(done)
	}()
	<-started
	begun := time.Now()
	for waiting := true; waiting; {
		runtime.GC()
		select {
		case <-done:
			waiting = false
		default:
		}
	}
	if took := time.Since(begun); took > timeout/2 {
		t.Errorf("the collector was held up for %v", took)
	}
	if err != unix.EINTR {
		t.Errorf("the wait ended by %v", err)
	}
}
