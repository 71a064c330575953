package console

// Tests of the console's parsers: statements and startup packets.

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

func TestStatements(t *testing.T) {
	target := func(a cm.Attribute, except ...int) statement {
		return statement{verb: showTarget, want: a, except: except}
	}
	lagging := func(st statement, lag string) statement {
		l, err := conf.ParseLag(lag)
		if err != nil {
			t.Fatal(err)
		}
		st.lag = &l
		return st
	}
	notified := func(st statement) statement { st.notify = true; return st }
	token := route.Token{Address: netip.MustParseAddr("::1"), Port: 1}
	resumes := func(st statement) statement { st.resume = &token; return st }
	waits := func(st statement, d time.Duration) statement { st.waits, st.wait = true, d; return st }
	for _, x := range []struct {
		text string
		want []any // statements, or SQLSTATEs
	}{
		{"", nil},
		{" ; ;-- nothing\n/* /* nested */ */", nil},
		{"SHOW INSTANCES", []any{statement{verb: showInstances}}},
		{"show\tinstances ;", []any{statement{verb: showInstances}}},
		{"/* a */ Show -- b\n Applications", []any{statement{verb: showApplications}}},
		{"SHOW CONFIG; SHOW VERSION;;SHOW HELP", []any{statement{verb: showConfig}, statement{verb: showVersion},
			statement{verb: showHelp}}},
		{"FORGET; forget instance 12", []any{statement{verb: forget, instance: -1},
			statement{verb: forget, instance: 12}}},
		{"drain instance 3; UNDRAIN INSTANCE 0", []any{statement{verb: drain, instance: 3},
			statement{verb: undrain, instance: 0}}},
		{"DRAIN", []any{"0A000"}},
		{"UNDRAIN", []any{"0A000"}},
		{"DRAIN INSTANCE 1, 2", []any{"0A000"}},
		{"DRAIN 1", []any{"0A000"}},
		{"UNDRAIN INSTANCE 10000", []any{"22023"}},
		{"FORGET INSTANCE", []any{"0A000"}},
		{"FORGET INSTANCE x", []any{"0A000"}},
		{"FORGET 1", []any{"0A000"}},
		{"FORGET INSTANCE 1 2", []any{"0A000"}},
		{"FORGET INSTANCE 10000", []any{"22023"}},
		{"SHOW STATS", []any{statement{verb: showStats}}},
		{"SET extra_float_digits = 3", []any{statement{verb: set, set: setting{name: "extra_float_digits", value: "3"}}}},
		{"set session DateStyle to 'ISO', 'MDY';", []any{statement{verb: set, set: setting{name: "datestyle", value: "'ISO', 'MDY'"}}}},
		{"SHOW HELP; SET  LOCAL x TO -1 ", []any{statement{verb: showHelp}, statement{verb: set, set: setting{name: "x", value: "-1"}}}},
		{"SET conmgr.target_wait = 5s", []any{statement{verb: set, set: setting{name: "conmgr.target_wait", value: "5s"}}}},
		{"SET \"Conmgr\".target_wait TO DEFAULT", []any{statement{verb: set, set: setting{name: "conmgr.target_wait", value: "DEFAULT", standard: true}}}},
		{"SET application_name = ''", []any{statement{verb: set, set: setting{name: "application_name"}}}},
		{"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SET TIME ZONE 'UTC'; SET NAMES 'UTF8'; SET TRANSACTION READ ONLY",
			[]any{statement{verb: set}, statement{verb: set}, statement{verb: set}, statement{verb: set}}},
		{"RESET application_name; reset ALL", []any{statement{verb: reset, set: setting{name: "application_name", standard: true}},
			statement{verb: reset, set: setting{name: "all", standard: true}}}},
		{"SET", []any{"42601"}},
		{"SET x", []any{"42601"}},
		{"SET x =", []any{"42601"}},
		{"SET = 1", []any{"42601"}},
		{"SET x. = 1", []any{"42601"}},
		{"SET x 1", []any{"42601"}},
		{"SET x = 'unterminated", []any{"42601"}},
		{"RESET", []any{"42601"}},
		{"RESET a b", []any{"42601"}},
		{"SELECT c.relname FROM pg_catalog.pg_class c", []any{"0A000"}},
		{"SHOW TARGET any", []any{target(cm.Any)}},
		{"show target READ-write", []any{target(cm.ReadWrite)}},
		{"show target 'read-only'", []any{target(cm.ReadOnly)}},
		{`show target "prefer-standby";`, []any{target(cm.PreferStandby)}},
		{"show target prefer-read EXCEPT 0", []any{target(cm.PreferRead, 0)}},
		{"show target primary except 0,12 , 3", []any{target(cm.Primary, 0, 12, 3)}},
		{"show target standby--comment\nexcept 1", []any{target(cm.Standby, 1)}},
		{"show target primary notify except 0,12", []any{notified(target(cm.Primary, 0, 12))}},
		{"show target primary EXCEPT 3 Notify;", []any{notified(target(cm.Primary, 3))}},
		{"show target primary wait '500ms' notify", []any{notified(waits(target(cm.Primary), 500*time.Millisecond))}},
		{"show target primary WAIT 5 except 1", []any{waits(target(cm.Primary, 1), 5*time.Second)}},
		{"show target primary wait 5s", []any{waits(target(cm.Primary), 5*time.Second)}},
		{"show target primary wait '0'", []any{waits(target(cm.Primary), 0)}},
		{"show target primary wait 5 s", []any{"0A000"}},
		{"show target primary wait", []any{"0A000"}},
		{"show target primary wait notify", []any{"0A000"}},
		{"show target primary wait '-1'", []any{"22023"}},
		{"show target primary wait 5y", []any{"22023"}},
		{"show target primary wait '99999999999'", []any{"22023"}},
		{"show target any resume '" + token.String() + "' notify", []any{notified(resumes(target(cm.Any)))}},
		{"show target any resume 'r1/x'", []any{"22023"}},
		{"show target any resume", []any{"0A000"}},
		{"show target any resume r1", []any{"0A000"}},
		{"SHOW WAITING", []any{statement{verb: showWaiting}}},
		{"SHOW TARGET any NOTIFY NOTIFY", []any{"22023"}},
		{"SHOW TARGET any EXCEPT 1 EXCEPT 2", []any{"22023"}},
		{"SHOW TARGET any NOTIFY, EXCEPT 1", []any{"0A000"}},
		{"SHOW TARGET any 'notify'", []any{"0A000"}},
		{"SHOW TARGET standby LAG '16MB'", []any{lagging(target(cm.Standby), "16MB")}},
		{"show target standby lag 16MB notify", []any{notified(lagging(target(cm.Standby), "16MB"))}},
		{"show target any except 1 lag '5 s'", []any{lagging(target(cm.Any, 1), "5s")}},
		{"show target any lag ''", []any{lagging(target(cm.Any), "")}},
		{"SHOW TARGET any LAG '16mb'", []any{"22023"}},
		{"SHOW TARGET any LAG '5'", []any{"22023"}},
		{"SHOW TARGET any LAG 5sec", []any{"22023"}},
		{"SHOW TARGET any LAG 5s LAG 6s", []any{"22023"}},
		{"SHOW TARGET any LAG", []any{"0A000"}},
		{"SHOW TARGET any LAG 5", []any{"22023"}},
		{"SHOW TARGET any LAG -5s", []any{"22023"}},
		{"SHOW TARGET any WAIT -1", []any{"22023"}},
		{"SHOW TARGET master", []any{"22023"}},
		{"SHOW TARGET 'x;y'", []any{"22023"}},
		{"SHOW TARGET any EXCEPT 10000", []any{"22023"}},
		{"SHOW TARGET", []any{"0A000"}},
		{"SHOW TARGET any EXCEPT", []any{"0A000"}},
		{"SHOW TARGET any EXCEPT 1,", []any{"0A000"}},
		{"SHOW TARGET any EXCEPT 1 2", []any{"0A000"}},
		{"SHOW TARGET any any", []any{"0A000"}},
		{"SHOW TARGET 1", []any{"0A000"}},
		{"SHOW 'INSTANCES'", []any{"0A000"}},
		{"SHOW INSTANCES now", []any{"0A000"}},
		{"SELECT ';'; SHOW HELP", []any{"0A000", statement{verb: showHelp}}},
		{"SHOW HELP 'unterminated", []any{"0A000"}},
		{"SHOW HELP /* unterminated", []any{"0A000"}},
		{"größe", []any{"0A000"}},
	} {
		var got []any
		for _, p := range parseStatements(x.text) {
			var se *backend.Error
			if errors.As(p.err, &se) {
				got = append(got, se.Code)
			} else {
				got = append(got, p.statement)
			}
		}
		if !reflect.DeepEqual(got, x.want) {
			t.Errorf("%q: got %v, want %v", x.text, got, x.want)
		}
	}
}

func FuzzStatement(f *testing.F) {
	for _, s := range []string{"SHOW TARGET read-write EXCEPT 1, 2;", "SHOW TARGET any WAIT 5s NOTIFY EXCEPT 1", "show target any resume 'r1/0/0/0/0/0/0/0/1/::1'", "show target any lag 16MB except 2",
		"SET x.y TO 'a', 1; reset all", "set time zone 1",
		"show /* x */ instances; -- y\nshow help",
		`show target "any"`, "'", "/*/**/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, p := range parseStatements(s) {
			if p.err != nil {
				var se *backend.Error
				if !errors.As(p.err, &se) || se.Code == "" || se.Text == "" {
					t.Fatalf("%q: error %#v", s, p.err)
				}
				backend.ErrorResponse("ERROR", se.Code, se.Text, se.Detail, se.Hint)
				continue
			}
			if len(columns[p.verb]) == 0 && p.verb != set && p.verb != reset {
				t.Fatalf("%q: statement %v has no columns", s, p.statement)
			}
			if p.verb != showTarget {
				continue
			}
			again := "SHOW TARGET " + string(p.want)
			if p.lag != nil {
				again += " LAG '" + p.lag.Text + "'"
			}
			if p.resume != nil {
				again += " RESUME '" + p.resume.String() + "'"
			}
			if p.notify {
				again += " NOTIFY"
			}
			if p.waits {
				again += fmt.Sprintf(" WAIT '%dms'", p.wait.Milliseconds())
			}
			for i, n := range p.except {
				again += []string{" EXCEPT ", ", "}[min(i, 1)] + fmt.Sprint(n)
			}
			if q := parseStatements(again); len(q) != 1 || !reflect.DeepEqual(q[0], p) {
				t.Fatalf("%q: %v, written again as %q: %v", s, p, again, q)
			}
		}
	})
}
