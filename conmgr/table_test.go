package conmgr

// Tests of the choice among instances.

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// spec of an instance: "p" primary, "s" standby, "r" read-only primary; then "3" timeline; then "-" not connected, "!" shutting down.
func tableOf(specs ...string) *table {
	var entries []entry
	for i, s := range specs {
		e := entry{cfg: &InstanceConfig{Number: i, Host: fmt.Sprintf("db%d", i), Port: 5432}}
		e.State, e.Known, e.SystemIdentifier = hb.Established, true, 7
		e.HostAddr = netip.MustParseAddr("10.0.0.1")
		for _, c := range s {
			switch {
			case c == 's':
				e.Attributes.Flags |= hb.InRecovery
			case c == 'r':
				e.Attributes.Flags |= hb.ReadOnly
			case c == '-':
				e.State, e.Detail = hb.Lost, "no heartbeat for 5 ms"
			case c == '!':
				e.Attributes.Flags |= hb.ShuttingDown
			case c == 'x':
				e.SystemIdentifier = 8
			case c >= '0' && c <= '9':
				e.Attributes.Timeline = uint32(c - '0')
			}
		}
		entries = append(entries, e)
	}
	return newTable(entries)
}

func TestChoose(t *testing.T) {
	for _, x := range []struct {
		specs  string
		except []int
		want   string // any, read-write, read-only, primary, standby, prefer-standby
	}{
		{"p1 s1", nil, "0 0 1 0 1 1"},
		{"s1 p1", nil, "0 1 0 1 0 0"},
		{"p1", nil, "0 0 - 0 - 0"},
		{"s1", nil, "0 - 0 - 0 0"},
		{"r1 s1", nil, "0 - 0 0 1 1"},
		{"p1- s1", nil, "1 - 1 - 1 1"},
		{"p1! s1", nil, "1 - 1 - 1 1"},
		{"p1 s1-", nil, "0 0 - 0 - 0"},
		{"p1- s1-", nil, "- - - - - -"},
		{"p1 s1 s1", []int{1}, "0 0 2 0 2 2"},
		{"p1 s1", []int{0}, "1 - 1 - 1 1"},
		{"p1 p2", nil, "1 1 - 1 - 1"},         // the higher timeline
		{"p2 p2", nil, "0 0 - 0 - 0"},         // the lower number
		{"p2 p2", []int{0}, "- - - - - -"},    // and no other
		{"p1 p2", []int{1}, "- - - - - -"},    // never the one that was left behind
		{"p1 p2 s2", []int{1}, "2 - 2 - 2 2"}, // but a standby
		{"p1 p2 s2", nil, "1 1 2 1 2 2"},      //
		{"p1 p2 s2", []int{2}, "1 1 - 1 - 1"}, //
		{"r1 p2", nil, "1 1 - 1 - 1"},         // nor because it is read only
		{"p1 r2", nil, "1 - 1 1 - 1"},         // nor because the new one is
		{"p1 p2!", nil, "- - - - - -"},        // nor because the new one shuts down
		{"p1 p2-", nil, "0 0 - 0 - 0"},        // but a lost one does not count
		{"p0 p1", nil, "1 1 - 1 - 1"},         // timeline not known
		{"s1 s1 p1", []int{0, 1, 2}, "- - - - - -"},
	} {
		tab := tableOf(strings.Fields(x.specs)...)
		var got []string
		for _, a := range []attribute{attrAny, attrReadWrite, attrReadOnly, attrPrimary, attrStandby, attrPreferStandby} {
			if i := tab.choose(a, x.except); i < 0 {
				got = append(got, "-")
			} else {
				got = append(got, fmt.Sprint(i))
			}
		}
		if strings.Join(got, " ") != x.want {
			t.Errorf("%s except %v: got %v, want %s", x.specs, x.except, got, x.want)
		}
		if tab.choose(attrPreferRead, x.except) != tab.choose(attrPreferStandby, x.except) {
			t.Errorf("%s: prefer-read is not prefer-standby", x.specs)
		}
	}
}

func TestConflicts(t *testing.T) {
	for _, x := range []struct{ specs, want string }{
		{"p1 s1", ""},
		{"p1 p2-", ""},
		{"p1 p2", "more than one instance is a primary: instance 0 (timeline 1), instance 1 (timeline 2); instance 1 is used"},
		{"p1 s1x", "the instances belong to different database clusters: instance 0 (system identifier 7), instance 1 (system identifier 8)"},
	} {
		if got := strings.Join(tableOf(strings.Fields(x.specs)...).conflicts(), "|"); got != x.want {
			t.Errorf("%s: got %q", x.specs, got)
		}
	}
}

func TestDescribe(t *testing.T) {
	want := `instance 0 (host "db0") is lost (no heartbeat for 5 ms); instance 1 (host "db1") is established, standby,read-only, shutting down`
	if got := tableOf("p1-", "s1!").describe(); got != want {
		t.Errorf("got %s", got)
	}
}
