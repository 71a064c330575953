package instance

// The proof of a key: docs/protocol.md 1.7. With a key, what the watchdog has not proved is as if
// it had not come: an attempt fails by it, or a connection, and nothing else.

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// lowestWithKey is the first version that has keys.
const lowestWithKey = 2

// proving is what is known of a connection with a key until WELCOME.
type proving struct {
	key   *proof.Key
	hello []byte
	shake *proof.Handshake // since CHALLENGE
	asked heartbeat.Mono   // when RESPONSE was sent
}

// hello is the first message on l.
func (in *Instance) hello(l *line, h heartbeat.Hello) []byte {
	if in.key == nil {
		return h.Append(nil)
	}
	h.MinVersion, h.KeyID, h.Nonce = lowestWithKey, in.key.ID, in.cfg.Nonce()
	b := h.Append(nil)
	l.proving = &proving{key: in.key, hello: b}
	return b
}

// prove takes in an answer to HELLO. asked: it was a CHALLENGE, and RESPONSE is under way. Else the
// frame comes back without its proof; an error means that it has none.
func (in *Instance) prove(now heartbeat.Mono, l *line, f heartbeat.Frame) (_ heartbeat.Frame, asked bool, err error) {
	p := l.proving
	if p == nil {
		return f, false, nil
	}
	switch {
	case f.Type == heartbeat.TypeChallenge && p.shake == nil:
		if err := heartbeat.CheckChallenge(f.Payload); err != nil {
			return f, false, err
		}
		p.asked = now
		p.shake = proof.NewHandshake(p.key, proof.TranscriptOf(p.hello, f.Whole))
		in.send(l, heartbeat.AppendResponse(nil, p.shake.Response()))
		return f, true, nil
	case f.Type == heartbeat.TypeWelcome && p.shake != nil:
		if heartbeat.Hoarded(p.asked, now, in.cfg.Timeout) {
			return f, false, errors.New("WELCOME came too late")
		}
		payload, ok := p.shake.OpenWelcome(f.Whole)
		if ok && len(payload) >= 2 && binary.BigEndian.Uint16(payload) >= lowestWithKey {
			l.ch.Prove(p.shake, proof.FromConmgr, in.cfg.Timeout)
			l.proving, f.Payload = nil, payload
			return f, false, nil
		}
	case f.Type == heartbeat.TypeRefused:
		return in.refused(p, f)
	}
	return f, false, fmt.Errorf("watchdog sent %s without the proof of its key", f.Type)
}

// refused takes in a REFUSED, of which the key may be the reason: the file may have another one by
// now.
func (in *Instance) refused(p *proving, f heartbeat.Frame) (_ heartbeat.Frame, asked bool, err error) {
	if p.shake != nil {
		var c heartbeat.Channel
		c.Prove(p.shake, proof.FromConmgr, in.cfg.Timeout)
		if g, ok := c.Open(f); ok {
			in.readKeyFor(g)
			return g, false, nil
		}
	}
	r, err := heartbeat.ParseRefused(f.Payload)
	if err != nil {
		return f, false, err
	}
	in.act(Action{Kind: ReadKey})
	return f, false, fmt.Errorf("without the proof of its key, watchdog says: %s", r.Text)
}

// readKeyFor asks for the key anew if a REFUSED says that it is not known. It tells whether it
// does.
func (in *Instance) readKeyFor(f heartbeat.Frame) bool {
	r, err := heartbeat.ParseRefused(f.Payload)
	if err != nil || r.Code != heartbeat.RefusedNoKey && r.Code != heartbeat.RefusedUnproved {
		return false
	}
	in.act(Action{Kind: ReadKey})
	return true
}

// keyRead takes in the key that the file has now; without one the old one stays.
func (in *Instance) keyRead(e Event) {
	if e.Key != nil && in.key != nil {
		in.key = e.Key
	}
}
