package route

// Tests of RESUME's verdicts.

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/cm"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

const thisRun, otherRun = 11, 22

// bound is the token of a binding to instance 0 of "p1 s1", as this run would have made it.
func bound() Token {
	_, t := after(Rules{}, "p1 s1")
	return t.Token(0, thisRun)
}

func TestToken(t *testing.T) {
	k := bound()
	k.KnownSince, k.Generation, k.PostmasterStart = 1<<63, 12, -5
	got, ok := ParseToken(k.String())
	if !ok || got != k {
		t.Errorf("%s: %+v, %v", k, got, ok)
	}
	k.Address = netip.MustParseAddr("fe80::1%eth0")
	if got, ok := ParseToken(k.String()); !ok || got != k {
		t.Errorf("%s: %+v, %v", k, got, ok)
	}
	k.Address = netip.MustParseAddr("fe80::1%a'b")
	if k.String() != "" {
		t.Errorf("a quote: %s", k)
	}
	k.Address = netip.MustParseAddr("fe80::1%" + strings.Repeat("x", cm.MaxResume))
	if k.String() != "" {
		t.Errorf("too long: %s", k)
	}
	for _, s := range []string{"", "r1", "r2/0/7/3e8/0/0/b/0/5432/10.0.0.0", "r1/0/7/3e8/0/0/b/0/5432/db0",
		"r1/0/7/3e8/0/0/b/0/5432/", "r1/0/7/3e8/0/0/b/0/65536/10.0.0.0", "r1/-1/7/3e8/0/0/b/0/5432/10.0.0.0",
		"r1/0/7/x/0/0/b/0/5432/10.0.0.0", "r1/0/7/3e8/0/0/b/0/5432/10.0.0.0/",
		"r1/0/7/3e8/0/0/b/0/5432/fe80::1%" + strings.Repeat("x", cm.MaxResume)} {
		if _, ok := ParseToken(s); ok {
			t.Errorf("%q is a token", s)
		}
	}
}

func TestResume(t *testing.T) {
	for _, c := range []struct {
		what, specs string // what is there now
		change      func(k *Token, all []Instance)
		late        bool
		index       int
		lost        string
	}{
		{"as it was", "p1 s1", nil, true, 0, ""},
		{"its role is another one", "s2 p2", nil, true, 0, ""},
		{"of another run", "p1 s1", func(k *Token, _ []Instance) { k.Run, k.Losses = otherRun, 5 }, true, 0, ""},
		{"its heartbeats are broken", "p1c s1", nil, true, 0, ""},
		{"it shuts down", "p1! s1", nil, true, 0, ""},
		{"renumbered", "s1 p1", func(_ *Token, all []Instance) {
			all[0].Address, all[1].Address = all[1].Address, all[0].Address
			all[0].PostmasterStart, all[1].PostmasterStart = all[1].PostmasterStart, all[0].PostmasterStart
		}, true, 1, ""},
		{"by another of its name's addresses", "p1 s1", func(_ *Token, all []Instance) {
			all[0].Addresses = []netip.Addr{all[0].Address, netip.MustParseAddr("2001:db8::1")}
			all[0].Address = all[0].Addresses[1]
		}, true, 0, ""},
		{"another entry serves", "p1 s1 p1", func(_ *Token, all []Instance) {
			all[2].PostmasterStart, all[0].State = all[0].PostmasterStart, hb.Duplicate
		}, true, 2, ""},
		{"another entry serves since a restart", "p1 s1 p1", func(k *Token, all []Instance) {
			all[2].PostmasterStart, all[0].State = all[0].PostmasterStart, hb.Duplicate
			k.Run, k.KnownSince, all[0].KnownSince = otherRun, 3, 3
			all[2].KnownSince, all[2].Generation, all[2].Losses = 4, 9, 9
		}, true, 2, ""},
		{"and the server had forgotten this one", "p1 s1 p1", func(k *Token, all []Instance) {
			all[2].PostmasterStart, all[0].State = all[0].PostmasterStart, hb.Duplicate
			k.Run, k.KnownSince, all[0].KnownSince, all[2].KnownSince = otherRun, 3, 4, 3
		}, true, -1, "the server has ended the sessions of this host meanwhile"},

		// A stale epoch.
		{"restarted", "p1+ s1", nil, false, -1, "the server was restarted"},
		{"an older start", "p1 s1", func(k *Token, _ []Instance) { k.PostmasterStart++ }, false, -1, "the server was restarted"},
		{"another cluster", "p1x s1", nil, false, -1, "another database cluster is there"},
		{"restarted, and broken again", "p1+c s1", nil, false, -1, "the server was restarted"},
		{"another server by another entry", "p1 s1", func(_ *Token, all []Instance) {
			all[0].State = hb.Duplicate
			all[0].PostmasterStart++
		}, true, -1, "another server is there"},

		// Generation and losses.
		{"a higher generation", "p1 s1", func(_ *Token, all []Instance) { all[0].Generation = 1 }, false, -1,
			"it was lost meanwhile"},
		{"an older generation", "p1 s1", func(k *Token, _ []Instance) { k.Generation = 1 }, false, 0, ""},
		{"lost by another cause in this run", "p1 s1", func(_ *Token, all []Instance) { all[0].Losses = 1 }, false, -1,
			"it was lost meanwhile"},
		{"known lost", "p1- s1", nil, false, -1, "it was lost meanwhile"},
		{"known lost, never reached", "? s1", func(_ *Token, all []Instance) { all[0].State = hb.Lost }, false, -1,
			"it was lost meanwhile"},
		{"superseded", "p1 p2", nil, false, -1, "superseded by instance 1, timeline 2"},
		{"forgotten by the server", "p1 s1", func(k *Token, all []Instance) {
			k.Run, k.KnownSince, all[0].KnownSince = otherRun, 3, 4
		}, false, -1, "the server has ended the sessions of this host meanwhile"},
		{"remembered by the server", "p1 s1", func(k *Token, all []Instance) {
			k.Run, k.KnownSince, all[0].KnownSince = otherRun, 3, 3
		}, false, 0, ""},
		{"which tells that now", "p1 s1", func(k *Token, all []Instance) { k.Run, all[0].KnownSince = otherRun, 3 }, false, 0, ""},
		{"and of this run is no matter", "p1 s1", func(k *Token, all []Instance) { k.KnownSince, all[0].KnownSince = 3, 4 }, false,
			0, ""},

		// Not reached yet.
		{"pending", "? s1", nil, false, -1, ""},
		{"pending until it is late", "? s1", nil, true, -1, notHeard},
		{"its name was not resolved yet", "? s1", func(_ *Token, all []Instance) { all[0].Address = netip.Addr{} }, false, -1, ""},
		{"nor until it is late", "? s1", func(_ *Token, all []Instance) { all[0].Address = netip.Addr{} }, true, -1, notHeard},
		{"another port", "? s1", func(k *Token, _ []Instance) { k.Port++ }, false, -1, "it is not configured any more"},
		{"not configured any more", "p1 s1", func(k *Token, _ []Instance) { k.Address = netip.MustParseAddr("10.9.9.9") }, false,
			-1, "it is not configured any more"},
	} {
		k, all := bound(), instances(c.specs)
		if c.change != nil {
			c.change(&k, all)
		}
		known := Known{}.Learn(instances("p1 s1"), true, epoch).Learn(all, true, epoch)
		tab := Decide(known, all, true, Rules{}, epoch)
		if got := tab.Resume(k, thisRun, c.late); got.Index != c.index || got.Lost != c.lost {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(bound().String())
	f.Fuzz(func(t *testing.T, s string) {
		if k, ok := ParseToken(s); ok {
			if again, ok := ParseToken(k.String()); k.String() != "" && (!ok || again != k) {
				t.Errorf("%q: %+v, then %+v", s, k, again)
			}
		}
	})
}
