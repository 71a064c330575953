package watchdog

// Who has proved who he is: docs/protocol.md 1.7. Nothing follows from a connection before that,
// and what belongs to a keyid nobody else touches. Called within Step; pure.

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/terminator"
)

// proving is what is kept of a connection between CHALLENGE and RESPONSE.
type proving struct {
	hello heartbeat.Hello
	th    proof.Transcript
	asked heartbeat.Mono
	asks  bool // it was an ASK, and no HELLO
}

// unproved is the one answer to whoever has to prove something and has not.
var unproved = &heartbeat.ProtocolError{Code: heartbeat.RefusedUnproved,
	Text: "this server needs a proof of a key that it knows"}

// keyID is what c has proved; zeros: nothing.
func (t *Table) keyID(c *conn) (id proof.KeyID) {
	if c.of.key != 0 {
		id = t.keys.At(c.of.key).ID
	}
	return id
}

// claims is what c says of its key, for the log.
func (t *Table) claims(c *conn) string {
	switch {
	case c.proving() == nil:
		return ""
	case c.of.key != 0:
		return fmt.Sprintf("Its keyid is \"%s\".", t.keyID(c))
	}
	said := c.proving().hello.KeyID
	id, err := proof.ParseKeyID(said.String())
	if err != nil || id != said {
		return "What it says to be its keyid is none."
	}
	return fmt.Sprintf("It says that its keyid is \"%s\".", id)
}

// challenge asks the peer of a HELLO for its proof, where there is something to prove. asked: it
// goes on with a RESPONSE.
func (t *Table) challenge(now Now, c *conn, h heartbeat.Hello, f heartbeat.Frame) (asked bool, err error) {
	mode := t.settings.Access.mode()
	switch {
	case h.KeyID == (proof.KeyID{}) && mode == Require:
		return false, unproved
	case h.KeyID == (proof.KeyID{}):
		return false, nil
	case mode == Off: // without a proof it would only go away again
		return false, &heartbeat.ProtocolError{Code: heartbeat.RefusedUnproved,
			Text: "this server proves nothing: watchdog.authentication is off"}
	}
	from := len(t.bytes)
	b := heartbeat.AppendChallenge(t.bytes, t.server.Nonce())
	c.place.proving = &proving{hello: h, th: proof.TranscriptOf(f.Whole, b[from:]), asked: now.Mono}
	t.send(c, b)
	return true, nil
}

// response takes in a RESPONSE.
func (t *Table) response(now Now, c *conn, f heartbeat.Frame) error {
	r, err := heartbeat.ParseResponse(f.Payload)
	if err != nil {
		return err
	}
	p := c.proving()
	h := p.hello
	if t.settings.Access.mode() == Off { // meanwhile
		return unproved
	}
	if heartbeat.Hoarded(p.asked, now.Mono, h.Timeout) {
		return &heartbeat.ProtocolError{Code: heartbeat.RefusedTooSlow, Text: "RESPONSE came too late"}
	}
	shake := t.settings.Access.Keys.Check(h.KeyID, c.addr, p.th, r)
	if shake == nil {
		return unproved
	}
	if p.asks {
		t.tell(now, c, h, shake)
		return nil
	}
	return t.welcome(now, c, h, shake)
}

// proved takes the proof off a frame. false: it has none that is right, and the connection is gone,
// which is no verdict.
func (t *Table) proved(now Now, c *conn, f heartbeat.Frame) (heartbeat.Frame, bool) {
	f, ok := c.ch.Open(f)
	if ok {
		return f, true
	}
	t.forged++
	p := c.peer
	t.close(c)
	t.parted(now, p, c, Broken, fmt.Sprintf("a message is not what conmgr has sent: %d of these so far", t.forged))
	return f, false
}

// owner is the conmgr that h is of, nil if it is a new one. What a keyid has made is its own. What
// somebody without a proof has made is not that of who has one.
func (t *Table) owner(now Now, c *conn, h heartbeat.Hello) (*peer, error) {
	p := t.known(h.ID)
	switch {
	case p == nil || p.KeyID == t.keyID(c):
		return p, nil
	case p.KeyID != (proof.KeyID{}):
		return nil, unproved
	}
	t.disown(now, p, fmt.Sprintf("its id is that of a conmgr with the keyid \"%s\"", t.keyID(c)))
	return nil, nil
}

// disown forgets a conmgr that has proved nothing. No session ends by that.
func (t *Table) disown(now Now, p *peer, why string) {
	conns := p.leave()
	t.log.routine(now, p.Addr(), Line{Level: Warning, Message: fmt.Sprintf("conmgr %s is not monitored any more", p.remote()),
		Detail: sentence(why) + " Its sessions are not terminated."})
	t.drop(p, Free)
	for _, c := range conns {
		c.peer = nil
		t.refuse(now, c, unproved)
	}
}

// absent is what counts of p, which has left, for another conmgr of its host. With a key, FIN is
// nobody's word; but one who has proved the same keyid is of the same host.
func (p *peer) absent(boot heartbeat.ID, keyID proof.KeyID) terminator.Absent {
	a := terminator.Absent{Left: p.Closed, Standing: p.standing(), SameBoot: p.Boot == boot, Timeout: p.Timeout,
		Granted: p.Until != 0}
	if p.KeyID != (proof.KeyID{}) && p.KeyID == keyID {
		a.Left = p.left
	}
	return a
}

// leavesTo tells whether one with that keyid may take over the sessions of p: nobody else does what
// a keyid has led here.
func (p *peer) leavesTo(keyID proof.KeyID) bool {
	return p.KeyID == (proof.KeyID{}) || p.KeyID == keyID
}

// covered tells whether somebody at an address of p's has proved who he is, and p has not.
func (t *Table) covered(p *peer, addr netip.Addr) bool {
	return p.KeyID == (proof.KeyID{}) && t.provedAt(addr)
}

// provedAt tells whether a keyid is known at an address.
func (t *Table) provedAt(addr netip.Addr) bool {
	return slices.ContainsFunc(t.byHost[hostOf(addr)], func(o *peer) bool { return o.KeyID != (proof.KeyID{}) })
}

// weighs tells whether a conmgr counts when one with that keyid is judged.
func (s *Slot) weighs(keyID proof.KeyID) bool {
	return keyID == (proof.KeyID{}) || s.KeyID != (proof.KeyID{})
}

// rekey holds what was proved against the keys of a file that was read again. Nothing of the former
// one is kept.
func (t *Table) rekey(now Now, keys *proof.Keys) {
	for _, c := range t.conns {
		if c == nil || c.of.key == 0 {
			continue
		}
		k := keys.Find(t.keys.At(c.of.key), c.addr)
		if k == 0 && c.peer != nil {
			t.refuse(now, c, &heartbeat.ProtocolError{Code: heartbeat.RefusedNoKey,
				Text: fmt.Sprintf("the key of keyid \"%s\" is not known any more", t.keyID(c))})
		}
		c.of.key = k
	}
	t.keys = keys
}

// recheck holds everybody who is known against changed settings.
func (t *Table) recheck(now Now) {
	a := t.settings.Access
	t.shutOut(now)
	if a.mode() == Off {
		return
	}
	if !a.NoKeys {
		t.rekey(now, a.Keys)
	}
	if a.mode() != Require {
		return
	}
	for _, p := range t.sorted() {
		if p.KeyID == (proof.KeyID{}) {
			t.disown(now, p, "it has not proved who it is, and watchdog.authentication is require")
		}
	}
}
