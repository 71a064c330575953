package heartbeat

// Fuzz target: bytes of a stranger.

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// FuzzFrames: no bytes make the decoders panic or read beyond the frame, and what they accept
// encodes to the same bytes again, up to what a newer peer may have appended.
func FuzzFrames(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.encode(nil))
	}
	var all []byte
	for _, m := range messages() {
		all = m.encode(all)
	}
	f.Add(all)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
	f.Add([]byte("\x02\x00\x04\x00\x00\x01\xff\xff"))
	f.Add(append([]byte("\x02\x00\x05\x00\x00\x01\x00\xff"), make([]byte, 504)...))
	f.Add([]byte("\x00\x03\x01\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		input := append([]byte(nil), data...)
		if CheckHelloPrefix(data) != nil {
			if fr, n, err := Next(data); err == nil && n > 0 && fr.Type == TypeHello {
				if _, err := ParseHello(fr.Payload); err == nil {
					t.Fatal("a good HELLO has a prefix that is refused")
				}
			}
		}
		for rest := data; ; {
			fr, n, err := Next(rest)
			if err != nil || n == 0 {
				break
			}
			if n < HeaderSize || n > MaxFrame || n > len(rest) || len(fr.Payload) != n-HeaderSize {
				t.Fatalf("frame of %d bytes with a payload of %d, out of %d", n, len(fr.Payload), len(rest))
			}
			checkFrame(t, fr)
			rest = rest[n:]
		}
		if !bytes.Equal(data, input) {
			t.Fatal("decoding changed its input")
		}
	})
}

func checkFrame(t *testing.T, f Frame) {
	same := func(b []byte) {
		t.Helper()
		if p := b[HeaderSize:]; len(p) > len(f.Payload) || !bytes.Equal(p, f.Payload[:len(p)]) {
			t.Fatalf("%s: %x encodes again as %x", f.Type, f.Payload, p)
		}
		if _, n, err := Next(b); n != len(b) || err != nil {
			t.Fatalf("%s: its encoding is no frame: %d of %d, %v", f.Type, n, len(b), err)
		}
	}
	text := func(s string, b []byte) {
		t.Helper()
		if len(s) > MaxText || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			t.Fatalf("%s: text %q", f.Type, s)
		}
		n := int(f.Payload[2])<<8 | int(f.Payload[3])
		if string(f.Payload[4:4+n]) == s { // nothing was replaced
			same(b)
		}
	}
	switch f.Type {
	case TypeHello:
		if h, err := ParseHello(f.Payload); err == nil {
			if v := h.Version(); v < MinVersion || v > MaxVersion || v < h.MinVersion || v > h.MaxVersion {
				t.Fatalf("version %d of %d to %d", v, h.MinVersion, h.MaxVersion)
			}
			if h.Interval < MinInterval || h.Interval > MaxInterval || h.Timeout < MinInterval || h.Timeout > MaxInterval {
				t.Fatalf("settings %v, %v", h.Interval, h.Timeout)
			}
			same(h.Append(nil)) // an attempt of 0 is left out
		}
	case TypeWelcome:
		if w, err := ParseWelcome(f.Payload); err == nil {
			b, whole := withoutLag(w.Append(nil), w.Version, w.Attributes, w.Lag), 0
			// An older watchdog's ends earlier; a field that is cut off is taken for none.
			for _, size := range [...]int{welcomeSize, welcomePortSize, successionSize, knownSinceSize, lagSize} {
				if HeaderSize+whole+size > len(b) {
					break
				}
				if whole+size > len(f.Payload) {
					break
				}
				whole += size
			}
			if whole > welcomeSize {
				copy(b[HeaderSize+welcomeSize+2:][:2], f.Payload[welcomeSize+2:]) // reserved
			}
			same(end(b[:HeaderSize+whole], 0))
		}
	case TypeBeat:
		for v := uint16(MinVersion); v <= MaxVersion; v++ {
			if c, err := ParseConmgrBeat(f.Payload, v); err == nil {
				same(c.Append(nil, v))
			}
			if w, err := ParseWatchdogBeat(f.Payload, v); err == nil {
				same(withoutLag(w.Append(nil, v), v, w.Attributes, w.Lag))
			}
		}
	case TypeGoodbye:
		if g, err := ParseGoodbye(f.Payload); err == nil {
			text(g.Text, g.Append(nil))
		}
		if g, err := ParseConmgrGoodbye(f.Payload, MaxVersion); err == nil {
			text(g.Text, g.Append(nil, MaxVersion))
		}
	case TypeChallenge:
		if CheckChallenge(f.Payload) == nil {
			same(AppendChallenge(nil, proof.Nonce(f.Payload)))
		}
	case TypeResponse:
		if r, err := ParseResponse(f.Payload); err == nil {
			same(AppendResponse(nil, [proof.ResponseSize]byte(r)))
		}
	case TypeRefused:
		if r, err := ParseRefused(f.Payload); err == nil {
			text(r.Text, r.Append(nil))
		}
	}
}

// withoutLag leaves out a lag that is not known: it may not have been there, or have been only half
// of one.
func withoutLag(b []byte, version uint16, a Attributes, l Lag) []byte {
	if version >= 2 && a.Has(InRecovery) && !l.Known {
		b = end(b[:len(b)-lagSize], 0)
	}
	return b
}

// TestDecodingDoesNotAllocate: no side allocates by what it receives.
func TestDecodingDoesNotAllocate(t *testing.T) {
	hello, beat, welcome := testHello().Append(nil), WatchdogBeat{Sequence: 1}.Append(nil, 2), Welcome{Version: 1}.Append(nil)
	out := make([]byte, 0, MaxFrame)
	for name, f := range map[string]func(){
		"Next":    func() { _, _, _ = Next(hello) },
		"HELLO":   func() { _, _ = ParseHello(hello[HeaderSize:]) },
		"WELCOME": func() { _, _ = ParseWelcome(welcome[HeaderSize:]) },
		"BEAT":    func() { _, _ = ParseWatchdogBeat(beat[HeaderSize:], 2); _, _ = ParseConmgrBeat(beat[HeaderSize:], 2) },
		"prefix":  func() { _ = CheckHelloPrefix(hello) },
		"encode": func() {
			WatchdogBeat{Sequence: 1, Attributes: Attributes{Flags: InRecovery}, Succeeds: Succession{1, 1}}.Append(out, 2)
			ConmgrBeat{1, 2}.Append(out, 2)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
