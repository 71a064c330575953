package relay

// Relay ports: a connection to one of them is carried to an instance with the port's attribute.
// This file is the connection's life until its bytes flow, in a goroutine of its own that blocks on
// the client and on the instance, each for a bounded time; a loop takes over then.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// relayStartup bounds what precedes the session: as authentication_timeout in a PostgreSQL server.
const relayStartup = time.Minute

// maxRelayLoops: one carries some 100 000 queries a second.
const maxRelayLoops = 4

// Relays are all the relay ports of a conmgr.
type Relays struct {
	conf     *conf.Current
	events   *event.Hub
	group    *group.Group
	board    *bind.Board
	registry *bind.Registry
	trace    *bind.Trace
	door     *listen.Door

	loops    []*loop
	carriers group.Group // of their goroutines
	turn     atomic.Uint32
	starting sync.WaitGroup // connections that no loop has yet

	leaving chan struct{} // closed when this process is about to become another one
	mu      sync.Mutex
	waiting []handover.Waiting // are left to that one
}

// New makes them; start lets them work.
func New(b *bind.Board, d *listen.Door, tr *bind.Trace) *Relays {
	return &Relays{conf: d.Conf, events: d.Events, group: d.Group, board: b, registry: d.Registry,
		trace: tr, door: d, leaving: make(chan struct{}), carriers: group.Group{OnPanic: d.Group.OnPanic}}
}

// Start makes the loops. Each keeps its thread, which waits in system calls that the Go
// scheduler does not hear of, so that it needs a processor for itself: otherwise others, heartbeats
// among them, would wait until the scheduler notices.
func (s *Relays) Start() error {
	if len(s.conf.Load().RelayPorts) == 0 {
		return nil
	}
	for range min(runtime.NumCPU(), maxRelayLoops) {
		l, err := newLoop()
		if err != nil {
			s.Stop()
			for _, l := range s.loops {
				l.end()
			}
			return fmt.Errorf("could not prepare the relay ports: %w", err)
		}
		s.loops = append(s.loops, l)
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + len(s.loops))
	for _, l := range s.loops {
		s.carriers.Go("relay", l.run)
	}
	return nil
}

// Stop resets all that is relayed.
func (s *Relays) Stop() {
	for _, l := range s.loops {
		l.quit()
	}
}

// Wait waits until the loops have ended, at most for the given time.
func (s *Relays) Wait(most time.Duration) bool { return s.carriers.Wait(most) }

// relayed is a connection to a relay port.
type relayed struct {
	bind.Seat
	relays *Relays
	port   conf.RelayPort
	conn   *net.TCPConn // until a loop has it
	first  []byte       // was read from the client, and nobody has seen it yet
	until  time.Time    // it waits for an instance; zero: it has not begun to

	mu      sync.Mutex
	ended   bool   // end was called in this phase
	stopper func() // ends what the connection is doing; never blocks
}

// errRelayEnded: the registry has ended the connection, or its instance was lost.
var errRelayEnded = errors.New("the instance was lost meanwhile")

// errClientGone: the client has left while the instance was waited for.
var errClientGone = errors.New("the client has left")

// errHandedOver: the next process has the client wait.
var errHandedOver = errors.New("the Connection Manager is restarted")

// End stops whatever the connection is doing. While it is being made, it goes on to the next
// instance.
func (c *relayed) End([]byte) {
	c.mu.Lock()
	c.ended = true
	stop := c.stopper
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (c *relayed) Finish(time.Time) {} // end was all

func (c *relayed) Note([]byte) {} // its client knows nothing of conmgr
func (c *relayed) Push()       {}

// phase says how to stop what comes now. It is false if end was called since the last call of
// begin.
func (c *relayed) phase(stop func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopper = stop
	return !c.ended
}

// begin is phase for an attempt that an earlier end does not concern.
func (c *relayed) begin(stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended, c.stopper = false, stop
}

// wake ends reads and writes of the client's socket.
func (c *relayed) wake() { c.conn.SetDeadline(netio.LongPast) }

// Admit takes a connection to a relay port.
func (s *Relays) Admit(conn *net.TCPConn, port conf.RelayPort) {
	c := &relayed{relays: s, port: port, conn: conn, Seat: listen.SeatOf(conn)}
	c.Relay = true
	if !s.door.MayRelay(conn, &c.Seat) {
		return
	}
	s.begin(c)
}

// begin has a connection served, if there is room for it.
func (s *Relays) begin(c *relayed) {
	refuse := func(code, text, hint string) {
		c.declineWithin(listen.RefusedTime, code, &backend.Error{Text: text, Hint: hint})
	}
	if s.door.HasRoom(c, c.conn, refuse) {
		s.starting.Add(1)
		s.group.Go("relayed connection", func() {
			defer s.starting.Done()
			c.run()
		})
	}
}

// run takes the connection to an instance. The bytes flow without this goroutine.
func (c *relayed) run() {
	c.relays.trace.Accepted(&c.Seat)
	if c.serve() {
		return
	}
	if !c.phase(nil) {
		c.conn.SetLinger(0)
	}
	c.conn.Close()
	c.relays.registry.Remove(c)
	c.relays.trace.Ended(&c.Seat)
}

// serve is true when a loop has taken over.
func (c *relayed) serve() bool {
	c.conn.SetDeadline(time.Now().Add(relayStartup))
	if !c.phase(c.wake) {
		return false
	}
	if c.until.IsZero() { // else the process before has read it
		if err := c.readFirst(); err != nil {
			return false
		}
	}
	if isCancel(c.first) {
		c.cancel(c.first)
		return false
	}
	server, code, err := c.connect()
	switch err {
	case nil:
	case errClientGone:
		return false
	case errHandedOver:
		c.waitElsewhere()
		return false
	default:
		c.decline(code, err)
		return false
	}
	until := time.Now().Add(relayStartup)
	c.conn.SetDeadline(until)
	server.SetDeadline(until)
	if !c.phase(func() { c.wake(); server.SetDeadline(netio.LongPast) }) || c.negotiate(server) != nil {
		server.SetLinger(0) // nothing of what was given up arrives later
		server.Close()
		return false
	}
	return c.hand(server)
}

// readFirst reads what tells the kind of a connection: eight bytes, and all of a CancelRequest.
func (c *relayed) readFirst() error {
	buf := make([]byte, 1024)
	n := 0
	for {
		k, err := c.conn.Read(buf[n:])
		n += k
		c.first = buf[:n]
		if err != nil {
			return err
		}
		if n >= 8 && (!isCancel(buf) || n >= int(binary.BigEndian.Uint32(buf))) || buf[0] == 0x16 {
			return nil
		}
	}
}

// isCancel tells whether a packet of at least eight bytes is a CancelRequest. Its key has 4 bytes,
// and up to 256 since protocol 3.2.
func isCancel(p []byte) bool {
	if len(p) < 8 || binary.BigEndian.Uint32(p[4:]) != pgwire.CancelRequestCode {
		return false
	}
	n := binary.BigEndian.Uint32(p)
	return n >= 16 && n <= 12+256
}

// negotiate passes on the startup as long as it may still turn out that the client wants to cancel:
// after an SSLRequest or GSSENCRequest that the instance answers with N. (As soon as the connection
// is encrypted, nobody but the instance can tell.)
func (c *relayed) negotiate(server *net.TCPConn) error {
	for range 3 { // SSLRequest, GSSENCRequest, and the packet itself
		if len(c.first) != 8 || !wantsEncryptionIn(c.first) {
			break
		}
		if _, err := server.Write(c.first); err != nil {
			return err
		}
		c.first = nil
		answer, err := c.await(server)
		if err != nil {
			return err
		}
		if _, err := c.conn.Write(answer[:]); err != nil {
			return err
		}
		if answer[0] != 'N' {
			break
		}
		if err := c.readFirst(); err != nil {
			return err
		}
		if isCancel(c.first) {
			server.Close()
			c.cancel(c.first)
			return errRelayEnded
		}
	}
	if len(c.first) == 0 {
		return nil
	}
	_, err := server.Write(c.first)
	return err
}

// await reads the instance's answer to a request for encryption, as long as the client waits for
// it.
func (c *relayed) await(server *net.TCPConn) (answer [1]byte, err error) {
	stop := c.watch(false, func() { server.SetDeadline(netio.LongPast) })
	_, err = server.Read(answer[:])
	stop()
	c.conn.SetDeadline(time.Now().Add(relayStartup))
	// meanwhile, and its deadline is overwritten
	if !c.phase(func() { c.wake(); server.SetDeadline(netio.LongPast) }) && err == nil {
		err = errRelayEnded
	}
	return answer, err
}

func wantsEncryptionIn(p []byte) bool {
	code := binary.BigEndian.Uint32(p[4:])
	return binary.BigEndian.Uint32(p) == 8 && (code == pgwire.SSLRequestCode || code == pgwire.GSSEncRequestCode)
}

// hand gives both sockets to a loop.
func (c *relayed) hand(server *net.TCPConn) bool {
	a, err := detach(c.conn)
	if err != nil {
		server.Close()
		return false
	}
	b, err := detach(server)
	if err != nil {
		unix.Close(a)
		return false
	}
	unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) // a client host may die; instances have heartbeats
	if !c.carry(newFlow(a, b, c.carried)) {
		unix.Close(a)
		unix.Close(b)
		return false
	}
	return true
}

// carried: a loop has closed both sockets.
func (c *relayed) carried() {
	c.relays.registry.Remove(c)
	c.relays.trace.Ended(&c.Seat)
}

// carry gives a flow to a loop; false: there is none any more.
func (c *relayed) carry(f *flow) bool {
	f.of = c
	loops := c.relays.loops
	l := loops[int(c.relays.turn.Add(1))%len(loops)]
	if !l.put(f) {
		return false
	}
	if !c.phase(func() { l.reset(f) }) {
		l.reset(f)
	}
	return true
}

// detach takes a socket out of Go's hands.
func detach(conn *net.TCPConn) (fd int, err error) {
	fd, err = netio.Hand(conn)
	conn.Close()
	return fd, err
}

// decline answers the client's startup with FATAL, as a server does: after what it has sent
// already, which may be a request for encryption.
func (c *relayed) decline(code string, reason error) {
	c.relays.events.Emit(event.RelayDeclined{Client: c.Client(), Why: reason})
	c.declineWithin(relayStartup, code, reason)
}

func (c *relayed) declineWithin(most time.Duration, code string, reason error) {
	c.conn.SetDeadline(time.Now().Add(most))
	c.begin(c.wake)
	if c.relays.registry.IsRefusing() { // end will not be called again
		c.conn.SetDeadline(time.Now().Add(bind.DrainTime))
	}
	r := io.MultiReader(bytes.NewReader(c.first), c.conn)
	for range 3 { // SSLRequest, GSSENCRequest, StartupMessage
		st, err := backend.ReadStartup(r)
		switch {
		case err == nil && st.Kind == backend.WantsEncryption:
			if _, err := c.conn.Write([]byte{'N'}); err != nil {
				return
			}
			continue
		case err != nil || st.Kind == backend.WantsNothing:
			return
		}
		text, detail, hint := reason.Error(), "", ""
		var se *backend.Error
		if errors.As(reason, &se) {
			detail, hint = se.Detail, se.Hint
		}
		c.conn.Write(backend.Fatal(code, text, detail, hint))
		c.conn.CloseWrite()
		c.conn.SetReadDeadline(time.Now().Add(bind.DrainTime))
		io.Copy(io.Discard, c.conn) // closing with unread bytes would destroy the message on its way
		return
	}
}
