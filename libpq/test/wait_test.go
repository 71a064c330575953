package libpqtest

// Waiting for an instance: what conmgr is asked for, and what an application sees of it.

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// announced are parameters of a conmgr: its features, and pairs of a name and a value.
func announced(features string, more ...string) (all []backend.Parameter) {
	all = append(all, backend.Parameter{Name: cm.FeaturesParameter, Value: features})
	for i := 0; i+1 < len(more); i += 2 {
		all = append(all, backend.Parameter{Name: more[i], Value: more[i+1]})
	}
	return all
}

// waiter is a conmgr that waits, by default so many milliseconds, in the test's place.
func waiter(t *testing.T, ms string, rows ...hostile.Row) *pretender {
	return hostileWith(t, hostile.Script{Announced: announced("later,"+cm.FeatureWait, cm.WaitSetting, ms), Rows: rows})
}

// wantAsked compares what was asked. A duration that a statement wants to have waited may have become
// shorter by two seconds, on the way to it on a busy machine.
func wantAsked(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	ms := regexp.MustCompile(`'(\d+)ms'`)
	same := func(got, want string) bool {
		if ms.ReplaceAllString(got, "") != ms.ReplaceAllString(want, "") {
			return false
		}
		g, w := ms.FindStringSubmatch(got), ms.FindStringSubmatch(want)
		if w == nil || g == nil {
			return got == want
		}
		have, _ := strconv.Atoi(g[1])
		most, _ := strconv.Atoi(w[1])
		return have <= most && have >= most-2000 && (have > 0) == (most > 0)
	}
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("%s: asked %q, want %q", what, got, want)
	}
}

func TestWaitThatIsAskedFor(t *testing.T) {
	for _, c := range []struct {
		conmgr  string // announced target_wait
		more    string
		env     []string
		wait    string
		options string // of the session
	}{
		{conmgr: "0", wait: "0ms"},
		{conmgr: "7000", wait: "7000ms"},
		{conmgr: "7000", more: "connect_timeout=5", wait: "4000ms"},
		{conmgr: "7000", more: "connect_timeout=1", wait: map[bool]string{false: "1000ms", true: "0ms"}[libpqVersion(t) >= 17]},
		{conmgr: "7000", more: "options='-c conmgr.target_wait=3000ms'", wait: "3000ms"},
		{conmgr: "7000", more: "options='-c conmgr.target_wait=0'", wait: "0ms"},
		{conmgr: "0", more: "options='-cConmgr.Target-Wait=2' connect_timeout=60", wait: "2000ms"},
		{conmgr: "0", more: "options='-c work_mem=5MB  --conmgr.target_wait=1\\\\ min -c my.words=x\\\\\\\\\\\\ y'", wait: "60000ms", options: `5MB|x\ y`},
		{conmgr: "0", env: []string{"PGOPTIONS=-c conmgr.target_wait=2s -c work_mem=5MB -c conmgr.target_wait=3s"}, wait: "3000ms", options: "5MB"},
		{conmgr: "7000", more: "options='-c conmgr.target_waits=1'", wait: "7000ms"},
	} {
		cm := waiter(t, c.conmgr, row("0", primary.port))
		if c.options == "" {
			c.options = "4MB"
		}
		what := c.conmgr + " " + c.more + strings.Join(c.env, " ")
		got := output(t, append(byPath(), c.env...), "psql", "-X", "-At", "-d", dsn(cm.Port(), c.more), "-c",
			"select concat_ws('|', current_setting('conmgr.target_wait', true), current_setting('work_mem'), current_setting('my.words', true))")
		if strings.TrimSpace(got) != c.options {
			t.Errorf("%s: the session has %q, want %q", what, strings.TrimSpace(got), c.options)
		}
		wantAsked(t, what, cm.Asked(), "SHOW TARGET any WAIT '"+c.wait+"'")
	}
}

// The handle shows what it was given, and the console gets it.
func TestWaitIsShown(t *testing.T) {
	m := waiter(t, "0", row("0", primary.port))
	given := "-c conmgr.target_wait=2s -c work_mem=5MB"
	wantOptions(t, nil, dsn(m.Port(), "options="+quoted(given)), given, "5MB")
	console := conmgr(t)
	output(t, byPath(), "psql", "-X", "-d", "host=localhost dbname=conmgr user=u options="+quoted(given)+" port="+console.Port(), "-c", "show version")
	if got := console.Startups(); len(got) == 0 || got[len(got)-1]["options"] != given {
		t.Errorf("the console got %q", got)
	}
}

// What is none is conmgr's to complain of, and 1.0 is asked as ever.
func TestWaitThatIsNone(t *testing.T) {
	m := waiter(t, "7000", row("0", primary.port))
	output(t, byPath(), "psql", "-X", "-d", dsn(m.Port(), "options='-c conmgr.target_wait=1h\\'m'"), "-c", "select 1")
	wantAsked(t, "no duration", m.Asked(), "SHOW TARGET any WAIT '1h''m'")
	m = hostileWith(t, hostile.Script{Rows: []hostile.Row{row("0", primary.port)}})
	output(t, byPath(), "psql", "-X", "-d", dsn(m.Port(), "options='-c conmgr.target_wait=1s'"), "-c", "select 1")
	wantAsked(t, "1.0", m.Asked(), "SHOW TARGET any")
	// its default is not known: it holds
	m = hostileWith(t, hostile.Script{Announced: announced("wait"), Rows: []hostile.Row{row("0", primary.port)}})
	output(t, byPath(), "psql", "-X", "-d", dsn(m.Port(), "connect_timeout=10"), "-c", "select 1")
	wantAsked(t, "without a default", m.Asked(), "SHOW TARGET any")
}

// list is a connection string for several.
func list(more string, ports ...string) string {
	return "host=localhost" + strings.Repeat(",localhost", len(ports)-1) + " port=" + strings.Join(ports, ",") +
		" user=postgres dbname=postgres " + more
}

// A list is gone through without waiting; only then those wait that can.
func TestListIsWaitedForInTheEnd(t *testing.T) {
	none, old := waiter(t, "5000"), hostileWith(t, hostile.Script{})
	var asked atomic.Int32
	late := waiter(t, "0")
	late.Set(hostile.Script{Announced: announced("wait", cm.WaitSetting, "0"), Rows: []hostile.Row{row("0", primary.port)},
		Answer: func(string, <-chan struct{}) []byte {
			if asked.Add(1) == 1 {
				return hostile.None()
			}
			return nil
		}})
	const override = "target_session_attrs=primary options='-c conmgr.target_wait=9s'"
	out := output(t, byPath(), "psql", "-X", "-At", "-d", list(override, none.Port(), old.Port(), freePort(t), late.Port()), "-c", "select 1")
	if out != "1\n" {
		t.Error(out)
	}
	wantAsked(t, "the first", none.Asked(), "SHOW TARGET primary WAIT '0ms'", "SHOW TARGET primary WAIT '9000ms'")
	wantAsked(t, "1.0", old.Asked(), "SHOW TARGET primary")
	wantAsked(t, "the last", late.Asked(), "SHOW TARGET primary WAIT '0ms'", "SHOW TARGET primary WAIT '9000ms'")

	// nobody is waited for where the next host will do, or where nobody is to be waited for
	none, late = waiter(t, "5000"), waiter(t, "5000", row("0", primary.port))
	output(t, byPath(), "psql", "-X", "-d", list("target_session_attrs=prefer-standby", none.Port(), late.Port()), "-c", "select 1")
	wantAsked(t, "the first", none.Asked(), "SHOW TARGET standby WAIT '0ms'")
	none = waiter(t, "0")
	failure(t, byPath(), "psql", "-X", "-d", list("", none.Port(), freePort(t)), "-c", "select 1")
	wantAsked(t, "without waiting", none.Asked(), "SHOW TARGET any WAIT '0ms'")

	// each says once what it has to say
	none, late = waiter(t, "5000"), waiter(t, "3000")
	out = failure(t, byPath(), "psql", "-X", "-d", list("target_session_attrs=prefer-standby", none.Port(), late.Port()), "-c", "select 1")
	if n := strings.Count(out, "no target"); n != 2 {
		t.Errorf("%d messages:\n%s", n, out)
	}
	wantAsked(t, "the last", late.Asked(), "SHOW TARGET standby WAIT '0ms'", "SHOW TARGET prefer-standby WAIT '0ms'",
		"SHOW TARGET prefer-standby WAIT '3000ms'")
}

// The wait is conmgr's: no call of the application's takes its time, and it may leave at any moment.
func TestWaitingAsynchronously(t *testing.T) {
	for _, more := range []string{"", "sslmode=require"} {
		left := make(chan struct{})
		m := hostileWith(t, hostile.Script{Announced: announced("wait", cm.WaitSetting, "60000"),
			Answer: func(_ string, gone <-chan struct{}) []byte { <-gone; close(left); return hostile.None() }})
		out := output(t, byPath(), "async", dsn(m.Port(), more), "500")
		wantNoWait(t, out)
		wantAll(t, out, "gave up: status 1000")
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Error("conmgr does not learn that nobody waits any more")
		}
	}
	// the instance comes
	come := make(chan struct{})
	m := hostileWith(t, hostile.Script{Announced: announced("wait", cm.WaitSetting, "60000"),
		Rows: []hostile.Row{row("0", primary.port)}, Answer: func(string, <-chan struct{}) []byte { <-come; return nil }})
	c := converse(t, byPath(), "async", dsn(m.Port(), "target_session_attrs=primary"))
	if err := testkit.Poll(20*time.Second, func() (bool, string) { return len(m.Asked()) == 1, "nothing is asked" }); err != nil {
		t.Fatal(err)
	}
	close(come)
	wantAll(t, c.rest(), "connected: port "+primary.port+" awaited conmgr yes")
}

// An instance that has refused is tried again as long as there is time, and no other one: it may have
// been starting.
func TestRefusingInstanceIsWaitedFor(t *testing.T) {
	var fine atomic.Bool
	port, rounds := freePort(t), 0
	m := hostileWith(t, hostile.Script{})
	script := hostile.Script{Announced: announced("wait", cm.WaitSetting, "20000"), Rows: []hostile.Row{row("0", port)}}
	script.Answer = func(statement string, _ <-chan struct{}) []byte {
		if strings.Contains(statement, " EXCEPT 0 ") {
			if rounds++; rounds == 3 {
				fine.Store(true)
			}
			return hostile.None()
		}
		if fine.Load() {
			script := script
			script.Answer, script.Rows = nil, []hostile.Row{row("0", primary.port)}
			m.Set(script)
		}
		return nil
	}
	m.Set(script)
	c := program(t, byPath(), "psql", "-X", "-At", "-d", dsn(m.Port(), "connect_timeout=30"), "-c", "select 1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v %s\n%q", err, out, m.Asked())
	}
	asked := m.Asked()
	wantAsked(t, "a round", asked[:2], "SHOW TARGET any WAIT '20000ms'", "SHOW TARGET any EXCEPT 0 WAIT '250ms'")
	if len(asked) != 9 { // the fourth answer is still the old one
		t.Errorf("asked %q", asked)
	}
	// where time is over, that is said, once
	m = waiter(t, "300", row("0", port))
	out := failure(t, byPath(), "psql", "-X", "-d", dsn(m.Port(), ""), "-c", "select 1")
	if n := strings.Count(out, "Connection refused"); n != 1 {
		t.Errorf("%d messages:\n%s", n, out)
	}
}

// conmgr is restarted while the application waits: the next one is asked, for what is left of the time.
// One that ends again and again is left in the end.
func TestConmgrEndsWhileItIsWaitedFor(t *testing.T) {
	ends := map[string][]byte{"told": backend.Fatal(cm.CannotConnectNow, cm.ShutdownText, "", ""), "closed": {}}
	for how, end := range ends {
		for _, x := range []struct {
			times int32
			wait  string
			asked int
		}{{1, "9000", 2}, {99, "9000", 4}, {99, "0", 1}} {
			var n atomic.Int32
			m := hostileWith(t, hostile.Script{Announced: announced("wait", cm.WaitSetting, x.wait), Rows: []hostile.Row{row("0", primary.port)},
				Answer: func(string, <-chan struct{}) []byte {
					if n.Add(1) <= x.times {
						return end
					}
					return nil
				}})
			c := program(t, byPath(), "psql", "-X", "-At", "-d", dsn(m.Port(), "connect_timeout=30"), "-c", "select 1")
			out, err := c.CombinedOutput()
			if (err == nil) != (x.times == 1) || err != nil && strings.Count(string(out), "could not receive") != 1 {
				t.Errorf("%s %d times: %v %s", how, x.times, err, out)
			}
			want := slices.Repeat([]string{"SHOW TARGET any WAIT '" + x.wait + "ms'"}, x.asked)
			wantAsked(t, how, m.Asked(), want...)
		}
	}
}

func TestPingDoesNotWait(t *testing.T) {
	m := waiter(t, "60000")
	wantAll(t, output(t, byPath(), "pings", dsn(m.Port(), ""), "localhost", m.Port()), "PQping no response",
		"PQpingParams no response")
	wantAsked(t, "PQping", m.Asked(), "SHOW TARGET any WAIT '0ms'", "SHOW TARGET any WAIT '0ms'")
}

// The same with a conmgr as it is: the primary comes while the application waits, or it does not.
func TestWaitingForAPrimary(t *testing.T) {
	m := conmgr(t)
	m.Set(standby.instance(1, isStandby))
	c := converse(t, byPath(), "async", dsn(m.Port(), "target_session_attrs=primary options='-c conmgr.target_wait=60s'"))
	testkit.Eventually(t, 20*time.Second, "it waits", func() (bool, string) {
		return strings.Contains(output(t, byPath(), "psql", "-X", "-At", "-d", dsn(m.Port(), "dbname=conmgr"), "-c", "SHOW WAITING"), "|primary|"), ""
	})
	m.Set(primary.instance(0, isPrimary), standby.instance(1, isStandby))
	wantAll(t, c.rest(), "connected: port "+primary.port+" awaited conmgr yes")

	m = conmgrWith(t, standby.instance(1, isStandby))
	start := time.Now()
	out := failure(t, byPath(), "psql", "-X", "-d", dsn(m.Port(), "target_session_attrs=primary connect_timeout=2 options='-c conmgr.target_wait=60s'"), "-c", "select 1")
	wantAll(t, out, "no target server address from Connection Manager", "DETAIL")
	if d := time.Since(start); d < 900*time.Millisecond || d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	wantAll(t, failure(t, byPath(), "psql", "-X", "-d", dsn(m.Port(), "target_session_attrs=primary options='-c conmgr.target_wait=soon'"), "-c", "select 1"), "soon")
}
