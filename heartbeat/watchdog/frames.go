package watchdog

// Bytes of a connection into frames, and what each frame means. Pure.

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// conn is what is known of one connection to the heartbeat port.
type conn struct {
	id      Conn
	blocked bool // the network does not take what was sent
	refused bool // it only waits for the peer to read why
	port    uint16
	addr    netip.Addr
	peer    *peer // nil: pending, or refused
	ch      heartbeat.Channel
	due     heartbeat.Mono
	place   place  // in pending or refused
	in      []byte // begin of a frame that is not complete yet
}

// input splits bytes into frames.
func (t *Table) input(now Now, c *conn, data []byte) {
	if len(c.in) > 0 {
		data = append(c.in, data...)
		c.in = nil
	}
	for !c.refused && t.conns[c.id] == c {
		if c.peer == nil {
			if err := heartbeat.CheckHelloPrefix(data); err != nil {
				t.refuse(now, c, err)
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
	switch {
	case c.peer != nil && f.Type == heartbeat.TypeBeat:
		if err := c.ch.FromConmgr(f.Payload); err != nil {
			return err
		}
		t.received(now, c.peer)
		return nil
	case c.peer == nil && f.Type == heartbeat.TypeHello:
		return t.greet(now, c, f)
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
	c.ch = heartbeat.Channel{Version: h.Version(), Attempt: h.Attempt}
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
	t.send(c, heartbeat.Welcome{Version: c.ch.Version, Flags: a.flags | heartbeat.KnowsLabels,
		SystemIdentifier: t.server.SystemIdentifier, PostmasterStart: t.server.PostmasterStart,
		Attributes:     t.settings.Attributes,
		PostmasterPort: t.server.PostmasterPort, Succeeds: t.settings.Succeeds,
		KnownSince: uint64(a.peer.ConnectedAt)}.Append(t.bytes))
	return nil
}

// refuse answers with a reason, and gives the peer a moment to read it. A conmgr that was connected
// keeps its slot and may resume.
func (t *Table) refuse(now Now, c *conn, err error) {
	var pe *heartbeat.ProtocolError
	if !errors.As(err, &pe) {
		pe = &heartbeat.ProtocolError{Code: heartbeat.RefusedMalformed, Text: err.Error()}
	}
	if pe.Code != heartbeat.RefusedFull { // which the table tells
		t.log.routine(now, c.addr, Line{Level: Log,
			Message: fmt.Sprintf("heartbeat connection from %s is refused: %s", HostPort(c.addr, c.port), pe.Text)})
	}
	t.pending.remove(c)
	if p := c.peer; p != nil {
		c.peer = nil
		t.parted(now, p, c, Broken, "it violated the protocol")
	}
	t.send(c, heartbeat.Refused{Code: pe.Code, Text: pe.Text}.Append(t.bytes))
	t.finish(now, c)
}
