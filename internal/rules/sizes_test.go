package rules

// Rules of size, and of the maps: files, functions and packages stay small, with written
// exceptions; and the doc.go of a package with many files says what each is for. Reads source files
// only.

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	mostLines    = 500 // of a file
	mostFunction = 60  // lines of a function that is no test
	mostFiles    = 12  // of a package, tests apart
	mapFrom      = 5   // files: from here on, a package has a map
)

// larger are the exceptions: a file, a function as file:name, or a folder, and why.
var larger = map[string]string{
	"conmgr/daemon_test.go":            "the process as a whole, from outside: one set of helpers",
	"conmgr/relay_test.go":             "relay ports end to end: one set of helpers",
	"heartbeat/watchdog/table_test.go": "one table, one set of scenarios",

	"bench/figclient.go:showClient":        "a page of output, line by line",
	"bench/figdetect.go:showDetect":        "a page of output, line by line",
	"bench/figpromote.go:promotion":        "one experiment, step by step",
	"bench/main.go:run":                    "one experiment after the other",
	"demo/acts.go:primaryFalls":            "a scene, told in order",
	"demo/acts.go:clientHostFalls":         "a scene, told in order",
	"conmgr/daemon.go:Run":                 "the order of start and its undoing, which defer binds to one function",
	"control/start.go:await":               "one loop over all that can happen while conmgr starts",
	"driver/connstring.go:parseURI":        "libpq's grammar, in its order",
	"internal/pgtest/pgtest.go:newCluster": "a server, from nothing to running",

	"bench":              "a file a figure",
	"internal/mutate":    "a file for the mutations of each folder",
	"heartbeat":          "one protocol, a file a concern",
	"heartbeat/watchdog": "one state machine, a file a concern",
	"internal/simulate":  "one world, a file a part of it",
	"control":            "a file an action of cm_ctl, and one for each file of the directory",
}

// sizes returns what is too large, and exceptions that are none any more.
func (t *tree) sizes(exceptions map[string]string) (all []string) {
	found := map[string]bool{}
	check := func(name string, n, most int, what string) {
		if n <= most {
			return
		}
		found[name] = true
		if exceptions[name] == "" {
			all = append(all, fmt.Sprintf("%s has %d %s, more than %d", name, n, what, most))
		}
	}
	files := map[string]int{}
	for _, s := range t.gos {
		check(s.path, s.fset.File(s.file.Pos()).LineCount(), mostLines, "lines")
		if s.test {
			continue
		}
		files[s.dir]++
		for _, d := range s.file.Decls {
			if f, is := d.(*ast.FuncDecl); is {
				n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
				check(s.path+":"+f.Name.Name, n, mostFunction, "lines")
			}
		}
	}
	for dir, n := range files {
		check(dir, n, mostFiles, "files")
	}
	for name := range exceptions {
		if !found[name] {
			all = append(all, name+" is an exception that is not needed any more")
		}
	}
	slices.Sort(all)
	return all
}

var fileName = regexp.MustCompile(`\b[a-z0-9_]+\.go\b`)

// maps compares the package comments with the files that there are.
func (t *tree) maps() (all []string) {
	files, text := map[string][]string{}, map[string]string{}
	for _, s := range t.gos {
		if !s.test {
			files[s.dir] = append(files[s.dir], path.Base(s.path))
		}
		if s.file.Doc != nil && !s.test {
			text[s.dir] += s.file.Doc.Text()
		}
	}
	for dir, names := range files {
		if !under(dir, "conmgr", "control") || len(names) < mapFrom {
			continue
		}
		listed := fileName.FindAllString(text[dir], -1)
		for _, name := range names {
			if name != "doc.go" && !slices.Contains(listed, name) {
				all = append(all, fmt.Sprintf("%s: the package comment does not say what %s is for", dir, name))
			}
		}
		for _, name := range listed {
			if !slices.Contains(names, name) {
				all = append(all, fmt.Sprintf("%s: the package comment tells of %s, which is not there", dir, name))
			}
		}
	}
	for dir := range files {
		if room, is := strings.CutPrefix(dir, "conmgr/"); is && !strings.Contains(text["conmgr"], room+"/") {
			all = append(all, fmt.Sprintf("conmgr: the package comment does not say what %s/ is for", room))
		}
	}
	slices.Sort(all)
	return all
}

func TestSizesAndMaps(t *testing.T) {
	tr, err := load("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range append(tr.sizes(larger), tr.maps()...) {
		t.Error(b)
	}
}

// TestSizesBite: each rule of size and of maps finds what breaks it.
func TestSizesBite(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("\n", n) }
	many := map[string]string{}
	for i := range mostFiles + 1 {
		many[fmt.Sprintf("worker/f%d.go", i)] = "package worker\n"
	}
	for _, c := range []struct {
		files      map[string]string
		exceptions map[string]string
		want       string
	}{
		{map[string]string{"worker/a.go": "package worker" + lines(mostLines) + "//"}, nil, "worker/a.go has 501 lines"},
		{map[string]string{"worker/a_test.go": "package worker" + lines(mostLines) + "//"}, nil, "worker/a_test.go has 501 lines"},
		{map[string]string{"worker/a.go": "package worker" + lines(mostLines-1)}, nil, ""},
		{map[string]string{"worker/a.go": "package worker" + lines(mostLines) + "//"}, map[string]string{"worker/a.go": "why"}, ""},
		{map[string]string{"worker/a.go": "package worker"}, map[string]string{"worker/a.go": "why"}, "not needed any more"},
		{map[string]string{"worker/a.go": "package worker\nfunc f() {" + lines(mostFunction) + "}"}, nil, "worker/a.go:f has 61 lines"},
		{map[string]string{"worker/a_test.go": "package worker\nfunc f() {" + lines(mostFunction) + "}"}, nil, ""},
		{many, nil, "worker has 13 files"},
		{map[string]string{"conmgr/doc.go": "// Package conmgr: x/\npackage conmgr", "conmgr/x/a.go": "package x"}, nil, ""},
		{map[string]string{"conmgr/doc.go": "// Package conmgr\npackage conmgr", "conmgr/x/a.go": "package x"}, nil, "what x/ is for"},
		{map[string]string{"control/doc.go": "// a.go b.go c.go e.go\npackage control", "control/a.go": "package control",
			"control/b.go": "package control", "control/c.go": "package control", "control/d.go": "package control"}, nil,
			"does not say what d.go is for\ncontrol: the package comment tells of e.go, which is not there"},
	} {
		tr := treeOf(t, c.files)
		got := strings.Join(append(tr.sizes(c.exceptions), tr.maps()...), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%v: found %q, want %q", c.files, got, c.want)
		}
	}
}
