package libpqtest

import (
	"io"
	"net"
	"testing"
)

// newHole is a port that accepts and answers nothing, as a server behind a link that was cut after
// the handshake.
func newHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// relay passes connections on to another address.
func relay(t *testing.T, from, to string) {
	t.Helper()
	l, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			for a, b := range map[net.Conn]net.Conn{near: far, far: near} {
				go func() {
					defer a.Close()
					defer b.Close()
					io.Copy(a, b)
				}()
			}
		}
	}()
}
