package watchdog

// Keys in scripts: transcript_test.go has the other events.
//
//	set [auth=off|prefer|require] [keys=a:1,b:2@192.0.2.0/24] [nokeys] [allow=192.0.2.0/24] [least=1s]
//	hello n <address> ... key=a [secret=1]   asks for a CHALLENGE
//	response n                               answers it
//	flip n <byte>                            the next BEAT, with one bit of a byte turned
//	again n                                  the last bytes that were sent on n
//	plain n                                  a BEAT without a proof
//	echo n <sequence>                        BEATs echo this from now on

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// provedEnd is conmgr's end of a connection with a key.
type provedEnd struct {
	key       *proof.Key
	hello     []byte
	challenge []byte
	shake     *proof.Handshake
	timeout   time.Duration
	last      []byte
}

func testKey(name, secret string) *proof.Key {
	id, err := proof.ParseKeyID(name)
	if err != nil {
		panic(err)
	}
	return proof.NewKey(id, testSecret(secret))
}

func testSecret(secret string) (s proof.Secret) {
	copy(s[:], secret)
	return s
}

// testKeys are those of a list as it is written in a script.
func testKeys(list string) *proof.Keys {
	text := ""
	for _, k := range strings.Split(list, ",") {
		k, network, _ := strings.Cut(k, "@")
		name, secret, _ := strings.Cut(k, ":")
		text += proof.Line(testKey(name, secret).ID, testSecret(secret)) + " " + strings.ReplaceAll(network, "+", ",") + "\n"
	}
	keys, err := proof.ParseFile("keys", text)
	if err != nil {
		panic(err)
	}
	return keys
}

func nonces() func() proof.Nonce {
	n := uint64(0)
	return func() (nonce proof.Nonce) {
		n++
		binary.BigEndian.PutUint64(nonce[:], n)
		return nonce
	}
}

// access is what is set, nil if nothing is.
func (w *words) access() *Access {
	a := &Access{Authentication: map[string]Authentication{"off": Off, "prefer": Prefer, "require": Require}[w.arg("auth", "off")],
		MinInterval: w.duration(w.arg("least", "0s")), NoKeys: slices.Contains(w.plain, "nokeys")}
	if list := w.arg("keys", ""); list != "" {
		a.Keys = testKeys(list)
	}
	if list := w.arg("allow", ""); list != "" {
		var err error
		if a.Allowed, err = proof.ParseNetworks(list); err != nil {
			w.errs = append(w.errs, err)
		}
	}
	if a.Authentication == Off && a.Allowed == nil && a.MinInterval == 0 {
		return nil
	}
	return a
}

// withKey makes a HELLO one with a key.
func (s *script) withKey(c Conn, h *heartbeat.Hello) {
	name := s.words.arg("key", "")
	if name == "" {
		return
	}
	k := testKey(name, s.words.arg("secret", "1"))
	h.MinVersion, h.KeyID, h.Nonce = 2, k.ID, proof.Nonce{byte(c)}
	s.ends[c] = &provedEnd{key: k, hello: h.Append(nil), timeout: h.Timeout}
}

func (s *script) proveEvent(kind string, c Conn) bool {
	e := s.ends[c]
	ch := s.channel(c)
	switch kind {
	case "response":
		e.shake = proof.NewHandshake(e.key, proof.TranscriptOf(e.hello, e.challenge))
		s.send(c, heartbeat.AppendResponse(nil, e.shake.Response()))
	case "flip":
		b := ch.ConmgrBeat(nil, heartbeat.Mono(s.now))
		i := int(s.words.number(s.words.word(2)))
		b[i] ^= 1 << (i % 8)
		s.send(c, b)
	case "again":
		s.send(c, e.last)
	case "plain":
		s.send(c, heartbeat.ConmgrBeat{Sequence: 1}.Append(nil, 2))
	case "echo":
		beat := heartbeat.ConmgrBeat{Sequence: 1, Echo: uint32(s.words.number(s.words.word(2)))}.Append(nil, 2)
		s.send(c, ch.Link.Seal(beat, 0))
	default:
		return false
	}
	return true
}

func (s *script) send(c Conn, b []byte) {
	if e := s.ends[c]; e != nil {
		e.last = bytes.Clone(b)
	}
	s.do(Event{Kind: Bytes, Conn: c, Data: b})
}

// unproved takes the proof off what the watchdog has sent, and says whether it was right.
func (s *script) unproved(c Conn, b []byte) ([]byte, string) {
	e, ch := s.ends[c], s.channel(c)
	f, _, err := heartbeat.Next(b)
	if e == nil || err != nil {
		return b, ""
	}
	var payload []byte
	ok := false
	switch {
	case f.Type == heartbeat.TypeChallenge:
		e.challenge = bytes.Clone(b)
		return b, ""
	case e.shake == nil:
		return b, ", unproved"
	case f.Type == heartbeat.TypeTell:
		payload, ok = e.shake.OpenWelcome(b)
	case f.Type == heartbeat.TypeWelcome:
		if payload, ok = e.shake.OpenWelcome(b); ok {
			ch.Prove(e.shake, proof.FromConmgr, e.timeout)
		}
	default:
		proved := *ch
		if proved.Link == nil {
			proved.Prove(e.shake, proof.FromConmgr, e.timeout)
		}
		payload, ok = proved.Link.Open(b)
	}
	if !ok {
		return b, ", unproved"
	}
	b = append(bytes.Clone(b[:heartbeat.HeaderSize]), payload...)
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	return b, ", proved"
}

// TestEachByte: whatever byte of a frame with a proof is another one, or missing, nothing follows
// from it but the end of the connection.
func TestEachByte(t *testing.T) {
	begin := func() *script {
		s := &script{settings: Settings{TerminateOnClose: true, MaxTimeout: time.Hour}}
		for _, line := range []string{"server auth=require keys=a:1", "hello 1 192.0.2.1:40001 id=1 attempt=1 key=a", "response 1"} {
			if _, err := s.step(0, strings.Fields(line)); err != nil {
				t.Fatal(err)
			}
		}
		s.now = time.Second
		return s
	}
	frame := func(s *script, n int) []byte {
		if n == 0 {
			return s.channel(1).ConmgrBeat(nil, heartbeat.Mono(s.now))
		}
		return s.channel(1).ConmgrGoodbye(nil, heartbeat.Goodbye{Code: heartbeat.GoodbyeCode(n), Text: "bye"}, uint64(n-1))
	}
	for n := range 4 { // BEAT, and GOODBYE 1 to 3
		for i := range frame(begin(), n) {
			for _, cut := range []bool{false, true} {
				s := begin()
				b, before := frame(s, n), s.store.Slot(0)
				switch {
				case !cut:
					b[i] ^= 1 << (i % 8)
				case i > heartbeat.HeaderSize:
					b = b[:i]
					binary.BigEndian.PutUint16(b, uint16(i))
				default:
					b = b[:i]
				}
				s.send(1, b)
				after := s.store.Slot(0)
				if after.Received != before.Received || after.Pending() || after.LastReceived != before.LastReceived ||
					after.State != Connected && (after.State != Waiting || after.Closed != Broken) {
					t.Fatalf("frame %d, byte %d, cut %v: %s %s", n, i, cut, describe(after), s.out)
				}
			}
		}
	}
}

// TestHandshakeBytes: whatever byte of the HELLO or of the RESPONSE is another one, nobody is
// admitted.
func TestHandshakeBytes(t *testing.T) {
	for which := range 2 {
		for i := 0; ; i++ {
			s := &script{settings: Settings{TerminateOnClose: true, MaxTimeout: time.Hour}}
			for _, line := range []string{"server auth=require keys=a:1", "open 1 192.0.2.1:40001"} {
				if _, err := s.step(0, strings.Fields(line)); err != nil {
					t.Fatal(err)
				}
			}
			s.words = words{args: map[string]string{"key": "a"}}
			s.channels[1] = &heartbeat.Channel{Version: 2, Attempt: 1}
			h := heartbeat.Hello{MinVersion: 2, MaxVersion: 2, ID: heartbeat.ID{1}, Boot: heartbeat.ID{1}, Attempt: 1,
				Interval: time.Second, Timeout: 3 * time.Second}
			s.withKey(1, &h)
			b := h.Append(nil)
			if which == 0 {
				if i == len(b) {
					break
				}
				b[i] ^= 1 << (i % 8)
			}
			s.send(1, b)
			e := s.ends[1]
			if e.challenge != nil {
				e.shake = proof.NewHandshake(e.key, proof.TranscriptOf(e.hello, e.challenge))
				r := heartbeat.AppendResponse(nil, e.shake.Response())
				if which == 1 {
					if i == len(r) {
						break
					}
					r[i] ^= 1 << (i % 8)
					if i == 3 { // reserved: ignored, and nothing depends on it
						continue
					}
				}
				s.send(1, r)
			}
			if slot := s.store.Slot(0); slot.State != Free {
				t.Errorf("message %d, byte %d: %s", which, i, describe(slot))
			}
		}
	}
}

// TestUnknownKey: whom the file does not have gets the same bytes as who has another secret.
func TestUnknownKey(t *testing.T) {
	answers := map[string]bool{}
	for _, key := range []string{"key=a secret=2", "key=b", "key=c"} { // c is not from there
		s := &script{settings: Settings{TerminateOnClose: true, MaxTimeout: time.Hour}}
		var sent []string
		for _, line := range []string{"server auth=prefer keys=a:1,c:1@198.51.100.0/24", "hello 1 192.0.2.1:40001 id=1 attempt=1 " + key,
			"response 1"} {
			out, err := s.step(0, strings.Fields(line))
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out {
				if !strings.HasPrefix(o, "LOG") {
					sent = append(sent, o)
				}
			}
		}
		answers[fmt.Sprintf("%x %q", s.ends[1].challenge, sent)] = true
	}
	if len(answers) != 1 {
		t.Errorf("%v", answers)
	}
}

// TestRequiredOverRestarts: a worker that starts with Require forgets what was not proved, and asks
// the terminator for nothing.
func TestRequiredOverRestarts(t *testing.T) {
	s := &script{settings: Settings{TerminateOnClose: true, MaxTimeout: time.Hour}}
	for _, line := range []string{"server auth=prefer keys=a:1", "hello 1 192.0.2.1:40001 id=1", "hello 2 192.0.2.2:40002 id=2 attempt=1 key=a",
		"response 2"} {
		if _, err := s.step(0, strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
	}
	s.settings.Access = &Access{Authentication: Require, Keys: testKeys("a:1")}
	for i, line := range []string{"worker", "until"} {
		if _, err := s.step(time.Duration(i+1)*time.Minute, strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := s.store.Slot(0), s.store.Slot(1); a.State != Free || a.Pending() || b.State != Ending {
		t.Error(describe(a), describe(b))
	}
}

// FuzzForged: whatever somebody without the key sends, on connections of his own and in the middle
// of a proved one, ends no session, protects none, and takes no slot.
func FuzzForged(f *testing.F) {
	hello := heartbeat.Hello{MinVersion: 1, MaxVersion: 2, ID: heartbeat.ID{1}, Boot: heartbeat.ID{1}, Attempt: 2, Generation: 1,
		Interval: time.Second, Timeout: 3 * time.Second}
	keyed := hello
	keyed.MinVersion, keyed.KeyID = 2, testKey("a", "1").ID
	goodbye := heartbeat.ConmgrGoodbye{Goodbye: heartbeat.Goodbye{Code: heartbeat.GoodbyeGivenUp}, Generation: 1, Attempt: 9}
	f.Add(hello.Append(nil), goodbye.Append(nil, 2))
	f.Add(append(keyed.Append(nil), heartbeat.AppendResponse(nil, [proof.ResponseSize]byte{})...), goodbye.Append(nil, 2))
	f.Add(goodbye.Append(nil, 1), heartbeat.ConmgrBeat{Sequence: 1}.Append(nil, 2))
	f.Fuzz(func(t *testing.T, own, injected []byte) {
		s := &script{settings: Settings{TerminateOnClose: true, MaxTimeout: time.Hour}}
		for _, line := range []string{"server auth=require keys=a:1", "hello 1 192.0.2.1:40001 id=1 attempt=1 key=a", "response 1",
			"open 2 192.0.2.1:40002"} {
			if _, err := s.step(0, strings.Fields(line)); err != nil {
				t.Fatal(err)
			}
		}
		s.now = time.Second
		before := s.store.Slot(0)
		s.do(Event{Kind: Bytes, Conn: 2, Data: own})
		if s.open[2] {
			s.ended(2, Finished, "the end")
		}
		s.do(Event{Kind: Bytes, Conn: 1, Data: injected})
		after := s.store.Slot(0)
		if after.Received != before.Received || after.Pending() || after.Generation != before.Generation ||
			after.State == Ending || after.State == Free || after.Closed != Broken {
			t.Fatal(describe(after))
		}
		for i := 1; i < s.store.Len(); i++ {
			if s.store.State(i) != Free {
				t.Fatal(describe(s.store.Slot(i)))
			}
		}
	})
}

// TestHeirHasTheKey: what carries the label of a conmgr with a proof is left to nobody who has not
// proved the same keyid, whatever he says of his boot.
func TestHeirHasTheKey(t *testing.T) {
	s := &script{settings: Settings{TerminateOnClose: true, MaxTimeout: time.Hour}}
	for i, line := range []string{"server auth=prefer keys=a:1,b:1 slots=5", "hello 1 192.0.2.1:40001 id=1",
		"hello 2 192.0.2.1:40002 id=2 attempt=1 key=b", "response 2", "hello 3 192.0.2.1:40003 id=3 attempt=1 key=a", "response 3",
		"goodbye 3 3", "hello 4 192.0.2.1:40004 id=4 attempt=1 key=a", "response 4", "hello 5 192.0.2.1:40005 id=5 attempt=1 key=a",
		"response 5", "goodbye 4 3"} {
		if _, err := s.step(time.Duration(i)*time.Millisecond, strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
	}
	if three, four := s.store.Slot(2).Heir, s.store.Slot(3).Heir; three != (heartbeat.ID{}) ||
		four != heartbeat.LabelID(heartbeat.ID{5}) {
		t.Error(three, four)
	}
}
