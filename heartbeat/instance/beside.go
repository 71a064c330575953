package instance

// Connections beside the one that stands, or that stood: one that is in doubt is not waited for.
// docs/protocol.md 1.4 has the rules, heartbeat/attempts.go the numbers.

import (
	"net/netip"
	"slices"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Conn names a connection, from its Dial on.
type Conn uint32

// line is a connection that is dialled, that waits for WELCOME, or that has it.
type line struct {
	conn    Conn
	to      netip.Addr
	local   netip.Addr
	ch      heartbeat.Channel
	proving *proving       // with a key, until WELCOME
	offered uint64         // generation of its HELLO
	greeted heartbeat.Mono // when that was sent, 0: not yet
	until   heartbeat.Mono // beside: when it is given up

	sent     sentBeats
	measured uint32 // sequence of the BEAT whose round trip was told last
}

// beside is what is under way beside.
type beside struct {
	pending []*line        // the oldest first
	next    heartbeat.Mono // not sooner is another one dialled
}

// acks is what is known of BEATs of ours: whether they reach the server's kernel.
type acks struct {
	at        heartbeat.Mono // when the one that is watched has to be acknowledged; never: none is watched
	sequence  uint32         // of that one
	sent      heartbeat.Mono // and when it was sent
	asked     bool           // the kernel was asked
	missing   bool           // it has not been acknowledged in time
	fresh     bool           // and the kernel has just said so
	confirmed heartbeat.Mono // what was sent then has reached the server; 0: nothing is known to have
}

// dialLine dials.
func (in *Instance) dialLine(to, from netip.Addr, extra bool) *line {
	in.dials++
	l := &line{conn: in.dials, to: to}
	in.act(Action{Kind: Dial, Conn: l.conn, Beside: extra, From: from, To: netip.AddrPortFrom(to, in.cfg.WatchdogPort)})
	return l
}

// greet opens a connection that stands with HELLO.
func (in *Instance) greet(now heartbeat.Mono, l *line, local netip.Addr) {
	h := in.mon.Hello()
	l.local, l.greeted, l.offered = local, now, h.Generation
	l.ch = heartbeat.Channel{Attempt: h.Attempt}
	in.send(l, in.hello(l, h))
}

func (in *Instance) send(l *line, b []byte) { in.act(Action{Kind: Send, Conn: l.conn, Data: b}) }

func (in *Instance) hangUp(lines ...*line) {
	for _, l := range lines {
		in.act(Action{Kind: HangUp, Conn: l.conn})
	}
}

// abandon gives up connections that were not welcomed. A HELLO that is still under way there, and
// came later, would take the place of a connection that stands.
func (in *Instance) abandon(lines ...*line) {
	for _, l := range lines {
		in.act(Action{Kind: HangUp, Conn: l.conn, Reset: true})
	}
}

// latest is the connection that was welcomed last, nil if none stands.
func (in *Instance) latest() *line {
	if len(in.lines) == 0 {
		return nil
	}
	return in.lines[len(in.lines)-1]
}

// find is the connection of that name among some, nil if it is over.
func find(lines []*line, c Conn) *line {
	if i := slices.IndexFunc(lines, func(l *line) bool { return l.conn == c }); i >= 0 {
		return lines[i]
	}
	return nil
}

func without(lines []*line, l *line) []*line {
	return slices.DeleteFunc(lines, func(o *line) bool { return o == l })
}

// doubt is since when, or from when on, another connection is wanted; never: none is. While none
// stands, and the deadline runs, one is. No other address than that of the last one is tried: see
// resuming. What the kernel is asked about is in no doubt until it has answered.
func (in *Instance) doubt() heartbeat.Mono {
	n := &in.names
	if !in.cfg.HostAddr.IsValid() && n.fresh && !slices.Contains(n.addrs, in.peer) {
		return never
	}
	switch {
	case in.phase == serving && in.acks.missing && !in.acks.asked, in.phase != claiming && in.resuming():
		return 0
	case in.phase == serving:
		return in.mon.Doubtful()
	}
	return never
}

// nearest is the deadline that comes first, as far as is known: the server's may. It is not before
// the one that is told here; when that has passed, it is ours that counts.
func (in *Instance) nearest(now heartbeat.Mono) heartbeat.Mono {
	t, _ := in.mon.Armed()
	if server := in.acks.confirmed.Add(in.cfg.Timeout); server > now {
		t = min(t, server)
	}
	return t
}

// besideWake is when tend has something to do.
func (in *Instance) besideWake() heartbeat.Mono {
	w := never
	for _, l := range in.beside.pending {
		w = min(w, l.until)
	}
	if at := in.doubt(); at != never {
		w = min(w, max(at, in.beside.next))
	}
	if in.phase == serving && !in.acks.asked {
		w = min(w, in.acks.at)
	}
	return w
}

// tend does what is due beside: what has had its time is given up, and while there is doubt,
// another connection is dialled.
func (in *Instance) tend(now heartbeat.Mono) {
	a := &in.acks
	if in.phase == serving && a.at <= now && !a.asked {
		in.probe()
	}
	at := in.doubt()
	if at > now && !a.asked {
		in.dropBeside()
	}
	for len(in.beside.pending) > 0 && in.beside.pending[0].until <= now {
		in.dropOldest()
	}
	switch {
	case at > now || now < in.beside.next:
	case in.phase == serving && in.mon.Doubtful() > now && !a.fresh: // is that still so?
		in.probe()
	default:
		in.open(now)
	}
}

// open dials another connection.
func (in *Instance) open(now heartbeat.Mono) {
	in.acks.fresh = false
	in.pace(now)
	if len(in.beside.pending) == heartbeat.MostBeside {
		in.dropOldest()
	}
	l := in.dialLine(in.peer, in.local, true)
	l.until = now.Add(heartbeat.BesideTime)
	in.beside.pending = append(in.beside.pending, l)
}

// pace sets when the next one may be dialled.
func (in *Instance) pace(now heartbeat.Mono) {
	in.beside.next = now.Add(heartbeat.Spacing(in.nearest(now).Sub(now), in.cfg.Random()))
}

func (in *Instance) dropOldest() {
	in.abandon(in.beside.pending[0])
	in.beside.pending = in.beside.pending[1:]
}

func (in *Instance) dropBeside() {
	in.abandon(in.beside.pending...)
	in.beside = beside{}
}

// besides takes in what has become of one that is under way.
func (in *Instance) besides(now heartbeat.Mono, l *line, e Event) {
	switch e.Kind {
	case Dialled:
		in.greet(now, l, e.Local)
		return
	case Frame:
		f, asked, err := in.prove(now, l, e.Frame)
		if asked {
			return
		}
		if r, perr := heartbeat.ParseRefused(f.Payload); err == nil && perr == nil && f.Type == heartbeat.TypeRefused {
			in.taken(r, false)
		}
		if err != nil || f.Type != heartbeat.TypeWelcome {
			break
		}
		if w, err := heartbeat.ParseWelcome(f.Payload); err == nil {
			in.beside.pending = without(in.beside.pending, l)
			in.welcomed(now, l, w)
			return
		}
	}
	in.beside.pending = without(in.beside.pending, l)
	if e.Kind != DialFailed {
		in.abandon(l)
	}
}

// welcomed: the watchdog has answered HELLO. What an earlier one of ours has led to, when a later
// one was welcomed, is nothing.
func (in *Instance) welcomed(now heartbeat.Mono, l *line, w heartbeat.Welcome) {
	late, before := l.ch.Attempt < in.welcomedAttempt, in.word()
	var loss *heartbeat.Loss
	err := heartbeat.ErrStaleWelcome
	if !late {
		loss, err = in.mon.Welcome(now, w, l.offered)
	}
	if err != nil {
		in.hangUp(l)
		if in.attempt.line == l {
			in.attempt.line = nil
			in.rest(now, heartbeat.AtOnce)
		}
		return
	}
	in.welcomedAttempt, l.ch.Version = l.ch.Attempt, w.Version
	in.askNoMore()
	in.dropBeside()
	if o := in.attempt.line; o != nil && o != l {
		in.abandon(o)
	}
	in.attempt.line = nil
	in.peer, in.local = l.to, l.local
	in.acks = acks{at: never, confirmed: max(in.acks.confirmed, l.greeted)}
	if in.phase == serving && loss == nil {
		in.joins(now, l)
		in.tellNews(before)
		return
	}
	if in.phase == serving {
		in.act(Action{Kind: Closed, Err: causeError("another server answers, or one that has forgotten us")})
	}
	in.hangUp(in.lines...)
	in.lines = append(in.lines[:0], l)
	in.loss = loss
	in.claim()
}

// joins: there is another connection. With a watchdog of version 1 it is the only one, as that
// closes the one before. Else the one before goes when this one is known to carry BEATs both ways:
// by the echo of the one that is sent at once.
func (in *Instance) joins(now heartbeat.Mono, l *line) {
	if l.ch.Version < 2 {
		in.hangUp(in.lines...)
		in.lines = in.lines[:0]
	}
	in.lines = append(in.lines, l)
	in.beat(now, l)
}

// beat sends a BEAT.
func (in *Instance) beat(now heartbeat.Mono, l *line) {
	from := len(in.bytes)
	in.bytes = l.ch.ConmgrBeat(in.bytes, now)
	l.sent[l.ch.Sent()%uint32(len(l.sent))] = now
	in.send(l, in.bytes[from:len(in.bytes):len(in.bytes)])
	if a := &in.acks; l == in.latest() && l.ch.Version >= 2 && a.at == never && !a.asked && !a.missing {
		a.sequence, a.sent = l.ch.Sent(), now
		a.at = now.Add(heartbeat.AckTime(in.cfg.Interval, in.cfg.Timeout))
	}
}

// echoed takes in what the watchdog has received of ours, by a BEAT on the latest connection.
func (in *Instance) echoed(l *line) {
	if l.ch.Version < 2 || l.ch.Echo() == 0 {
		return
	}
	if n := len(in.lines) - 1; n > 0 {
		in.hangUp(in.lines[:n]...)
		in.lines = append(in.lines[:0], l)
	}
	if a := &in.acks; a.sequence != 0 && int32(l.ch.Echo()-a.sequence) >= 0 {
		in.confirmed()
	}
}

// confirmed: what was watched has come.
func (in *Instance) confirmed() {
	in.acks = acks{at: never, confirmed: max(in.acks.confirmed, in.acks.sent)}
}

// probe asks the kernel whether all that was sent is acknowledged.
func (in *Instance) probe() {
	in.acks.asked = true
	in.act(Action{Kind: Probe, Conn: in.latest().conn})
}

// probed takes in what it says.
func (in *Instance) probed(e Event) {
	a := &in.acks
	if l := in.latest(); l == nil || l.conn != e.Conn || !a.asked {
		return
	}
	a.asked, a.at = false, never
	if !e.Unacked {
		in.confirmed()
		return
	}
	a.missing, a.fresh = true, true
}
