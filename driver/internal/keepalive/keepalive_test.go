package keepalive

import (
	"net"
	"testing"
	"time"
)

func TestGuard(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	now := func() (s settings) {
		raw, err := nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { s = *read(int(fd)) })
		return s
	}
	before := now()
	guard := Guard(nc)
	guard(0)
	if got := now(); got != before {
		t.Errorf("off, without on: got %+v, was %+v", got, before)
	}
	guard(10 * time.Second)
	guard(20 * time.Second) // is on already
	if got, want := now(), (settings{1, 2, 2, 3, 10000}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	guard(0)
	if got := now(); got != before {
		t.Errorf("got %+v, was %+v", got, before)
	}
	guard(100 * time.Millisecond)
	if got, want := now(), (settings{1, 1, 1, 3, 1000}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	nc.Close()
	guard(0)
	Guard(&net.UnixConn{})(time.Second)
}
