package scripted

// Connections that a test leaves waiting: conmgr reads nothing of them, as one that is stopped does.
// The gate holds what a session has read, in the session's own goroutine.

import (
	"net"
	"sync"
	"syscall"
)

type gate struct {
	mu     sync.Mutex
	moved  *sync.Cond
	all    bool // frozen: nothing passes
	asking bool // frozen: no statement passes
	closed bool
	open   map[net.Conn]struct{}
}

func (g *gate) init() {
	g.moved = sync.NewCond(&g.mu)
	g.open = map[net.Conn]struct{}{}
}

func (g *gate) set(all, asking bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all, g.asking = all, asking
	g.moved.Broadcast()
}

// pass holds what was read while that is frozen.
func (g *gate) pass(read []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.closed && len(read) > 0 && (g.all || g.asking && read[0] == 'Q') { // Query; a startup begins with its length
		g.moved.Wait()
	}
}

// close closes all connections.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for c := range g.open {
		c.Close()
	}
	g.moved.Broadcast()
}

// let wraps a connection.
func (g *gate) let(conn net.Conn) net.Conn {
	g.mu.Lock()
	g.open[conn] = struct{}{}
	g.mu.Unlock()
	if u, is := conn.(*net.UnixConn); is { // conmgr asks the kernel who is at the other end
		return u
	}
	return &gated{conn.(tcpConn), g}
}

// tcpConn is what the console needs of a connection.
type tcpConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

type gated struct {
	tcpConn
	gate *gate
}

func (c *gated) Read(p []byte) (int, error) {
	n, err := c.tcpConn.Read(p)
	c.gate.pass(p[:n])
	return n, err
}

func (c *gated) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.open, c.tcpConn)
	c.gate.mu.Unlock()
	return c.tcpConn.Close()
}
