package scripted

// Connections that a test leaves waiting: conmgr reads nothing of them, as one that is stopped does.
// The gate holds what a session has read, in the session's own goroutine.

import (
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"syscall"

	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

type gate struct {
	mu     sync.Mutex
	moved  *sync.Cond
	all    bool // frozen: nothing passes
	asking bool // frozen: no statement passes
	closed bool
	absent bool
	open   map[net.Conn]struct{}
	began  []map[string]string // parameters of the startups
}

func (g *gate) init(absent bool) {
	g.absent = absent
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
	if _, unix := conn.(*net.UnixConn); unix || g.absent { // conmgr asks the kernel who is at the other end
		return conn
	}
	return &gated{tcpConn: conn.(tcpConn), gate: g}
}

// tcpConn is what the console needs of a connection.
type tcpConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

type gated struct {
	tcpConn
	gate    *gate
	started bool
	first   []byte // read before it has started; of the session's goroutine
}

func (c *gated) Read(p []byte) (int, error) {
	n, err := c.tcpConn.Read(p)
	if !c.started {
		c.first = append(c.first, p[:n]...)
		c.startup()
	}
	c.gate.pass(p[:n])
	return n, err
}

// startup notes what the client says of itself, once all of it is there. conmgr keeps the
// application's name only.
func (c *gated) startup() {
	for len(c.first) >= 8 && len(c.first) >= int(binary.BigEndian.Uint32(c.first)) {
		length := max(8, binary.BigEndian.Uint32(c.first))
		packet := c.first[:length]
		c.first = c.first[length:]
		if binary.BigEndian.Uint32(packet[4:])>>16 != pgwire.Protocol3>>16 {
			continue // a request for encryption
		}
		words := strings.Split(string(packet[8:]), "\x00")
		parameters := map[string]string{}
		for i := 0; i+1 < len(words) && words[i] != ""; i += 2 {
			parameters[words[i]] = words[i+1]
		}
		c.started = true
		c.gate.mu.Lock()
		c.gate.began = append(c.gate.began, parameters)
		c.gate.mu.Unlock()
		return
	}
}

func (c *gated) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.open, c.tcpConn)
	c.gate.mu.Unlock()
	return c.tcpConn.Close()
}
