package libpqtest

// Parameters that libpq gained since 16: each holds for the instance, and not for conmgr. A libpq that
// does not have one says of it what it says without the front.

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"
)

// asLibpq wants psql with the front, given this list of hosts, to fail in just the way in which it
// does with libpq alone.
func asLibpq(t *testing.T, conninfo string, parts ...string) {
	t.Helper()
	ask := []string{"-X", "-w", "-d", conninfo, "-c", "select 1"}
	want := failure(t, plain(), "psql", ask...)
	if got := failure(t, byPath(), "psql", ask...); got != want {
		t.Errorf("%s\ngot:  %swant: %s", conninfo, got, want)
	}
	wantAll(t, want, parts...)
}

// lacks tells whether the installed libpq is older than the parameter, and that it says so.
func lacks(t *testing.T, since int, parameter, conninfo string) bool {
	t.Helper()
	if libpqVersion(t) >= since {
		return false
	}
	asLibpq(t, conninfo+" "+parameter, "invalid connection option", strings.SplitN(parameter, "=", 2)[0])
	return true
}

// protocol is the one that a server and this libpq speak.
func protocol(t *testing.T, newest int) string {
	t.Helper()
	if newest == 2 && serverVersion(t) >= 18 {
		return "30002"
	}
	return "30000"
}

func serverVersion(t *testing.T) (major int) {
	t.Helper()
	fmt.Sscan(sql(t, primary, "select current_setting('server_version_num')::int / 10000"), &major)
	return major
}

// Cancelling works in each way that the installed libpq has, by keys of any length.
func cancels(t *testing.T) string {
	t.Helper()
	if libpqVersion(t) >= 17 {
		return " cancelled again\n"
	}
	return " cancelled\n"
}

func TestProtocolVersions(t *testing.T) {
	cm := conmgr(t)
	base := dsn(cm.Port(), "target_session_attrs=primary")
	wantAll(t, output(t, byPath(), "params", base),
		"connected port "+primary.port+" protocol "+protocol(t, 0)+cancels(t))
	if lacks(t, 18, "max_protocol_version=3.2", base) || lacks(t, 18, "min_protocol_version=3.2", base) {
		return
	}
	for _, more := range []string{"max_protocol_version=3.2", "max_protocol_version=latest",
		"min_protocol_version=3.0 max_protocol_version=3.2"} {
		wantAll(t, output(t, byPath(), "params", base+" "+more),
			"connected port "+primary.port+" protocol "+protocol(t, 2)+cancels(t))
	}
	for _, more := range []string{"max_protocol_version=3.0", "min_protocol_version=3.0"} {
		wantAll(t, output(t, byPath(), "params", base+" "+more),
			"connected port "+primary.port+" protocol 30000"+cancels(t))
	}

	// A server before 18 does not speak it: that is the instance's refusal, and not conmgr's.
	insists := "min_protocol_version=3.2 max_protocol_version=3.2"
	if serverVersion(t) >= 18 {
		wantAll(t, output(t, byPath(), "params", base+" "+insists), "protocol 30002"+cancels(t))
	} else {
		got := failure(t, byPath(), "psql", "-X", "-d", base+" "+insists, "-c", "select 1")
		wantAll(t, got, "port "+primary.port+" failed: ", "only supports protocol version 3.0")
		if strings.Contains(got, cm.Port()) {
			t.Errorf("conmgr is blamed: %s", got)
		}
	}

	// conmgr itself speaks it; one that does not is asked by 3.0.
	for _, env := range [][]string{byPath(), plain()} {
		wantAll(t, output(t, env, "psql", "-X", "-At", "-d",
			"host=localhost user=postgres dbname=conmgr port="+cm.Port()+" "+insists, "-c", "show version"), "conmgr (watchdog)")
	}
	old := speaksOnly30(t, cm.Port())
	for _, more := range []string{"max_protocol_version=3.2", "max_protocol_version=3.2 min_protocol_version=3.0"} {
		wantAll(t, output(t, byPath(), "params", dsn(old, "target_session_attrs=primary "+more)),
			"connected port "+primary.port+" protocol "+protocol(t, 2))
	}
	if serverVersion(t) >= 18 {
		wantAll(t, output(t, byPath(), "params", dsn(old, insists)), "protocol 30002")
	}

	for _, wrong := range []string{"max_protocol_version=3.1", "min_protocol_version=4.0",
		"min_protocol_version=3.2 max_protocol_version=3.0", "max_protocol_version=x"} {
		asLibpq(t, base+" "+wrong, "protocol_version")
	}
}

// speaksOnly30 is a conmgr of before 3.2: it negotiates the version down. Returns its port.
func speaksOnly30(t *testing.T, conmgr string) string {
	return answering(t, func(c *net.TCPConn) {
		defer c.Close()
		var head [8]byte
		for {
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return
			}
			if code := binary.BigEndian.Uint32(head[4:]); code>>16 == 3 {
				break
			}
			c.Write([]byte("N"))
		}
		real, err := net.Dial("tcp", "127.0.0.1:"+conmgr)
		if err != nil {
			return
		}
		defer real.Close()
		if head[7] > 0 {
			c.Write([]byte{'v', 0, 0, 0, 12, 0, 3, 0, 0, 0, 0, 0, 0})
			head[7] = 0
		}
		real.Write(head[:])
		go func() {
			io.Copy(real, c)
			real.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(c, real)
	})
}

func TestServicefile(t *testing.T) {
	cm := conmgr(t)
	file := write(t, "services", "[orders]\nhost=localhost\nport="+cm.Port()+
		"\nuser=postgres\ndbname=postgres\ntarget_session_attrs=standby\napplication_name=from the file\n")
	wrong := write(t, "wrong", "[orders]\nhost=localhost\nport=1\n")
	if lacks(t, 19, "servicefile="+file, "service=orders") {
		return
	}
	query := "select inet_server_port(), current_setting('application_name')"
	for name, c := range map[string]struct{ conninfo, want string }{
		"keywords":   {"service=orders servicefile=" + file, standby.port + "|from the file"},
		"URI":        {"postgresql:///?service=orders&servicefile=" + file, standby.port + "|from the file"},
		"overridden": {"service=orders target_session_attrs=primary servicefile=" + file, primary.port + "|from the file"},
	} {
		got := output(t, append(byPath(), "PGSERVICEFILE="+wrong), "psql", "-X", "-At", "-d", c.conninfo, "-c", query)
		if strings.TrimSpace(got) != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
	asLibpq(t, "service=orders servicefile=/nonexistent", `service file "/nonexistent" not found`)
	asLibpq(t, "service=other servicefile="+file, `"other" not found`)
}

// asksForOAuth is a server that takes this bearer token, and the same with a + before it, and tells
// who has none where to get one. Returns its port.
func asksForOAuth(t *testing.T, token string) string {
	return answering(t, func(c *net.TCPConn) {
		defer c.Close()
		if startup(c) == nil {
			return
		}
		put := func(messages ...pgproto3.BackendMessage) {
			var b []byte
			for _, m := range messages {
				b, _ = m.Encode(b)
			}
			c.Write(b)
		}
		hear := func() string {
			var head [5]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return ""
			}
			said := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
			io.ReadFull(c, said)
			return string(said)
		}
		put(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"OAUTHBEARER"}})
		_, given, _ := strings.Cut(hear(), "\x01auth=")
		given, _, _ = strings.Cut(given, "\x01")
		if given == "" {
			put(&pgproto3.AuthenticationSASLContinue{Data: []byte(`{"status": "invalid_token", "scope": "db", ` +
				`"openid-configuration": "` + wellKnown + `"}`)})
			hear()
		}
		if strings.TrimPrefix(strings.TrimPrefix(given, "Bearer "), "+") != token {
			put(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28000",
				Message: "OAuth bearer authentication failed"})
			return
		}
		put(&pgproto3.AuthenticationOk{}, &pgproto3.BackendKeyData{ProcessID: 1, SecretKey: 1},
			&pgproto3.ReadyForQuery{TxStatus: 'I'})
		io.Copy(io.Discard, c)
	})
}

const (
	issuer    = "https://issuer.example"
	wellKnown = issuer + "/.well-known/openid-configuration"
)

// A program's own procedures for tokens get the handle that the program has, also where they take
// their time; the token is the instance's, and conmgr gets none.
func TestOAuth(t *testing.T) {
	const token = "s3cret-token"
	port := asksForOAuth(t, token)
	cm := conmgrWith(t, at(0, "localhost", port, isPrimary))
	if lacks(t, 18, "oauth_issuer="+issuer, dsn(cm.Port(), "")) {
		return
	}
	parameters := " oauth_client_id=app oauth_client_secret=x oauth_scope=db require_auth=oauth sslmode=disable oauth_issuer="
	for _, where := range []string{cm.Port(), port} {
		// By the issuer's name alone libpq asks the server first, and connects to it once more.
		for _, from := range []string{wellKnown, issuer} {
			for given, want := range map[string]string{token: "waited 0 cleaned 1", "+" + token: "waited 1 cleaned 1"} {
				wantAll(t, output(t, byPath(), "params", dsn(where, parameters+from), given),
					"connected port "+port+" protocol 30000 "+want)
			}
		}
		wantAll(t, failure(t, byPath(), "params", dsn(where, parameters+issuer), "wrong"),
			"port "+port+" failed: FATAL:  OAuth bearer authentication failed")
	}
	for _, told := range cm.Startups() {
		for name, value := range told {
			if strings.Contains(name, "oauth") || strings.Contains(value, token) {
				t.Errorf("conmgr was told %s=%s", name, value)
			}
		}
	}
	asLibpq(t, dsn(port, "require_auth=oauth sslmode=disable oauth_issuer="+issuer), "oauth_client_id")
	if !lacks(t, 19, "oauth_ca_file=/nonexistent", dsn(cm.Port(), parameters+issuer)) {
		wantAll(t, output(t, byPath(), "params", dsn(cm.Port(), "oauth_ca_file=/nonexistent"+parameters+issuer), token), "connected")
	}
}
