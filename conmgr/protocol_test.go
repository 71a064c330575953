package conmgr

// Tests of the versions of the protocol, with a raw client: what is negotiated, and the length of
// cancel keys, as PostgreSQL 18 answers; and of requests before it.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// readMessage returns one message as it is on the wire.
func readMessage(t *testing.T, r io.Reader) (kind byte, body []byte) {
	t.Helper()
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	return head[0], body
}

func TestProtocolVersions(t *testing.T) {
	r := static(t, "", primary)
	negotiate := func(minor byte, names ...string) string {
		return string([]byte{0, 3, 0, minor, 0, 0, 0, byte(len(names))}) + strings.Join(append(names, ""), "\x00")
	}
	for _, x := range []struct {
		minor     uint32
		Options   []string // of _pq_.
		negotiate string   // "": no such message
		secret    int      // bytes of the cancel key
	}{
		{0, nil, "", 4},
		{1, nil, "", 4}, // as 3.0
		{1, []string{"_pq_.a"}, negotiate(1, "_pq_.a"), 4},
		{2, nil, "", 32},
		{3, nil, negotiate(2), 32},
		{9999, []string{"_pq_.test_protocol_negotiation"}, negotiate(2, "_pq_.test_protocol_negotiation"), 32},
		{2, []string{"_pq_.a", "_pq_.b"}, negotiate(2, "_pq_.a", "_pq_.b"), 32},
		{0, []string{"_pq_.a"}, negotiate(0, "_pq_.a"), 4},
		{0xffff, nil, negotiate(2), 32},
	} {
		t.Run(fmt.Sprintf("3.%d %v", x.minor, x.Options), func(t *testing.T) {
			c := r.dial()
			params := []string{"user", "x"}
			for _, o := range x.Options {
				params = append(params, o, "1")
			}
			c.c.Write(pgwire.StartupPacket(3<<16|x.minor, params...))
			kind, body := readMessage(t, c.c)
			if x.negotiate != "" {
				if kind != 'v' || string(body) != x.negotiate {
					t.Fatalf("%c %q, want %q", kind, body, x.negotiate)
				}
				kind, body = readMessage(t, c.c)
			}
			if kind != 'R' || !bytes.Equal(body, make([]byte, 4)) {
				t.Fatalf("%c %q instead of AuthenticationOk", kind, body)
			}
			keys := 0
			for kind != 'Z' {
				switch kind, body = readMessage(t, c.c); kind {
				case 'K':
					keys++
					if len(body) != 4+x.secret || bytes.Equal(body[4:], make([]byte, x.secret)) {
						t.Errorf("BackendKeyData %x", body)
					}
				case 'S', 'Z':
				default:
					t.Errorf("%c %q", kind, body)
				}
			}
			if keys != 1 {
				t.Errorf("%d keys", keys)
			}
			c.c.Write([]byte("Q\x00\x00\x00\x11SHOW VERSION\x00"))
			if kind, _ = readMessage(t, c.c); kind != 'T' {
				t.Errorf("%c is the answer to a statement", kind)
			}
		})
	}
}

// One request each of SSLRequest and GSSENCRequest; a client that goes on asking is told so.
func TestRequestsForEncryptionAreLimited(t *testing.T) {
	b := newBackend(t, 0)
	r := static(t, "relay_port_standby = 1\n"+b.conf(0), primary)
	for _, x := range [][]uint32{{pgwire.SSLRequestCode, pgwire.GSSEncRequestCode}, {pgwire.GSSEncRequestCode, pgwire.SSLRequestCode},
		{pgwire.SSLRequestCode, pgwire.SSLRequestCode}} {
		c := r.dial()
		for _, code := range x {
			c.c.Write(pgwire.StartupPacket(code))
			expect(t, c.c, []byte{'N'})
		}
		c.c.Write(pgwire.StartupPacket(x[0]))
		if got := c.until(""); got != "E(FATAL 08P01 too many requests for encryption) EOF" {
			t.Errorf("got %s", got)
		}
	}
	// The relay's answer where it has no instance: the same number at most.
	c := r.relay(0)
	for range 10 {
		c.Write(pgwire.StartupPacket(pgwire.SSLRequestCode))
	}
	got, _ := io.ReadAll(c)
	if n := bytes.Count(got, []byte{'N'}); n > 3 || len(got) != n {
		t.Errorf("got %q", got)
	}
}
