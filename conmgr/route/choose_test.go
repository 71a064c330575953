package route

// Tests of the choice among several standbys: of two by chance the one with fewer connections, and
// none that is too far behind.

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

const mb = 1 << 20

var (
	current = hb.Lag{Known: true}
	late    = hb.Lag{Known: true, Bytes: 64 * mb, Time: 12 * time.Second}
	begun   = hb.Lag{Known: true, Bytes: 5, Time: -1}
	most16  = hb.LagLimit{By: hb.ByBytes, Max: 16 * mb, Text: "16MB"}
	most5s  = hb.LagLimit{By: hb.ByTime, Max: 5000, Text: "5s"}
)

// tableOf is that of instances with these lags.
func tableOf(rules Rules, specs string, lags ...hb.Lag) *Table {
	all := instances(specs)
	for i := range lags {
		all[i].Lag = lags[i]
	}
	return Decide(Known{}.Learn(all, true, epoch), all, true, rules, epoch)
}

func TestMaxLag(t *testing.T) {
	for _, x := range []struct {
		rules hb.LagLimit
		own   *hb.LagLimit
		specs string
		lags  []hb.Lag
		want  string // any, read-write, read-only, primary, standby, prefer-standby, each all that may be given
	}{
		{hb.LagLimit{}, nil, "p1 s1 s1 s1", []hb.Lag{{}, late, {}, current}, "0 0 1,2,3 0 1,2,3 1,2,3"},
		{most16, nil, "p1 s1 s1 s1", []hb.Lag{{}, current, current, current}, "0 0 1,2,3 0 1,2,3 1,2,3"},
		{most16, nil, "p1 s1 s1 s1", []hb.Lag{{}, late, {}, current}, "0 0 3 0 3 3"},
		{most16, nil, "p1 s1 s1 s1", []hb.Lag{{}, late, late, {}}, "0 0 - 0 - 0"},
		{most16, nil, "r1 s1 s1", []hb.Lag{{}, current, late}, "0 - 0,1 0 1 1"},
		{most16, nil, "r1 s1 s1", []hb.Lag{{}, late, late}, "0 - 0 0 - 0"},
		{most16, nil, "s1 p1 s1", []hb.Lag{late, {}, current}, "1 1 2 1 2 2"},
		{most16, nil, "s1 p1-", []hb.Lag{late, {}}, "0 - - - - -"}, // better than none
		{most16, nil, "s1 s1 p1-", []hb.Lag{late, {}, {}}, "0 - - - - -"},
		{most16, nil, "s1 s1 p1-", []hb.Lag{late, current, {}}, "1 - 1 - 1 1"},
		{most16, nil, "p1 s1", []hb.Lag{{}, begun}, "0 0 1 0 1 1"},
		{most5s, nil, "p1 s1", []hb.Lag{{}, begun}, "0 0 - 0 - 0"},
		{most5s, nil, "p1 s1 s1 s1", []hb.Lag{{}, late, current, {}}, "0 0 2 0 2 2"},
		// An application's own limit takes the place of that, and holds for any, too.
		{hb.LagLimit{}, &most16, "p1 s1 s1", []hb.Lag{{}, late, current}, "0 0 2 0 2 2"},
		{hb.LagLimit{}, &most16, "s1 p1 s1", []hb.Lag{late, {}, current}, "1 1 2 1 2 2"},
		{hb.LagLimit{}, &most16, "s1 p1-", []hb.Lag{late, {}}, "- - - - - -"},
		{most16, &hb.LagLimit{}, "p1 s1 s1", []hb.Lag{{}, late, {}}, "0 0 1,2 0 1,2 1,2"},
		{most16, &hb.LagLimit{By: hb.ByBytes, Max: 64 * mb}, "p1 s1 s1", []hb.Lag{{}, late, {}}, "0 0 1 0 1 1"},
	} {
		tab := tableOf(Rules{MaxLag: x.rules}, x.specs, x.lags...)
		var got []string
		for _, a := range []cm.Attribute{cm.Any, cm.ReadWrite, cm.ReadOnly, cm.Primary, cm.Standby, cm.PreferStandby} {
			offered := tab.offered(Request{Want: a, Lag: x.own})
			text := strings.Trim(strings.ReplaceAll(fmt.Sprint(offered), " ", ","), "[]")
			got = append(got, orElse(text, "-"))
		}
		if s := strings.Join(got, " "); s != x.want {
			t.Errorf("%s, %v, limit %q, own %v: got %s, want %s", x.specs, x.lags, x.rules.Text, x.own, s, x.want)
		}
	}
}

func orElse(a, otherwise string) string {
	if a == "" {
		return otherwise
	}
	return a
}

// Who is left out by EXCEPT is not there.
func TestExceptAmongSeveral(t *testing.T) {
	tab := tableOf(Rules{}, "p1 s1 s1 s1")
	for r := range uint64(100) {
		if i := tab.Choose(Request{Want: cm.Standby, Except: []int{2}}, Load{Random: r | r<<32}); i != 1 && i != 3 {
			t.Fatalf("got %d", i)
		}
	}
}

// connects asks n times by a seed. held: each stays, and counts.
func connects(tab *Table, n int, held bool) []int {
	bound := make([]int, len(tab.all))
	got := make([]int, len(tab.all))
	rng := rand.NewPCG(1, 2)
	for range n {
		i := tab.Choose(Request{Want: cm.Standby}, Load{Bound: func(i int) int { return bound[i] }, Random: rng.Uint64()})
		got[i]++
		if held {
			bound[i]++
		}
	}
	return got
}

func TestSpread(t *testing.T) {
	for _, x := range []struct {
		specs     string
		held      bool
		low, high int // of 1200, of each standby
	}{
		{"p1 s1 s1", true, 600, 600},
		{"p1 s1 s1", false, 540, 660},
		{"p1 s1 s1 s1", true, 396, 404},
		{"p1 s1 s1 s1", false, 340, 460},
		{"p1 s1 s1 s1 s1 s1 s1", true, 196, 204},
	} {
		got := connects(tableOf(Rules{}, x.specs), 1200, x.held)
		if slices.Min(got[1:]) < x.low || slices.Max(got[1:]) > x.high || got[0] != 0 {
			t.Errorf("%s, held %v: %v", x.specs, x.held, got)
		}
	}
}

// Whatever chance says, of two the one with fewer connections, and of as many the nearer one.
func TestFewerConnectionsThenNearer(t *testing.T) {
	for _, x := range []struct {
		bound [3]int
		rtt   [3]time.Duration // ms
		want  string           // for each of 16 numbers of chance
	}{
		{[3]int{9, 5, 4}, [3]time.Duration{}, "2"},
		{[3]int{9, 4, 5}, [3]time.Duration{1, 90, 1}, "1"},
		{[3]int{0, 4, 4}, [3]time.Duration{}, "12"},
		{[3]int{0, 4, 4}, [3]time.Duration{1, 30, 5}, "2"},
		{[3]int{0, 4, 4}, [3]time.Duration{1, 5, 30}, "1"},
		{[3]int{0, 4, 4}, [3]time.Duration{1, 5, 9}, "12"},  // about as near
		{[3]int{0, 4, 4}, [3]time.Duration{1, 0, 30}, "12"}, // not known
		{[3]int{0, 4, 4}, [3]time.Duration{1, 30, 0}, "12"},
	} {
		all := instances("p1 s1 s1")
		for i := range all {
			all[i].RTT = x.rtt[i] * time.Millisecond
		}
		tab := Decide(Known{}.Learn(all, true, epoch), all, true, Rules{}, epoch)
		got := map[int]bool{}
		for r := range uint64(16) {
			got[tab.Choose(Request{Want: cm.Standby}, Load{Bound: func(i int) int { return x.bound[i] }, Random: r | r<<33})] = true
		}
		text := ""
		for i := range all {
			if got[i] {
				text += fmt.Sprint(i)
			}
		}
		if text != x.want {
			t.Errorf("%v, %v: got %s, want %s", x.bound, x.rtt, text, x.want)
		}
	}
	if nearer(100*time.Microsecond, 900*time.Microsecond) || !nearer(100*time.Microsecond, 1100*time.Microsecond) {
		t.Error("what is an accident among neighbours is not nearer")
	}
}

// What is told of each: used_for, not_used, and the DETAIL of an error.
func TestReasonsOfLag(t *testing.T) {
	const tooLate = "it is a standby that is 64 MB and 12 s behind: standby_max_lag is 16MB"
	tab := tableOf(Rules{MaxLag: most16}, "p1 s1 s1 s1 s1", hb.Lag{}, current, late, hb.Lag{}, current)
	const spread = "read-only,standby,prefer-standby,prefer-read"
	for i, want := range []string{"any,read-write,primary/", spread + "/", "/" + tooLate,
		"/it is a standby that is behind by what is not known: standby_max_lag is 16MB", spread + "/"} {
		if got := strings.Join(tab.UsedFor(i), ",") + "/" + tab.NotUsed(i); got != want {
			t.Errorf("instance %d: got %s", i, got)
		}
	}
	if got, want := tab.Describe(Request{Want: cm.Standby, Except: []int{1, 4}}),
		`instance 2 (host "db2") is established, standby,read-only: `+tooLate+`; `; !strings.Contains(got, want) {
		t.Errorf("got %s", got)
	}
	if got := tab.Describe(Request{Want: cm.Standby, Lag: &most5s}); !strings.Contains(got,
		"it is a standby that is 64 MB and 12 s behind: LAG is 5s") {
		t.Errorf("got %s", got)
	}
	if got := tableOf(Rules{}, "p0 p0").NotUsed(1); got != `instance 0 (host "db0") comes first` {
		t.Errorf("another primary: got %s", got)
	}
	tab = tableOf(Rules{MaxLag: most16}, "s1 p1-", late)
	if got := strings.Join(tab.UsedFor(0), ",") + "/" + tab.NotUsed(0); got != "any/"+tooLate {
		t.Errorf("the last one: got %s", got)
	}
}
