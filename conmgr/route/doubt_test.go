package route

// The table "Primary choice in doubt" of docs/operations.md: each row is a case here, with the rule
// and the words that the row tells.

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/cm"
)

func TestPrimaryInDoubt(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "### Primary choice in doubt\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string]string{}
	for _, line := range strings.Split(section, "\n") {
		if cells := strings.Split(line, " | "); len(cells) == 4 && strings.HasPrefix(line, "| `") {
			rows[strings.Trim(cells[0], "| `")] = line
		}
	}
	for _, c := range []struct {
		name, history string
		choices       string // any, read-write, read-only, primary, standby, prefer-standby
		void          string // what is bound to these is told
		says          string // among the reasons and the conflicts
	}{
		{"higher timeline", "p1 s1,p1 p2", "1 1 - 1 - 1", "0", "more than one instance is a primary"},
		{"new one gone", "p1 s1,p1 p2,p1 p2-", "- - - - - -", "0", "a newer timeline is known"},
		{"only heard of", "p1 s1 s1,p1 s1- s2", "2 - 2 - 2 2", "0", "a newer timeline is known"},
		{"same timeline", "p1 s1 p2,p1- p2 p2", "2 2 - 2 - 2", "1", "holds"},
		{"timeline unknown", "p1 p2,p0 p2?", "- - - - - -", "", "its timeline is not known yet"},
		{"read-only", "p1 s1,r1 s1", "0 - 0 0 1 1", "", "it is not read-write"},
		{"logical upgrade", "p1,r1 p5x", "0 - 0 0 - 0", "1", "belongs to another database cluster"},
		{"upgraded", "p3 s3,r3 s3 p1<", "2 2 - 2 - 2", "0 1", "which has succeeded it"},
		{"wrong entry", "p1 s1,p1 s1 p5x", "0 0 1 0 1 1", "2", "belongs to another database cluster"},
		{"first start", "p1 p5x", "0 0 - 0 - 0", "1", "belongs to another database cluster"},
		{"none", "p1 s1,p1- s1", "1 - 1 - 1 1", "", "is lost"},
		{"shutting down", "p1 s1,p1! s1", "1 - 1 - 1 1", "", "it is shutting down"},
		{"draining", "p1 s1,p1d s1", "1 - 1 - 1 1", "", "it is draining"},
		{"standby left behind", "p1 s1 s1,s2 p2 s1", "0 1 0 1 0 0", "", "for longer than standby_timeline_grace"},
	} {
		_, tab := after(Rules{}, strings.Split(c.history, ",")...)
		if got := choices(tab, nil); got != c.choices {
			t.Errorf("%s: %s", c.name, got)
		}
		var void []string
		for i, v := range tab.Verdicts {
			if v.Void {
				void = append(void, fmt.Sprint(i))
			}
		}
		if got := strings.Join(void, " "); got != c.void {
			t.Errorf("%s: what is bound to %q is told", c.name, got)
		}
		if said := tab.Describe(Request{Want: cm.ReadWrite}) + strings.Join(tab.Conflicts(), "; "); !strings.Contains(said, c.says) {
			t.Errorf("%s: said %s", c.name, said)
		}
		if row := rows[c.name]; !strings.Contains(row, c.says) {
			t.Errorf("docs/operations.md: the row of %q does not tell %q: %q", c.name, c.says, row)
		}
		delete(rows, c.name)
	}
	for name := range rows {
		t.Errorf("docs/operations.md: no case for %q", name)
	}
}
