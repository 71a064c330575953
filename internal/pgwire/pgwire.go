// Package pgwire is the client's side of PostgreSQL's protocol 3.0, as far as one asks a Connection
// Manager: startup, simple queries, and what is answered. It is for peers that nobody has looked at
// yet, and that may not even speak the protocol: no memory is taken by an unchecked length, no
// decoder trusts one, and no value that is sent can become a second one.
//
// Pure but for the reader and the writer that it is given; blocks on these. Not safe for concurrent
// use.
package pgwire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Frontend is a client's end of a connection.
type Frontend struct {
	r    *bufio.Reader
	w    io.Writer
	most int   // bytes of one message
	left int64 // bytes of all that is still to come
}

// NewFrontend frames what comes from r: no message is longer than most bytes, and all together not
// than total (0: no limit).
func NewFrontend(r io.Reader, w io.Writer, most int, total int64) *Frontend {
	if total == 0 {
		total = 1<<63 - 1
	}
	return &Frontend{r: bufio.NewReaderSize(r, 2048), w: w, most: most, left: total}
}

// ErrZeroByte is wrapped by the error for a value that cannot be sent.
var ErrZeroByte = errors.New("it has a zero byte, at which the server would end it")

// Codes at the beginning of what a client sends first.
const (
	Protocol3         = 3 << 16
	CancelRequestCode = 80877102
	SSLRequestCode    = 80877103
	GSSEncRequestCode = 80877104
)

// StartupPacket is a StartupMessage with names and values of parameters that have no zero byte, or
// another packet that begins with a code.
func StartupPacket(code uint32, parameters ...string) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), code)
	for _, p := range parameters {
		b = append(append(b, p...), 0)
	}
	if code>>16 == Protocol3>>16 {
		b = append(b, 0)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

// Startup sends a StartupMessage. In it a zero byte ends a value: what follows one would be another
// parameter.
func (f *Frontend) Startup(parameters map[string]string) error {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		value := parameters[name]
		if name == "" || strings.ContainsRune(name, 0) {
			return fmt.Errorf("invalid name %q of a parameter", name)
		}
		if strings.ContainsRune(value, 0) {
			return fmt.Errorf("invalid value %q of parameter %q: %w", value, name, ErrZeroByte)
		}
		list = append(list, name, value)
	}
	_, err := f.w.Write(StartupPacket(Protocol3, list...))
	return err
}

// Query sends a statement.
func (f *Frontend) Query(statement string) error {
	if strings.ContainsRune(statement, 0) {
		return fmt.Errorf("invalid statement %q: %w", statement, ErrZeroByte)
	}
	b := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(statement)+1))
	_, err := f.w.Write(append(append(b, statement...), 0))
	return err
}

// Terminate says farewell.
func (f *Frontend) Terminate() error {
	_, err := f.w.Write([]byte{'X', 0, 0, 0, 4})
	return err
}

// Receive returns the next message. At the end of the connection the error is io.EOF, or
// io.ErrUnexpectedEOF within a message.
func (f *Frontend) Receive() (kind byte, body []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(f.r, header[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(header[1:]))
	if n < 4 || n > int64(f.most) || n > f.left {
		return 0, nil, fmt.Errorf("the peer does not speak PostgreSQL's protocol: a message of type %q and length %d",
			header[0], n)
	}
	f.left -= n
	body = make([]byte, n-4)
	if _, err := io.ReadFull(f.r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return header[0], body, nil
}

// errMalformed is what all decoders answer.
func errMalformed(what string) error { return fmt.Errorf("malformed %s received", what) }

// cut takes a string off b.
func cut(b []byte) (s string, rest []byte, ok bool) {
	text, rest, ok := bytes.Cut(b, []byte{0})
	return string(text), rest, ok
}

// AuthenticationOk tells whether an Authentication message wants nothing.
func AuthenticationOk(body []byte) bool {
	return len(body) == 4 && binary.BigEndian.Uint32(body) == 0
}

// ParameterStatus takes the message apart.
func ParameterStatus(body []byte) (name, value string, err error) {
	name, rest, ok := cut(body)
	if !ok {
		return "", "", errMalformed("ParameterStatus")
	}
	value, rest, ok = cut(rest)
	if !ok || len(rest) != 0 {
		return "", "", errMalformed("ParameterStatus")
	}
	return name, value, nil
}

// Error is an ErrorResponse or NoticeResponse.
type Error struct{ Severity, Code, Message, Detail, Hint string }

// ParseError takes an ErrorResponse or a NoticeResponse apart. Fields that are not known do not
// matter.
func ParseError(body []byte) (e Error, err error) {
	for len(body) > 0 && body[0] != 0 {
		value, rest, ok := cut(body[1:])
		if !ok {
			return Error{}, errMalformed("ErrorResponse")
		}
		switch body[0] {
		case 'S':
			e.Severity = value
		case 'C':
			e.Code = value
		case 'M':
			e.Message = value
		case 'D':
			e.Detail = value
		case 'H':
			e.Hint = value
		}
		body = rest
	}
	if len(body) != 1 {
		return Error{}, errMalformed("ErrorResponse")
	}
	return e, nil
}

// ParseColumns returns the names in a RowDescription.
func ParseColumns(body []byte) (names []string, err error) {
	const fixed = 18 // bytes after each name
	if len(body) < 2 {
		return nil, errMalformed("RowDescription")
	}
	count, body := int(binary.BigEndian.Uint16(body)), body[2:]
	for ; count > 0; count-- {
		name, rest, ok := cut(body)
		if !ok || len(rest) < fixed {
			return nil, errMalformed("RowDescription")
		}
		names, body = append(names, name), rest[fixed:]
	}
	if len(body) != 0 {
		return nil, errMalformed("RowDescription")
	}
	return names, nil
}

// ParseRow returns the values of a DataRow; nil is NULL.
func ParseRow(body []byte) (values []*string, err error) {
	if len(body) < 2 {
		return nil, errMalformed("DataRow")
	}
	count, body := int(binary.BigEndian.Uint16(body)), body[2:]
	for ; count > 0; count-- {
		if len(body) < 4 {
			return nil, errMalformed("DataRow")
		}
		n := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		if n == -1 {
			values = append(values, nil)
			continue
		}
		if n < 0 || n > len(body) {
			return nil, errMalformed("DataRow")
		}
		v := string(body[:n])
		values, body = append(values, &v), body[n:]
	}
	if len(body) != 0 {
		return nil, errMalformed("DataRow")
	}
	return values, nil
}
