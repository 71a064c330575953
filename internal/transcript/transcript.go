// Package transcript runs scripts of a pure core against it, and holds every line of what comes of
// them: testdata/. A script is
//
//	# comment
//	<time> <event> [arguments]
//	    <what comes of it, a line each>
//
// `go test -rewrite` writes the lines anew, as they are now. Runs in tests only, on the test's
// goroutine; reads and writes the scripts.
package transcript

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write what comes of the events into the scripts of testdata/ anew")

// Step does one event, and returns all that comes of it.
type Step func(at time.Duration, event []string) ([]string, error)

// Run runs each script of a directory against a core of its own, at least so many.
func Run(t *testing.T, dir string, least int, start func(t *testing.T) Step) {
	names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(names) < least {
		t.Fatalf("%d scripts in %s, %v; there are at least %d", len(names), dir, err, least)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Play(string(text), start(t))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			Hold(t, name, got)
		})
	}
}

// Hold compares a text with what stands in a file, or writes the file anew.
func Hold(t *testing.T, name, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	was, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if n, was, is := difference(string(was), got); n > 0 {
		t.Errorf("%s:%d:\n  is   %s\n  was  %s\n(-rewrite makes it so)", name, n, is, was)
	}
}

// Play returns a script with what comes of its events now.
func Play(script string, step Step) (string, error) {
	var out strings.Builder
	last := time.Duration(0)
	for i, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue // what came of it before
		}
		out.WriteString(line + "\n")
		event, _, _ := strings.Cut(line, "#")
		words := strings.Fields(event)
		if len(words) == 0 {
			continue
		}
		at, err := time.ParseDuration(words[0])
		if err != nil || at < last || len(words) < 2 {
			return "", fmt.Errorf("line %d: %q is no time that follows on %v, and an event (%v)", i+1, line, last, err)
		}
		last = at
		lines, err := step(at, words[1:])
		if err != nil {
			return "", fmt.Errorf("line %d: %s: %w", i+1, line, err)
		}
		for _, l := range lines {
			out.WriteString("    " + l + "\n")
		}
	}
	return out.String(), nil
}

// difference is the first line that differs, from 1; 0: none.
func difference(a, b string) (line int, inA, inB string) {
	if a == b {
		return 0, "", ""
	}
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	n := max(len(as), len(bs))
	as, bs = slices.Grow(as, n)[:n], slices.Grow(bs, n)[:n]
	for i := range n {
		if as[i] != bs[i] {
			return i + 1, as[i], bs[i]
		}
	}
	return n, "", ""
}
