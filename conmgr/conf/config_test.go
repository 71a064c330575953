package conf

// Tests of conmgr.conf: syntax, values, all errors with their line.

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

var updateSample = flag.Bool("update", false, "write packaging/conmgr.conf.sample")

func mustParse(t testing.TB, text string) *Config {
	t.Helper()
	c, diags := Parse("conmgr.conf", []byte(text))
	if c == nil {
		t.Fatalf("unexpected errors: %v", diags)
	}
	return c
}

func TestConfigDefaults(t *testing.T) {
	c := mustParse(t, "backend_host0 = db0")
	c.Settings = nil
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{Dir: dir, Port: 27546, ListenAddresses: []string{"localhost"},
		SocketDirs: []string{dir}, SocketDirsDefault: true, SocketMode: 0o777, IdleTimeout: time.Hour, MaxWaiting: 1000, NotifyLoss: true,
		Instances:         []Instance{{Number: 0, Host: "db0", Port: 27500, WatchdogPort: 27545}},
		HeartbeatInterval: 10 * time.Second, HeartbeatTimeout: 20 * time.Second, ConnectInterval: time.Second,
		ConnectTimeout:       10 * time.Second,
		StandbyTimelineGrace: time.Minute, ApplicationGrace: 10 * time.Second,
		HTTPAddresses: []string{"localhost"}, EventHistory: 1000, EventCommandTimeout: 10 * time.Second,
		LogStderr: true, SyslogIdent: "conmgr", LogMinMessages: cmlog.WARNING}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
}

func TestConfigSyntax(t *testing.T) {
	get := map[string]func(*Config) any{
		"port":   func(c *Config) any { return c.Port },
		"host":   func(c *Config) any { return c.Instances[0].Host },
		"listen": func(c *Config) any { return strings.Join(c.ListenAddresses, "|") },
		"ident":  func(c *Config) any { return c.SyslogIdent },
		"int":    func(c *Config) any { return c.HeartbeatInterval },
		"tmo":    func(c *Config) any { return c.HeartbeatTimeout },
		"fac":    func(c *Config) any { return c.SyslogFacility },
		"min":    func(c *Config) any { return c.LogMinMessages },
		"dest":   func(c *Config) any { return fmt.Sprint(c.LogStderr, c.LogSyslog) },
	}
	for _, x := range []struct{ text, field, want string }{
		{"port=1", "port", "1"},
		{"port = 65535", "port", "65535"},
		{"port 5000", "port", "5000"},
		{"port '5000'", "port", "5000"},
		{"port'5000'", "port", "5000"},
		{"\t port\t=\t5000\t# why", "port", "5000"},
		{"port=5000#why", "port", "5000"},
		{"PORT = 5000", "port", "5000"},
		{"port = 5000\nport = 5001", "port", "5001"},
		{"syslog_ident = 'my app'", "ident", "my app"},
		{"syslog_ident = 'my app: [Zürich]'", "ident", "my app: [Zürich]"},
		{"\xef\xbb\xbfport = 5000", "port", "5000"},
		{"port = 5000\r\n# x\r\n", "port", "5000"},
		{"Backend_Host0 = 'db one'", "host", ""},
		{"backend_host0 = 'a#b'  # c", "host", "a#b"},
		{`backend_host0 = "db0"`, "host", "db0"},
		{"syslog_ident = 'it''s'", "ident", "it's"},
		{`syslog_ident = "a""b"`, "ident", `a"b`},
		{`syslog_ident = "a\"b\\"`, "ident", `a"b\`},
		{`syslog_ident = 'a\\b'`, "ident", `a\b`},
		{`syslog_ident = 'it\'s'`, "ident", "it's"},
		{`syslog_ident = 'it\'' # s'`, "ident", "it'"},
		{`syslog_ident = '\x\y\101\0601\"'`, "ident", `xyA01"`},
		{`syslog_ident = 'Z\303\274rich'`, "ident", "Zürich"},
		{`syslog_ident = 'a\b'`, "ident", ""}, // a backspace
		{`syslog_ident = 'a\n'`, "ident", ""},
		{`syslog_ident = 'a\0'`, "ident", ""},
		{`syslog_ident = 'a\303'`, "ident", ""},
		{`syslog_ident = 'a\'`, "ident", ""},
		{`syslog_ident = "a\b"`, "ident", `a\b`},
		{"listen_addresses = '127.0.0.1, ::1 ,127.0.0.1'", "listen", "127.0.0.1|::1"},
		{"listen_addresses = '*'", "listen", "*"},
		{"listen_addresses = *", "listen", "*"},
		{"heartbeat_interval = 500ms", "int", "500ms"},
		{"heartbeat_interval = '500 ms'", "int", "500ms"},
		{"heartbeat_interval = 1", "int", "1s"},
		{"heartbeat_interval = 2s", "int", "2s"},
		{"heartbeat_timeout = 1min", "tmo", "1m0s"},
		{"heartbeat_timeout = 2h", "tmo", "2h0m0s"},
		{"heartbeat_timeout = 1d", "tmo", "24h0m0s"},
		{"heartbeat_timeout = 2147483", "tmo", (2147483 * time.Second).String()},
		{"syslog_facility = local7", "fac", "7"},
		{"log_min_messages = debug", "min", "DEBUG"},
		{"log_min_messages = LOG", "min", "LOG"},
		{"log_destination = 'stderr, SYSLOG'", "dest", "true true"},
		{"log_destination = syslog", "dest", "false true"},
	} {
		c, diags := Parse("f", []byte(x.text+"\nbackend_hostaddr0 = 127.0.0.1"))
		if x.want == "" {
			if c != nil {
				t.Errorf("%q was accepted", x.text)
			}
			continue
		}
		if c == nil {
			t.Errorf("%q: %v", x.text, diags)
			continue
		}
		if got := fmt.Sprint(get[x.field](c)); got != x.want {
			t.Errorf("%q: got %s, want %s", x.text, got, x.want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	const all = "DEBUG, INFO, NOTICE, WARNING, ERROR, LOG, FATAL, PANIC"
	for _, x := range []struct{ text, want string }{
		{"port = 0", `/d/conmgr.conf:1: invalid value "0" for parameter "port": allowed are 1 to 65535`},
		{"port = 65536", `/d/conmgr.conf:1: invalid value "65536" for parameter "port": allowed are 1 to 65535`},
		{"port = +5", `/d/conmgr.conf:1: invalid value "+5" for parameter "port": allowed are 1 to 65535`},
		{"port = ''", `/d/conmgr.conf:1: invalid value "" for parameter "port": allowed are 1 to 65535`},
		{"port = 99999999999999999999", `/d/conmgr.conf:1: invalid value "99999999999999999999" for parameter "port": allowed are 1 to 65535`},
		{"port =", `/d/conmgr.conf:1: parameter "port" has no value`},
		{"port = # x", `/d/conmgr.conf:1: parameter "port" has no value`},
		{"port", `/d/conmgr.conf:1: parameter "port" has no value`},
		{"\nport = 1 2", `/d/conmgr.conf:2: syntax error at or near "2" after the value of parameter "port": a value with spaces or quotes is written in single quotes`},
		{"port = '1' 2", `/d/conmgr.conf:1: syntax error at or near "2" after the value of parameter "port"`},
		{"port = 'x", `/d/conmgr.conf:1: unterminated quoted value for parameter "port"`},
		{"backend_host0==a", `/d/conmgr.conf:1: syntax error at or near "=a": one "=" is expected`},
		{"port = =5", `/d/conmgr.conf:1: syntax error at or near "=5": one "=" is expected`},
		{"backend_host00 = a", `/d/conmgr.conf:1: invalid instance number "00" in parameter "backend_host00": leading zeros are not allowed`},
		{"backend_port01 = 1", `/d/conmgr.conf:1: invalid instance number "01" in parameter "backend_port01": leading zeros are not allowed`},
		{"syslog_ident = ''", `/d/conmgr.conf:1: invalid value "" for parameter "syslog_ident": allowed are 1 to 64 bytes of printable text`},
		{"syslog_ident = '" + strings.Repeat("x", 65) + "'",
			`/d/conmgr.conf:1: invalid value "` + strings.Repeat("x", 64) +
				`..." for parameter "syslog_ident": allowed are 1 to 64 bytes of printable text`},
		{"syslog_ident = 'a\u202eb'", `/d/conmgr.conf:1: invalid value "a\u202eb" for parameter "syslog_ident": allowed are 1 to 64 bytes of printable text`},
		{"= 5", `/d/conmgr.conf:1: syntax error at or near "=": a parameter name is expected`},
		{"port-x = 5", `/d/conmgr.conf:1: syntax error at or near "-x": "=" is expected after the name`},
		{"a\x00b", `/d/conmgr.conf:1: the line is not valid UTF-8 text`},
		{"backend_host0 = 'a\x01b'", `/d/conmgr.conf:1: the value of parameter "backend_host0" contains a control character`},
		{"nonsense = 1", `/d/conmgr.conf:1: unknown parameter "nonsense"`},
		{"port1 = 1", `/d/conmgr.conf:1: unknown parameter "port1"`},
		{"backend_host = 'x'", `/d/conmgr.conf:1: unknown parameter "backend_host": an instance number is missing`},
		{"backend_port10000 = 1", `/d/conmgr.conf:1: invalid instance number "10000" in parameter "backend_port10000": allowed are 0 to 9999`},
		{"backend_hostaddr1 = db1", `/d/conmgr.conf:1: invalid value "db1" for parameter "backend_hostaddr1": allowed is an IPv4 or IPv6 address`},
		{"backend_host1 = 'a b'", `/d/conmgr.conf:1: invalid value "a b" for parameter "backend_host1": allowed is one host name or IP address`},
		{"max_connections = -1", `/d/conmgr.conf:1: invalid value "-1" for parameter "max_connections": allowed are 0 to 2147483647`},
		{"heartbeat_interval = 9ms", `/d/conmgr.conf:1: invalid value "9ms" for parameter "heartbeat_interval": allowed are 10 ms to 2147483 s, written as seconds or with one of the units ms, s, min, h, d`},
		{"heartbeat_interval = 5us", `/d/conmgr.conf:1: invalid value "5us" for parameter "heartbeat_interval": allowed are 10 ms to 2147483 s, written as seconds or with one of the units ms, s, min, h, d`},
		{"heartbeat_timeout = 2147484", `/d/conmgr.conf:1: invalid value "2147484" for parameter "heartbeat_timeout": allowed are 10 ms to 2147483 s, written as seconds or with one of the units ms, s, min, h, d`},
		{"heartbeat_timeout = 0", `/d/conmgr.conf:1: invalid value "0" for parameter "heartbeat_timeout": allowed are 10 ms to 2147483 s, written as seconds or with one of the units ms, s, min, h, d`},
		{"log_min_messages = DEBUG1", `/d/conmgr.conf:1: invalid value "DEBUG1" for parameter "log_min_messages": allowed are ` + all},
		{"syslog_facility = LOCAL8", `/d/conmgr.conf:1: invalid value "LOCAL8" for parameter "syslog_facility": allowed are LOCAL0, LOCAL1, LOCAL2, LOCAL3, LOCAL4, LOCAL5, LOCAL6, LOCAL7`},
		{"log_destination = file", `/d/conmgr.conf:1: invalid value "file" for parameter "log_destination": allowed are stderr, syslog, separated by commas`},
		{"listen_addresses = ''", `/d/conmgr.conf:1: invalid value "" for parameter "listen_addresses": allowed are host names and IP addresses, separated by commas, or *`},
	} {
		c, diags := Parse("/d/conmgr.conf", []byte(x.text+"\nbackend_host9 = db"))
		if c != nil || len(diags) != 1 || diags[0].String() != x.want {
			t.Errorf("%q:\ngot  %v\nwant %s", x.text, diags, x.want)
		}
	}
}

func TestConfigReportsAllErrors(t *testing.T) {
	c, diags := Parse("f", []byte("port = 0\nx = 1\n\nheartbeat_timeout = no\nbackend_port0 = 5"))
	var got []string
	for _, d := range diags {
		got = append(got, fmt.Sprint(d.Line, d.Warning))
	}
	if want := "1 false,2 false,4 false,0 false"; c != nil || strings.Join(got, ",") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if last := diags[len(diags)-1].String(); last != "f: no instance is configured" {
		t.Errorf("got %q", last)
	}
}

// A line with a host that is wrong is the error; that no instance is left is not another one.
func TestConfigOneErrorForAHost(t *testing.T) {
	for _, text := range []string{"backend_host0 = a b", "backend_host0==a", "backend_hostaddr0 = x",
		"backend_host00 = a", "backend_host10000 = a", "backend_host = a",
		"backend_host0", "Backend_Host0 = 'a"} {
		if c, diags := Parse("f", []byte(text)); c != nil || len(diags) != 1 || diags[0].Line != 1 {
			t.Errorf("%q: %v", text, diags)
		}
	}
	if _, diags := Parse("f", []byte("port = 0")); len(diags) != 2 {
		t.Errorf("an error of another line hides that there is no instance: %v", diags)
	}
}

func TestConfigInstances(t *testing.T) {
	c := mustParse(t, `
backend_host0='host0'
backend_host2='host2'
backend_port0=5432
backend_port1=5555        # no host: a missing number
backend_port2=2345
backend_host3 = ''
backend_host12 = named
backend_hostaddr12 = fe80::1%eth0
watchdog_port12 = 1`)
	want := []Instance{
		{Number: 0, Host: "host0", Port: 5432, WatchdogPort: 27545},
		{Number: 2, Host: "host2", Port: 2345, WatchdogPort: 27545},
		{Number: 12, Host: "named", HostAddr: netip.MustParseAddr("fe80::1%eth0"), Port: 27500, WatchdogPort: 1},
	}
	if !reflect.DeepEqual(c.Instances, want) {
		t.Errorf("got %+v", c.Instances)
	}
}

func TestConfigWarnings(t *testing.T) {
	for _, x := range []struct {
		text string
		line int
		want string
	}{
		{"backend_host0=a\nheartbeat_interval=2\nheartbeat_timeout=2000ms", 3,
			"heartbeat_timeout (2 s) is not greater than heartbeat_interval (2 s)"},
		{"backend_host0=a\nheartbeat_timeout=5", 2, "heartbeat_timeout (5 s) is not greater than heartbeat_interval (10 s)"},
		{"backend_host0=a\nbackend_host5=A", 2, "instance 5 is the same as instance 0"},
		{"backend_host0=a\nbackend_port1=5432", 2, `parameter "backend_port1" does nothing: there is no instance 1`},
		{"watchdog_port3=27545\nbackend_host0=a", 1, `parameter "watchdog_port3" does nothing: there is no instance 3`},
		{"backend_host0=a\nbackend_host1=''", 2, `parameter "backend_host1" does nothing: there is no instance 1`},
	} {
		c, diags := Parse("f", []byte(x.text))
		if c == nil || len(diags) != 1 || !diags[0].Warning || diags[0].Line != x.line ||
			!strings.HasPrefix(diags[0].Text, x.want) {
			t.Errorf("%q: got %v", x.text, diags)
		}
	}
}

func TestConfigFiles(t *testing.T) {
	dir := t.TempDir()
	if _, d := Load(dir); len(d) != 1 || d[0].String() != dir+"/conmgr.conf: could not open the configuration file: no such file or directory" {
		t.Errorf("got %v", d)
	}
	file := filepath.Join(dir, cm.ConfigFile)
	for _, x := range []struct {
		data string
		ok   bool
	}{
		{"", false},
		{"backend_host0 = a", true},
		{"backend_host0 = a # " + strings.Repeat("long ", 50000), true},
		{strings.Repeat("# x\n", 300000), false},
	} {
		if err := os.WriteFile(file, []byte(x.data), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, d := Load(dir); (c != nil) != x.ok {
			t.Errorf("%d bytes: %v", len(x.data), d)
		}
	}
}

// The sample file is the table of parameters, and when its comments are removed, a valid
// configuration with the defaults.
func TestSample(t *testing.T) {
	const file = "../../packaging/conmgr.conf.sample"
	if *updateSample {
		if err := os.WriteFile(file, []byte(Sample()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != Sample() {
		t.Errorf("%s differs from the table of parameters (%v): go test ./conmgr/conf -run TestSample -update", file, err)
	}
	var b strings.Builder
	for _, l := range strings.Split(Sample(), "\n") {
		if strings.HasPrefix(l, "#") && !strings.HasPrefix(l, "# ") {
			l = l[1:]
		}
		b.WriteString(l + "\n")
	}
	c := mustParse(t, b.String()+"backend_host0 = db0\n")
	want := mustParse(t, "backend_host0 = db0")
	c.Settings, want.Settings = nil, nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the sample's values are not the defaults:\n%+v\n%+v", c, want)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(Sample()))
	f.Add([]byte("backend_host0 = 'a''b'\r\nport 5 # x\nheartbeat_timeout = 1min"))
	f.Add([]byte("\xef\xbb\xbfbackend_hostaddr7=\"::1\""))
	f.Add([]byte("port='"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, diags := Parse("f", data)
		lines := len(splitLines(data))
		errs := 0
		for _, d := range diags {
			if d.Line < 0 || d.Line > lines {
				t.Fatalf("line %d of %d: %s", d.Line, lines, d)
			}
			if !d.Warning {
				errs++
			}
		}
		if (c == nil) != (errs > 0) {
			t.Fatalf("config %v with %d errors", c != nil, errs)
		}
		if c == nil {
			return
		}
		// What SHOW CONFIG says, written as a file, is the same configuration.
		var b strings.Builder
		for _, s := range c.Settings {
			fmt.Fprintf(&b, "%s = %s\n", s.Name, Quote(s.Value))
		}
		again, diags := Parse("f", []byte(b.String()))
		if again == nil {
			t.Fatalf("written again: %v", diags)
		}
		again.Settings, c.Settings = nil, nil
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v\n%+v", c, again)
		}
	})
}

func TestParseNetworks(t *testing.T) {
	for v, want := range map[string]string{
		"":                              "",
		"192.0.2.77/24, 2001:DB8::1/32": "192.0.2.0/24,2001:db8::/32",
		"10.0.0.5":                      "10.0.0.5/32",
		"::ffff:10.0.0.0/104":           "10.0.0.0/8",
		"0.0.0.0/0,::/0":                "0.0.0.0/0,::/0",
		"10.0.0.0/33":                   "error",
		"host":                          "error",
		"::ffff:0:0/80":                 "error",
		"fe80::1%eth0":                  "error",
	} {
		parsed, err := findParam("relay_allowed_networks").parse(v)
		got := parsed.text
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", v, got, want)
		}
	}
}

func TestRelayBeyondLoopbackWarns(t *testing.T) {
	const warning = "relay ports take connections of this host only, whatever listen_addresses says"
	for conf, want := range map[string]bool{
		"listen_addresses = '*'\nrelay_port_any = 1":                                        true,
		"listen_addresses = '0.0.0.0'\nrelay_port_any = 1":                                  true,
		"listen_addresses = '10.0.0.5'\nrelay_port_any = 1":                                 true,
		"listen_addresses = 'localhost, 127.0.0.2, ::1'\nrelay_port_any = 1":                false,
		"listen_addresses = '*'":                                                            false,
		"listen_addresses = '*'\nrelay_port_any = 1\nrelay_allowed_networks = '10.0.0.0/8'": false,
	} {
		c, diags := Parse("f", []byte(conf+"\nbackend_host0 = a"))
		if c == nil || (len(diags) == 1) != want || want && diags[0].Text != warning {
			t.Errorf("%q: %v", conf, diags)
		}
	}
}

func TestRelayParameters(t *testing.T) {
	for _, a := range cm.Attributes {
		if findParam(relayParam(a)) == nil {
			t.Errorf("no parameter %s", relayParam(a))
		}
	}
}

func TestDestroySocketsInConfig(t *testing.T) {
	for value, want := range map[string]bool{"on": true, "ON": true, "true": true, "t": true, "y": true, "yes": true,
		"1":   true,
		"off": false, "of": false, "false": false, "f": false, "no": false, "0": false} {
		if c := mustParse(t, "backend_host0=a\ndestroy_sockets = "+value); c.DestroySockets != want {
			t.Errorf("%s: %v", value, c.DestroySockets)
		}
	}
	if mustParse(t, "backend_host0=a").DestroySockets {
		t.Error("on by default")
	}
	for _, value := range []string{"o", "2", "onn", "''", "trues"} {
		c, diags := Parse("f", []byte("backend_host0=a\ndestroy_sockets = "+value))
		if c != nil || len(diags) != 1 || !strings.HasSuffix(diags[0].String(),
			`for parameter "destroy_sockets": allowed are on and off (also true, false, yes, no, 1, 0)`) {
			t.Errorf("%s: %v", value, diags)
		}
	}
}

// A row is whole: where its value goes, what it means, and a default that is one of its values.
func TestRows(t *testing.T) {
	names := map[string]bool{}
	for i := range Params {
		p := &Params[i]
		if names[p.Name] || p.Doc == "" || p.Manual == "" || p.Numbered != (p.instance != nil) || p.Numbered == (p.target != nil) {
			t.Errorf("row %s", p.Name)
		}
		names[p.Name] = true
		v, err := p.parse(p.Default)
		if err != nil || v.text != p.Default {
			t.Errorf("%s: its default is %q, %v", p.Name, v.text, err)
		}
		if p.Numbered {
			assign(p.instance(&Instance{}), v)
		} else {
			assign(p.target(&written{Config: &Config{}}), v)
		}
	}
}
