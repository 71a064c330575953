package suite

// Which server a connection string leads to.

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func badConnString(t *test) {
	for _, s := range []string{"host", "target_session_attrs=master", "host=a,b port=1,2,3", "connect_timeout=soon",
		"port=65536"} {
		if p, err := t.adapter.Open(s, Crowd); err == nil {
			p.Close()
			t.Errorf("%q was accepted", s)
		}
	}
}

func attributesByConmgr(t *test) {
	s := t.conmgr()
	for attribute, want := range map[string]string{"": "primary", "any": "primary", "read-write": "primary",
		"primary":   "primary",
		"read-only": "standby", "standby": "standby", "prefer-standby": "standby", "prefer-read": "standby"} {
		if got := t.roleOf("host=localhost port=%d user=postgres sslmode=disable target_session_attrs='%s'", s.Port(),
			attribute); got != want {
			t.Errorf("%q: got %s, want %s", attribute, got, want)
		}
	}
	t.Setenv("PGTARGETSESSIONATTRS", "standby")
	if got := t.roleOf("host=localhost port=%d user=postgres sslmode=disable", s.Port()); got != "standby" {
		t.Errorf("PGTARGETSESSIONATTRS=standby: got %s", got)
	}
}

// Servers of the list are verified; the conmgr of the list is down.
func attributesOfServers(t *test) {
	hosts := []string{fmt.Sprintf("127.0.0.1:%d", testkit.ClosedPort(t)),
		fmt.Sprintf("127.0.0.1:%d", t.pair.Primary), fmt.Sprintf("127.0.0.1:%d", t.pair.Standby)}
	reversed := slices.Clone(hosts)
	slices.Reverse(reversed)
	uri := func(list []string, attribute, sslmode string) string {
		return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=%s&target_session_attrs=%s",
			strings.Join(list, ","), sslmode, attribute)
	}
	for attribute, want := range map[string]string{"read-write": "primary", "primary": "primary",
		"read-only": "standby", "standby": "standby", "prefer-standby": "standby", "prefer-read": "standby"} {
		for _, list := range [][]string{hosts, reversed} {
			for _, sslmode := range t.adapter.SSLModes {
				if got := t.roleOf("%s", uri(list, attribute, sslmode)); got != want {
					t.Errorf("%q of %v, %s: got %s, want %s", attribute, list, sslmode, got, want)
				}
			}
		}
	}
	for attribute, list := range map[string][]string{"any": hosts, "prefer-standby": hosts[:2]} {
		if got := t.roleOf("%s", uri(list, attribute, "disable")); got != "primary" {
			t.Errorf("%s of %v: got %s, want the primary", attribute, list, got)
		}
	}
	err := t.fails(t.open("%s", uri(hosts[:2], "standby", "disable")))
	for _, want := range []string{hosts[0][len("127.0.0.1:"):], hosts[1][len("127.0.0.1:"):], "standby"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something of %s", err, want)
		}
	}
}

// A list of a conmgr that knows only the primary, and a server.
func mixedList(t *test) {
	s := t.conmgr()
	s.Set(t.pair.Instances()[0])
	for _, c := range []struct {
		ports           []int
		attribute, want string
	}{
		{[]int{s.Port(), t.pair.Standby}, "primary", "primary"},
		{[]int{s.Port(), t.pair.Standby}, "any", "primary"},
		{[]int{s.Port(), t.pair.Standby}, "standby", "standby"},
		{[]int{s.Port(), t.pair.Standby}, "prefer-standby", "standby"},
		{[]int{t.pair.Standby, s.Port()}, "read-write", "primary"},
		{[]int{t.pair.Standby, s.Port()}, "any", "standby"},
		{[]int{s.Port(), testkit.ClosedPort(t)}, "prefer-standby", "primary"},
		{[]int{testkit.ClosedPort(t), s.Port()}, "read-write", "primary"},
	} {
		if got := t.roleOf("%s sslmode=disable target_session_attrs=%s", list(c.ports...), c.attribute); got != c.want {
			t.Errorf("%v, %s: got %s, want %s", c.ports, c.attribute, got, c.want)
		}
	}
}

func unixSocket(t *test) {
	if got := t.roleOf("host=%s port=%d user=postgres", t.pair.SocketDir, t.pair.Primary); got != "primary" {
		t.Errorf("got %s", got)
	}
	// The same directory twice, and the first port is nobody's.
	p := t.open("host=%s,%[1]s port=%d,%d user=postgres", t.pair.SocketDir, testkit.ClosedPort(t), t.pair.Primary)
	if got := t.role(p); got != "primary" {
		t.Errorf("the second port of a directory: got %s", got)
	}
	t.canceled(t.sleep(p, t.pair.Primary))
}

func noTarget(t *test) {
	s := t.conmgr()
	s.Set()
	err := t.fails(t.open("host=localhost port=%d user=postgres sslmode=disable", s.Port()))
	var answer *driver.ConmgrError
	if !errors.As(err, &answer) || !answer.NoTarget() ||
		!strings.Contains(err.Error(), "no target server address from Connection Manager") {
		t.Errorf("got %v, want 08001", err)
	}
}
