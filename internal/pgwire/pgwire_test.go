package pgwire

// Messages against those of pgproto3, another implementation; and those that nobody sends.

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"
)

func encoded(t *testing.T, messages ...pgproto3.BackendMessage) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		b, _ = m.Encode(b)
	}
	return b
}

func reader(b []byte, most int, total int64) *Frontend {
	return NewFrontend(bytes.NewReader(b), io.Discard, most, total)
}

func TestSend(t *testing.T) {
	var out bytes.Buffer
	f := NewFrontend(strings.NewReader(""), &out, 100, 0)
	parameters := map[string]string{"user": "u", "application_name": "", "database": "d b"}
	if err := f.Startup(parameters); err != nil {
		t.Fatal(err)
	}
	if err := f.Query("SHOW TARGET any"); err != nil {
		t.Fatal(err)
	}
	if err := f.Terminate(); err != nil {
		t.Fatal(err)
	}
	b := pgproto3.NewBackend(pgproto3.NewChunkReader(&out), nil)
	m, err := b.ReceiveStartupMessage()
	if s, ok := m.(*pgproto3.StartupMessage); err != nil || !ok || !reflect.DeepEqual(s.Parameters, parameters) {
		t.Errorf("startup: got %+v, %v", m, err)
	}
	next, err := b.Receive()
	if q, ok := next.(*pgproto3.Query); err != nil || !ok || q.String != "SHOW TARGET any" {
		t.Errorf("query: got %+v, %v", next, err)
	}
	if next, err = b.Receive(); err != nil || !reflect.DeepEqual(next, &pgproto3.Terminate{}) {
		t.Errorf("terminate: got %+v, %v", next, err)
	}
}

// Nothing is sent that a server would read as something else.
func TestZeroBytes(t *testing.T) {
	var out bytes.Buffer
	f := NewFrontend(strings.NewReader(""), &out, 100, 0)
	for _, err := range []error{
		f.Startup(map[string]string{"database": "db\x00user\x00boss", "user": "alice"}),
		f.Query("SHOW TARGET any\x00"),
	} {
		if !errors.Is(err, ErrZeroByte) {
			t.Errorf("got %v, want ErrZeroByte", err)
		}
	}
	for _, name := range []string{"", "a\x00b"} {
		if err := f.Startup(map[string]string{name: "x"}); err == nil {
			t.Errorf("a parameter of the name %q was sent", name)
		}
	}
	if out.Len() > 0 {
		t.Errorf("%q was sent", out.String())
	}
}

func TestDecode(t *testing.T) {
	f := reader(encoded(t,
		&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "conmgr.version", Value: "1.0"},
		&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a")}, {Name: []byte("bc")}}},
		&pgproto3.DataRow{Values: [][]byte{[]byte("x"), nil}},
		&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "m", Detail: "d", Hint: "h", File: "f"},
	), 1000, 0)
	next := func(want byte) []byte {
		t.Helper()
		kind, body, err := f.Receive()
		if kind != want || err != nil {
			t.Fatalf("got %q, %v, want %q", kind, err, want)
		}
		return body
	}
	if !AuthenticationOk(next('R')) || AuthenticationOk([]byte{0, 0, 0, 3}) || AuthenticationOk(nil) {
		t.Error("AuthenticationOk")
	}
	if name, value, err := ParameterStatus(next('S')); name != "conmgr.version" || value != "1.0" || err != nil {
		t.Errorf("ParameterStatus: %q %q %v", name, value, err)
	}
	if names, err := ParseColumns(next('T')); !reflect.DeepEqual(names, []string{"a", "bc"}) || err != nil {
		t.Errorf("RowDescription: %q %v", names, err)
	}
	if values, err := ParseRow(next('D')); err != nil || len(values) != 2 || *values[0] != "x" || values[1] != nil {
		t.Errorf("DataRow: %v %v", values, err)
	}
	if e, err := ParseError(next('E')); e != (Error{"FATAL", "57P01", "m", "d", "h"}) || err != nil {
		t.Errorf("ErrorResponse: %+v %v", e, err)
	}
	if _, _, err := f.Receive(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestLimits(t *testing.T) {
	message := []byte{'N', 0, 0, 0, 8, 1, 2, 3, 4}
	for name, c := range map[string]struct {
		bytes []byte
		most  int
		total int64
		want  string
	}{
		"fits":           {message, 8, 8, ""},
		"long":           {message, 7, 0, "length 8"},
		"in all":         {append(message, message...), 8, 15, "length 8"},
		"short":          {[]byte{'N', 0, 0, 0, 3}, 8, 0, "length 3"},
		"2 GB":           {[]byte{'N', 0x80, 0, 0, 0}, 1 << 20, 0, "length 2147483648"},
		"cut":            {message[:7], 8, 0, io.ErrUnexpectedEOF.Error()},
		"cut after head": {message[:5], 8, 0, io.ErrUnexpectedEOF.Error()},
	} {
		f := reader(c.bytes, c.most, c.total)
		var err error
		for err == nil {
			_, _, err = f.Receive()
		}
		if c.want == "" && err != io.EOF || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, b := range []string{"", "\x00", "\x00\x01", "\x00\x01\xff\xff\xff\xfe", "\x00\x01\x00\x00\x00\x05abc",
		"\x00\x00x"} {
		if _, err := ParseRow([]byte(b)); err == nil {
			t.Errorf("row %q was accepted", b)
		}
	}
	for _, b := range []string{"", "\x00\x01a", "\x00\x01a\x00123", "\x00\x00x"} {
		if _, err := ParseColumns([]byte(b)); err == nil {
			t.Errorf("columns %q were accepted", b)
		}
	}
	for _, b := range []string{"", "Mabc", "Mabc\x00", "Mabc\x00\x00x"} {
		if _, err := ParseError([]byte(b)); err == nil {
			t.Errorf("error %q was accepted", b)
		}
	}
	for _, b := range []string{"", "a", "a\x00b", "a\x00b\x00c"} {
		if _, _, err := ParameterStatus([]byte(b)); err == nil {
			t.Errorf("parameter %q was accepted", b)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("D\x00\x00\x00\x0a\x00\x01\xff\xff\xff\xf0"))
	f.Add([]byte("T\x00\x00\x00\x06\x00\x01E\x00\x00\x00\x08Mab\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for r := reader(b, 1<<16, 1<<20); ; {
			_, body, err := r.Receive()
			if err != nil {
				return
			}
			_, _ = ParseRow(body)
			_, _ = ParseColumns(body)
			_, _ = ParseError(body)
			_, _, _ = ParameterStatus(body)
		}
	})
}
