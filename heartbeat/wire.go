package heartbeat

// Frames and the numbers of the protocol. ONLY EVER APPEND to the lists below: the values are part
// of the protocol (docs/protocol.md), whose column "since" says what version 2 has added.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Versions that this package speaks.
const (
	MinVersion = 1
	MaxVersion = 2
)

// Frame sizes in bytes, header included.
const (
	HeaderSize = 4
	MaxFrame   = 512
)

// Type is the type of a frame.
type Type uint8

const (
	TypeHello   Type = 1
	TypeWelcome Type = 2
	TypeBeat    Type = 3
	TypeGoodbye Type = 4
	TypeRefused Type = 5
	// Between HELLO and WELCOME, where both ends have a key; since version 2.
	TypeChallenge Type = 6
	TypeResponse  Type = 7
	// Of one who looks for what is wrong; a watchdog that does not know it refuses it.
	TypeAsk  Type = 8
	TypeTell Type = 9
)

func (t Type) String() string {
	switch t {
	case TypeHello:
		return "HELLO"
	case TypeWelcome:
		return "WELCOME"
	case TypeBeat:
		return "BEAT"
	case TypeGoodbye:
		return "GOODBYE"
	case TypeRefused:
		return "REFUSED"
	case TypeChallenge:
		return "CHALLENGE"
	case TypeResponse:
		return "RESPONSE"
	case TypeAsk:
		return "ASK"
	case TypeTell:
		return "TELL"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// GoodbyeCode says why an end announces the end of a connection.
type GoodbyeCode uint16

const (
	GoodbyeConmgrEnds   GoodbyeCode = 1  // conmgr ends
	GoodbyeGivenUp      GoodbyeCode = 2  // conmgr has declared this instance lost
	GoodbyeDuplicate    GoodbyeCode = 3  // conmgr monitors this server under another of its entries
	GoodbyeReturns      GoodbyeCode = 4  // conmgr ends, and will be back within the grace that it was granted
	GoodbyeServerEnds   GoodbyeCode = 16 // the server shuts down
	GoodbyeConmgrSilent GoodbyeCode = 17 // the watchdog has declared this conmgr dead
)

// RefusedCode says why the watchdog refuses a peer.
type RefusedCode uint16

const (
	RefusedMalformed RefusedCode = 1
	RefusedVersion   RefusedCode = 2
	RefusedFull      RefusedCode = 3
	RefusedSetting   RefusedCode = 4
	RefusedTooSlow   RefusedCode = 5
	RefusedUnproved  RefusedCode = 6 // a proof is needed, and there is none
	RefusedNoKey     RefusedCode = 7 // the key is not known any more
	RefusedTaken     RefusedCode = 8 // the conmgr id is another process's
)

// ProtocolError is a violation of the protocol by the peer. Its code and text are what a REFUSED
// answer carries.
type ProtocolError struct {
	Code RefusedCode
	Text string
}

func (e *ProtocolError) Error() string { return e.Text }

func malformed(format string, args ...any) *ProtocolError {
	return &ProtocolError{Code: RefusedMalformed, Text: fmt.Sprintf(format, args...)}
}

// Frame is one frame as it came in. Payload is a part of the buffer that was given to Next, and so
// is Whole, which has the header, too.
type Frame struct {
	Type    Type
	Payload []byte
	Whole   []byte
}

// Next splits the first frame off buf. n is its size on the wire; 0 with a nil error: buf does not
// hold a whole frame yet. The error is a *ProtocolError: the length is out of bounds, and the
// connection cannot go on.
func Next(buf []byte) (f Frame, n int, err error) {
	if len(buf) < HeaderSize {
		return Frame{}, 0, nil
	}
	n = int(binary.BigEndian.Uint16(buf))
	if n < HeaderSize || n > MaxFrame {
		return Frame{}, 0, malformed("frame of %d bytes: a frame has %d to %d", n, HeaderSize, MaxFrame)
	}
	if len(buf) < n {
		return Frame{}, 0, nil
	}
	return Frame{Type: Type(buf[2]), Payload: buf[HeaderSize:n], Whole: buf[:n]}, n, nil
}

// begin appends the header of a frame; end writes its length when the payload is complete.
func begin(b []byte, t Type) []byte { return append(b, 0, 0, byte(t), 0) }

func end(b []byte, start int) []byte {
	binary.BigEndian.PutUint16(b[start:], uint16(len(b)-start))
	return b
}

// MaxText is the longest text of GOODBYE and REFUSED, in bytes.
const MaxText = 255

func appendCoded(b []byte, t Type, code uint16, text string) []byte {
	for len(text) > MaxText { // cut at a whole character
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	start := len(b)
	b = begin(b, t)
	b = binary.BigEndian.AppendUint16(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	return end(b, start)
}

const codedSize = 2 + 2 // without the text

func parseCoded(t Type, p []byte) (code uint16, text string, err error) {
	if len(p) < codedSize {
		return 0, "", malformed("malformed %s of %d bytes", t, len(p))
	}
	n := int(binary.BigEndian.Uint16(p[2:]))
	if n > MaxText || n > len(p)-codedSize {
		return 0, "", malformed("malformed %s: its text of %d bytes is too long", t, n)
	}
	return binary.BigEndian.Uint16(p), printable(p[codedSize : codedSize+n]), nil
}

// printable makes a peer's text fit for a log line: valid UTF-8, no control characters.
func printable(b []byte) string {
	return string(bytes.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, b))
}
