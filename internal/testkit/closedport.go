package testkit

// A port at which nobody listens, for tests of what cannot be reached. Blocks on nothing.

import "syscall"

// ClosedPort returns a port of 127.0.0.1 that refuses connections, and is given to nobody else
// until the end of the test.
func ClosedPort(t TB) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("%v", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return name.(*syscall.SockaddrInet4).Port
}
