package main

import (
	"os"
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
		}
	}
}
