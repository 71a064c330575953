package route

// Tests of the choice among instances, of what is said of it, and of the memory behind it.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

var epoch = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// one makes an instance: "p" primary, "s" standby, "r" read-only primary; then "3" timeline; then
// "-" lost, "c" connection broken, "!" shutting down, "?" never reached, "x" another cluster, "+"
// restarted, "<" succeeds cluster 7 at timeline 3; "d" drained by its server, "h" here.
func one(number int, spec string) Instance {
	in := Instance{Number: number, Host: fmt.Sprintf("db%d", number), Port: 5432,
		Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(number)}),
		State:   hb.Established, Told: true, SystemIdentifier: 7, PostmasterStart: int64(1000 * (number + 1))}
	for _, c := range spec {
		switch {
		case c == 's':
			in.Attributes.Flags |= hb.InRecovery
		case c == 'r':
			in.Attributes.Flags |= hb.ReadOnly
		case c == '-':
			in.State, in.Detail = hb.Lost, "no heartbeat for 5 ms"
		case c == 'c':
			in.State = hb.Connecting
		case c == '!':
			in.Attributes.Flags |= hb.ShuttingDown
		case c == '?':
			in.State, in.Told = hb.Connecting, false
		case c == 'x':
			in.SystemIdentifier = 8
		case c == '+':
			in.PostmasterStart++
		case c == 'd':
			in.Attributes.Flags |= hb.Draining
		case c == 'h':
			in.Drained = true
		case c == '<':
			in.SystemIdentifier, in.Succeeds = 8, Succession{SystemIdentifier: 7, Timeline: 3}
		case c >= '0' && c <= '9':
			in.Attributes.Timeline = uint32(c - '0')
		}
	}
	return in
}

func instances(specs string) (all []Instance) {
	for i, s := range strings.Fields(specs) {
		all = append(all, one(i, s))
	}
	return all
}

// after goes through what was seen one after the other, and returns the last table.
func after(rules Rules, history ...string) (known Known, t *Table) {
	for _, specs := range history {
		known = known.Learn(instances(specs), true, epoch)
		t = Decide(known, instances(specs), true, rules, epoch)
	}
	return known, t
}

// pick chooses where chance takes the first.
func pick(t *Table, want cm.Attribute, except ...int) int {
	return t.Choose(Request{Want: want, Except: except}, Load{})
}

func choices(t *Table, except []int) string {
	var got []string
	for _, a := range []cm.Attribute{cm.Any, cm.ReadWrite, cm.ReadOnly, cm.Primary, cm.Standby, cm.PreferStandby} {
		if i := pick(t, a, except...); i < 0 {
			got = append(got, "-")
		} else {
			got = append(got, fmt.Sprint(i))
		}
	}
	return strings.Join(got, " ")
}

func TestChoose(t *testing.T) {
	for _, x := range []struct {
		history string // what was seen, the last one is now
		except  []int
		want    string // any, read-write, read-only, primary, standby, prefer-standby
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
		{"p2 p2", nil, "0 0 - 0 - 0"},         // none was known before: the lower number
		{"p2 p2", []int{0}, "- - - - - -"},    // and no other
		{"p1 p2", []int{1}, "- - - - - -"},    // never the one that was left behind
		{"p1 p2 s2", []int{1}, "2 - 2 - 2 2"}, // but a standby
		{"p1 p2 s2", nil, "1 1 2 1 2 2"},      //
		{"p1 p2 s2", []int{2}, "1 1 - 1 - 1"}, //
		{"r1 p2", nil, "1 1 - 1 - 1"},         // nor because it is read only
		{"p1 r2", nil, "1 - 1 1 - 1"},         // nor because the new one is
		{"p1 p2!", nil, "- - - - - -"},        // nor because the new one shuts down
		{"p1 p2-", nil, "0 0 - 0 - 0"},        // nobody has ever heard of timeline 2
		{"p0 p1", nil, "1 1 - 1 - 1"},         // timeline not known
		{"p0", nil, "0 0 - 0 - 0"},
		{"s1 s1 p1", []int{0, 1, 2}, "- - - - - -"},

		// What was known once counts, whatever became of it.
		{"p1 p2,p1 p2-", nil, "- - - - - -"},
		{"p1 p2,p1 p2c", nil, "- - - - - -"},
		{"p1 p2,p1 p2?", nil, "- - - - - -"},
		{"p1 p2,r1 p2?", nil, "- - - - - -"},
		{"p1 p2,p0 p2?", nil, "- - - - - -"},
		{"p1 p2,p1 p2?,p1 p2+", nil, "1 1 - 1 - 1"}, // it was restarted
		{"p1 p2,p1 p2?,p3 p2+", nil, "0 0 - 0 - 0"}, // the other one was promoted again
		{"p1 p2,s1 p2-", nil, "0 - 0 - 0 0"},        // it follows
		{"p1 s1 s1,p1 s1- s2", nil, "2 - 2 - 2 2"},  // a standby tells of a promotion that nobody has seen
		{"p1 s1 s1,p1 s1- s2,p1 p2 s2", nil, "1 1 2 1 2 2"},

		// Two promotions to the same timeline: the one that was there first stays.
		{"p1 s1 p2,p1 p2 p2", nil, "2 2 - 2 - 2"},
		{"p1 s1 p2,p1 p2 p2-", nil, "- - - - - -"},
		{"p1 s1 p2,p1 p2 p2?", nil, "- - - - - -"},
		{"p1 s1 p2,p1 p2 p2-,p1 p2 p2+", nil, "2 2 - 2 - 2"}, // restarted
		{"p1 s1 p2,p1 p2 p2-,p1 p3 p2+", nil, "1 1 - 1 - 1"},

		// Another cluster is offered for nothing, whatever its timeline.
		{"p1 s1 p5x", nil, "0 0 1 0 1 1"},
		{"p5x s1 p1", nil, "1 2 1 2 1 1"},
		{"p1,p1 p5x", nil, "0 0 - 0 - 0"},
		{"p1,p1- p5x", nil, "- - - - - -"},
		{"p1,p1? s5x", nil, "- - - - - -"},
		{"p1 p5x", nil, "0 0 - 0 - 0"}, // the order of conmgr.conf decides
		{"p1 p5x,p1 p5x s1", nil, "0 0 2 0 2 2"},

		// Succession.
		{"p3,p3 p1<", nil, "1 1 - 1 - 1"},
		{"p3 p1<", nil, "1 1 - 1 - 1"},
		{"p3 s3 p1<", nil, "2 2 - 2 - 2"},
		{"p3,p3 p1<,p3 p1<-", nil, "- - - - - -"},
		{"p4,p4 p1<", nil, "0 0 - 0 - 0"}, // it has not succeeded timeline 4
		{"p4 p1<", nil, "0 0 - 0 - 0"},
	} {
		_, tab := after(Rules{StandbyGrace: -1}, strings.Split(x.history, ",")...)
		if got := choices(tab, x.except); got != x.want {
			t.Errorf("%s except %v: got %v, want %s", x.history, x.except, got, x.want)
		}
		if pick(tab, cm.PreferRead, x.except...) != pick(tab, cm.PreferStandby, x.except...) {
			t.Errorf("%s: prefer-read is not prefer-standby", x.history)
		}
		if p := pick(tab, cm.Primary); p != tab.Primary {
			t.Errorf("%s: the primary is %d, not %d", x.history, p, tab.Primary)
		}
	}
}

// The knowledge of one run serves the next, in which conmgr.conf may be another.
func TestHolderInAnotherConfiguration(t *testing.T) {
	known, _ := after(Rules{}, "p1 s1 p2")
	all := instances("p2 p2 p2")
	choose := func(all []Instance) int {
		return pick(Decide(known.Learn(all, true, epoch), all, true, Rules{}, epoch), cm.Primary)
	}
	if i := choose(all); i != 2 {
		t.Errorf("unchanged: %d", i)
	}
	all[0], all[2] = all[2], all[0]
	all[0].Number, all[2].Number = 0, 2
	if i := choose(all); i != 0 {
		t.Errorf("renumbered: %d", i)
	}
	all[0].PostmasterStart++
	if i := choose(all); i != 0 {
		t.Errorf("renumbered and restarted: %d", i)
	}
	all[0].Host = "elsewhere"
	if i := choose(all); i != 0 {
		t.Errorf("renamed: %d", i)
	}
	all[0].Address = netip.MustParseAddr("10.9.9.9")
	if i := choose(all); i != 0 {
		t.Errorf("no longer configured: %d, want the first", i)
	}
	all[1].Host, all[1].PostmasterStart = "db2", known.At.PostmasterStart+9
	if i := choose(all); i != 1 {
		t.Errorf("its name has moved: %d", i)
	}
}

func TestVoid(t *testing.T) {
	for _, x := range []struct{ history, want string }{
		{"p1 s1,p1 p2", "0: superseded by instance 1, timeline 2"},
		{"p1 s1,p1c p2", "0: superseded by instance 1, timeline 2"},
		{"p1 s1,p1- p2", ""}, // has been told
		{"p1 s1,p1- p2,p1 p2-", "0: superseded by instance 1, timeline 2"},
		{"p1 s1 s1,p1 p2 s1", "0: superseded by instance 1, timeline 2"}, // and no standby
		{"p1 p2,s1 p2", ""},
		{"p1 s1 p2,s2 p2 p2", "1: instance 2, which holds timeline 2"},
		{"p3,p3 p1<", "0: superseded by instance 1, system identifier 8"},
		{"p3 s3,p3 s3 p1<", "0: superseded by instance 2, system identifier 8; 1: superseded by instance 2, system identifier 8"},
		{"p1 s1 p5x", "2: system identifier 7"},
		{"p1 p5x", "1: system identifier 7"},
		{"p1 p2,p0 p2", ""},
	} {
		_, tab := after(Rules{StandbyGrace: -1}, strings.Split(x.history, ",")...)
		var got []string
		for i, v := range tab.Verdicts {
			if v.Superseded {
				v.By = "superseded by " + v.By
			}
			if v.Void {
				got = append(got, fmt.Sprintf("%d: %s", i, v.By))
			}
		}
		if s := strings.Join(got, "; "); s != x.want {
			t.Errorf("%s: got %q, want %q", x.history, s, x.want)
		}
	}
}

func TestStandbyGrace(t *testing.T) {
	for _, x := range []struct {
		grace, later time.Duration
		want         int
		next         time.Duration
	}{
		{time.Minute, 0, 1, time.Minute},
		{time.Minute, time.Minute - 1, 1, time.Minute},
		{time.Minute, time.Minute, -1, 0},
		{0, 0, -1, 0},
		{-1, time.Hour, 1, 0},
	} {
		known, _ := after(Rules{StandbyGrace: x.grace}, "p1 s1", "p2 s1")
		tab := Decide(known, instances("p2 s1"), true, Rules{StandbyGrace: x.grace}, epoch.Add(x.later))
		if got := pick(tab, cm.Standby); got != x.want {
			t.Errorf("%v after %v: got %d", x.grace, x.later, got)
		}
		if x.next == 0 && !tab.Next.IsZero() || x.next > 0 && !tab.Next.Equal(epoch.Add(x.next)) {
			t.Errorf("%v after %v: the next table is made at %v", x.grace, x.later, tab.Next)
		}
		if tab.Verdicts[1].Void {
			t.Errorf("%v after %v: what is bound to a standby is told", x.grace, x.later)
		}
	}
}

// A standby that has missed a promotion has no new grace because of the next one.
func TestStandbyGraceIsOfTheFirstPromotionMissed(t *testing.T) {
	rules := Rules{StandbyGrace: time.Minute}
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	known := Known{}.Learn(instances("p1 s1 s1"), true, at(0))
	known = known.Learn(instances("p2 s1 s1"), true, at(100))
	known = known.Learn(instances("s2 p3 s1"), true, at(110))
	for _, x := range []struct {
		now  int
		want []int // that are used
	}{{111, []int{0, 1, 2}}, {159, []int{0, 1, 2}}, {160, []int{0, 1}}, {169, []int{0, 1}}, {170, []int{1}}} {
		var got []int
		tab := Decide(known, instances("s2 p3 s1"), true, rules, at(x.now))
		for i, v := range tab.Verdicts {
			if v.Why == "" {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("after %d s: %v are used, want %v", x.now, got, x.want)
		}
	}
	for i := range uint32(100) {
		all := instances("p1")
		all[0].Attributes.Timeline = 4 + i
		known = known.Learn(all, true, at(1000))
	}
	if n := len(known.Earlier); n != maxEarlier || known.Earlier[n-1].Timeline != 102 {
		t.Errorf("%d are kept: %v", n, known.Earlier)
	}
	if !known.outdatedSince(1).Equal(at(1000)) {
		t.Errorf("timeline 1 is outdated since %v", known.outdatedSince(1))
	}
	known, _ = after(rules, "p3 s1", "p3 p1<")
	if known.Earlier != nil {
		t.Errorf("of the predecessor: %v", known.Earlier)
	}
}

func TestFirstContact(t *testing.T) {
	for _, x := range []struct {
		specs   string
		settled bool
		want    uint64
	}{
		{"p1 ? ?", false, 0},
		{"p1 ? ?", true, 7},
		{"p1x ? ?", true, 8},
		{"p1 s1 ?", false, 0},
		{"p1 s1 c", false, 7},
		{"p1 p1x", true, 7},
		{"p1 p1x ?", true, 7},
		{"s1x p1", true, 8},
		{"p1x p1 s1", true, 7},
		{"p1x s1x p1 s1", true, 8},
		{"p1x s1x p1 s1 s1", true, 7},
		{"p1- p1x", true, 8}, // it has not been heard of
		{"p1< p3", true, 8},
		{"p1< p3 s3", true, 8},
		{"p1< p4 s4", true, 7},
	} {
		if got := (Known{}).Learn(instances(x.specs), x.settled, epoch).SystemIdentifier; got != x.want {
			t.Errorf("%s, settled %v: got %d", x.specs, x.settled, got)
		}
	}
	twice := instances("p1 p1x p1x") // entries 1 and 2 are one server
	twice[2].PostmasterStart = twice[1].PostmasterStart
	if got := (Known{}).Learn(twice, true, epoch).SystemIdentifier; got != 7 {
		t.Errorf("a server with two names has two votes: %d", got)
	}
	both := instances("p3< p3")
	both[1].Succeeds = Succession{SystemIdentifier: 8, Timeline: 3}
	if got := (Known{}).Learn(both, true, epoch).SystemIdentifier; got != 8 {
		t.Errorf("each succeeds the other, and the first one counts: %d", got)
	}
}

// A declaration comes into force once: the predecessor may take over again, and the old declaration
// means nothing then.
func TestSuccessionBackAndForth(t *testing.T) {
	known, _ := after(Rules{}, "p3", "p3 p1<")
	if known.SystemIdentifier != 8 || known.Timeline != 1 || known.At.Instance != 1 || !known.Held {
		t.Fatalf("known: %+v", known)
	}
	all := instances("p3 p1<")
	all[0].Succeeds = Succession{SystemIdentifier: 8, Timeline: 1}
	for range 3 {
		known = known.Learn(all, true, epoch)
		if known.SystemIdentifier != 7 || known.Timeline != 3 || len(known.Takeovers) != 2 {
			t.Fatalf("known: %+v", known)
		}
	}
	all[1].Succeeds.Timeline = 4 // declared anew
	if known = known.Learn(all, true, epoch); known.SystemIdentifier != 8 {
		t.Errorf("known: %+v", known)
	}
	for i := range uint32(100) {
		all[1].Succeeds.Timeline = 5 + i
		known = known.Learn(all, true, epoch)
	}
	if len(known.Takeovers) != maxTakeovers {
		t.Errorf("%d takeovers are kept", len(known.Takeovers))
	}
}

func TestForget(t *testing.T) {
	for _, x := range []struct {
		history string
		number  int
		now     string
		want    string // system identifier, timeline, its instance, and the primary
	}{
		{"p1 p2,p1 p2-", -1, "p1 p2-", "7 1 0 0"},
		{"p1 p2,p1 p2-", 1, "p1 p2-", "7 1 0 0"},
		{"p1 p2,p1 p2-", 0, "p1 p2-", "7 2 1 -1"},                       // it told nothing
		{"p1 p2", 1, "p1 p2", "7 2 1 1"},                                // and tells it again
		{"p1 s1 p2,p1 p2 p2-", 2, "p1 p2 p2-", "7 2 1 1"},               // another one of the same timeline
		{"p1 s1 p2,p1 p2 p2", 2, "p1 p2 p2", "7 2 1 1"},                 // also while it lives
		{"p1 p2 s2,p1 p2- s2", 1, "p1 p2- s2", "7 2 2 -1"},              // the standby knows it too
		{"p1 p5x p5x,p1 p5x- p5x-", -1, "p1 p5x- p5x-", "7 1 0 0"},      // the set was another one
		{"p1 p5x p5x,p1 p5x- p5x-", 1, "p1 p5x- p5x-", "8 0 0 -1"},      // which is not forgotten with its instance
		{"p1 p2,p1- p2-", -1, "p1- p2-", "0 0 0 -1"},                    // nobody is there
		{"p3,p3 p1<,p3 p1<-", -1, "p3 p1<-", "7 3 0 0"},                 // back to the predecessor
		{"p3,p3 p1<,p3 p1<-", 1, "p3 p1<-", "8 0 0 -1"},                 //
		{"p3,p3 p1<", -1, "p3 p1<", "8 1 1 1"},                          // the declaration still stands
		{"s1 p1,s1 p1-", 1, "s1 p1-", "7 1 0 -1"},                       //
		{"p1 p2,p1 p2- p2,p1 p2- p2", 1, "p1 p2- p2", "7 2 2 2"},        //
		{"p1 p2,p1 p2- p2,p1 p2- p2", 1, "p1 p2-+ p2", "7 2 2 2"},       //
		{"p1 p2,p1 p2 p2,p1 p2 p2", 1, "p1 p2!+ p2", "7 2 2 2"},         //
		{"p1 p2,p1 p2 p2,p1 p2 p2", 2, "p1 p2 p2", "7 2 1 1"},           //
		{"p1 p2,p1 p2- p2,p1 p2- p2", 2, "p1 p2- p2", "7 2 1 -1"},       // not the holder
		{"p1 p2,p1 p2-,p1 p2-", 1, "p1- p2-", "7 0 0 -1"},               //
		{"p1 p2 p2,p1 p2- p2-,p1 p2- p2-", -1, "p1 p2- p2+", "7 2 2 2"}, //
	} {
		known, _ := after(Rules{StandbyGrace: -1}, strings.Split(x.history, ",")...)
		all := instances(x.now)
		known = known.Forget(x.number, all, epoch).Learn(all, true, epoch)
		tab := Decide(known, all, true, Rules{StandbyGrace: -1}, epoch)
		if got := fmt.Sprintf("%d %d %d %d", known.SystemIdentifier, known.Timeline, known.At.Instance,
			tab.Primary); got != x.want {
			t.Errorf("%s, forget %d, then %s: got %s, want %s", x.history, x.number, x.now, got, x.want)
		}
	}
}

func TestConflicts(t *testing.T) {
	const other = `instance 1 (host "db1") is not used: it belongs to another database cluster: its system identifier is 8, that of the set is 7`
	for _, x := range []struct{ history, want string }{
		{"p1 s1", ""},
		{"p1 p2-", ""},
		{"p1 p2", "more than one instance is a primary: instance 0 (timeline 1), instance 1 (timeline 2); instance 1 is used"},
		{"p1 p2d", "more than one instance is a primary: instance 0 (timeline 1), instance 1 (timeline 2); instance 1 is used"},
		{"p1 p2!", "more than one instance is a primary: instance 0 (timeline 1), instance 1 (timeline 2); none of them is used"},
		{"p1,p1 s1x", other},
		{"p1,p1- p1x", other},
		{"p1,p1- p1x-", ""},
		{"p1 s1x", other},
	} {
		_, tab := after(Rules{}, strings.Split(x.history, ",")...)
		if got := strings.Join(tab.Conflicts(), "|"); got != x.want {
			t.Errorf("%s: got %q", x.history, got)
		}
	}
}

// The DETAIL of an error, and not_used of SHOW INSTANCES, say the same.
func TestReasons(t *testing.T) {
	for _, x := range []struct {
		history, describe, notUsed string // describe for read-write except 4
	}{
		{"s1,s1-", `is lost (no heartbeat for 5 ms)`, `it is lost: no heartbeat for 5 ms`},
		{"?", `is connecting`, `it is connecting`},
		{"s1!", `is established, standby,read-only: it is shutting down`, `it is shutting down`},
		{"s1", `is established, standby,read-only: it is not read-write`, ``},
		{"r1", `is established, primary,read-only: it is not read-write`, ``},
		{"p1 p2", `is established, primary,read-write: it is a primary of timeline 1: a newer timeline is known, 2, seen at instance 1 (host "db1")`, `=`},
		{"p1 s2", `is established, primary,read-write: it is a primary of timeline 1: a newer timeline is known, 2, seen at instance 1 (host "db1")`, `=`},
		{"p1 p2,p0 p2", `is established, primary,read-write: its timeline is not known yet`, `=`},
		{"s1 p2", `is established, standby,read-only: it is a standby of timeline 1: a newer timeline is known, 2, seen at instance 1 (host "db1"), ` +
			`for longer than standby_timeline_grace`, `=`},
		{"s1 p2,p2 p2", `is established, primary,read-write: it is a primary of timeline 2, which instance 1 (host "db1") holds`, `=`},
		{"? p1,p1x p1", `is established, primary,read-write: it belongs to another database cluster: its system identifier is 8, that of the set is 7`, `=`},
		{"p3,p3 p1<", `is established, primary,read-write: it belongs to another database cluster: its system identifier is 7, that of the set is 8, ` +
			`which has succeeded it`, `=`},
		{"p1d s1", `is established, primary,read-write: it is draining, by its server (watchdog.draining or watchdog_drain())`, `=`},
		{"p1h s1", `is established, primary,read-write: it is draining, by cm_ctl drain on this host`, `=`},
		{"p1hd s1", `is established, primary,read-write: it is draining, by its server (watchdog.draining or watchdog_drain()) ` +
			`and by cm_ctl drain on this host`, `=`},
		{"p1d p2", `is established, primary,read-write: it is a primary of timeline 1: a newer timeline is known, 2, seen at instance 1 (host "db1")`, `=`},
		{"s1,s1d-", `is lost (no heartbeat for 5 ms)`, `it is lost: no heartbeat for 5 ms`},
		{"p1x p1 p1", `is established, primary,read-write: it belongs to another database cluster: its system identifier is 8, that of the set is 7`, `=`},
	} {
		_, tab := after(Rules{}, strings.Split(x.history, ",")...)
		got, _, _ := strings.Cut(tab.Describe(Request{Want: cm.ReadWrite}), "; ")
		if got != `instance 0 (host "db0") `+x.describe {
			t.Errorf("%s: got %s", x.history, got)
		}
		want := x.notUsed
		if want == "=" {
			_, want, _ = strings.Cut(x.describe, ": ")
		}
		if got := tab.NotUsed(0); got != want {
			t.Errorf("%s: not used: %s", x.history, got)
		}
	}
	_, tab := after(Rules{}, "p1 s1 s1")
	if got := tab.Describe(Request{Want: cm.ReadWrite, Except: []int{0}}); !strings.HasPrefix(got,
		`instance 0 (host "db0") is established, primary,read-write: it is left out by EXCEPT; `) {
		t.Errorf("got %s", got)
	}
	for i, want := range []string{"any,read-write,primary/", "read-only,standby,prefer-standby,prefer-read/",
		"read-only,standby,prefer-standby,prefer-read/"} {
		if got := strings.Join(tab.UsedFor(i), ",") + "/" + tab.NotUsed(i); got != want {
			t.Errorf("instance %d: got %s", i, got)
		}
	}
	one := instances("p1 ?")
	tab = Decide(Known{}.Learn(one, false, epoch), one, false, Rules{}, epoch)
	if got := tab.NotUsed(0); got != "it is not known yet which database cluster the others belong to" {
		t.Errorf("got %s", got)
	}
}
