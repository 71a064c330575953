package pgxcm

import (
	"bytes"
	"testing"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// The StartupMessage of a labelled session is pgconn's own with other options, in protocol 3.0 and
// 3.2; what is none is left as it is.
func TestLabelledStartup(t *testing.T) {
	const label = "0123456789abcdef0123456789abcdef"
	to := driver.Target{Client: label}
	for _, code := range []uint32{pgwire.Protocol3, pgwire.Protocol3 + 2} {
		for _, c := range []struct{ own, want []string }{
			{[]string{"user", "u", "options", `-c a=b\`, "database", "d"},
				[]string{"user", "u", "database", "d", "options", "-c conmgr.client=" + label + ` -c a=b\`}},
			{[]string{"user", "u", "x", ""}, []string{"user", "u", "x", "", "options", "-c conmgr.client=" + label}},
			{nil, []string{"options", "-c conmgr.client=" + label}},
		} {
			startup := pgwire.StartupPacket(code, c.own...)
			if got := labelled(startup, to); !bytes.Equal(got, pgwire.StartupPacket(code, c.want...)) {
				t.Errorf("%q: got %q", c.own, got)
			}
			if got := labelled(startup, driver.Target{}); !bytes.Equal(got, startup) {
				t.Errorf("%q, without a label: got %q", c.own, got)
			}
		}
	}
	for _, odd := range []string{"", "\x00\x00\x00\x04", "\x00\x00\x00\x0b\x00\x03\x00\x00ab", "\x00\x00\x00\x0d\x00\x03\x00\x00ab\x00cd"} {
		if got := labelled([]byte(odd), to); string(got) != odd {
			t.Errorf("%q: got %q", odd, got)
		}
	}
}
