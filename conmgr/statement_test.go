package conmgr

// Tests of the console's parsers: statements and startup packets.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/cm"
)

func TestStatements(t *testing.T) {
	target := func(a cm.Attribute, except ...int) statement {
		return statement{verb: showTarget, want: a, except: except}
	}
	for _, x := range []struct {
		text string
		want []any // statements, or SQLSTATEs
	}{
		{"", nil},
		{" ; ;-- nothing\n/* /* nested */ */", nil},
		{"SHOW INSTANCES", []any{statement{verb: showInstances}}},
		{"show\tinstances ;", []any{statement{verb: showInstances}}},
		{"/* a */ Show -- b\n Applications", []any{statement{verb: showApplications}}},
		{"SHOW CONFIG; SHOW VERSION;;SHOW HELP", []any{statement{verb: showConfig}, statement{verb: showVersion},
			statement{verb: showHelp}}},
		{"FORGET; forget instance 12", []any{statement{verb: forget, instance: -1},
			statement{verb: forget, instance: 12}}},
		{"FORGET INSTANCE", []any{"0A000"}},
		{"FORGET INSTANCE x", []any{"0A000"}},
		{"FORGET 1", []any{"0A000"}},
		{"FORGET INSTANCE 1 2", []any{"0A000"}},
		{"FORGET INSTANCE 10000", []any{"22023"}},
		{"SHOW TARGET any", []any{target(cm.Any)}},
		{"show target READ-write", []any{target(cm.ReadWrite)}},
		{"show target 'read-only'", []any{target(cm.ReadOnly)}},
		{`show target "prefer-standby";`, []any{target(cm.PreferStandby)}},
		{"show target prefer-read EXCEPT 0", []any{target(cm.PreferRead, 0)}},
		{"show target primary except 0,12 , 3", []any{target(cm.Primary, 0, 12, 3)}},
		{"show target standby--comment\nexcept 1", []any{target(cm.Standby, 1)}},
		{"SHOW TARGET master", []any{"22023"}},
		{"SHOW TARGET 'x;y'", []any{"22023"}},
		{"SHOW TARGET any EXCEPT 10000", []any{"22023"}},
		{"SHOW TARGET", []any{"0A000"}},
		{"SHOW TARGET any EXCEPT", []any{"0A000"}},
		{"SHOW TARGET any EXCEPT 1,", []any{"0A000"}},
		{"SHOW TARGET any EXCEPT 1 2", []any{"0A000"}},
		{"SHOW TARGET any any", []any{"0A000"}},
		{"SHOW TARGET 1", []any{"0A000"}},
		{"SHOW 'INSTANCES'", []any{"0A000"}},
		{"SHOW INSTANCES now", []any{"0A000"}},
		{"SELECT ';'; SHOW HELP", []any{"0A000", statement{verb: showHelp}}},
		{"SHOW HELP 'unterminated", []any{"0A000"}},
		{"SHOW HELP /* unterminated", []any{"0A000"}},
		{"größe", []any{"0A000"}},
	} {
		var got []any
		for _, p := range parseStatements(x.text) {
			var se *stmtError
			if errors.As(p.err, &se) {
				got = append(got, se.code)
			} else {
				got = append(got, p.statement)
			}
		}
		if !reflect.DeepEqual(got, x.want) {
			t.Errorf("%q: got %v, want %v", x.text, got, x.want)
		}
	}
}

func FuzzStatement(f *testing.F) {
	for _, s := range []string{"SHOW TARGET read-write EXCEPT 1, 2;", "show /* x */ instances; -- y\nshow help",
		`show target "any"`, "'", "/*/**/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, p := range parseStatements(s) {
			if p.err != nil {
				var se *stmtError
				if !errors.As(p.err, &se) || se.code == "" || se.text == "" {
					t.Fatalf("%q: error %#v", s, p.err)
				}
				errorMessage("ERROR", se.code, se.text, se.detail, se.hint)
				continue
			}
			if len(columns[p.verb]) == 0 {
				t.Fatalf("%q: statement %v has no columns", s, p.statement)
			}
			if p.verb != showTarget {
				continue
			}
			again := "SHOW TARGET " + string(p.want)
			for i, n := range p.except {
				again += []string{" EXCEPT ", ", "}[min(i, 1)] + fmt.Sprint(n)
			}
			if q := parseStatements(again); len(q) != 1 || !reflect.DeepEqual(q[0], p) {
				t.Fatalf("%q: %v, written again as %q: %v", s, p, again, q)
			}
		}
	})
}

func packet(code uint32, params ...string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0}, code)
	for _, p := range params {
		b = append(append(b, p...), 0)
	}
	if code>>16 == 3 {
		b = append(b, 0)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func TestStartup(t *testing.T) {
	const v3 = 3 << 16
	long := strings.Repeat("ü", 40)
	for _, x := range []struct {
		name string
		in   []byte
		want any // startup, SQLSTATE, or io error
	}{
		{"ssl", packet(sslRequestCode), startup{kind: wantsEncryption}},
		{"gss", packet(gssEncRequestCode), startup{kind: wantsEncryption}},
		{"cancel", packet(cancelRequestCode), startup{kind: wantsNothing}},
		{"tls", []byte{0x16, 3, 1}, startup{kind: wantsNothing}},
		{"plain", packet(v3, "user", "x", "database", "y", "application_name", "app"), startup{application: "app"}},
		{"without user", packet(v3), startup{}},
		{"minor", packet(v3+2, "user", "x", "_pq_.a", "1", "_pq_.b", "2"),
			startup{minor: 2, unknown: []string{"_pq_.a", "_pq_.b"}}},
		{"application name", packet(v3, "application_name", "a\n\xffb"+long),
			startup{application: "a??b" + strings.Repeat("ü", 29)}},
		{"version 2", packet(2<<16, "user"), "0A000"},
		{"short", []byte{0, 0, 0, 7, 0, 3, 0}, "08P01"},
		{"long", []byte{0, 0, 0x27, 0x11}, "08P01"},
		{"http", []byte("GET / HTTP/1.1\r\n"), "08P01"},
		{"no terminator", append(binary.BigEndian.AppendUint32(nil, 10), 0, 3, 0, 0, 'u', 'v'), "08P01"},
		{"no value", append(binary.BigEndian.AppendUint32(nil, 10), 0, 3, 0, 0, 'u', 0), "08P01"},
		{"after the terminator", append(binary.BigEndian.AppendUint32(nil, 10), 0, 3, 0, 0, 0, 0), "08P01"},
		{"nothing", nil, io.EOF},
		{"cut", packet(v3, "user", "x")[:10], io.ErrUnexpectedEOF},
	} {
		got, err := readStartup(bytes.NewReader(x.in))
		var se *startupError
		switch want := x.want.(type) {
		case startup:
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, %v", x.name, got, err)
			}
		case string:
			if !errors.As(err, &se) || se.code != want {
				t.Errorf("%s: got %v", x.name, err)
			}
		case error:
			if !errors.Is(err, want) {
				t.Errorf("%s: got %v", x.name, err)
			}
		}
	}
}

func FuzzStartup(f *testing.F) {
	f.Add(packet(sslRequestCode))
	f.Add(packet(3<<16, "user", "x", "application_name", "y"))
	f.Add(packet(3<<16+2, "_pq_.x", "y"))
	f.Add([]byte{0x16})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		s, err := readStartup(r)
		if err != nil {
			return
		}
		if used := len(data) - r.Len(); used > maxStartupPacket {
			t.Fatalf("read %d bytes", used)
		}
		if len(s.application) > 63 {
			t.Fatalf("application name %q", s.application)
		}
		if s.kind == wantsSession {
			s.greeting(1, make([]byte, s.secretLength()))
		}
	})
}

// FuzzMessages: whatever follows the startup is a message, an error that ends the session, or the
// end of the input.
func FuzzMessages(f *testing.F) {
	for _, m := range []pgproto3.FrontendMessage{&pgproto3.Query{String: "SHOW HELP"},
		&pgproto3.Parse{Query: "SHOW HELP"},
		&pgproto3.Bind{ResultFormatCodes: []int16{1}}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{},
		&pgproto3.Sync{}} {
		b, err := m.Encode(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("Q\x00\x00\x00\x04"))     // pgproto3 panics on it
	f.Add([]byte("F\x00\x00\x00\x05\x00")) // and on it
	f.Add([]byte("B\x00\x00\x00\x0e\x00\x00\x00\x00\x00\x01\xff\xff\xff\xf0"))
	f.Add([]byte("Q\x7f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := pgproto3.NewBackend(&boundedReader{r: bytes.NewReader(data)}, nil)
		for n := 0; ; n++ {
			m, err := receive(b)
			if err != nil {
				return
			}
			if m == nil || n > len(data) {
				t.Fatal("no message and no error")
			}
		}
	})
}
