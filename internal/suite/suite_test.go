package main

// That no test is left out, and no end of a process passes for a good one.

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestShares: each test is in one process, however many there are.
func TestShares(t *testing.T) {
	for _, name := range []string{"conmgr", "test", "cm"} {
		for n := range 20 {
			var names []string
			for i := range n {
				names = append(names, fmt.Sprint("Test", i))
			}
			var dealt []string
			for _, j := range shares(pkg{name: name}, "", names) {
				if len(j.tests) == 0 && n > 0 {
					t.Errorf("%s: one of %d tests: a process without a test", name, n)
				}
				dealt = append(dealt, j.tests...)
			}
			slices.Sort(names)
			slices.Sort(dealt)
			if !slices.Equal(names, dealt) {
				t.Errorf("%s: of %v came %v", name, names, dealt)
			}
		}
	}
}

// TestSpreadIsOfPackages: what is spread or runs alone is there.
func TestSpreadIsOfPackages(t *testing.T) {
	chosen, _, err := choose(context.Background(), false, []string{"../../..."})
	if err != nil {
		t.Fatal(err)
	}
	for name := range spread {
		if !slices.ContainsFunc(chosen, func(p pkg) bool { return p.name == name }) {
			t.Errorf("%s is spread over processes, and has no tests", name)
		}
	}
	for _, name := range append(slices.Clone(alone), keys(seconds)...) {
		if strings.HasPrefix(name, "Test") && exec.Command("git", "grep", "-q", "^func "+name+"(", "../../test").Run() != nil {
			t.Errorf("%s is no test of the whole", name)
		}
	}
}

func keys(m map[string]int) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	return names
}

// TestJudge: a process that ends badly, or without a word on a test, is a failure, and all that it
// said is shown.
func TestJudge(t *testing.T) {
	const pass, fail = "=== RUN   TestA\n--- PASS: TestA (0.00s)\n", "=== RUN   TestA\n--- FAIL: TestA (1.00s)\n"
	for _, c := range []struct {
		name, script    string
		passed          int
		failed, skipped string
	}{
		{"passes", "printf '" + pass + "PASS\n'", 1, "", ""},
		{"passes after its own half line", "printf 'half--- PASS: TestA (0.00s)\n'", 1, "", ""},
		{"only its part passes", "printf '    --- PASS: TestA (0.00s)\n'", 0, "p TestA (no result)", ""},
		{"fails", "echo secret; printf '" + fail + "'; exit 1", 0, "p TestA", ""},
		{"fails, status 0", "echo secret; printf '" + fail + "'", 0, "p TestA", ""},
		{"passes, and the process fails", "echo secret; printf '" + pass + "'; exit 2", 1, "p", ""},
		{"is killed", "echo secret; kill -9 $$", 0, "p TestA (no result)", ""},
		{"passes, and is killed", "echo secret; printf '" + pass + "'; kill -9 $$", 1, "p", ""},
		{"ends without a word", "echo secret; exit 0", 0, "p TestA (no result)", ""},
		{"skips itself", "printf '=== RUN   TestA\n    a_test.go:1: no IPv6\n--- SKIP: TestA (0.00s)\n'", 0, "",
			"p TestA: no IPv6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var to strings.Builder
			r := &report{to: &to}
			out, took, err := capture(exec.Command("sh", "-c", c.script))
			r.judge(&job{pkg: pkg{name: "p"}, tests: []string{"TestA"}}, out, took, err)
			if r.passed != c.passed || strings.Join(r.failed, ",") != c.failed || strings.Join(r.skipped, ",") != c.skipped {
				t.Errorf("%d passed, failed %q, skipped %q", r.passed, r.failed, r.skipped)
			}
			if c.failed != "" && strings.Contains(c.script, "secret") && !strings.Contains(to.String(), "secret") {
				t.Errorf("what it said is not shown: %q", to.String())
			}
			if ok := r.summary(); ok != (c.failed == "" && c.passed > 0) || c.failed != "" && !strings.Contains(to.String(), "FAILED "+c.failed) {
				t.Errorf("%v: %s", ok, to.String())
			}
		})
	}
}

// TestOther: what runs beside the tests counts, too.
func TestOther(t *testing.T) {
	r := &report{to: &strings.Builder{}, passed: 1}
	if r.other(context.Background(), "true"); !r.summary() {
		t.Errorf("failed: %q", r.failed)
	}
	if r.other(context.Background(), "exit 3"); r.summary() {
		t.Error("a failure beside the tests passes for none")
	}
}

// TestWanted: what -only names is run, and nothing else; all but what -except names; what is nowhere
// is said.
func TestWanted(t *testing.T) {
	var all *wanted
	if names := all.among([]string{"TestA", "TestB"}); len(names) != 2 || all.missing() != nil {
		t.Errorf("without -only: %v", names)
	}
	for _, c := range []struct {
		only, except string
		want         []string
	}{
		{only: "TestB,TestC,TestD", want: []string{"TestB", "TestC"}},
		{except: "TestB,TestC,TestD", want: []string{"TestA", "TestBC"}},
	} {
		w, err := newWanted(c.only, c.except)
		if err != nil {
			t.Fatal(err)
		}
		got := append(w.among([]string{"TestA", "TestB"}), w.among([]string{"TestC", "TestBC"})...)
		if !slices.Equal(got, c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
		if err := w.missing(); err == nil || err.Error() != "no package has the tests TestD" {
			t.Errorf("missing: %v", err)
		}
	}
	if w, err := newWanted("TestA", "TestB"); err == nil {
		t.Errorf("both: %v", w)
	}
}
