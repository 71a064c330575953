package testkit

// A connection for tests of what has its sockets already. Blocks on nothing.

import "net"

// Connection is one on loopback. Whoever asks closes both ends.
func Connection(t TB) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatalf("%v", err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}
