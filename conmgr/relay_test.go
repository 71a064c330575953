package conmgr

// Tests of relay ports on loopback: real conmgr, fake instances that the test speaks for.

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/relay"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// fakeServer is the SQL port of a fake instance.
type fakeServer struct {
	t *testing.T
	l net.Listener
	c chan *net.TCPConn
}

func newBackend(t *testing.T, number int) *fakeServer {
	t.Helper()
	checkLeaks(t)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", number+1))
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeServer{t: t, l: l, c: make(chan *net.TCPConn, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.c <- c.(*net.TCPConn)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for len(b.c) > 0 {
			(<-b.c).Close()
		}
	})
	return b
}

func (b *fakeServer) conf(number int) string {
	return fmt.Sprintf("backend_port%d = %d\n", number, b.l.Addr().(*net.TCPAddr).Port)
}

// next is the next connection of a client.
func (b *fakeServer) next() *net.TCPConn {
	b.t.Helper()
	select {
	case c := <-b.c:
		b.t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		return c
	case <-time.After(patience):
		b.t.Fatal("nobody connects to the instance")
	}
	return nil
}

// relay connects to the n-th relay port.
func (r *rig) relay(n int) *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.d.door.Addr(1+n).String())
	if err != nil {
		r.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// through opens a relayed connection and has its startup packet carried over.
func (r *rig) through(n int, b *fakeServer) (client, server *net.TCPConn) {
	r.t.Helper()
	client = r.relay(n)
	hello := pgwire.StartupPacket(3<<16, "user", "x")
	client.Write(hello)
	server = b.next()
	expect(r.t, server, hello)
	return client, server
}

func expect(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

func (r *rig) count() int {
	return len(r.d.registry.Members())
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i+8 <= n; i += 8 {
		binary.NativeEndian.PutUint64(b[i:], rnd.Uint64())
	}
	return b
}

func TestRelayPortsInConfig(t *testing.T) {
	c := parseConf(t, "backend_host0=a\nrelay_port_read_write = 27547\nRELAY_PORT_PREFER_STANDBY = 27548\nrelay_port_any = 0")
	if got := fmt.Sprint(c.RelayPorts); got != "[{read-write 27547} {prefer-standby 27548}]" {
		t.Errorf("got %s", got)
	}
	for text, want := range map[string]string{
		"relay_port_any = 27546":                                       `f:1: parameter "relay_port_any" has the same port as parameter "port", which is 27546 by default`,
		"port = 7\n\nrelay_port_any = 7":                               `f:3: parameter "relay_port_any" has the same port as parameter "port", which is 7 on line 1`,
		"relay_port_any = 7\nport = 7":                                 `f:2: parameter "port" has the same port as parameter "relay_port_any", which is 7 on line 1`,
		"relay_port_primary = 7\nrelay_port_any = 7":                   `f:2: parameter "relay_port_any" has the same port as parameter "relay_port_primary", which is 7 on line 1`,
		"relay_port_primary = 65536":                                   `f:1: invalid value "65536" for parameter "relay_port_primary": allowed are 0 to 65535`,
		"relay_port_master = 7":                                        `f:1: unknown parameter "relay_port_master"`,
		"relay_port_any=7\nrelay_port_primary=8\nrelay_port_standby=8": `f:3: parameter "relay_port_standby" has the same port as parameter "relay_port_primary", which is 8 on line 2`,
	} {
		if c, diags := conf.Parse("f", []byte(text+"\nbackend_host0=a")); c != nil || len(diags) != 1 ||
			diags[0].String() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", text, diags, want)
		}
	}
}

// What goes in comes out, in both directions at once, whatever the sizes; each end of stream is
// passed on by itself.
func TestRelayBytes(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\n"+b.conf(0), primary)
	for i, n := range []int{0, 1, 100, relay.BufferSize - 1, relay.BufferSize, relay.BufferSize + 1, 300_000, 20 << 20} {
		client, server := r.through(0, b)
		up, down := noise(uint64(2*i), n), noise(uint64(2*i+1), n)
		var wg sync.WaitGroup
		carry := func(from, to *net.TCPConn, data []byte) {
			wg.Add(2)
			go func() {
				defer wg.Done()
				for rest := data; len(rest) > 0; {
					k := min(len(rest), 1+rand.IntN(200_000))
					if _, err := from.Write(rest[:k]); err != nil {
						t.Errorf("size %d: %v", n, err)
						return
					}
					rest = rest[k:]
				}
				from.CloseWrite()
			}()
			go func() {
				defer wg.Done()
				if got, err := io.ReadAll(to); err != nil || !bytes.Equal(got, data) {
					t.Errorf("size %d: %d bytes arrived, %v", n, len(got), err)
				}
			}()
		}
		carry(client, server, up)
		carry(server, client, down)
		wg.Wait()
		client.Close()
		server.Close()
	}
	eventually(t, "no connection is left", func() bool { return r.count() == 0 })
}

func TestRelayHalfClose(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\n"+b.conf(0), primary)
	client, server := r.through(0, b)
	client.Write([]byte("last words"))
	client.CloseWrite()
	if got, err := io.ReadAll(server); err != nil || string(got) != "last words" {
		t.Fatalf("%q, %v", got, err)
	}
	for range 3 { // the other direction goes on
		server.Write([]byte("answer"))
		expect(t, client, []byte("answer"))
	}
	if r.count() != 1 {
		t.Error("the connection is gone")
	}
	server.Close()
	if got, err := io.ReadAll(client); err != nil || len(got) != 0 {
		t.Fatalf("%q, %v", got, err)
	}
	eventually(t, "no connection is left", func() bool { return r.count() == 0 })
}

// A reset of one side resets the other one, after what was sent before.
func TestRelayReset(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\n"+b.conf(0), primary)
	for _, byClient := range []bool{true, false} {
		from, to := r.through(0, b)
		if !byClient {
			from, to = to, from
		}
		from.Write([]byte("x"))
		expect(t, to, []byte("x"))
		from.SetLinger(0)
		from.Close()
		if _, err := to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("by client %v: %v", byClient, err)
		}
	}
	// A client that resets while nobody takes its bytes.
	client, server := r.through(0, b)
	client.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	client.Write(make([]byte, 64<<20))
	client.SetLinger(0)
	client.Close()
	eventually(t, "no connection is left", func() bool { return r.count() == 0 })
	if _, err := io.Copy(io.Discard, server); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}

// A client that does not read stops its instance's writes after a bounded amount, and nobody
// else's. More of them than a loop has pipes. pipeEnds counts the pipes of this process, two ends
// each.
func pipeEnds() (n int) {
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

func TestRelayBackpressure(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\n"+b.conf(0), primary)
	const n = relay.MaxPipes + 4
	pipes := pipeEnds()
	data := noise(7, 64<<20) // more than all socket buffers on the way; the others send less
	amount := func(i int) []byte { return data[:len(data)>>min(3, 4*i)] }
	var clients []*net.TCPConn
	sent, first := make(chan error, n), make(chan struct{})
	for i := range n {
		client, server := r.through(0, b)
		client.SetReadBuffer(64 << 10)
		server.SetWriteBuffer(64 << 10)
		for _, c := range []*net.TCPConn{client, server} {
			c.SetDeadline(time.Now().Add(6 * patience)) // it is much, for the race detector
		}
		clients = append(clients, client)
		go func() {
			_, err := server.Write(amount(i))
			if i == 0 {
				close(first)
			}
			server.CloseWrite()
			sent <- err
		}()
	}
	client, server := r.through(0, b)
	for range 100 {
		client.Write([]byte("ping"))
		expect(t, server, []byte("ping"))
		server.Write([]byte("pong"))
		expect(t, client, []byte("pong"))
	}
	select {
	case <-first:
		t.Fatalf("%d bytes were taken although nobody reads", len(data))
	default:
	}
	eventually(t, "bulk is spliced", func() bool { return pipeEnds() >= pipes+2 })
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, amount(i)) {
				t.Errorf("%d bytes arrived, %v", len(got), err)
			}
		}()
	}
	wg.Wait()
	for range n {
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
}

// All clients of a lost instance are reset, busy or idle, and nobody else.
func TestRelayLoss(t *testing.T) {
	b0, b1 := newBackend(t, 0), newBackend(t, 1)
	r := static(t, "relay_port_primary = 1\nrelay_port_standby = 2\n"+b0.conf(0)+b1.conf(1), primary, standby)
	other, otherServer := r.through(1, b1)
	const n = 300
	var clients []*net.TCPConn
	for i := range n {
		c, server := r.through(0, b0)
		clients = append(clients, c)
		if i%10 == 0 { // with bytes that nobody takes
			server.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			server.Write(make([]byte, 8<<20))
		}
	}
	apps := r.connect()
	if got := apps.query("show applications"); strings.Count(got, ",primary,0,") != n ||
		strings.Count(got, ",standby,1,") != 1 || strings.Count(got, ",relay)") != n+1 {
		t.Errorf("got %s", got)
	}
	r.lose(0)
	for i, c := range clients {
		c.SetDeadline(time.Now().Add(patience)) // to open them all has taken some of the first one's
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	otherServer.Write([]byte("still here"))
	expect(t, other, []byte("still here"))
	eventually(t, "the connections are gone", func() bool { return r.count() == 2 })
	eventually(t, "the log tells", func() bool {
		return r.log.count("reset 300 relayed connections because of the loss of instance 0") == 1
	})
	r.d.board.Post(0, up(primary), nil) // back
	r.waitState(0, hb.Established)
	r.through(0, b0)
}

// An instance whose role changes keeps its connections; new ones go to the right one.
func TestRelayRoleChange(t *testing.T) {
	b0, b1 := newBackend(t, 0), newBackend(t, 1)
	r := static(t, "relay_port_primary = 1\n"+b0.conf(0)+b1.conf(1), primary, standby)
	client, server := r.through(0, b0)
	r.d.board.Post(0, up(standby), nil)
	r.d.board.Post(1, up(hb.Attributes{Timeline: 2}), nil)
	r.published("the roles have changed", func() bool { return r.d.board.Table.Load().Primary == 1 })
	r.through(0, b1)
	server.Write([]byte("x"))
	expect(t, client, []byte("x"))
}

func TestRelayNoMatch(t *testing.T) {
	r := static(t, "relay_port_standby = 1\n", primary)
	const want = "E(FATAL 08001 no target server address from Connection Manager)"
	for _, requests := range [][]uint32{nil, {pgwire.SSLRequestCode}, {pgwire.GSSEncRequestCode, pgwire.SSLRequestCode}} {
		c := r.relay(0)
		for _, q := range requests {
			c.Write(pgwire.StartupPacket(q))
			expect(t, c, []byte{'N'})
		}
		c.Write(pgwire.StartupPacket(3<<16, "user", "x"))
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Contains(got, []byte("C08001\x00Mno target server address from Connection Manager\x00")) ||
			!bytes.Contains(got, []byte("DNo instance has the attribute standby: instance 0")) {
			t.Errorf("%v: got %q, %v, want %s", requests, got, err, want)
		}
	}
	for what, p := range map[string][]byte{"ClientHello": {0x16, 3, 1, 0, 200},
		"garbage": []byte("GET / HTTP/1.1\r\n\r\n"), "too many requests": append(append(append(
			pgwire.StartupPacket(pgwire.SSLRequestCode), pgwire.StartupPacket(pgwire.SSLRequestCode)...), pgwire.StartupPacket(pgwire.SSLRequestCode)...), pgwire.StartupPacket(3<<16)...),
		"cancel": pgwire.StartupPacket(pgwire.CancelRequestCode, "1234567")} {
		c := r.relay(0)
		c.Write(p)
		if got, _ := io.ReadAll(c); len(bytes.Trim(got, "N")) > 0 {
			t.Errorf("%s: got %q", what, got)
		}
	}
	// Stock clients.
	port := r.d.door.Addr(1).(*net.TCPAddr).Port
	out, err := exec.Command("psql", "-X", "-h", "127.0.0.1", "-p", itoa(port), "-U", "x", "x").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "FATAL:  no target server address from Connection Manager") {
		t.Errorf("psql: %s, %v", out, err)
	}
	db, err := sql.Open("postgres", fmt.Sprintf("host=127.0.0.1 port=%d user=x sslmode=disable", port))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var pe *pq.Error
	if err := db.Ping(); !errors.As(err, &pe) || pe.Code != "08001" {
		t.Errorf("lib/pq: %v", err)
	}
	eventually(t, "no connection is left", func() bool { return r.count() == 0 })
}

// An instance that refuses is passed over; if all do, the client is told.
func TestRelayNextInstance(t *testing.T) {
	b0, b1 := newBackend(t, 0), newBackend(t, 1)
	r := static(t, "relay_port_any = 1\n"+b0.conf(0)+b1.conf(1), primary, standby)
	b0.l.Close()
	client, server := r.through(0, b1)
	client.Write([]byte("x"))
	expect(t, server, []byte("x"))
	eventually(t, "the log tells", func() bool {
		return r.log.count(`could not connect a relayed connection to instance 0 (host "127.0.0.1", address 127.0.0.1, port `) == 1
	})
	b1.l.Close()
	c := r.relay(0)
	c.Write(pgwire.StartupPacket(3<<16, "user", "x"))
	if got, err := io.ReadAll(c); err != nil || !bytes.Contains(got, []byte("DCould not connect: instance 0")) ||
		bytes.Count(got, []byte("connection refused")) != 2 {
		t.Errorf("got %q, %v", got, err)
	}
}

// A CancelRequest reaches each instance that carries connections of the port, and no other; the
// client waits until it is done.
func TestRelayCancel(t *testing.T) {
	b0, b1, b2 := newBackend(t, 0), newBackend(t, 1), newBackend(t, 2)
	r := static(t, "relay_port_any = 1\nrelay_port_primary = 2\n"+b0.conf(0)+b1.conf(1)+b2.conf(2), standby, standby,
		primary)
	r.through(0, b0)
	r.through(1, b2)
	short := pgwire.StartupPacket(pgwire.CancelRequestCode, "1234567") // with the 0 after it, eight bytes of key
	long := append(pgwire.StartupPacket(pgwire.CancelRequestCode), noise(3, 68)...)
	binary.BigEndian.PutUint32(long, uint32(len(long)))

	cancel := func(port int, request []byte, to ...*fakeServer) {
		t.Helper()
		c := r.relay(port)
		c.Write(request[:5])
		c.Write(request[5:])
		for i, b := range to {
			server := b.next()
			expect(t, server, request)
			c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			var ne net.Error
			if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("the client is not kept waiting for instance %d: %v", i, err)
			}
			server.Close()
		}
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}
	cancel(0, short, b0)
	cancel(0, long, b0)
	cancel(1, short, b2)
	// The instance leaves its clients, new ones go elsewhere.
	down := standby
	down.Flags |= hb.ShuttingDown
	r.d.board.Post(0, up(down), nil)
	r.published("instance 0 takes no more", func() bool { return r.d.board.Table.Load().Verdicts[0].Why != "" })
	last, lastServer := r.through(0, b1)
	cancel(0, short, b0, b1)
	cancel(0, long, b0, b1)

	// Behind a refused request for encryption.
	c := r.relay(0)
	c.Write(pgwire.StartupPacket(pgwire.SSLRequestCode))
	server := b1.next()
	expect(t, server, pgwire.StartupPacket(pgwire.SSLRequestCode))
	server.Write([]byte{'N'})
	expect(t, c, []byte{'N'})
	c.Write(short)
	s0, s1 := b0.next(), b1.next()
	expect(t, s0, short)
	expect(t, s1, short)
	s0.Close()
	s1.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	last.Close()
	lastServer.Close()
	eventually(t, "that instance has no more clients", func() bool { return fmt.Sprint(r.d.registry.RelayedTo("any")) == "[0]" })
	cancel(0, short, b0)
}

// Requests for encryption that the instance accepts, and all that follows, are carried as they are.
func TestRelayEncrypted(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\n"+b.conf(0), primary)
	c := r.relay(0)
	c.Write(pgwire.StartupPacket(pgwire.GSSEncRequestCode))
	server := b.next()
	expect(t, server, pgwire.StartupPacket(pgwire.GSSEncRequestCode))
	server.Write([]byte{'N'})
	expect(t, c, []byte{'N'})
	c.Write(pgwire.StartupPacket(pgwire.SSLRequestCode))
	expect(t, server, pgwire.StartupPacket(pgwire.SSLRequestCode))
	server.Write([]byte{'S'})
	expect(t, c, []byte{'S'})
	hello := []byte{0x16, 3, 1, 0, 1, 0}
	c.Write(hello)
	expect(t, server, hello)

	direct := r.relay(0) // sslnegotiation=direct
	direct.Write(hello)
	expect(t, b.next(), hello)
}

// Clients that say too little, and those over max_connections.
func TestRelayLimits(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\nmax_connections = 3\n"+b.conf(0), primary)
	silent, part := r.relay(0), r.relay(0)
	part.Write([]byte{0, 0, 0})
	eventually(t, "both are counted", func() bool { return r.count() == 2 })
	r.through(0, b)
	over := r.relay(0)
	over.Write(pgwire.StartupPacket(3<<16, "user", "x"))
	if got, _ := io.ReadAll(over); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	eventually(t, "the log tells", func() bool { return r.log.count("there are 3 connections already (max_connections)") == 1 })
	silent.Close()
	part.Close()
	eventually(t, "there is room again", func() bool { return r.count() == 1 })
	if len(b.c) > 0 {
		t.Error("a connection to the instance was made for a client that has said nothing")
	}
	r.through(0, b)
}

// A smart shutdown waits for relayed connections and takes no more; a fast one resets them, in
// whatever phase.
func TestRelayShutdown(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\n"+b.conf(0), primary)
	client, server := r.through(0, b)
	silent := r.relay(0)
	asking := r.relay(0) // the instance does not answer its request
	asking.Write(pgwire.StartupPacket(pgwire.SSLRequestCode))
	expect(t, b.next(), pgwire.StartupPacket(pgwire.SSLRequestCode))
	eventually(t, "they are counted", func() bool { return r.count() == 3 })
	r.d.registry.Refuse()
	late := r.relay(0)
	late.Write(pgwire.StartupPacket(3<<16, "user", "x"))
	if got, err := io.ReadAll(late); err != nil || !bytes.Contains(got, []byte("C57P03\x00")) {
		t.Errorf("got %q, %v", got, err)
	}
	if n := r.logged("rejected a connection from application due to going shutdown"); n != 1 {
		t.Errorf("the log tells it %d times", n)
	}
	server.Write([]byte("x"))
	expect(t, client, []byte("x"))
	select {
	case <-r.d.registry.Idle:
		t.Error("idle with a relayed connection")
	default:
	}
	r.stop()
	for i, c := range []*net.TCPConn{client, silent, asking} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("client %d: %v", i, err)
		}
	}
	<-r.d.registry.Idle
}

// Connections that begin, carry and end while their instance is lost again and again: nothing is
// left over. For the race detector.
func TestRelayChurn(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_primary = 1\n"+b.conf(0), primary)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var instance, clients sync.WaitGroup
	left := make(chan struct{}) // by all clients
	instance.Add(1)
	go func() { // echoes
		defer instance.Done()
		for {
			select {
			case c := <-b.c:
				instance.Add(1)
				go func() {
					defer instance.Done()
					defer c.Close()
					c.SetDeadline(time.Now().Add(patience))
					// between sockets Go would splice, and keep the pipes until it collects garbage
					io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
				}()
			case <-left:
				return
			}
		}
	}()
	carried := make([]int, 8)
	for i := range carried {
		clients.Add(1)
		go func() {
			defer clients.Done()
			hello := append(pgwire.StartupPacket(3<<16, "user", "x"), noise(uint64(i), 100_000)...)
			for ctx.Err() == nil {
				c, err := net.Dial("tcp", r.d.door.Addr(1).String())
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				c.Write(hello)
				got := make([]byte, len(hello))
				if _, err := io.ReadFull(c, got); err == nil {
					carried[i]++
					if !bytes.Equal(got, hello) {
						t.Error("other bytes came back")
					}
				}
				c.Close()
			}
		}()
	}
	losses := 0
	for ; ctx.Err() == nil; losses++ {
		r.lose(0)
		r.waitState(0, hb.Lost)
		r.d.board.Post(0, up(primary), nil)
		r.waitState(0, hb.Established)
		testTick(ctx, 5*time.Millisecond)
	}
	cancel()
	clients.Wait()
	close(left)
	instance.Wait()
	total := 0
	for _, n := range carried {
		total += n
	}
	t.Logf("%d connections carried their bytes, %d losses", total, losses)
	if total == 0 || losses == 0 {
		t.Error("nothing happened")
	}
	eventually(t, "no connection is left", func() bool {
		for len(b.c) > 0 {
			(<-b.c).Close()
		}
		return r.count() == 0
	})
}

func testTick(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
