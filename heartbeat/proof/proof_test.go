package proof

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors.txt anew")

var anywhere = netip.MustParseAddr("192.0.2.1")

func numbered(from byte) (n [32]byte) {
	for i := range n {
		n[i] = from + byte(i)
	}
	return n
}

func testKey(t testing.TB) *Key {
	t.Helper()
	id, err := ParseKeyID("client1")
	if err != nil {
		t.Fatal(err)
	}
	return NewKey(id, numbered(0x00))
}

// frame is a frame of a type without its MAC.
func frame(typ byte, payload ...[]byte) []byte {
	b := append([]byte{0, 0, typ, 0}, bytes.Join(payload, nil)...)
	lengthen(b, 0)
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// exchange is one of docs/protocol.md 1.7.
type exchange struct {
	hello, challenge []byte
	th               Transcript
	conmgr, watchdog *Handshake
	welcome          []byte
}

func newExchange(t testing.TB) *exchange {
	t.Helper()
	k := testKey(t)
	c, s := numbered(0x20), numbered(0x40)
	e := &exchange{
		hello: frame(1, unhex(t, "50475744 0002 0002 101112131415161718191a1b1c1d1e1f f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"+
			"0000000000000001 000003e8 000007d0 00000000 00000003"), k.ID[:], c[:]),
		challenge: frame(6, s[:]),
	}
	e.th = TranscriptOf(e.hello, e.challenge)
	e.conmgr = NewHandshake(k, e.th)
	r := e.conmgr.Response()
	keys := keysOf(k)
	if e.watchdog = keys.Check(k.ID, anywhere, e.th, r[:]); e.watchdog == nil {
		t.Fatal("a good RESPONSE is not believed")
	}
	e.welcome = e.watchdog.SealWelcome(frame(2, unhex(t, "0002 0003 1122334455667788 0005f5e100000000 00000000 00000007"+
		"1538 0000 0000000000000000 00000000 0005f5e100000001")), 0)
	if _, ok := e.conmgr.OpenWelcome(e.welcome); !ok {
		t.Fatal("a good WELCOME is not believed")
	}
	return e
}

func keysOf(list ...*Key) *Keys {
	var all []placed
	for i, k := range list {
		all = append(all, placed{*k, nil, i + 1})
	}
	ks, err := collect("keys", all)
	if err != nil {
		panic(err)
	}
	return ks
}

func (e *exchange) links() (conmgr, watchdog *Link) {
	c, w := e.conmgr.Link(), e.watchdog.Link()
	return &c, &w
}

// The frames of the vectors: BEAT of conmgr, BEAT of the watchdog, GOODBYE of conmgr.
func conmgrBeat(t testing.TB) []byte { return frame(3, unhex(t, "00000001 00000000")) }

func watchdogBeat(t testing.TB) []byte {
	return frame(3, unhex(t, "00000001 00000000 00000007 0000000000000000 00000000 00000001"))
}

func goodbye(t testing.TB) []byte {
	return frame(4, unhex(t, "0001 0003"), []byte("bye"), unhex(t, "0000000000000001 00000003"))
}

// TestVectors holds the numbers of docs/protocol.md, which other implementations are tried with.
func TestVectors(t *testing.T) {
	e := newExchange(t)
	var b strings.Builder
	b.WriteString("# Vectors of docs/protocol.md 1.7: name, bytes in hex. Frames are whole ones.\n")
	line := func(name string, v []byte) { fmt.Fprintf(&b, "%s %x\n", name, v) }
	k := e.conmgr
	c, s := numbered(0x20), numbered(0x40)
	line("secret", k.Key.secret[:])
	line("nonce_c", c[:])
	line("nonce_s", s[:])
	line("HELLO", e.hello)
	line("CHALLENGE", e.challenge)
	line("TH", e.th[:])
	line("PRK", k.prk[:])
	for _, name := range []string{"conmgr", "watchdog", "frames"} {
		key := expand(&k.prk, "PGWD/2 "+name)
		line("k_"+name[:1], key[:])
	}
	r := k.Response()
	line("RESPONSE", frame(7, r[:]))
	line("WELCOME", e.welcome)
	conmgr, watchdog := e.links()
	line("BEAT_of_conmgr_n_0", conmgr.Seal(FromConmgr, conmgrBeat(t), 0))
	line("BEAT_of_watchdog_n_0", watchdog.Seal(FromWatchdog, watchdogBeat(t), 0))
	conmgr.sent = 1 << 32
	line("BEAT_of_conmgr_n_4294967296", conmgr.Seal(FromConmgr, conmgrBeat(t), 0))
	conmgr.sent = 1
	line("GOODBYE_of_conmgr_n_1", conmgr.Seal(FromConmgr, goodbye(t), 0))
	const file = "testdata/vectors.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != b.String() {
		t.Errorf("%v; got\n%s", err, b.String())
	}
	doc, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.NewReplacer("\n", "", " ", "").Replace(string(doc))
	for l := range strings.Lines(b.String()) {
		name, v, _ := strings.Cut(strings.TrimSpace(l), " ")
		if name != "#" && !strings.Contains(flat, strings.ReplaceAll(name, "_", "\\_")) &&
			!strings.Contains(flat, name) || name != "#" && !strings.Contains(flat, v) {
			t.Errorf("docs/protocol.md does not have %s %s", name, v)
		}
	}
}

// TestStandardLibrary: HMAC and HKDF are those of the standard library.
func TestStandardLibrary(t *testing.T) {
	key := numbered(7)
	for n := range longest + 1 {
		msg := bytes.Repeat([]byte{byte(n)}, n)
		h := hmac.New(sha256.New, key[:])
		h.Write(msg)
		if got := hmacOf(&key, msg[:n/3], msg[n/3:]); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Fatalf("HMAC of %d bytes", n)
		}
	}
	salt, secret := numbered(1), Secret(numbered(2))
	prk, _ := hkdf.Extract(sha256.New, secret[:], salt[:])
	if got := extract(&salt, &secret); !bytes.Equal(got[:], prk) {
		t.Error("HKDF-Extract")
	}
	out, _ := hkdf.Expand(sha256.New, prk, "PGWD/2 frames", 32)
	got := extract(&salt, &secret)
	if got = expand(&got, "PGWD/2 frames"); !bytes.Equal(got[:], out) {
		t.Error("HKDF-Expand")
	}
}

// TestMustFail is what no end may believe.
func TestMustFail(t *testing.T) {
	beat := conmgrBeat(t)
	for _, c := range []struct {
		name  string
		frame func(e *exchange, conmgr, watchdog *Link) []byte // for the watchdog
	}{
		{"reflected", func(_ *exchange, _, w *Link) []byte { return w.Seal(FromWatchdog, beat, 0) }},
		{"a number that was left out", func(_ *exchange, c, _ *Link) []byte { c.sent++; return c.Seal(FromConmgr, beat, 0) }},
		{"the number before", func(_ *exchange, c, w *Link) []byte {
			w.received, c.sent = 7, 6
			return c.Seal(FromConmgr, beat, 0)
		}},
		{"a number that differs in its high half", func(_ *exchange, c, _ *Link) []byte {
			c.sent = 1 << 32
			return c.Seal(FromConmgr, beat, 0)
		}},
		{"a MAC that is cut", func(_ *exchange, c, _ *Link) []byte {
			b := c.Seal(FromConmgr, beat, 0)
			b = b[:len(b)-1]
			lengthen(b, 0)
			return b
		}},
		{"no MAC", func(*exchange, *Link, *Link) []byte { return beat }},
		{"nothing but a MAC", func(*exchange, *Link, *Link) []byte { return make([]byte, FrameMACSize) }},
		{"empty", func(*exchange, *Link, *Link) []byte { return nil }},
		{"of another connection", func(*exchange, *Link, *Link) []byte {
			e := newExchange(t)
			other := TranscriptOf(e.hello, frame(6, make([]byte, NonceSize)))
			l := NewHandshake(testKey(t), other).Link()
			return l.Seal(FromConmgr, beat, 0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newExchange(t)
			conmgr, watchdog := e.links()
			before := bytes.Clone(beat)
			if _, ok := watchdog.Open(FromWatchdog, c.frame(e, conmgr, watchdog)); ok {
				t.Error("believed")
			}
			beat = before
		})
	}
}

// TestEachByte: no byte of a frame can be another one.
func TestEachByte(t *testing.T) {
	e := newExchange(t)
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1 << (i % 8)
		return b
	}
	k := testKey(t)
	keys := keysOf(k)
	r := e.conmgr.Response()
	for i := range e.hello {
		if keys.Check(k.ID, anywhere, TranscriptOf(flip(e.hello, i), e.challenge), r[:]) != nil {
			t.Errorf("HELLO, byte %d", i)
		}
	}
	for i := range e.challenge {
		if keys.Check(k.ID, anywhere, TranscriptOf(e.hello, flip(e.challenge, i)), r[:]) != nil {
			t.Errorf("CHALLENGE, byte %d", i)
		}
	}
	for i := range r {
		if keys.Check(k.ID, anywhere, e.th, flip(r[:], i)) != nil {
			t.Errorf("RESPONSE, byte %d", i)
		}
	}
	for i := range e.welcome {
		if _, ok := e.conmgr.OpenWelcome(flip(e.welcome, i)); ok {
			t.Errorf("WELCOME, byte %d", i)
		}
		if _, ok := e.conmgr.OpenWelcome(e.welcome[:i]); ok {
			t.Errorf("WELCOME, cut to %d bytes", i)
		}
	}
	conmgr, watchdog := e.links()
	for n, f := range [][]byte{conmgrBeat(t), goodbye(t), conmgrBeat(t)} {
		plain := bytes.Clone(f)
		sealed := conmgr.Seal(FromConmgr, f, 0)
		for i := range sealed {
			if _, ok := watchdog.Open(FromWatchdog, flip(sealed, i)); ok {
				t.Errorf("frame %d, byte %d", n, i)
			}
			if _, ok := watchdog.Open(FromWatchdog, sealed[:i]); ok {
				t.Errorf("frame %d, cut to %d bytes", n, i)
			}
		}
		payload, ok := watchdog.Open(FromWatchdog, sealed)
		if !ok || !bytes.Equal(payload, plain[headerSize:]) {
			t.Errorf("frame %d is not believed: %x", n, payload)
		}
		if _, ok := watchdog.Open(FromWatchdog, sealed); ok {
			t.Errorf("frame %d is believed twice", n)
		}
	}
}

// TestWho: a keyid is believed from its networks only, with its own secrets only, and nobody is
// whom the file does not have.
func TestWho(t *testing.T) {
	text := Line(testKey(t).ID, numbered(0x00)) + " 192.0.2.0/24,2001:db8::/32\n" +
		Line(testKey(t).ID, numbered(0x01)) + "\nother " + strings.Fields(Line(testKey(t).ID, numbered(0x02)))[1] + "\n"
	keys, err := ParseFile("keys", text)
	if err != nil {
		t.Fatal(err)
	}
	e := newExchange(t)
	check := func(id string, from string, secret Secret) bool {
		var k KeyID
		copy(k[:], id)
		r := NewHandshake(NewKey(k, secret), e.th).Response()
		h := keys.Check(k, netip.MustParseAddr(from), e.th, r[:])
		if h != nil && h.Key.ID != (KeyID{}) && keys.Find(h.Key, netip.MustParseAddr(from)) != h.Number {
			t.Errorf("%s from %s is not believed any more", id, from)
		}
		return h != nil
	}
	for _, c := range []struct {
		id, from string
		secret   Secret
		want     bool
	}{
		{"client1", "192.0.2.1", numbered(0x00), true},
		{"client1", "2001:db8::1", numbered(0x00), true},
		{"client1", "::ffff:192.0.2.1", numbered(0x00), true},
		{"client1", "192.0.3.1", numbered(0x00), false},
		{"client1", "192.0.3.1", numbered(0x01), true}, // the second secret
		{"client1", "192.0.2.1", numbered(0x02), false},
		{"other", "192.0.2.1", numbered(0x02), true},
		{"other", "192.0.2.1", numbered(0x00), false},
		{"client", "192.0.2.1", numbered(0x00), false},
		{"nobody", "192.0.2.1", Secret{}, false}, // what is tried instead of a key that is not known
		{"", "192.0.2.1", Secret{}, false},
	} {
		if got := check(c.id, c.from, c.secret); got != c.want {
			t.Errorf("%s from %s: %v", c.id, c.from, got)
		}
	}
	if (*Keys)(nil).Check(testKey(t).ID, anywhere, e.th, make([]byte, 32)) != nil {
		t.Error("without keys somebody is believed")
	}
	if _, err := keys.Only(); err == nil {
		t.Error("three keys are one")
	}
	if k, err := keysOf(testKey(t)).Only(); err != nil || k.ID != testKey(t).ID {
		t.Error(k, err)
	}
	if keysOf(NewKey(testKey(t).ID, numbered(9))).Find(testKey(t), anywhere) != 0 {
		t.Error("a key whose secret was replaced is still believed")
	}
	if keys.Find(testKey(t), netip.MustParseAddr("192.0.3.1")) != 0 {
		t.Error("a key is believed from another network")
	}
}

// TestFramesDoNotAllocate: a server with thousands of keys has nothing to collect.
func TestFramesDoNotAllocate(t *testing.T) {
	e := newExchange(t)
	conmgr, watchdog := e.links()
	beat, out := conmgrBeat(t), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() {
		out = append(out[:0], beat...)
		if _, ok := watchdog.Open(FromWatchdog, conmgr.Seal(FromConmgr, out, 0)); !ok {
			t.Fatal("not believed")
		}
	}); n != 0 {
		t.Errorf("a frame allocates %v times", n)
	}
}

func BenchmarkFrame(b *testing.B) {
	conmgr, _ := newExchange(b).links()
	beat := conmgrBeat(b)
	out := make([]byte, 0, 512)
	for b.Loop() {
		out = conmgr.Seal(FromConmgr, append(out[:0], beat...), 0)
	}
}

func BenchmarkHandshake(b *testing.B) {
	e := newExchange(b)
	keys := keysOf(testKey(b))
	r := e.conmgr.Response()
	for b.Loop() {
		th := TranscriptOf(e.hello, e.challenge)
		h := keys.Check(testKey(b).ID, anywhere, th, r[:])
		h.SealWelcome(e.welcome[:60:60], 0)
		h.Link()
	}
}
