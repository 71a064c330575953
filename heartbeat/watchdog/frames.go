package watchdog

// Bytes of a connection into frames, and what each frame means. Pure.

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// conn is what is known of one connection to the heartbeat port. There are thousands.
type conn struct {
	id      Conn
	blocked bool // the network does not take what was sent
	refused bool // it only waits for the peer to read why
	port    uint16
	addr    netip.Addr
	peer    *peer   // nil: pending, or refused
	place   *place  // in pending or refused, nil: in neither
	of      process // that has said HELLO on it
	ch      heartbeat.Channel
}

// proving is the proof that it was asked for, nil if it was not.
func (c *conn) proving() *proving {
	if c.place == nil {
		return nil
	}
	return c.place.proving
}

// input splits bytes into frames.
func (t *Table) input(now Now, c *conn, data []byte) {
	if begin := t.begun[c.id]; len(begin) > 0 {
		data = append(begin, data...)
		delete(t.begun, c.id)
	}
	for !c.refused && t.conns[c.id] == c {
		if c.peer == nil && c.proving() == nil {
			if err := heartbeat.CheckHelloPrefix(data); err != nil {
				t.refuse(now, c, err)
				return
			}
		}
		f, n, err := heartbeat.Next(data)
		if err == nil && n == 0 {
			if len(data) > 0 {
				t.begun[c.id] = append(make([]byte, 0, len(data)), data...) // less than a frame: bounded by MaxFrame
			}
			return
		}
		if err == nil {
			err = t.message(now, c, f)
		}
		if err != nil {
			t.refuse(now, c, err)
			return
		}
		data = data[n:]
	}
}

// message acts on one frame. An error is the peer's fault.
func (t *Table) message(now Now, c *conn, f heartbeat.Frame) error {
	if c.peer != nil {
		var ok bool
		if f, ok = t.proved(now, c, f); !ok {
			return nil
		}
	}
	switch {
	case c.peer != nil && f.Type == heartbeat.TypeBeat:
		fresh, err := c.ch.FromConmgr(f.Payload, now.Mono)
		switch {
		case err != nil || !fresh:
		case c.of.former():
			t.formerLives(now, c)
		default:
			t.received(now, c.peer)
		}
		return err
	case c.peer == nil && c.proving() == nil && f.Type == heartbeat.TypeHello:
		return t.greet(now, c, f)
	case c.peer == nil && c.proving() == nil && f.Type == heartbeat.TypeAsk:
		return t.inquiry(now, c, f)
	case c.peer == nil && c.proving() != nil && f.Type == heartbeat.TypeResponse:
		return t.response(now, c, f)
	case c.peer != nil && f.Type == heartbeat.TypeGoodbye:
		g, err := heartbeat.ParseConmgrGoodbye(f.Payload, c.ch.Version)
		if err != nil {
			return err
		}
		t.goodbye(now, c, g)
		return nil
	}
	return &heartbeat.ProtocolError{Code: heartbeat.RefusedMalformed, Text: fmt.Sprintf("unexpected %s", f.Type)}
}

// greet answers a HELLO.
func (t *Table) greet(now Now, c *conn, f heartbeat.Frame) error {
	h, err := heartbeat.ParseHello(f.Payload)
	if err != nil {
		return err
	}
	if asked, err := t.challenge(now, c, h, f); asked || err != nil {
		return err
	}
	return t.welcome(now, c, h, nil)
}

// welcome admits the peer of a HELLO, or refuses it. shake: it has proved its key.
func (t *Table) welcome(now Now, c *conn, h heartbeat.Hello, shake *proof.Handshake) error {
	c.ch = heartbeat.Channel{Version: h.Version(), Attempt: h.Attempt}
	c.of = process{incarnation: incarnation(h)}
	if shake != nil {
		c.of.key = shake.Number
		c.ch.Prove(shake, proof.FromWatchdog, h.Timeout)
	}
	a, err := t.hello(now, c, h)
	if err != nil {
		return err
	}
	if a.peer == nil {
		t.close(c)
		return nil
	}
	for _, r := range a.replaced {
		t.close(r)
	}
	for _, d := range a.displaced {
		d.peer = nil
		t.refuse(now, d, &heartbeat.ProtocolError{Code: heartbeat.RefusedFull, Text: t.shortage()})
	}
	t.pending.remove(c)
	c.peer = a.peer
	t.act(Action{Kind: Admitted, Conn: c.id, Timeout: h.Timeout, Flags: h.Flags})
	b := heartbeat.Welcome{Version: c.ch.Version, Flags: a.flags | heartbeat.KnowsLabels,
		SystemIdentifier: t.server.SystemIdentifier, PostmasterStart: t.server.PostmasterStart,
		Attributes:     t.settings.Attributes,
		PostmasterPort: t.server.PostmasterPort, Succeeds: t.settings.Succeeds,
		KnownSince: uint64(a.peer.ConnectedAt), Lag: t.settings.Lag, Grace: a.peer.Grace}.Append(t.bytes)
	if shake != nil {
		b = shake.SealWelcome(b, len(t.bytes))
	}
	t.send(c, b)
	return nil
}

// refuse answers with a reason, and gives the peer a moment to read it. A conmgr that was connected
// keeps its slot and may resume.
func (t *Table) refuse(now Now, c *conn, err error) {
	var pe *heartbeat.ProtocolError
	if !errors.As(err, &pe) {
		pe = &heartbeat.ProtocolError{Code: heartbeat.RefusedMalformed, Text: err.Error()}
	}
	t.countRefused(pe.Code)
	if pe.Code != heartbeat.RefusedFull { // which the table tells
		t.log.routine(now, c.addr, Line{Level: Log,
			Message: fmt.Sprintf("heartbeat connection from %s is refused: %s", HostPort(c.addr, c.port), pe.Text), Detail: t.claims(c)})
	}
	why := "it violated the protocol"
	if pe.Code == heartbeat.RefusedNoKey {
		why = "its key is not known any more"
	}
	t.pending.remove(c)
	if p := c.peer; p != nil {
		c.peer = nil
		t.parted(now, p, c, Broken, why)
	}
	t.send(c, c.ch.Refused(t.bytes, heartbeat.Refused{Code: pe.Code, Text: pe.Text}))
	t.finish(now, c)
}
