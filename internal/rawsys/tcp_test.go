package rawsys

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestQuickTCP: what this kernel knows is set, and inherited by what a listening socket accepts.
func TestQuickTCP(t *testing.T) {
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	l, c := socket(), socket()
	QuickTCP(l)
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 1); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(c, at); err != nil {
		t.Fatal(err)
	}
	a, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(a)
	for _, o := range []struct{ opt, least, most int }{{unix.TCP_THIN_LINEAR_TIMEOUTS, 1, 1},
		{tcpRTOMinUS, 50_000, 60_000}, {tcpRTOMaxMS, 1000, 1000}} { // rounded up to the kernel's ticks
		v, err := unix.GetsockoptInt(a, unix.IPPROTO_TCP, o.opt)
		if err == unix.ENOPROTOOPT {
			t.Logf("this kernel has no option %d", o.opt)
			continue
		}
		if err != nil || v < o.least || v > o.most {
			t.Errorf("option %d is %d, %v", o.opt, v, err)
		}
	}
}
