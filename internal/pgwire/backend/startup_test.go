package backend

// Tests of what a client says before its first statement, and of framing.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

func TestStartup(t *testing.T) {
	const v3 = 3 << 16
	long := strings.Repeat("ü", 40)
	for _, x := range []struct {
		name string
		in   []byte
		want any // startup, SQLSTATE, or io error
	}{
		{"ssl", pgwire.StartupPacket(pgwire.SSLRequestCode), Startup{Kind: WantsEncryption}},
		{"gss", pgwire.StartupPacket(pgwire.GSSEncRequestCode), Startup{Kind: WantsEncryption}},
		{"cancel", pgwire.StartupPacket(pgwire.CancelRequestCode), Startup{Kind: WantsNothing}},
		{"tls", []byte{0x16, 3, 1}, Startup{Kind: WantsNothing}},
		{"plain", pgwire.StartupPacket(v3, "user", "x", "database", "y", "application_name", "app"), Startup{Application: "app"}},
		{"options", pgwire.StartupPacket(v3, "options", "-c x=1 "), Startup{Options: "-c x=1 "}},
		{"without user", pgwire.StartupPacket(v3), Startup{}},
		{"minor", pgwire.StartupPacket(v3+2, "user", "x", "_pq_.a", "1", "_pq_.b", "2"),
			Startup{minor: 2, unknown: []string{"_pq_.a", "_pq_.b"}}},
		{"application name", pgwire.StartupPacket(v3, "application_name", "a\n\xffb"+long),
			Startup{Application: "a??b" + strings.Repeat("ü", 29)}},
		{"version 2", pgwire.StartupPacket(2<<16, "user"), "0A000"},
		{"short", []byte{0, 0, 0, 7, 0, 3, 0}, "08P01"},
		{"long", []byte{0, 0, 0x27, 0x11}, "08P01"},
		{"http", []byte("GET / HTTP/1.1\r\n"), "08P01"},
		{"no terminator", append(binary.BigEndian.AppendUint32(nil, 10), 0, 3, 0, 0, 'u', 'v'), "08P01"},
		{"no value", append(binary.BigEndian.AppendUint32(nil, 10), 0, 3, 0, 0, 'u', 0), "08P01"},
		{"after the terminator", append(binary.BigEndian.AppendUint32(nil, 10), 0, 3, 0, 0, 0, 0), "08P01"},
		{"nothing", nil, io.EOF},
		{"cut", pgwire.StartupPacket(v3, "user", "x")[:10], io.ErrUnexpectedEOF},
	} {
		got, err := ReadStartup(bytes.NewReader(x.in))
		var se *StartupError
		switch want := x.want.(type) {
		case Startup:
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, %v", x.name, got, err)
			}
		case string:
			if !errors.As(err, &se) || se.Code != want {
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
	f.Add(pgwire.StartupPacket(pgwire.SSLRequestCode))
	f.Add(pgwire.StartupPacket(3<<16, "user", "x", "application_name", "y"))
	f.Add(pgwire.StartupPacket(3<<16+2, "_pq_.x", "y"))
	f.Add([]byte{0x16})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		s, err := ReadStartup(r)
		if err != nil {
			return
		}
		if used := len(data) - r.Len(); used > maxStartupPacket {
			t.Fatalf("read %d bytes", used)
		}
		if len(s.Application) > 63 {
			t.Fatalf("application name %q", s.Application)
		}
		if s.Kind == WantsSession {
			s.Greeting(1, make([]byte, s.SecretLength()))
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
		b := New(bytes.NewReader(data))
		for n := 0; ; n++ {
			m, err := b.Receive()
			if err != nil {
				return
			}
			if m == nil || n > len(data) {
				t.Fatal("no message and no error")
			}
		}
	})
}
