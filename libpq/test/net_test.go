package libpqtest

import (
	"net"
	"testing"
)

// newHole is a port that accepts and answers nothing, as a server behind a link that was cut after the handshake.
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
