package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The list must follow the code: each mutation still fits, and names a test that is there.
func TestMutationsFit(t *testing.T) {
	if err := os.Chdir("../.."); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range mutations {
		if seen[m.name] || m.name == "" {
			t.Errorf("%q is no name, or stands twice", m.name)
		}
		seen[m.name] = true
		if m.invariant == "" || m.from == m.to {
			t.Errorf("%s: no invariant, or no change", m.name)
		}
		if _, err := m.mutant(); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if p := packages(strings.Fields(m.test)); len(p) != 1 {
			t.Errorf("%s: its test names %d packages", m.name, len(p))
		} else if _, err := os.Stat(p[0]); err != nil {
			t.Errorf("%s: %v", m.name, err)
		} else if !hasTest(t, p[0], strings.Fields(m.test)) {
			t.Errorf("%s: no test of %s is named by %s", m.name, p[0], m.test)
		}
	}
}

var testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)

// hasTest tells whether a package has a test that the -run among the arguments names; one that moves
// away takes its mutations along.
func hasTest(t *testing.T, dir string, args []string) bool {
	i := slices.Index(args, "-run")
	if i < 0 {
		return true
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, alternative := range strings.Split(args[i+1], "|") {
		top, _, _ := strings.Cut(alternative, "/")
		named, err := regexp.Compile(top)
		if err != nil {
			t.Fatalf("%s: %v (write the alternatives out)", args[i+1], err)
		}
		found := slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && slices.ContainsFunc(testFunction.FindAllStringSubmatch(string(text), -1),
				func(m []string) bool { return named.MatchString(m[1]) })
		})
		if !found {
			return false
		}
	}
	return true
}
