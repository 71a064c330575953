package backend

// The startup of an application connection: StartupMessage and the requests that may precede it.
// Run by the session's goroutine; reads block on the socket until the deadline that the caller has
// set.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

const (
	protocol3   = pgwire.Protocol3 >> 16
	newestMinor = 2 // of protocol 3; 3.1 was never one, and is taken as 3.0
)

// Bounds of a startup packet with its length field, as in a PostgreSQL server.
const (
	minStartupPacket = 8
	maxStartupPacket = 10000
)

// startupKind says what a startup packet asks for.
type startupKind uint8

const (
	WantsSession startupKind = iota
	WantsEncryption
	WantsNothing // a cancel request, a TLS ClientHello: close without an answer
)

// Startup is a parsed startup packet.
type Startup struct {
	Kind        startupKind
	minor       uint16
	Application string
	Options     string
	unknown     []string // _pq_. options
}

// StartupError is answered with FATAL.
type StartupError struct{ Code, Text string }

func (e *StartupError) Error() string { return e.Text }

func startupErrorf(code, format string, args ...any) error {
	return &StartupError{code, fmt.Sprintf(format, args...)}
}

// ReadStartup reads one packet. The error is a *StartupError if the client deserves an answer, else
// the reader's.
func ReadStartup(r io.Reader) (Startup, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return Startup{}, err
	}
	if head[0] == 0x16 { // a TLS record: sslnegotiation=direct
		return Startup{Kind: WantsNothing}, nil
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return Startup{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < minStartupPacket || n > maxStartupPacket {
		return Startup{}, startupErrorf(cm.ProtocolViolation, "invalid length of startup packet")
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return Startup{}, err
	}
	return parseStartup(body)
}

// parseStartup takes a packet without its length, of at least four bytes.
func parseStartup(body []byte) (Startup, error) {
	code := binary.BigEndian.Uint32(body)
	switch code {
	case pgwire.CancelRequestCode:
		return Startup{Kind: WantsNothing}, nil
	case pgwire.SSLRequestCode, pgwire.GSSEncRequestCode:
		return Startup{Kind: WantsEncryption}, nil
	}
	s := Startup{Kind: WantsSession, minor: uint16(code)}
	if code>>16 != protocol3 {
		return Startup{}, startupErrorf(cm.FeatureNotSupported, "unsupported frontend protocol %d.%d: the Connection Manager supports 3.0 and 3.2", code>>16, code&0xffff)
	}
	layout := startupErrorf(cm.ProtocolViolation, "invalid startup packet layout: expected terminator as last byte")
	rest := body[4:]
	for {
		name, after, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return Startup{}, layout
		}
		if len(name) == 0 {
			if len(after) != 0 {
				return Startup{}, layout
			}
			return s, nil
		}
		value, after, ok := bytes.Cut(after, []byte{0})
		if !ok {
			return Startup{}, layout
		}
		rest = after
		switch {
		case string(name) == "application_name":
			s.Application = ApplicationName(string(value))
		case string(name) == "options":
			s.Options = string(value)
		case bytes.HasPrefix(name, []byte("_pq_.")):
			s.unknown = append(s.unknown, string(name))
		}
	}
}

// ApplicationName keeps what can be shown: as a PostgreSQL server, 63 bytes.
func ApplicationName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
	for len(s) > 63 {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// speaks is the minor version that both sides speak from here on.
func (s *Startup) speaks() uint16 { return min(s.minor, newestMinor) }

// SecretLength is that of a cancel key. Nothing can be cancelled here, but clients look at it.
func (s *Startup) SecretLength() int {
	if s.speaks() >= 2 {
		return 32
	}
	return 4
}

// Greeting is everything from NegotiateProtocolVersion, if that is due, to ReadyForQuery; more are
// parameters beside those that every conmgr tells.
func (s *Startup) Greeting(pid uint32, secret []byte, more ...Parameter) []byte {
	b := s.Parameters(more...)
	b = append(b, 'K')
	b = binary.BigEndian.AppendUint32(b, uint32(4+4+len(secret)))
	b = append(binary.BigEndian.AppendUint32(b, pid), secret...)
	return Put(b, &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// Parameter is a ParameterStatus.
type Parameter struct{ Name, Value string }

// Parameters is the Greeting without its end: a client that is refused now knows that it is conmgr
// who does.
func (s *Startup) Parameters(more ...Parameter) []byte {
	var b []byte
	if s.minor != s.speaks() || len(s.unknown) > 0 {
		b = append(b, 'v', 0, 0, 0, 0)
		b = binary.BigEndian.AppendUint32(b, protocol3<<16|uint32(s.speaks()))
		b = binary.BigEndian.AppendUint32(b, uint32(len(s.unknown)))
		for _, name := range s.unknown {
			b = append(append(b, name...), 0)
		}
		binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	}
	b = Put(b, &pgproto3.AuthenticationOk{})
	for _, p := range append([]Parameter{
		{cm.VersionParameter, cm.Version},
		{"server_version", "13.0 (Connection Manager " + cm.Version + ")"},
		{"server_encoding", "UTF8"},
		{"client_encoding", "UTF8"},
		{"DateStyle", "ISO, MDY"},
		{"TimeZone", "UTC"},
		{"integer_datetimes", "on"},
		{"standard_conforming_strings", "on"},
		{"application_name", s.Application},
	}, more...) {
		b = append(b, ParameterStatus(p.Name, p.Value)...)
	}
	return b
}
