package conmgr

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
)

// Numbers that stand where a StartupMessage has its version.
const (
	cancelRequestCode = 80877102
	sslRequestCode    = 80877103
	gssEncRequestCode = 80877104
	protocol3         = 3
	newestMinor       = 2 // of protocol 3; there is no 3.1
)

// Bounds of a startup packet with its length field, as in a PostgreSQL server.
const (
	minStartupPacket = 8
	maxStartupPacket = 10000
)

// startupKind says what a startup packet asks for.
type startupKind uint8

const (
	wantsSession startupKind = iota
	wantsEncryption
	wantsNothing // a cancel request, a TLS ClientHello: close without an answer
)

// startup is a parsed startup packet.
type startup struct {
	kind        startupKind
	minor       uint16
	application string
	unknown     []string // _pq_. options
}

// startupError is answered with FATAL.
type startupError struct{ code, text string }

func (e *startupError) Error() string { return e.text }

func startupErrorf(code, format string, args ...any) error {
	return &startupError{code, fmt.Sprintf(format, args...)}
}

// readStartup reads one packet. The error is a *startupError if the client deserves an answer, else
// the reader's.
func readStartup(r io.Reader) (startup, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return startup{}, err
	}
	if head[0] == 0x16 { // a TLS record: sslnegotiation=direct
		return startup{kind: wantsNothing}, nil
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return startup{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < minStartupPacket || n > maxStartupPacket {
		return startup{}, startupErrorf(cm.ProtocolViolation, "invalid length of startup packet")
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return startup{}, err
	}
	return parseStartup(body)
}

// parseStartup takes a packet without its length, of at least four bytes.
func parseStartup(body []byte) (startup, error) {
	code := binary.BigEndian.Uint32(body)
	switch code {
	case cancelRequestCode:
		return startup{kind: wantsNothing}, nil
	case sslRequestCode, gssEncRequestCode:
		return startup{kind: wantsEncryption}, nil
	}
	s := startup{kind: wantsSession, minor: uint16(code)}
	if code>>16 != protocol3 {
		return startup{}, startupErrorf(cm.FeatureNotSupported, "unsupported frontend protocol %d.%d: the Connection Manager supports 3.0 and 3.2", code>>16, code&0xffff)
	}
	layout := startupErrorf(cm.ProtocolViolation, "invalid startup packet layout: expected terminator as last byte")
	rest := body[4:]
	for {
		name, after, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return startup{}, layout
		}
		if len(name) == 0 {
			if len(after) != 0 {
				return startup{}, layout
			}
			return s, nil
		}
		value, after, ok := bytes.Cut(after, []byte{0})
		if !ok {
			return startup{}, layout
		}
		rest = after
		switch {
		case string(name) == "application_name":
			s.application = applicationName(string(value))
		case bytes.HasPrefix(name, []byte("_pq_.")):
			s.unknown = append(s.unknown, string(name))
		}
	}
}

// applicationName keeps what can be shown: as a PostgreSQL server, 63 bytes.
func applicationName(s string) string {
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
func (s *startup) speaks() uint16 {
	if s.minor >= newestMinor {
		return newestMinor
	}
	return 0
}

// secretLength is that of a cancel key. Nothing can be cancelled here, but clients look at it.
func (s *startup) secretLength() int {
	if s.speaks() >= 2 {
		return 32
	}
	return 4
}

// greeting is everything from NegotiateProtocolVersion, if that is due, to ReadyForQuery.
func (s *startup) greeting(pid uint32, secret []byte) []byte {
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
	b = put(b, &pgproto3.AuthenticationOk{})
	for _, p := range [][2]string{
		{cm.VersionParameter, cm.Version},
		{"server_version", "13.0 (Connection Manager " + cm.Version + ")"},
		{"server_encoding", "UTF8"},
		{"client_encoding", "UTF8"},
		{"DateStyle", "ISO, MDY"},
		{"TimeZone", "UTC"},
		{"integer_datetimes", "on"},
		{"standard_conforming_strings", "on"},
		{"application_name", s.application},
	} {
		b = put(b, &pgproto3.ParameterStatus{Name: p[0], Value: p[1]})
	}
	b = append(b, 'K')
	b = binary.BigEndian.AppendUint32(b, uint32(4+4+len(secret)))
	b = append(binary.BigEndian.AppendUint32(b, pid), secret...)
	return put(b, &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// put appends a message of ours. Its encoder fails on messages of more than 1 GB only.
func put(b []byte, m pgproto3.BackendMessage) []byte {
	b, err := m.Encode(b)
	if err != nil {
		panic("encoding a message: " + err.Error())
	}
	return b
}

// errorMessage is an ErrorResponse.
func errorMessage(severity, code, text, detail, hint string) []byte {
	return put(nil, &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code,
		Message: text, Detail: detail, Hint: hint})
}

func fatal(code, text, detail, hint string) []byte {
	return errorMessage("FATAL", code, text, detail, hint)
}
