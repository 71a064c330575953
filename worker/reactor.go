package worker

// The reactor: one goroutine and one epoll instance for all heartbeat connections. It blocks in
// epoll_wait only. Each turn first takes in everything that the kernel holds, and only then judges
// anybody's silence.

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/rawsys"
)

const (
	listenRetry  = 1 * time.Second
	resolveLimit = 5 * time.Second
	repeatLog    = 1 * time.Minute // the same complaint
	acceptPause  = 100 * time.Millisecond
	maxEvents    = 512
	scratchSize  = 16 << 10
	never        = heartbeat.Mono(1<<63 - 1)
)

// conn is one connection to the heartbeat port.
type conn struct {
	fd     int
	index  int32 // in Reactor.conns
	addr   netip.Addr
	port   uint16
	peer   *peer // nil: a stranger
	due    heartbeat.Mono
	place  place  // among strangers or refused
	linger bool   // refused: only waits for the peer to read why
	in     []byte // begin of a frame that is not complete yet
	out    []byte // what the socket did not take yet
}

// Reactor runs the heartbeat port.
type Reactor struct {
	cfg   Config
	host  Host
	clock Clock
	table *Table

	caughtUp bool // in this turn: nothing is left to read

	waiter     *waiter
	conns      []*conn // by index; epoll events carry index and serial
	serials    []int32
	unused     []int32
	listeners  map[int]netip.Addr
	resolved   chan resolution
	resolving  bool
	listenAt   heartbeat.Mono // next attempt for what is missing; never: nothing to do
	acceptAt   heartbeat.Mono // accepting pauses until then; 0: it does not
	acceptTold heartbeat.Mono // when the log was told of it
	complaint  string
	complainT  heartbeat.Mono
	strangers  *strangers
	refused    *strangers
	attrs      heartbeat.Attributes
	succeeds   heartbeat.Succession
	events     [maxEvents]unix.EpollEvent
	scratch    [scratchSize]byte
	frame      [heartbeat.MaxFrame]byte
}

type resolution struct {
	addrs []netip.Addr
	errs  []error
}

// epoll data of the descriptors that are not conns.
const (
	wakeIndex   = -1
	listenIndex = -2
	timerIndex  = -3
)

// NewReactor takes over the store; Run does the rest.
func NewReactor(cfg Config, host Host, store Store, clock Clock) (*Reactor, error) {
	now := clock()
	r := &Reactor{cfg: cfg, host: host, clock: clock, table: NewTable(host, store, now), listenAt: now.Mono,
		listeners: make(map[int]netip.Addr),
		resolved:  make(chan resolution, 1), strangers: newStrangers(store.Len()), refused: newStrangers(0),
		attrs:    host.Attributes(),
		succeeds: host.Succeeds()}
	var err error
	if r.waiter, err = newWaiter(); err != nil {
		return nil, err
	}
	if err = r.watch(host.WakeFD(), wakeIndex, 0); err != nil {
		r.waiter.close()
		return nil, err
	}
	return r, nil
}

func (r *Reactor) watch(fd int, index, serial int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: index, Pad: serial}
	if index == listenIndex {
		ev.Pad = int32(fd)
	}
	return r.waiter.add(fd, ev)
}

// Run serves until the host wants it to stop. spawn starts a guarded goroutine.
func (r *Reactor) Run(spawn func(func())) error {
	defer r.close()
	for {
		if stop := r.host.Stop(); stop != Run {
			r.table.log.report(never)
			r.goodbye(stop)
			return nil
		}
		planned := r.nextWake()
		n, err := r.waiter.wait(r.clock, planned, r.events[:])
		if err != nil {
			return fmt.Errorf("could not wait for events: %w", err)
		}
		now := r.clock()
		if late := now.Mono.Sub(planned); late > heartbeat.MinInterval/2 {
			r.table.Late(late)
		}
		r.caughtUp = false
		r.handle(now, max(n, 0))
		if r.host.Stop() != Run {
			continue
		}
		r.listen(now, spawn)
		r.fire(now)
		fault(r)
	}
}

// nextWake is when the reactor has something to do without being told.
func (r *Reactor) nextWake() heartbeat.Mono {
	t := min(r.listenAt, never)
	if p := r.table.timers.next(); p != nil {
		t = min(t, p.due)
	}
	for _, s := range [...]*strangers{r.strangers, r.refused} {
		if c := s.oldest(); c != nil {
			t = min(t, c.due)
		}
	}
	if r.acceptAt != 0 {
		t = min(t, r.acceptAt)
	}
	t = min(t, r.table.log.reportAt)
	return t
}

// catchUp takes in whatever else the kernel holds, once in a turn: nobody is judged before. It
// tells whether to go on.
func (r *Reactor) catchUp(now Now) bool {
	for n := maxEvents; n == maxEvents && r.host.Stop() == Run; {
		n, _ = rawsys.EpollWait(r.waiter.epfd, r.events[:], 0)
		r.handle(now, max(n, 0))
	}
	r.caughtUp = true
	return r.host.Stop() == Run
}

// handle takes in n events.
func (r *Reactor) handle(now Now, n int) {
	for i := range r.events[:n] {
		ev := &r.events[i]
		switch ev.Fd {
		case wakeIndex:
			var buf [8]byte
			_, _ = rawsys.Read(r.host.WakeFD(), buf[:])
			r.host.Alive()
			r.announce(now)
		case timerIndex:
			r.waiter.fired()
		case listenIndex:
			r.accept(now, int(ev.Pad))
		default:
			c := r.conns[ev.Fd]
			if c == nil || r.serials[ev.Fd] != ev.Pad {
				continue // closed earlier in this turn
			}
			if ev.Events&unix.EPOLLOUT != 0 {
				r.flush(now, c)
			}
			if c.fd >= 0 && ev.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
				r.read(now, c)
			}
		}
	}
}

// announce tells everybody at once when the attributes or the succession have changed.
func (r *Reactor) announce(now Now) {
	a, s := r.host.Attributes(), r.host.Succeeds()
	if a == r.attrs && s == r.succeeds {
		return
	}
	r.attrs, r.succeeds = a, s
	for _, c := range r.conns {
		if c != nil && c.peer != nil {
			r.beat(now, c)
		}
	}
}

func (r *Reactor) insert(c *conn) {
	if n := len(r.unused); n > 0 {
		c.index = r.unused[n-1]
		r.unused = r.unused[:n-1]
		r.conns[c.index] = c
		return
	}
	c.index = int32(len(r.conns))
	r.conns = append(r.conns, c)
	r.serials = append(r.serials, 0)
}

// drop closes a connection and forgets it. A peer is told of separately.
func (r *Reactor) drop(c *conn) {
	if c.fd < 0 {
		return
	}
	if c.peer == nil {
		r.strangers.remove(c)
		r.refused.remove(c)
	}
	unix.Close(c.fd) // leaves epoll by this, too
	c.fd = -1
	r.conns[c.index] = nil
	r.serials[c.index]++
	r.unused = append(r.unused, c.index)
}

// read takes in what the socket has.
func (r *Reactor) read(now Now, c *conn) {
	for i := 0; i < drainPerVisit && c.fd >= 0; i++ {
		n, err := rawsys.Recv(c.fd, r.scratch[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil:
			how := Broken
			if err == unix.ECONNRESET || err == unix.EPIPE {
				how = Reset
			}
			r.ended(now, c, how, err.Error())
			return
		case n == 0:
			r.ended(now, c, Finished, "the connection was closed")
			return
		}
		r.input(now, c, r.scratch[:n])
		if n < scratchSize {
			return
		}
	}
}

// input splits bytes into frames.
func (r *Reactor) input(now Now, c *conn, data []byte) {
	if c.linger {
		return
	}
	if len(c.in) > 0 {
		data = append(c.in, data...)
		c.in = nil
	}
	for c.fd >= 0 && !c.linger {
		if c.peer == nil {
			if err := heartbeat.CheckHelloPrefix(data); err != nil {
				r.refuse(now, c, err)
				return
			}
		}
		f, n, err := heartbeat.Next(data)
		if err == nil && n == 0 {
			if len(data) > 0 {
				c.in = append(make([]byte, 0, len(data)), data...) // less than a frame: bounded by MaxFrame
			}
			return
		}
		if err == nil {
			err = r.message(now, c, f)
		}
		if err != nil {
			r.refuse(now, c, err)
			return
		}
		data = data[n:]
	}
}

// message acts on one frame. An error is the peer's fault.
func (r *Reactor) message(now Now, c *conn, f heartbeat.Frame) error {
	switch {
	case c.peer == nil && f.Type == heartbeat.TypeHello:
		return r.hello(now, c, f)
	case c.peer != nil && f.Type == heartbeat.TypeBeat:
		if _, err := heartbeat.ParseConmgrBeat(f.Payload); err != nil {
			return err
		}
		r.table.Received(now, c.peer)
		return nil
	case c.peer != nil && f.Type == heartbeat.TypeGoodbye:
		g, err := heartbeat.ParseGoodbye(f.Payload)
		if err != nil {
			return err
		}
		p := c.peer
		r.drop(c)
		r.table.Goodbye(now, p, g)
		return nil
	}
	return &heartbeat.ProtocolError{Code: heartbeat.RefusedMalformed, Text: fmt.Sprintf("unexpected %s", f.Type)}
}

func (r *Reactor) hello(now Now, c *conn, f heartbeat.Frame) error {
	h, err := heartbeat.ParseHello(f.Payload)
	if err != nil {
		return err
	}
	faultRequest(h)
	a, err := r.table.Hello(now, c, c.addr, c.port, h)
	if err != nil {
		return err
	}
	if a.replaced != nil {
		r.drop(a.replaced)
	}
	if d := a.displaced; d != nil {
		d.peer = nil
		r.refuse(now, d, &heartbeat.ProtocolError{Code: heartbeat.RefusedFull, Text: r.table.shortage()})
	}
	r.strangers.remove(c)
	c.peer = a.peer
	_ = unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(min(h.Timeout.Milliseconds(), 1<<31-1)))
	r.send(now, c, heartbeat.Welcome{Version: h.Version(), Flags: a.flags, SystemIdentifier: r.cfg.SystemIdentifier,
		PostmasterStart: r.cfg.PostmasterStart, Attributes: r.attrs, PostmasterPort: r.cfg.PostmasterPort,
		Succeeds: r.succeeds}.Append(r.frame[:0]))
	return nil
}

// refuse answers with a reason, and gives the peer a moment to read it. A conmgr that was connected
// keeps its slot and may resume.
func (r *Reactor) refuse(now Now, c *conn, err error) {
	var pe *heartbeat.ProtocolError
	if !errors.As(err, &pe) {
		pe = &heartbeat.ProtocolError{Code: heartbeat.RefusedMalformed, Text: err.Error()}
	}
	if pe.Code != heartbeat.RefusedFull { // which the table tells
		r.table.log.routine(now, c.addr, Line{Level: Log,
			Message: fmt.Sprintf("heartbeat connection from %s is refused: %s", hostPort(c.addr, c.port), pe.Text)})
	}
	c.in = nil
	r.strangers.remove(c)
	if c.peer != nil {
		p := c.peer
		c.peer = nil
		r.table.Closed(now, p, Broken, "it violated the protocol")
	}
	r.send(now, c, heartbeat.Refused{Code: pe.Code, Text: pe.Text}.Append(r.frame[:0]))
	r.finish(now, c)
}

// finish ends our side of a connection so that the peer can still read what was sent: a close with
// unread input would reset it.
func (r *Reactor) finish(now Now, c *conn) {
	if c.fd < 0 {
		return
	}
	_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	c.linger, c.peer = true, nil
	r.refused.add(c, now.Mono.Add(lingerTime))
	if x := r.refused.excess(); x != nil {
		r.drop(x)
	}
}

// ended records that a connection is gone.
func (r *Reactor) ended(now Now, c *conn, how Close, cause string) {
	p := c.peer
	r.drop(c)
	if p != nil {
		r.table.Closed(now, p, how, cause)
	}
}

func (r *Reactor) beat(now Now, c *conn) {
	if len(c.out) > 0 {
		return // the network does not even take what went before
	}
	r.send(now, c, heartbeat.WatchdogBeat{Sequence: r.table.NextBeat(c.peer), Attributes: r.attrs,
		Succeeds: r.succeeds}.
		Append(r.frame[:0]))
}

// send never blocks. What the socket does not take now goes out later.
func (r *Reactor) send(now Now, c *conn, b []byte) {
	if len(c.out) > 0 { // not into the middle of a frame
		c.out = append(c.out, b...)
		return
	}
	n, err := rawsys.Send(c.fd, b)
	if err == unix.EAGAIN || err == unix.EINTR {
		n, err = 0, nil
	}
	if err != nil {
		return // reading will tell the same, after what is still to be read
	}
	if n < len(b) {
		c.out = append(c.out, b[n:]...)
		r.wantWrite(c, true)
	}
}

func (r *Reactor) flush(now Now, c *conn) {
	out := c.out
	c.out = nil
	r.wantWrite(c, false)
	if len(out) > 0 {
		r.send(now, c, out)
	}
}

func (r *Reactor) wantWrite(c *conn, on bool) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.index, Pad: r.serials[c.index]}
	if on {
		ev.Events |= unix.EPOLLOUT
	}
	_ = unix.EpollCtl(r.waiter.epfd, unix.EPOLL_CTL_MOD, c.fd, &ev)
}

// fire does what is due: beats, verdicts, strangers out of time.
func (r *Reactor) fire(now Now) {
	for p := r.table.timers.next(); p != nil && p.due <= now.Mono; p = r.table.timers.next() {
		if p.pulse.Dead(now.Mono) && !r.caughtUp {
			if !r.catchUp(now) {
				return
			}
			continue // it may not be dead, or be gone
		}
		r.visit(now, p)
	}
	if c := r.strangers.oldest(); c != nil && c.due <= now.Mono && !r.caughtUp && !r.catchUp(now) {
		return
	}
	for c := r.strangers.oldest(); c != nil && c.due <= now.Mono; c = r.strangers.oldest() {
		r.refuse(now, c, &heartbeat.ProtocolError{Code: heartbeat.RefusedTooSlow,
			Text: fmt.Sprintf("no HELLO within %v", helloTime)})
	}
	for c := r.refused.oldest(); c != nil && c.due <= now.Mono; c = r.refused.oldest() {
		r.drop(c)
	}
	r.table.log.report(now.Mono)
	if r.acceptAt != 0 && r.acceptAt <= now.Mono {
		r.acceptAt = 0
		for fd := range r.listeners {
			_ = r.watch(fd, listenIndex, 0)
		}
	}
}

// visit does what p is due for.
func (r *Reactor) visit(now Now, p *peer) {
	c := p.conn
	if c != nil && p.pulse.Dead(now.Mono) {
		r.read(now, c) // the kernel may hold more than one visit took
		if p.conn != c || c.fd < 0 {
			return // it has just ended; its timer was set by that
		}
	}
	if p.pulse.Dead(now.Mono) {
		silence := now.Mono.Sub(p.pulse.LastReceived())
		r.table.Dead(now, p)
		if c != nil {
			c.peer = nil
			r.send(now, c, heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrSilent,
				Text: fmt.Sprintf("nothing was received from this conmgr for %d ms",
					silence.Milliseconds())}.Append(r.frame[:0]))
			r.finish(now, c)
		}
		return
	}
	if c == nil {
		r.table.timers.set(p, p.pulse.Deadline())
		return
	}
	if p.pulse.SendDue(now.Mono) {
		r.beat(now, c)
	}
	r.table.timers.set(p, p.pulse.Wake())
}

// goodbye ends the worker's connections. Only the end of the server is announced: a restarted
// worker's conmgrs resume.
func (r *Reactor) goodbye(stop Stop) {
	if stop != StopServer {
		return
	}
	msg := heartbeat.Goodbye{Code: heartbeat.GoodbyeServerEnds, Text: "the server is shutting down"}.Append(r.frame[:0])
	for _, c := range r.conns {
		if c == nil || c.peer == nil || len(c.out) > 0 { // a frame that is half out cannot be followed by another
			continue
		}
		for range drainPerVisit { // unread input would turn the close into a reset
			if n, err := unix.Read(c.fd, r.scratch[:]); n <= 0 || err != nil {
				break
			}
		}
		_, _ = unix.SendmsgN(c.fd, msg, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

func (r *Reactor) close() {
	for _, c := range r.conns {
		if c != nil {
			unix.Close(c.fd)
		}
	}
	for fd := range r.listeners {
		unix.Close(fd)
	}
	r.waiter.close()
}
