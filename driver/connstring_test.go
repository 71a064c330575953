package driver

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// clearEnv makes the test's result depend on the test alone.
func clearEnv(t *testing.T) {
	for _, v := range []string{"PGHOST", "PGHOSTADDR", "PGPORT", "PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT",
		"PGAPPNAME", "PGUSER", "PGDATABASE", "PGSSLMODE"} {
		t.Setenv(v, "")
	}
}

func TestParseConfig(t *testing.T) {
	clearEnv(t)
	for _, test := range []struct {
		in        string
		hosts     []Host
		attribute Attribute
		rest      map[string]string
	}{
		{"", []Host{{"localhost", "", "5432"}}, Any, nil},
		{"host=a port=1", []Host{{"a", "", "1"}}, Any, nil},
		{"host = a , hostaddr=", nil, "", nil}, // "," is no keyword
		{"host='a, b' port=1 target_session_attrs=prefer-read", []Host{{"a", "", "1"}, {"b", "", "1"}}, PreferStandby,
			nil},
		{"host=a,b port=1,", []Host{{"a", "", "1"}, {"b", "", "5432"}}, Any, nil},
		{"host=a,b hostaddr=10.0.0.1,", []Host{{"a", "10.0.0.1", "5432"}, {"b", "", "5432"}}, Any, nil},
		{"hostaddr=10.0.0.1,::1", []Host{{"", "10.0.0.1", "5432"}, {"", "::1", "5432"}}, Any, nil},
		{`host=/tmp password='it\'s a \\' user = u`, []Host{{"/tmp", "", "5432"}}, Any,
			map[string]string{"password": `it's a \`, "user": "u"}},
		{`password=a\ b dbname=''`, []Host{{"localhost", "", "5432"}}, Any,
			map[string]string{"password": "a b", "dbname": ""}},
		{"postgresql://", []Host{{"localhost", "", "5432"}}, Any, nil},
		{"postgres://u:p%40%3a@a:1,[::1]:2,b/d%20b?target_session_attrs=standby&application_name=x%26y",
			[]Host{{"a", "", "1"}, {"::1", "", "2"}, {"b", "", "5432"}}, Standby,
			map[string]string{"user": "u", "password": "p@:", "dbname": "d b", "application_name": "x&y"}},
		{"connect_timeout=-1", []Host{{"localhost", "", "5432"}}, Any, map[string]string{"connect_timeout": "0"}},
		{"postgres:///d?host=/run/pg&port=7", []Host{{"/run/pg", "", "7"}}, Any, map[string]string{"dbname": "d"}},
		{"postgres://u@/?ssl=true", []Host{{"localhost", "", "5432"}}, Any,
			map[string]string{"user": "u", "sslmode": "require"}},
	} {
		c, err := ParseConfig(test.in)
		if test.hosts == nil {
			if err == nil {
				t.Errorf("%q was accepted", test.in)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", test.in, err)
			continue
		}
		if !slices.Equal(c.Hosts, test.hosts) || c.Attribute != test.attribute || !maps.Equal(c.Settings, test.rest) {
			t.Errorf("%q: got %+v", test.in, c)
		}
		// What the real driver gets is read as it was given.
		again, err := ParseConfig(c.ConnString(c.Hosts[0].Name(), c.Hosts[0].Port))
		if err != nil || !maps.Equal(again.Settings, test.rest) || len(again.Hosts) != 1 ||
			again.Hosts[0].Name() != c.Hosts[0].Name() {
			t.Errorf("%q: again: %+v, %v", test.in, again, err)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	clearEnv(t)
	for in, want := range map[string]string{
		"host":                                 `missing "="`,
		"host=a b":                             `missing "="`,
		"=a":                                   `missing "="`,
		"host='a":                              "unterminated",
		"host=a,b port=1,2,3":                  "could not match 3 port numbers to 2 hosts",
		"host=a,b hostaddr=1.1.1.1":            "could not match 2 host names to 1 hostaddr",
		"port=65536":                           "1 to 65535",
		"port=x":                               "1 to 65535",
		"connect_timeout=soon":                 "a number of seconds",
		"target_session_attrs=master":          "read-write, read-only",
		"postgres://[::1":                      "IPv6",
		"postgres://[::1]x":                    "IPv6",
		"postgres://a/b?x":                     `missing "="`,
		"postgres://a%zz/b":                    "invalid URL escape",
		"postgres://a/b?target_session_attrs=": "",
	} {
		_, err := ParseConfig(in)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", in, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", in, err, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	clearEnv(t)
	t.Setenv("PGHOST", "a,b")
	t.Setenv("PGPORT", "7")
	t.Setenv("PGTARGETSESSIONATTRS", "standby")
	t.Setenv("PGCONNECT_TIMEOUT", "3")
	t.Setenv("PGAPPNAME", "env")
	c, err := ParseConfig("port=8 fallback_application_name=fallback")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Hosts) != 2 || c.Hosts[1] != (Host{"b", "", "8"}) || c.Attribute != Standby ||
		c.ConnectTimeout != 3*time.Second || c.ApplicationName != "env" || !c.HostsGiven {
		t.Errorf("got %+v", c)
	}
}

// What is written for the real driver would be read by it as the URI, whoever conmgr has named.
func TestURIIsNoKeyword(t *testing.T) {
	for _, s := range []string{" postgres://u:secret@elsewhere/d?x=y", "host=a postgresql://u:secret@elsewhere/d?x=y",
		"postgres://a/d?postgres%3A%2F%2Fu:secret@elsewhere/d=y"} {
		if _, err := ParseConfig(s); err == nil || !strings.Contains(err.Error(), "is there a space before it?") ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, s := range []string{"host=a port='1'", `a=\`, "postgres://u:p@[::1]:2,b/d?x=y", "a='", "postgres://%",
		" = ", " postgres://u:p@[::1]62,b/d?x=y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		c, err := ParseConfig(in)
		if err != nil {
			return
		}
		if len(c.Hosts) == 0 {
			t.Errorf("%q: no host", in)
		}
		for k := range c.Settings { // keywords out of a URI may be anything; the real driver refuses them
			if strings.ContainsAny(k, "= \t\n\r\f\v'\\") || k == "" {
				return
			}
		}
		again, err := ParseConfig(c.ConnString(c.Hosts[0].Name(), c.Hosts[0].Port))
		if err != nil {
			t.Fatalf("%q: again: %v", in, err)
		}
		if !maps.Equal(again.Settings, c.Settings) {
			t.Errorf("%q: got %v, again %v", in, c.Settings, again.Settings)
		}
	})
}
