package watchdog

// Step: one event in, its actions out. Owned by one goroutine; pure.

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// Conn names a connection to the heartbeat port. Its owner chooses small numbers, and may use one
// again after its Close.
type Conn int32

// EventKind says what has happened.
type EventKind uint8

const (
	Opened      EventKind = iota // a connection was accepted: Conn, From
	Bytes                        // it has brought Data
	Ended                        // it has ended: How, Cause. It is closed
	Blocked                      // the network does not take what was sent on it
	Writable                     // it does again
	Held                         // a timer of this process fired late: Late
	Changed                      // Settings are others
	Due                          // the time of Wake has come
	StopServer                   // the server shuts down: the conmgrs have to be told
	KernelHeard                  // when the sockets of the sessions that AskKernel means were last heard from: Heard
)

// Event is one thing that has happened.
type Event struct {
	Kind     EventKind
	How      Close // Ended
	CaughtUp bool  // Due: all that the kernel held has been read since the time in question
	Conn     Conn
	From     netip.AddrPort // Opened: IPv4-mapped addresses unmapped
	Data     []byte         // Bytes: valid during Step
	Cause    string         // Ended: for the log
	Late     time.Duration  // Held
	Settings *Settings      // Changed
	Heard    heartbeat.Mono // KernelHeard; 0: there is none, or the kernel does not tell
}

// Settings are what the server says of itself, and what it is set to.
type Settings struct {
	Attributes       heartbeat.Attributes
	Succeeds         heartbeat.Succession
	Lag              heartbeat.Lag // told with what is sent anyway
	TerminateOnClose bool
	MaxTimeout       time.Duration // the longest heartbeat_interval and heartbeat_timeout of a HELLO
	MaxGrace         time.Duration // the longest grace that is granted
	Access           *Access
	KernelEvidence   bool // watchdog.kernel_evidence, and the kernel answers
}

// Server is what does not change while the server runs.
type Server struct {
	SystemIdentifier uint64
	PostmasterStart  int64  // microseconds since 1970-01-01 00:00 UTC
	PostmasterPort   uint16 // 0: not known
	// Nonce is random. It is asked where Access has keys.
	Nonce func() proof.Nonce
}

// ActionKind says what is to be done.
type ActionKind uint8

const (
	Send           ActionKind = iota // Data, without waiting; what the network does not take goes out later: Blocked
	Finish                           // no more is sent: the peer reads the end after what was sent. A Close follows
	CloseNow                         // close the connection
	Admitted                         // it is a conmgr's: the kernel gives it up after Timeout; Flags are of its HELLO
	CatchUp                          // read all that the kernel holds; then comes Due with CaughtUp
	WakeTerminator                   // a slot has got a verdict
	AskKernel                        // Sessions; then comes KernelHeard, before anything else
	Write                            // Line, to the server's log
)

// Action is one thing that is to be done. Actions are done in their order.
type Action struct {
	Kind    ActionKind
	Conn    Conn
	Flags   uint32        // Admitted
	Timeout time.Duration // Admitted
	Data    []byte        // Send
	Line    *Line         // Write

	Sessions *Sessions // AskKernel
}

// batch is how many conmgrs one Step visits at most: its actions, and their bytes, are kept for the
// next one.
const batch = 64

// Step takes in an event. The actions, and their bytes, are valid until the next Step.
func (t *Table) Step(now Now, e Event) []Action {
	t.actions, t.bytes = t.actions[:0], t.bytes[:0]
	switch e.Kind {
	case Bytes:
		if c := t.conn(e.Conn); c != nil && !c.refused {
			t.input(now, c, e.Data)
		}
	case Due:
		t.due(now, e.CaughtUp)
	case Opened:
		t.opened(now, e)
	case Ended:
		t.ended(now, e)
	case Blocked, Writable:
		if c := t.conn(e.Conn); c != nil {
			c.blocked = e.Kind == Blocked
		}
	case Held:
		t.held(e.Late)
	case Changed:
		t.changed(now, *e.Settings)
	case StopServer:
		t.stopServer()
	case KernelHeard:
		t.kernelHeard(now, e.Heard)
	}
	return t.actions
}

// Wake is when Due has something to do.
func (t *Table) Wake() heartbeat.Mono {
	if len(t.news) > 0 || t.pending.crowded() {
		return 0
	}
	w := t.log.reportAt
	if p := t.timers.next(); p != nil {
		w = min(w, p.due)
	}
	for _, q := range [...]*pending{t.pending, t.refused} {
		if c := q.oldest(); c != nil {
			w = min(w, c.place.due)
		}
	}
	return w
}

// LastLines makes the log complete, as nothing follows any more.
func (t *Table) LastLines() []Action {
	t.actions = t.actions[:0]
	t.log.report(Never)
	return t.actions
}

func (t *Table) act(a Action) { t.actions = append(t.actions, a) }

// send makes an action of the frame that b has got at its end, t.bytes being what was before.
func (t *Table) send(c *conn, b []byte) {
	from := len(t.bytes)
	t.bytes = b
	t.act(Action{Kind: Send, Conn: c.id, Data: b[from:len(b):len(b)]})
}

func (t *Table) conn(id Conn) *conn {
	if int(id) < len(t.conns) {
		return t.conns[id]
	}
	return nil
}

// opened admits a connection to those that may say HELLO. Those before it have had their chance to
// be heard.
func (t *Table) opened(now Now, e Event) {
	t.crowded(now)
	if !t.settings.Access.lets(e.From.Addr()) {
		t.notLet(now, e)
		return
	}
	c := &conn{id: e.Conn, addr: e.From.Addr(), port: e.From.Port()}
	for int(c.id) >= len(t.conns) {
		t.conns = append(t.conns, nil)
	}
	t.conns[c.id] = c
	t.pending.add(c, now.Mono.Add(HelloTime))
}

// crowded closes a pending connection that is too many.
func (t *Table) crowded(now Now) {
	if c := t.pending.excess(); c != nil {
		t.store.Count(RefusedCrowd)
		t.log.routine(now, c.addr, Line{Level: Log, Message: fmt.Sprintf("heartbeat connection from %s is closed: "+
			"it has not said HELLO, and there are too many of these", HostPort(c.addr, c.port))})
		t.close(c)
	}
}

// close ends a connection, of which nobody has to be told.
func (t *Table) close(c *conn) {
	t.forget(c)
	t.act(Action{Kind: CloseNow, Conn: c.id})
}

func (t *Table) forget(c *conn) {
	t.pending.remove(c)
	t.refused.remove(c)
	c.peer = nil
	delete(t.begun, c.id)
	t.conns[c.id] = nil
}

// finish ends our side of a connection so that the peer can still read what was sent.
func (t *Table) finish(now Now, c *conn) {
	c.peer, c.refused = nil, true
	delete(t.begun, c.id)
	t.act(Action{Kind: Finish, Conn: c.id})
	t.refused.add(c, now.Mono.Add(LingerTime))
	if x := t.refused.excess(); x != nil {
		t.close(x)
	}
}

func (t *Table) ended(now Now, e Event) {
	c := t.conn(e.Conn)
	if c == nil {
		return
	}
	p := c.peer
	t.forget(c)
	if p != nil {
		t.parted(now, p, c, e.How, e.Cause)
	}
}

// held tells every pulse that this process was held up; see heartbeat.Pulse.Late.
func (t *Table) held(by time.Duration) {
	t.store.Count(OwnStalls)
	for _, p := range t.peers {
		p.pulse.Late(by)
	}
}

// changed tells everybody at once when the attributes or the succession are others.
func (t *Table) changed(now Now, s Settings) {
	news := s.Attributes != t.settings.Attributes || s.Succeeds != t.settings.Succeeds
	before := t.settings.Access
	t.settings = s
	if s.Access != before {
		t.recheck(now)
		t.deaf(now, before != nil && before.NoKeys)
	}
	if !news {
		return
	}
	t.news = t.news[:0]
	for _, c := range t.conns {
		if c != nil && c.peer != nil {
			t.news = append(t.news, c)
		}
	}
}

// tellNews tells some of those who have not been told yet.
func (t *Table) tellNews(now Now) {
	n := min(len(t.news), batch)
	for _, c := range t.news[:n] {
		if c.peer != nil {
			t.beat(now, c)
		}
	}
	if t.news = t.news[n:]; len(t.news) == 0 {
		t.news = nil
	}
}

// due does what is due: beats, verdicts, connections out of time. Nobody is judged before all that
// the kernel holds was read.
func (t *Table) due(now Now, caughtUp bool) {
	if len(t.news) > 0 {
		t.tellNews(now)
		return
	}
	for n := 0; ; n++ {
		p := t.timers.next()
		if p == nil || p.due > now.Mono {
			break
		}
		dead := p.pulse.Dead(now.Mono)
		if dead && !caughtUp {
			t.act(Action{Kind: CatchUp})
			return
		}
		if n == batch {
			return
		}
		if dead && t.asksKernel(now, p) {
			return
		}
		t.visit(now, p, dead)
	}
	t.crowded(now)
	for c := t.pending.oldest(); c != nil && c.place.due <= now.Mono; c = t.pending.oldest() {
		if !caughtUp {
			t.act(Action{Kind: CatchUp})
			return
		}
		t.refuse(now, c, &heartbeat.ProtocolError{Code: heartbeat.RefusedTooSlow,
			Text: fmt.Sprintf("no HELLO within %v", HelloTime)})
	}
	for c := t.refused.oldest(); c != nil && c.place.due <= now.Mono; c = t.refused.oldest() {
		t.close(c)
	}
	t.log.report(now.Mono)
}

// visit does what p is due for.
func (t *Table) visit(now Now, p *peer, dead bool) {
	switch {
	case dead:
		silence := now.Mono.Sub(p.pulse.LastReceived())
		conns := p.conns
		t.dead(now, p)
		for _, c := range conns {
			t.send(c, c.ch.WatchdogGoodbye(t.bytes, heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrSilent,
				Text: fmt.Sprintf("nothing was received from this conmgr for %d ms",
					silence.Milliseconds())}))
			t.finish(now, c)
		}
	case len(p.conns) == 0:
		t.timers.set(p, p.pulse.Deadline())
	default:
		if p.pulse.SendDue(now.Mono) {
			for _, c := range p.conns {
				t.beat(now, c)
			}
		}
		t.timers.set(p, p.pulse.Wake())
	}
}

// beat sends a BEAT, unless the network does not even take what went before.
func (t *Table) beat(now Now, c *conn) {
	if c.blocked {
		return
	}
	t.countSent(c.peer)
	t.send(c, c.ch.WatchdogBeat(t.bytes, now.Mono, t.settings.Attributes, t.settings.Succeeds, t.settings.Lag))
}

// stopServer tells the conmgrs that the server ends. A frame that is half out cannot be followed by
// another one.
func (t *Table) stopServer() {
	for _, c := range t.conns {
		if c != nil && c.peer != nil && !c.blocked {
			t.send(c, c.ch.WatchdogGoodbye(t.bytes, heartbeat.Goodbye{Code: heartbeat.GoodbyeServerEnds,
				Text: "the server is shutting down"}))
			t.act(Action{Kind: Finish, Conn: c.id})
		}
	}
}
