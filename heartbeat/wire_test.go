package heartbeat

// Frames: the bytes of docs/protocol.md 1.1 and 1.2, and what becomes of bytes that are not so.
// Pure.

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// unhex reads hex with spaces and line breaks, as written beside the tables of the protocol page.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testHello() Hello {
	h := Hello{MinVersion: 1, MaxVersion: 1, Generation: 0x0102030405060708, Interval: time.Second,
		Timeout: 2 * time.Second}
	for i := range h.ID {
		h.ID[i], h.Boot[i] = byte(0x10+i), byte(0xf0+i)
	}
	return h
}

// message is one message of the protocol: its value, its bytes, and its codec.
type message struct {
	name    string
	typ     Type
	hex     string
	encode  func(b []byte) []byte
	value   any
	decode  func(p []byte) (any, error)
	minimum int // payload bytes below which it is refused
}

func messages() []message {
	hello := testHello()
	welcome := Welcome{Version: 1, Flags: Resumed, SystemIdentifier: 0x1122334455667788, PostmasterStart: -2,
		Attributes: Attributes{Flags: InRecovery | ShuttingDown, Timeline: 7}, PostmasterPort: 5432,
		Succeeds:   Succession{SystemIdentifier: 0x2122232425262728, Timeline: 0x31323334},
		KnownSince: 0x4142434445464748}
	first := welcome // what the watchdog said before it told its port
	first.PostmasterPort, first.Succeeds, first.KnownSince = 0, Succession{}, 0
	second := welcome // and before it told since when it knows the conmgr
	second.KnownSince = 0
	wb := WatchdogBeat{0xfffffffe, Attributes{Flags: ReadOnly, Timeline: 0x01020304}, Succession{}, 0, Lag{}, 0}
	successor := WatchdogBeat{1, Attributes{Timeline: 3}, Succession{0x2122232425262728, 0x31323334}, 0, Lag{}, 0}
	wb2 := wb
	wb2.Echo = 0x51525354
	standby := WatchdogBeat{2, Attributes{Flags: InRecovery, Timeline: 3}, Succession{}, 1,
		Lag{true, 0x0102030405060708, 0x0a0b0c0d * time.Millisecond}, 0}
	held, standbyHeld := wb2, standby
	held.Held, standbyHeld.Held = 0xf1f2f3f4*time.Microsecond, time.Microsecond
	alone, begun := standby, standby
	alone.Lag, begun.Lag = Lag{}, Lag{true, 0x0102030405060708, -1}
	const standbyHex = `002c 03 00  00000002  00000001 00000003  0000000000000000 00000000  00000001 `
	hello2, welcome2 := hello, welcome
	hello2.MaxVersion, hello2.Attempt = 2, 0x0a0b0c0d
	welcome2.Version, welcome2.Flags, welcome2.Lag = 2, Resumed|KnowsLabels, standby.Lag
	primary2 := welcome2
	primary2.Attributes.Flags, primary2.Lag = ReadOnly, Lag{}
	bye2 := ConmgrGoodbye{Goodbye{GoodbyeGivenUp, "bye"}, 0x0102030405060708, 0x0a0b0c0d}
	keyed := hello2
	keyed.MinVersion, keyed.KeyID, keyed.Nonce = 2, proof.KeyID([]byte("client1\x00\x00\x00\x00\x00\x00\x00\x00\x00")), proof.Nonce{0: 0x20, 31: 0x3f}
	nonce := proof.Nonce{0: 0x40, 31: 0x5f}
	zeros := strings.Repeat("00", 30)
	goodbye := Goodbye{GoodbyeServerEnds, "bye"}
	refused := Refused{RefusedFull, "käse"}
	return append(askMessages(), []message{
		{"HELLO", TypeHello,
			`0040 01 00  50475744 0001 0001
			 101112131415161718191a1b1c1d1e1f  f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
			 0102030405060708  000003e8 000007d0 00000000`,
			hello.Append, hello, func(p []byte) (any, error) { return ParseHello(p) }, 60},
		{"WELCOME", TypeWelcome,
			`0038 02 00  0001 0001 1122334455667788 fffffffffffffffe  00000005 00000007
			 1538 0000  2122232425262728 31323334  4142434445464748`,
			welcome.Append, welcome, func(p []byte) (any, error) { return ParseWelcome(p) }, 28},
		{"WELCOME without its last field", TypeWelcome,
			`0030 02 00  0001 0001 1122334455667788 fffffffffffffffe  00000005 00000007
			 1538 0000  2122232425262728 31323334`,
			func(b []byte) []byte { return end(second.Append(b)[:len(b)+48], len(b)) }, second,
			func(p []byte) (any, error) { return ParseWelcome(p) }, 28},
		{"WELCOME of 1.0", TypeWelcome,
			`0020 02 00  0001 0001 1122334455667788 fffffffffffffffe  00000005 00000007`,
			func(b []byte) []byte { return end(first.Append(b)[:len(b)+32], len(b)) }, first,
			func(p []byte) (any, error) { return ParseWelcome(p) }, 28},
		{"BEAT of conmgr", TypeBeat, `0008 03 00  00000005`,
			func(b []byte) []byte { return ConmgrBeat{Sequence: 5}.Append(b, 1) }, ConmgrBeat{Sequence: 5},
			func(p []byte) (any, error) { return ParseConmgrBeat(p, 1) }, 4},
		{"BEAT of the watchdog", TypeBeat, `0010 03 00  fffffffe  00000002 01020304`,
			func(b []byte) []byte { return wb.Append(b, 1) }, wb,
			func(p []byte) (any, error) { return ParseWatchdogBeat(p, 1) }, 12},
		{"BEAT of a successor", TypeBeat, `001c 03 00  00000001  00000000 00000003  2122232425262728 31323334`,
			func(b []byte) []byte { return successor.Append(b, 1) }, successor,
			func(p []byte) (any, error) { return ParseWatchdogBeat(p, 1) }, 12},
		{"GOODBYE", TypeGoodbye, `000b 04 00  0010 0003 627965`,
			goodbye.Append, goodbye, func(p []byte) (any, error) { return ParseGoodbye(p) }, 7},
		{"REFUSED", TypeRefused, `000d 05 00  0003 0005 6bc3a47365`,
			refused.Append, refused, func(p []byte) (any, error) { return ParseRefused(p) }, 9},
		{"HELLO of version 2", TypeHello,
			`0044 01 00  50475744 0001 0002
			 101112131415161718191a1b1c1d1e1f  f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
			 0102030405060708  000003e8 000007d0 00000000  0a0b0c0d`,
			hello2.Append, hello2, func(p []byte) (any, error) { return ParseHello(p) }, 60},
		{"HELLO with a key", TypeHello,
			`0074 01 00  50475744 0002 0002
			 101112131415161718191a1b1c1d1e1f  f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
			 0102030405060708  000003e8 000007d0 00000000  0a0b0c0d
			 636c69656e7431000000000000000000  20` + zeros + `3f`,
			keyed.Append, keyed, func(p []byte) (any, error) { return ParseHello(p) }, 60},
		{"CHALLENGE", TypeChallenge, `0024 06 00  40` + zeros + `5f`,
			func(b []byte) []byte { return AppendChallenge(b, nonce) }, nil,
			func(p []byte) (any, error) { return nil, CheckChallenge(p) }, 32},
		{"RESPONSE", TypeResponse, `0024 07 00  40` + zeros + `5f`,
			func(b []byte) []byte { return AppendResponse(b, nonce) }, nonce[:],
			func(p []byte) (any, error) { return ParseResponse(p) }, 32},
		{"WELCOME of version 2", TypeWelcome,
			`0038 02 00  0002 0003 1122334455667788 fffffffffffffffe  00000002 00000007
			 1538 0000  2122232425262728 31323334  4142434445464748`,
			primary2.Append, primary2, func(p []byte) (any, error) { return ParseWelcome(p) }, 28},
		{"WELCOME of a standby of version 2", TypeWelcome,
			`0044 02 00  0002 0003 1122334455667788 fffffffffffffffe  00000005 00000007
			 1538 0000  2122232425262728 31323334  4142434445464748  0102030405060708 0a0b0c0d`,
			welcome2.Append, welcome2, func(p []byte) (any, error) { return ParseWelcome(p) }, 28},
		{"BEAT of a standby of version 1", TypeBeat, `0010 03 00  00000002  00000001 00000003`,
			func(b []byte) []byte { return standby.Append(b, 1) },
			WatchdogBeat{Sequence: 2, Attributes: standby.Attributes},
			func(p []byte) (any, error) { return ParseWatchdogBeat(p, 1) }, 12},
		{"BEAT of a standby of version 2", TypeBeat, standbyHex + `0102030405060708 0a0b0c0d`,
			func(b []byte) []byte { return standby.Append(b, 2) }, standby,
			func(p []byte) (any, error) { return ParseWatchdogBeat(p, 2) }, 28},
		{"BEAT of a standby that has just begun", TypeBeat, standbyHex + `0102030405060708 ffffffff`,
			func(b []byte) []byte { return begun.Append(b, 2) }, begun,
			func(p []byte) (any, error) { return ParseWatchdogBeat(p, 2) }, 28},
		{"BEAT of a standby without a walreceiver", TypeBeat, standbyHex + `ffffffffffffffff ffffffff`,
			func(b []byte) []byte { return alone.Append(b, 2) }, alone,
			func(p []byte) (any, error) { return ParseWatchdogBeat(p, 2) }, 28},
		{"BEAT of conmgr of version 2", TypeBeat, `000c 03 00  00000005 00000007`,
			func(b []byte) []byte { return ConmgrBeat{5, 7}.Append(b, 2) }, ConmgrBeat{5, 7},
			func(p []byte) (any, error) { return ParseConmgrBeat(p, 2) }, 8},
		{"BEAT of the watchdog of version 2", TypeBeat,
			`0020 03 00  fffffffe  00000002 01020304  0000000000000000 00000000  51525354`,
			func(b []byte) []byte { return wb2.Append(b, 2) }, wb2,
			func(p []byte) (any, error) { return ParseWatchdogBeat(p, 2) }, 28},
		{"BEAT of the watchdog that tells how long it had what it echoes", TypeBeat,
			`0024 03 00  fffffffe  00000002 01020304  0000000000000000 00000000  51525354 f1f2f3f4`,
			func(b []byte) []byte { return held.Append(b, 2) }, held,
			func(p []byte) (any, error) { return ParseWatchdogBeat(p, 2) }, 28},
		{"BEAT of a standby that tells it", TypeBeat,
			strings.Replace(standbyHex, "002c", "0030", 1) + `0102030405060708 0a0b0c0d 00000001`,
			func(b []byte) []byte { return standbyHeld.Append(b, 2) }, standbyHeld,
			func(p []byte) (any, error) { return ParseWatchdogBeat(p, 2) }, 28},
		{"GOODBYE of conmgr of version 2", TypeGoodbye, `0017 04 00  0002 0003 627965  0102030405060708 0a0b0c0d`,
			func(b []byte) []byte { return bye2.Append(b, 2) }, bye2,
			func(p []byte) (any, error) { return ParseConmgrGoodbye(p, 2) }, 19},
	}...)
}

// TestNumbers holds what is part of the protocol for ever.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"HELLO", uint64(TypeHello), 1}, {"WELCOME", uint64(TypeWelcome), 2}, {"BEAT", uint64(TypeBeat), 3},
		{"GOODBYE", uint64(TypeGoodbye), 4},
		{"REFUSED", uint64(TypeRefused), 5}, {"CHALLENGE", uint64(TypeChallenge), 6}, {"RESPONSE", uint64(TypeResponse), 7},
		{"GOODBYE: conmgr ends", uint64(GoodbyeConmgrEnds), 1}, {"GOODBYE: given up", uint64(GoodbyeGivenUp), 2},
		{"GOODBYE: duplicate", uint64(GoodbyeDuplicate), 3},
		{"GOODBYE: server ends", uint64(GoodbyeServerEnds), 16},
		{"GOODBYE: conmgr silent", uint64(GoodbyeConmgrSilent), 17},
		{"REFUSED: malformed", uint64(RefusedMalformed), 1}, {"REFUSED: version", uint64(RefusedVersion), 2},
		{"REFUSED: full", uint64(RefusedFull), 3},
		{"REFUSED: setting", uint64(RefusedSetting), 4}, {"REFUSED: slow", uint64(RefusedTooSlow), 5},
		{"REFUSED: unproved", uint64(RefusedUnproved), 6}, {"REFUSED: no key", uint64(RefusedNoKey), 7},
		{"in recovery", uint64(InRecovery), 1}, {"read only", uint64(ReadOnly), 2},
		{"shutting down", uint64(ShuttingDown), 4}, {"draining", uint64(Draining), 8},
		{"resumed", uint64(Resumed), 1}, {"knows labels", uint64(KnowsLabels), 2}, {"largest frame", MaxFrame, 512}, {"header", HeaderSize, 4},
		{"ASK", uint64(TypeAsk), 8}, {"TELL", uint64(TypeTell), 9}, {"TELL: proved", uint64(TellProved), 1},
		{"TELL: terminate on close", uint64(TellTerminateOnClose), 2}, {"longest text", MaxText, 255},
		{"smallest setting", uint64(MinInterval.Milliseconds()), 10},
		{"largest setting", uint64(MaxInterval.Milliseconds()), 2147483647},
		{"lowest version", MinVersion, 1}, {"version", MaxVersion, 2},
	} {
		if c.got != c.want {
			t.Errorf("%s is %d, the protocol says %d", c.name, c.got, c.want)
		}
	}
}

func TestGoldenBytes(t *testing.T) {
	for _, m := range messages() {
		t.Run(m.name, func(t *testing.T) {
			want := unhex(t, m.hex)
			prefix := []byte{0xaa, 0xbb}
			got := m.encode(append([]byte(nil), prefix...))
			if !bytes.Equal(got, append(prefix, want...)) {
				t.Fatalf("encoded as\n%x, want\n%x after the prefix", got, want)
			}
			f, n, err := Next(want)
			if err != nil || n != len(want) || f.Type != m.typ {
				t.Fatalf("Next: %v, %d of %d bytes, %v", f.Type, n, len(want), err)
			}
			v, err := m.decode(f.Payload)
			if err != nil || !reflect.DeepEqual(v, m.value) {
				t.Errorf("decoded as %+v, %v; want %+v", v, err, m.value)
			}
			for short := range m.minimum {
				_, err := m.decode(f.Payload[:short])
				var pe *ProtocolError
				if !errors.As(err, &pe) || pe.Code != RefusedMalformed || pe.Error() != pe.Text ||
					!strings.Contains(pe.Text, m.typ.String()) {
					t.Fatalf("payload of %d bytes: %v, want a malformed %s", short, err, m.typ)
				}
			}
			for n := m.minimum; n < len(f.Payload); n++ {
				if _, err := m.decode(f.Payload[:n]); err != nil {
					t.Errorf("without the last of what was appended, %d bytes: %v", n, err)
				}
			}
			// The rule that messages grow at their ends.
			long := append(append([]byte(nil), f.Payload...), 1, 2, 3)
			if v, err := m.decode(long); err != nil || !reflect.DeepEqual(v, m.value) {
				t.Errorf("with 3 bytes more: %+v, %v; want %+v", v, err, m.value)
			}
		})
	}
}

// TestNextOnEverySplit: however the stream is cut into pieces, the same frames come out of it.
func TestNextOnEverySplit(t *testing.T) {
	var stream []byte
	var want []Type
	for _, m := range messages() {
		stream = m.encode(stream)
		want = append(want, m.typ)
	}
	stream = append(stream, 0, 4, 99, 0xff) // an empty frame of an unknown type, reserved byte set
	want = append(want, Type(99))
	for cut := range len(stream) + 1 {
		var got []Type
		var buf []byte
		for _, piece := range [][]byte{stream[:cut], stream[cut:]} {
			buf = append(buf, piece...)
			for {
				f, n, err := Next(buf)
				if err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				if n == 0 {
					break
				}
				if n != HeaderSize+len(f.Payload) {
					t.Fatalf("cut at %d: %d bytes with a payload of %d", cut, n, len(f.Payload))
				}
				got = append(got, f.Type)
				buf = buf[n:]
			}
		}
		if !reflect.DeepEqual(got, want) || len(buf) != 0 {
			t.Fatalf("cut at %d: %v and %d bytes left over, want %v", cut, got, len(buf), want)
		}
	}
}

func TestNextRefusesLengths(t *testing.T) {
	for length := range math.MaxUint16 + 1 {
		head := []byte{byte(length >> 8), byte(length), 3, 0}
		_, n, err := Next(head)
		switch {
		case length < HeaderSize || length > MaxFrame:
			var pe *ProtocolError
			if !errors.As(err, &pe) || pe.Code != RefusedMalformed {
				t.Fatalf("length %d: %v, want it refused", length, err)
			}
		case err != nil:
			t.Fatalf("length %d: %v", length, err)
		case (n != 0) != (length == HeaderSize):
			t.Fatalf("length %d: a frame of %d bytes out of 4", length, n)
		}
	}
	for n := range HeaderSize {
		if _, got, err := Next([]byte{0xff, 0xff, 0xff}[:n]); got != 0 || err != nil {
			t.Errorf("%d bytes: %d, %v; want to wait for more", n, got, err)
		}
	}
}

func TestCheckHelloPrefix(t *testing.T) {
	hello := testHello().Append(nil)
	longer := append(append([]byte(nil), hello...), make([]byte, MaxFrame-len(hello))...)
	longer[0], longer[1] = MaxFrame>>8, MaxFrame&0xff
	for _, valid := range [][]byte{hello, longer} {
		for n := range len(valid) + 1 {
			if err := CheckHelloPrefix(valid[:n]); err != nil {
				t.Fatalf("the first %d bytes of a HELLO: %v", n, err)
			}
		}
	}
	for _, c := range []struct {
		name  string
		bytes string
		shows int // with so many bytes at the latest it is refused
	}{
		{"HTTP", "GET / HTTP/1.1\r\n", 2},
		{"TLS ClientHello", "\x16\x03\x01\x02\x00\x01\x00\x01", 2},
		{"PostgreSQL startup", "\x00\x00\x00\x54\x00\x03\x00\x00user\x00", 2},
		{"PostgreSQL SSLRequest", "\x00\x00\x00\x08\x04\xd2\x16\x2f", 2},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", 2},
		{"zeros", strings.Repeat("\x00", 64), 2},
		{"another type of a good length", "\x00\x40\x03\x00PGWD", 3},
		{"a HELLO that is too short", "\x00\x3f\x01\x00PGWD", 2},
		{"another magic", "\x00\x40\x01\x00PGWX", 8},
		{"another magic at once", "\x00\x40\x01\x00X", 5},
	} {
		for n := c.shows; n <= len(c.bytes); n++ {
			var pe *ProtocolError
			if err := CheckHelloPrefix([]byte(c.bytes[:n])); !errors.As(err, &pe) || pe.Code != RefusedMalformed {
				t.Errorf("%s: the first %d bytes pass: %v", c.name, n, err)
			}
		}
	}
	other := append([]byte(nil), hello...)
	other[3] = 0xff // reserved: ignored
	if err := CheckHelloPrefix(other); err != nil {
		t.Errorf("the reserved byte is not ignored: %v", err)
	}
}

func TestHelloIsChecked(t *testing.T) {
	with := func(change func(*Hello)) []byte {
		h := testHello()
		change(&h)
		return h.Append(nil)[HeaderSize:]
	}
	raw := func(at int, v uint32) []byte {
		p := testHello().Append(nil)[HeaderSize:]
		p[at], p[at+1], p[at+2], p[at+3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
		return p
	}
	for _, c := range []struct {
		name    string
		payload []byte
		code    RefusedCode // 0: accepted
		text    string
	}{
		{"smallest settings", with(func(h *Hello) { h.Interval, h.Timeout = MinInterval, MinInterval }), 0, ""},
		{"largest settings", with(func(h *Hello) { h.Interval, h.Timeout = MaxInterval, MaxInterval }), 0, ""},
		{"interval 9", raw(48, 9), RefusedSetting, "heartbeat_interval is 9 ms: allowed are 10 to 2147483647"},
		{"interval 0", raw(48, 0), RefusedSetting, "heartbeat_interval is 0 ms"},
		{"interval 2^31", raw(48, 1<<31), RefusedSetting, "heartbeat_interval is 2147483648 ms"},
		{"interval 2^32-1", raw(48, math.MaxUint32), RefusedSetting, "heartbeat_interval is 4294967295 ms"},
		{"timeout 9", raw(52, 9), RefusedSetting, "heartbeat_timeout is 9 ms: allowed are 10 to 2147483647"},
		{"timeout 2^31", raw(52, 1<<31), RefusedSetting, "heartbeat_timeout is 2147483648 ms"},
		{"newer conmgr that still speaks 1", with(func(h *Hello) { h.MaxVersion = 9 }), 0, ""},
		{"a lower version than ours too", with(func(h *Hello) { h.MinVersion = 0 }), 0, ""},
		{"newer only", with(func(h *Hello) { h.MinVersion, h.MaxVersion = 3, 4 }), RefusedVersion,
			"conmgr speaks versions 3 to 4 of the heartbeat protocol, watchdog 1 to 2"},
		{"older only", with(func(h *Hello) { h.MinVersion, h.MaxVersion = 0, 0 }), RefusedVersion, "watchdog 1 to 2"},
		{"range upside down", with(func(h *Hello) { h.MinVersion, h.MaxVersion = 1, 0 }), RefusedVersion, ""},
		{"magic", raw(0, 0x50475745), RefusedMalformed, "malformed HELLO of 60 bytes"},
		{"generation 2^63", raw(40, 1<<31), RefusedMalformed, "is too large"},
		{"flags are free", with(func(h *Hello) { h.Flags = math.MaxUint32 }), 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := ParseHello(c.payload)
			if c.code == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if v := h.Version(); v != min(h.MaxVersion, 2) {
					t.Errorf("chosen version %d of %d to %d", v, h.MinVersion, h.MaxVersion)
				}
				return
			}
			var pe *ProtocolError
			if !errors.As(err, &pe) || pe.Code != c.code || !strings.Contains(pe.Text, c.text) {
				t.Errorf("got %v, want code %d with %q", err, c.code, c.text)
			}
		})
	}
}

func TestWelcomeVersionIsChecked(t *testing.T) {
	for version := uint16(0); version < 4; version++ {
		_, err := ParseWelcome(Welcome{Version: version}.Append(nil)[HeaderSize:])
		if (err == nil) != (version == 1 || version == 2) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

func TestTexts(t *testing.T) {
	a255 := strings.Repeat("a", 255)
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"longest", a255, a255},
		{"one too long", a255 + "b", a255},
		{"far too long", strings.Repeat("a", 1000), a255},
		{"cut before a character of 2 bytes", a255[:254] + "äb", a255[:254]},
		{"cut before a character of 3 bytes", a255[:253] + "€", a255[:253]},
		{"cut before a character of 4 bytes", a255[:252] + "😀", a255[:252]},
		{"a character that just fits", a255[:251] + "😀", a255[:251] + "😀"},
		{"control characters", "a\x00b\nc\x1b[31md\x7fe\tf\r", "a?b?c?[31md?e?f?"},
		{"C1 control characters: a terminal obeys them too", "a\u009b31m\u0085b", "a?31m?b"},
		{"no UTF-8", "a\xff\xc3b", "a??b"},
		{"no UTF-8, too long", strings.Repeat("\xff", 300), strings.Repeat("?", 255)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := Goodbye{GoodbyeConmgrEnds, c.text}.Append(nil)
			f, n, err := Next(b)
			if err != nil || n != len(b) {
				t.Fatalf("%d of %d bytes, %v", n, len(b), err)
			}
			g, err := ParseGoodbye(f.Payload)
			if err != nil || g.Text != c.want {
				t.Errorf("got %q, %v; want %q", g.Text, err, c.want)
			}
			r, err := ParseRefused(Refused{RefusedFull, c.text}.Append(nil)[HeaderSize:])
			if err != nil || r.Text != c.want || !utf8.ValidString(r.Text) {
				t.Errorf("REFUSED: got %q, %v; want %q", r.Text, err, c.want)
			}
		})
	}
	for _, c := range []struct {
		name    string
		payload string
	}{
		{"longer than the payload", "\x00\x01\x00\x04abc"},
		{"longer than 255", "\x00\x01\x01\x00" + strings.Repeat("a", 256)},
		{"65535", "\x00\x01\xff\xff" + a255},
	} {
		if g, err := ParseGoodbye([]byte(c.payload)); err == nil {
			t.Errorf("text length %s: accepted as %+v", c.name, g)
		}
	}
}

func TestAttributes(t *testing.T) {
	for _, c := range []struct {
		flags    AttributeFlags
		text     string
		readOnly bool
	}{
		{0, "primary,read-write", false},
		{ReadOnly, "primary,read-only", true},
		{InRecovery, "standby,read-only", true},
		{InRecovery | ReadOnly, "standby,read-only", true},
		{ShuttingDown, "primary,read-write", false},
		{Draining, "primary,read-write", false},
		{1 << 31, "primary,read-write", false}, // a flag of a later version
	} {
		a := Attributes{Flags: c.flags}
		if a.String() != c.text || a.IsReadOnly() != c.readOnly {
			t.Errorf("flags %b: %s, read only %v", c.flags, a, a.IsReadOnly())
		}
	}
	a := Attributes{Flags: InRecovery | ReadOnly}
	if !a.Has(InRecovery) || !a.Has(InRecovery|ReadOnly) || a.Has(InRecovery|ShuttingDown) {
		t.Error("Has does not ask for all of the flags")
	}
}

func TestNames(t *testing.T) {
	for typ, want := range map[Type]string{TypeHello: "HELLO", TypeWelcome: "WELCOME", TypeBeat: "BEAT",
		TypeGoodbye: "GOODBYE", TypeRefused: "REFUSED", TypeChallenge: "CHALLENGE", TypeResponse: "RESPONSE", TypeAsk: "ASK", TypeTell: "TELL", 99: "type 99"} {
		if typ.String() != want {
			t.Errorf("%d is %q, want %q", uint8(typ), typ, want)
		}
	}
	if got := (ID{0: 0xab, 15: 1}).String(); got != "ab000000000000000000000000000001" {
		t.Errorf("id %s", got)
	}
}
