package rules

// The table in docs/design.md of rules of the guide and the lines that decide them: each search gives
// one line, in the function that the table names. Reads files only.

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var guideRow = regexp.MustCompile("(?m)^\\| (.+) \\| `(.+)` \\| `(\\w+)` \\|$")

func TestGuideIsFound(t *testing.T) {
	const top, heading = "../..", "## Rules of the guide"
	text, err := os.ReadFile(filepath.Join(top, "docs/design.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), heading)
	table, _, _ = strings.Cut(table, "\n## ")
	rows := guideRow.FindAllStringSubmatch(table, -1)
	if !found || len(rows) < 10 {
		t.Fatalf("docs/design.md has %d rules under %q", len(rows), heading)
	}
	hits := map[string][]string{} // by search: file:function
	err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(top, path)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			switch name {
			case "build", "test", "libpq/test", "bench", "internal", ".git":
				return fs.SkipDir
			}
			return nil
		case strings.HasSuffix(name, "_test.go"), !strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".c"):
			return nil
		}
		file, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, r := range rows {
			for _, function := range matches(string(file), regexp.MustCompile(r[2])) {
				hits[r[2]] = append(hits[r[2]], name+":"+function)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if got := hits[r[2]]; len(got) != 1 || !strings.HasSuffix(got[0], ":"+r[3]) {
			t.Errorf("%s: the search %s gives %v, not one line of %s", r[1], r[2], got, r[3])
		}
	}
}

// beginning of a function, or of a variable of the package: C has the name first in its line.
var beginning = regexp.MustCompile(`^(?:func (?:\([^)]*\) )?(\w+)|var (\w+)|(\w+)\()`)

// matches returns the function, or variable, around each line that matches.
func matches(file string, search *regexp.Regexp) (functions []string) {
	around := ""
	for line := range strings.Lines(file) {
		if m := beginning.FindStringSubmatch(line); m != nil {
			around = m[1] + m[2] + m[3]
		}
		if search.MatchString(strings.TrimSuffix(line, "\n")) {
			functions = append(functions, around)
		}
	}
	return functions
}
