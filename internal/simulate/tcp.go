package simulate

// Connections like TCP's: what is lost is sent again after 0.2 s, doubled each time; after such a
// pause nothing new is sent until something is acknowledged; what comes out of order waits. The
// kernel goes on while the process is held up.

import (
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

type packetKind uint8

const (
	syn packetKind = iota
	synAck
	data
	ack
	rst
)

type packet struct {
	kind      packetKind
	from, to  netip.AddrPort
	seq       uint32 // data
	ack, high uint32 // all that has come before ack; high is one more than the highest
	payload   []byte
	fin       bool
}

// segment is one write, or the end of a direction.
type segment struct {
	payload []byte
	fin     bool
	sentAt  Mono // last
}

const (
	firstRTO = 200 * time.Millisecond
	synRTO   = time.Second
	maxRTO   = 120 * time.Second
)

// endpoint is one end of a connection.
type endpoint struct {
	h             *host
	local, remote netip.AddrPort
	established   bool
	gone          bool // it is no more
	owner         *process

	// Sending: segments from base on are not acknowledged, those from next on were never sent.
	out         []segment
	base, next  uint32
	rto         time.Duration
	timer       int
	recovering  bool
	userTimeout time.Duration
	oldest      Mono // since when something is not acknowledged
	finished    bool

	// Receiving.
	expect uint32
	early  map[uint32]segment
	rx     []byte
	ended  bool // FIN has come
	broken bool // reset, or given up
	how    watchdog.Close
}

func (h *host) endpoint(local, remote netip.AddrPort) *endpoint {
	e := &endpoint{h: h, local: local, remote: remote}
	e.rto = e.firstRTO()
	h.ends[pair{local, remote}] = e
	return e
}

func (e *endpoint) firstRTO() time.Duration {
	return firstRTO + e.rtt()
}

// rtt is how long a packet and its answer take while nothing is disturbed.
func (e *endpoint) rtt() time.Duration {
	remote, _ := e.h.w.inside(e.remote)
	return 2 * e.h.w.path(e.local.Addr(), remote.Addr()).delay
}

// connect begins a connection.
func (h *host) connect(to netip.AddrPort, owner *process) *endpoint {
	h.port++
	e := h.endpoint(netip.AddrPortFrom(h.addr, h.port), to)
	e.owner = owner
	e.sendSyn(synRTO)
	return e
}

func (e *endpoint) sendSyn(rto time.Duration) {
	e.emit(&packet{kind: syn})
	e.h.later(rto, func() {
		if !e.established && !e.gone {
			e.sendSyn(2 * rto)
		}
	})
}

// later is a timer of the kernel: a frozen machine's fires afterwards.
func (h *host) later(d time.Duration, do func()) {
	boots := h.boots
	h.w.in(d, func() {
		switch {
		case !h.up || h.boots != boots:
		case h.frozen > h.w.now:
			h.later(h.frozen.Sub(h.w.now), do)
		default:
			do()
		}
	})
}

func (e *endpoint) emit(p *packet) {
	if e.local.Addr() != e.h.addr { // which this machine had before
		return
	}
	p.from, p.to = e.local, e.remote
	e.h.w.send(p)
}

// write sends bytes. false: the connection is no more.
func (e *endpoint) write(b []byte) bool {
	if e.gone || e.finished {
		return false
	}
	if b = e.h.w.passesOn(e, b); len(b) > 0 {
		e.push(segment{payload: append([]byte(nil), b...)})
	}
	return true
}

func (e *endpoint) push(s segment) {
	if len(e.out) == 0 {
		e.oldest = e.h.w.now
	}
	e.out = append(e.out, s)
	if !e.recovering || len(e.out) == 1 {
		e.transmitNew()
	}
}

// transmitNew sends what was never sent.
func (e *endpoint) transmitNew() {
	if e.next == e.base && len(e.out) > 0 {
		e.arm()
	}
	for int(e.next-e.base) < len(e.out) {
		e.transmit(e.next)
		e.next++
	}
}

func (e *endpoint) transmit(seq uint32) {
	s := &e.out[seq-e.base]
	s.sentAt = e.h.w.now
	e.emit(&packet{kind: data, seq: seq, payload: s.payload, fin: s.fin, ack: e.expect, high: e.high()})
}

// arm sets the retransmission timer.
func (e *endpoint) arm() {
	e.timer++
	serial := e.timer
	d := e.rto
	if e.userTimeout > 0 && !e.h.w.endless {
		d = min(d, max(e.oldest.Add(e.userTimeout).Sub(e.h.w.now), time.Millisecond))
	}
	e.h.later(d, func() {
		if serial != e.timer || e.gone || len(e.out) == 0 {
			return
		}
		if e.userTimeout > 0 && !e.h.w.endless && e.h.w.now.Sub(e.oldest) >= e.userTimeout {
			e.fail(watchdog.Broken)
			return
		}
		e.recovering = true
		e.rto = min(2*e.rto, maxRTO)
		e.transmit(e.base)
		e.next = max(e.next, e.base+1)
		e.arm()
	})
}

// fail ends it without the peer.
func (e *endpoint) fail(how watchdog.Close) {
	e.forget()
	e.broken, e.how = true, how
	e.tell()
}

// forget takes it out of the kernel.
func (e *endpoint) forget() {
	e.gone = true
	e.timer++
	delete(e.h.ends, pair{e.local, e.remote})
}

func (e *endpoint) tell() {
	if e.owner != nil {
		e.owner.wake()
	}
}

// finish ends our direction: FIN.
func (e *endpoint) finish() {
	if !e.gone && !e.finished {
		e.push(segment{fin: true})
		e.finished = true
	}
}

// close is what the kernel does with a socket that is closed: FIN, or RST if something is unread.
// The rest of its life is short.
func (e *endpoint) close() {
	e.owner = nil
	if e.gone {
		return
	}
	if len(e.rx) > 0 || !e.established {
		e.reset()
		return
	}
	e.finish()
	if e.ended && len(e.out) == 0 {
		e.forget()
		return
	}
	e.h.later(time.Minute, e.forget)
}

// reset is a close with SO_LINGER 0: RST, and nothing more.
func (e *endpoint) reset() {
	e.owner = nil
	if !e.gone {
		e.emit(&packet{kind: rst})
		e.forget()
	}
}

func (e *endpoint) high() uint32 {
	h := e.expect
	for s := range e.early {
		h = max(h, s+1)
	}
	return h
}

// arrives is the kernel's part of a packet's arrival.
func (h *host) arrives(p *packet) {
	e := h.ends[pair{p.to, p.from}]
	if e == nil && p.kind == syn && h.listen != nil {
		e = h.endpoint(p.to, p.from)
	}
	if e == nil {
		if p.kind != rst {
			h.w.send(&packet{kind: rst, from: p.to, to: p.from})
		}
		return
	}
	switch p.kind {
	case rst:
		e.fail(watchdog.Reset)
	case syn:
		if e.established { // of another connection with these ports: this one is half open
			e.fail(watchdog.Reset)
			return
		}
		e.emit(&packet{kind: synAck})
	case synAck:
		if !e.established {
			e.established = true
			e.tell()
		}
		e.emit(&packet{kind: ack, ack: e.expect, high: e.high()})
	default:
		if !e.established && p.to.Port() == watchdogPort { // of a listener
			e.established = true
			if h.listen == nil {
				e.emit(&packet{kind: rst})
				e.forget()
				return
			}
			h.listen(e)
		}
		e.acknowledged(p)
		if p.kind == data && !e.gone {
			e.received(p)
		}
	}
}

func (e *endpoint) acknowledged(p *packet) {
	if p.ack > e.base && int(p.ack-e.base) <= len(e.out) {
		e.out = e.out[p.ack-e.base:]
		e.base = p.ack
		e.next = max(e.next, e.base)
		e.rto, e.recovering = e.firstRTO(), false
		e.timer++
		e.oldest = e.h.w.now
		if len(e.out) > 0 {
			if e.out[0].sentAt != 0 { // else it waits for its turn, since now
				e.oldest = e.out[0].sentAt
			}
			if e.next > e.base {
				e.arm()
			}
			e.transmitNew()
		} else if e.owner == nil && e.finished && e.ended {
			e.forget()
		}
	}
	if p.high > p.ack && e.base == p.ack && len(e.out) > 0 { // later ones have come: this one is lost
		if e.h.w.now.Sub(e.out[0].sentAt) > e.rtt() {
			e.transmit(e.base)
		}
	}
}

func (e *endpoint) received(p *packet) {
	switch {
	case p.seq == e.expect:
		e.take(segment{payload: p.payload, fin: p.fin})
		for s, ok := e.early[e.expect]; ok; s, ok = e.early[e.expect] {
			delete(e.early, e.expect)
			e.take(s)
		}
		if e.owner == nil && len(e.rx) > 0 { // nobody reads any more
			e.emit(&packet{kind: rst})
			e.forget()
			return
		}
		e.tell()
	case p.seq > e.expect:
		if e.early == nil {
			e.early = map[uint32]segment{}
		}
		e.early[p.seq] = segment{payload: p.payload, fin: p.fin}
	}
	e.emit(&packet{kind: ack, ack: e.expect, high: e.high()})
}

func (e *endpoint) take(s segment) {
	e.expect++
	e.rx = append(e.rx, s.payload...)
	e.ended = e.ended || s.fin
}
