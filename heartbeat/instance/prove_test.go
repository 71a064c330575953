package instance

// Keys in scripts: transcript_test.go has the other events.
//
//	config key=<secret>            conmgr has a key with that secret
//	challenge                      the answer to HELLO; from then on the watchdog has that key
//	... plain                      a frame without a proof
//	... secret=<secret>            CHALLENGE: the watchdog has another one
//	refused <text> [code=7]
//	key <secret> | none            the file has this key now

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// provedEnd is the watchdog's end of a connection with a key.
type provedEnd struct {
	hello []byte
	th    proof.Transcript
	shake *proof.Handshake // nil: RESPONSE was not right, or has not come
	key   *proof.Key
	ch    hb.Channel
}

func testKey(secret string) *proof.Key {
	var s proof.Secret
	copy(s[:], secret)
	return proof.NewKey(proof.KeyID([]byte("client1\x00\x00\x00\x00\x00\x00\x00\x00\x00")), s)
}

func counted() func() proof.Nonce {
	n := byte(0)
	return func() proof.Nonce {
		n++
		return proof.Nonce{n}
	}
}

// heard takes in what conmgr has sent, and takes the proof off it.
func (s *script) heard(c Conn, b []byte) (plain []byte, how string) {
	f, _, err := hb.Next(b)
	if err != nil {
		return b, ""
	}
	e := s.ends[c]
	switch {
	case f.Type == hb.TypeHello:
		delete(s.ends, c)
		if h, err := hb.ParseHello(f.Payload); err == nil && h.KeyID != (proof.KeyID{}) {
			s.ends[c] = &provedEnd{hello: bytes.Clone(b)}
			return b, fmt.Sprintf(", key %s, version %d", h.KeyID, h.MinVersion)
		}
	case e == nil:
	case f.Type == hb.TypeResponse:
		shake := proof.NewHandshake(e.key, e.th)
		if r := shake.Response(); !bytes.Equal(r[:], f.Payload) {
			return b, " that is not right"
		}
		e.shake = shake
		e.ch = hb.Channel{Version: 2}
		e.ch.Prove(shake, proof.FromWatchdog, time.Second)
	default:
		g, ok := e.ch.Open(f)
		if !ok {
			return b, ", unproved"
		}
		plain = append(bytes.Clone(b[:hb.HeaderSize]), g.Payload...)
		binary.BigEndian.PutUint16(plain, uint16(len(plain)))
		return plain, ", proved"
	}
	return b, ""
}

// challenge answers HELLO.
func (s *script) challenge(w words) []byte {
	e := s.ends[s.conn(w)]
	b := hb.AppendChallenge(nil, proof.Nonce{100, byte(s.conn(w))})
	e.th, e.key = proof.TranscriptOf(e.hello, b), testKey(s.secret)
	if w.value("secret") != "" {
		e.key = testKey(w.value("secret"))
	}
	return b
}

// prove ends a frame of the watchdog with its proof.
func (s *script) prove(kind string, w words, b []byte) []byte {
	e := s.ends[s.conn(w)]
	if e == nil || e.shake == nil || slices.Contains(w, "plain") || kind == "challenge" {
		return b
	}
	if kind == "welcome" {
		return e.shake.SealWelcome(b, 0)
	}
	return e.ch.Link.Seal(b, 0)
}

// TestEachByte: whatever byte of what the watchdog sends is another one, or missing: no route, no
// loss, no other attributes.
func TestEachByte(t *testing.T) {
	type line = struct {
		at   time.Duration
		text words
	}
	greeting := []line{{0, words{"config", "key=1"}}, {0, words{"until"}}, {0, words{"dialled"}}}
	welcomed := append(slices.Clone(greeting), line{0, words{"challenge"}}, line{0, words{"welcome", "sys=7", "start=1"}})
	for name, c := range map[string]struct {
		before []line
		frame  words
	}{
		"CHALLENGE":    {greeting, words{"challenge"}},
		"WELCOME":      {welcomed[:4], words{"welcome", "sys=7", "start=1"}},
		"BEAT":         {welcomed, words{"beat", "tl=9", "attrs=standby", "echo=0"}},
		"GOODBYE 16":   {welcomed, words{"goodbye", "16", "bye"}},
		"GOODBYE 17":   {welcomed, words{"goodbye", "17", "bye"}},
		"REFUSED 7":    {welcomed, words{"refused", "no", "code=7"}},
		"REFUSED 3":    {welcomed[:4], words{"refused", "full", "code=3"}},
		"no REFUSED":   {greeting, words{"refused", "no", "code=2"}},
		"no CHALLENGE": {welcomed, words{"challenge"}},
	} {
		t.Run(name, func(t *testing.T) {
			size := 1
			for i := 0; i < size; i++ {
				for _, cut := range []bool{false, true} {
					s := new(script)
					for _, l := range c.before {
						if _, err := s.line(l.at, l.text); err != nil {
							t.Fatal(err)
						}
					}
					e, err := s.event(c.frame[0], c.frame[1:])
					if err != nil {
						t.Fatal(err)
					}
					b := bytes.Clone(e.Frame.Whole)
					size = len(b)
					if cut {
						if i < hb.HeaderSize {
							continue
						}
						b = b[:i]
						binary.BigEndian.PutUint16(b, uint16(i))
					} else {
						b[i] ^= 1 << (i % 8)
					}
					f, n, err := hb.Next(b)
					if err != nil || n != len(b) { // no frame, or half of one: that is the connection's end
						continue
					}
					e.Frame = f
					before := *s.in.mon
					changed := false
					for _, a := range s.in.Step(s.now, e) {
						if a.Kind == Send {
							s.heard(a.Conn, a.Data)
						}
						changed = changed || a.Kind == Established || a.Kind == Lost || a.Kind == Changed || a.Kind == Stopping ||
							a.Kind == Claim
					}
					changed = changed || s.in.mon.Generation() != before.Generation() || s.in.mon.State() == hb.Established != (before.State() == hb.Established) &&
						s.in.mon.State() != hb.Connecting
					if changed || name == "CHALLENGE" && s.ends[s.in.dials] != nil && s.ends[s.in.dials].shake != nil {
						t.Fatalf("byte %d, cut %v: something has followed: %s", i, cut, s.in.mon.State())
					}
				}
			}
		})
	}
}

// FuzzForged: whatever a false watchdog answers, and whatever somebody puts into a proved
// connection, establishes nothing, loses nothing, and changes nothing that the instance has said of
// itself.
func FuzzForged(f *testing.F) {
	f.Add(hb.Welcome{Version: 2, SystemIdentifier: 7, PostmasterStart: 1}.Append(nil), true)
	f.Add(append(hb.AppendChallenge(nil, proof.Nonce{}), hb.Welcome{Version: 2}.Append(nil)...), true)
	f.Add(hb.WatchdogBeat{Sequence: 1, Attributes: hb.Attributes{Timeline: 9}}.Append(nil, 2), false)
	f.Add(hb.Goodbye{Code: hb.GoodbyeServerEnds}.Append(nil), false)
	f.Add(hb.Refused{Code: hb.RefusedNoKey}.Append(nil), false)
	f.Fuzz(func(t *testing.T, data []byte, answers bool) {
		s := new(script)
		lines := []words{{"config", "key=1"}, {"until"}, {"dialled"}}
		if !answers {
			lines = append(lines, words{"challenge"}, words{"welcome", "sys=7", "start=1"})
		}
		for _, l := range lines {
			if _, err := s.line(0, l); err != nil {
				t.Fatal(err)
			}
		}
		attributes, _ := s.in.mon.Attributes()
		for conn := s.in.dials; len(data) > 0 && conn == s.in.dials; {
			fr, n, err := hb.Next(data)
			if err != nil || n == 0 {
				break
			}
			data = data[n:]
			for _, a := range s.in.Step(s.now, Event{Kind: Frame, Conn: conn, Frame: fr}) {
				if a.Kind == Claim || a.Kind == Established || a.Kind == Lost || a.Kind == Changed || a.Kind == Stopping {
					t.Fatalf("%s has led to %s", fr.Type, actionNames[a.Kind])
				}
			}
		}
		if now, _ := s.in.mon.Attributes(); now != attributes || s.in.mon.Generation() != 0 || s.in.mon.State() == hb.Stopping {
			t.Fatal(now, s.in.mon.Generation(), s.in.mon.State())
		}
	})
}
