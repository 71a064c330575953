package conf

// Tests of what conmgr.conf is told beside an error: hints, warnings, and files that are none.

import (
	"fmt"
	"strings"
	"testing"
)

func TestConfigHints(t *testing.T) {
	for _, x := range []struct{ text, want, hint string }{
		{"heartbeat_intervall = 1", `unknown parameter "heartbeat_intervall"`,
			`Perhaps you meant the parameter "heartbeat_interval".`},
		{"hearbeat_timeout = 1", `unknown parameter "hearbeat_timeout"`,
			`Perhaps you meant the parameter "heartbeat_timeout".`},
		{"Backend_Hots3 = a", `unknown parameter "Backend_Hots3"`, `Perhaps you meant the parameter "backend_host3".`},
		{"backend_prot = 1", `unknown parameter "backend_prot"`, `Perhaps you meant the parameter "backend_port0".`},
		{"listen_adresses = '*'", `unknown parameter "listen_adresses"`,
			`Perhaps you meant the parameter "listen_addresses".`},
		{"max_connection = 1", `unknown parameter "max_connection"`,
			`Perhaps you meant the parameter "max_connections".`},
		{"shared_buffers = 1GB", `unknown parameter "shared_buffers"`, ""},
		{"backend_host0 = ‘db0’", `the value of parameter "backend_host0" has typographic quotes`,
			"The line contains '‘' (U+2018), which is not a quote here: write ' instead."},
		{"backend_host0 = “db0”", `the value of parameter "backend_host0" has typographic quotes`,
			"The line contains '“' (U+201C), which is not a quote here: write ' instead."},
		{"syslog_ident = 'a b’", `unterminated quoted value for parameter "syslog_ident"`,
			"The line contains '’' (U+2019), which is not a quote here: write ' instead."},
		{"port =\u00a05000", "invalid value \"\\u00a05000\" for parameter \"port\": allowed are 1 to 65535",
			"The line contains an invisible character (U+00A0): retype it."},
		{"max_connections = –1", `invalid value "–1" for parameter "max_connections": allowed are 0 to 2147483647`,
			"The line contains '–' (U+2013), which is no hyphen: write - instead."},
		{"backend_host7 = 'db0:5432'", `invalid value "db0:5432" for parameter "backend_host7": allowed is one host name or IP address`,
			"The port is set by backend_port7."},
		{"backend_host0 = '[::1]:5432'", `invalid value "[::1]:5432" for parameter "backend_host0": allowed is one host name or IP address`,
			"The port is set by backend_port0."},
		{"backend_host0 = '[::1]'", `invalid value "[::1]" for parameter "backend_host0": allowed is one host name or IP address`,
			"An IPv6 address is written without brackets."},
		{"backend_hostaddr0 = '10.0.0.1:5432'", `invalid value "10.0.0.1:5432" for parameter "backend_hostaddr0": allowed is an IPv4 or IPv6 address`,
			"The port is set by backend_port0."},
		{"backend_host0 = 'a,b'", `invalid value "a,b" for parameter "backend_host0": allowed is one host name or IP address`,
			"Each instance has a number of its own: backend_host0, backend_host1."},
		{"backend_host0 = postgres://a/b", `invalid value "postgres://a/b" for parameter "backend_host0": allowed is one host name or IP address`,
			"Write the host name alone; the port is set by backend_port0."},
		{"listen_addresses = 'localhost:27546'", `invalid value "localhost:27546" for parameter "listen_addresses": allowed are host names and IP addresses, separated by commas, or *`,
			"The port is set by port."},
		{`syslog_ident = 'C:\new'`, `the value of parameter "syslog_ident" contains a control character`,
			`Within single quotes a backslash begins an escape, as in postgresql.conf: write \\ for one backslash.`},
		{"port = 'x\x00'", "the line is not valid UTF-8 text", ""},
		{"port = '\xff'", "the line is not valid UTF-8 text", ""},
		{"backend_host0 = " + strings.Repeat("x", 500_000),
			`invalid value "` + strings.Repeat("x", 64) +
				`..." for parameter "backend_host0": allowed is one host name or IP address`, ""},
		{strings.Repeat("x", 500_000) + " = 1", `unknown parameter "` + strings.Repeat("x", 64) + `..."`, ""},
	} {
		c, diags := Parse("/d/conmgr.conf", []byte(x.text+"\nbackend_host9 = db"))
		if c != nil || len(diags) != 1 || diags[0].String() != "/d/conmgr.conf:1: "+x.want || diags[0].Hint != x.hint {
			t.Errorf("%s:\ngot  %v\nhint %q\nwant %s\nhint %q", Clip(x.text), diags, hints(diags), x.want, x.hint)
		}
	}
}

func hints(diags []Diagnostic) (out []string) {
	for _, d := range diags {
		out = append(out, d.Hint)
	}
	return out
}

// The last line counts, and both are named.
func TestConfigSetTwice(t *testing.T) {
	c, diags := Parse("f", []byte("backend_host0 = a\nport = 1\n\nBACKEND_HOST0 = b\nbackend_host1 = a\nport = 2\nport = 3"))
	var got []string
	for _, d := range diags {
		got = append(got, fmt.Sprint(d.Warning, " ", d))
	}
	want := []string{`true f:4: parameter "backend_host0" is set on line 1 already: line 4 counts`,
		`true f:6: parameter "port" is set on line 2 already: line 6 counts`,
		`true f:7: parameter "port" is set on line 6 already: line 7 counts`}
	if c == nil || c.Port != 3 || c.Instances[0].Host != "b" || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%+v\n%s", c, strings.Join(got, "\n"))
	}
}

func TestConfigOfAnotherKind(t *testing.T) {
	if c, diags := Parse("f", []byte("\xff\xfep\x00o\x00\n\x00")); c != nil || len(diags) != 1 ||
		diags[0].Text != "the configuration file is UTF-16 text" {
		t.Errorf("%v", diags)
	}
	c, diags := Parse("f", []byte(strings.Repeat("\x01\x02\n", 100_000)))
	if last := diags[len(diags)-1]; c != nil || len(diags) != maxDiagnostics+1 || last.Line != 101 ||
		!strings.HasPrefix(last.Text, "too many errors") {
		t.Errorf("%d errors, the last %v", len(diags), last)
	}
}
