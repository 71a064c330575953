package docs_test

// The table of settings in settings.md is that of pg_settings, on a real server. Run by `make test`;
// blocks until the server has started.

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

var update = flag.Bool("update", false, "write the table of settings in settings.md")

const (
	tableBegin = "<!-- from pg_settings: go test ./docs -run TestSettings -update -->\n"
	tableEnd   = "<!-- end -->\n"
)

func TestSettings(t *testing.T) {
	c := pgtest.New(t, pgtest.Watchdog())
	got := tableBegin + "| setting | type, unit | range | default | changed by | |\n| --- | --- | --- | --- | --- | --- |\n"
	rows := c.Query(`select name, vartype, coalesce(unit, ''), coalesce(min_val, ''), coalesce(max_val, ''),
		coalesce(boot_val, ''), context, short_desc, coalesce(extra_desc, '')
		from pg_settings where name like 'watchdog.%' and context <> 'internal' order by name`)
	if len(rows) == 0 {
		t.Fatal("the server has no settings of watchdog")
	}
	for _, r := range rows {
		got += settingRow(r)
	}
	got += tableEnd
	file, err := os.ReadFile("settings.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(file), tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		t.Fatalf("settings.md has no table between %q and %q", tableBegin, tableEnd)
	}
	if tableBegin+table+tableEnd == got {
		return
	}
	if !*update {
		t.Fatalf("the table in settings.md is not that of the server: run the test with -update. It would be\n%s", got)
	}
	if err := os.WriteFile("settings.md", []byte(before+got+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// otherDefault is how a description says that the default is another setting's value.
var otherDefault = regexp.MustCompile(`The default is the value of (\w+)\.`)

// settingRow is a row of the table.
func settingRow(r []string) string {
	name, kind, unit, lowest, highest, boot, context, short, extra := r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8]
	if unit != "" {
		kind += ", " + unit
	}
	allowed := ""
	if lowest != "" {
		allowed = lowest + " to " + highest
	}
	value := "`" + boot + "`"
	if boot == "" {
		value = "empty"
	}
	if m := otherDefault.FindStringSubmatch(extra); m != nil {
		value, extra = "value of `"+m[1]+"`", strings.TrimSpace(strings.Replace(extra, m[0], "", 1))
	}
	when := map[string]string{"postmaster": "restart", "sighup": "reload"}[context]
	if when == "" {
		when = context
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s |\n", name, kind, allowed, value, when, strings.TrimSpace(short+" "+extra))
}
