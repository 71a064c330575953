package instance

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Half an answer (the question for the other kind of address failed) takes nothing away.
func TestHalfAnswer(t *testing.T) {
	for _, x := range []struct {
		known, answer string
		missing       Family
		cause         string
		want          string
		fresh         bool
	}{
		{"10.0.0.1 fd00::1", "fd00::1", IPv4, "failed", "fd00::1 10.0.0.1", false},
		{"10.0.0.1 fd00::1", "fd00::2", IPv4, "failed", "fd00::2 10.0.0.1", false},
		{"10.0.0.1 fd00::1", "10.0.0.2", IPv6, "failed", "10.0.0.2 fd00::1", false},
		{"10.0.0.1", "10.0.0.2", IPv6, "failed", "10.0.0.2", true}, // as ever with this name server
		{"", "10.0.0.1", IPv6, "failed", "10.0.0.1", true},
		{"10.0.0.1 fd00::1", "fd00::1", Neither, "", "fd00::1", true},
		{"10.0.0.1 fd00::1", "", Neither, "failed", "10.0.0.1 fd00::1", false},
		{"10.0.0.1 fd00::1", "", Neither, "", "10.0.0.1 fd00::1", false},
	} {
		in := New(Config{Host: "db0"})
		in.names.addrs = addresses(x.known)
		in.names.answer = &Event{Addrs: addresses(x.answer), Missing: x.missing, Cause: x.cause}
		in.looked()
		if n := in.names; !slices.Equal(n.addrs, addresses(x.want)) || n.fresh != x.fresh || (n.err == nil) != x.fresh {
			t.Errorf("%q, then %q, %q: %v, fresh %v, %v", x.known, x.answer, x.cause, n.addrs, n.fresh, n.err)
		}
	}
}

func addresses(s string) (out []netip.Addr) {
	for _, a := range strings.Fields(s) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}
