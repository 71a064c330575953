package rules

// The layers of the libpq front: which header a file of libpq/ may include. What its objects need of
// each other is held by libpq/test (TestLayers), where they are built.

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type frontLayer struct {
	folder string
	mayUse []string
	reason string
}

// frontLayers are the folders of libpq/, from the ground up. A file may include the headers of its
// own folder, and what its layer may use: of a lower layer the one header that says what it offers.
var frontLayers = []frontLayer{
	{"base", []string{"functions.h", "libpq-fe.h", "libpq-events.h"}, "the ground knows nobody who stands on it"},
	{"wire", []string{"cm.h", "base/text.h"},
		"it talks with conmgr on a socket, and knows no PGconn: a libpq whose connection breaks cannot reach it, nor an application"},
	{"connect", []string{"cm.h", "base/text.h", "base/real.h", "wire/wire.h"},
		"connecting knows the wire by its one header, and nothing of the handle: what it needs of that is handed down"},
	{"handle", []string{"libpq-cm.h", "base/text.h", "base/real.h", "wire/wire.h", "connect/connect.h"},
		"what an application holds knows the layers below by their one header each"},
}

var (
	libpqHeader    = regexp.MustCompile(`^(libpq-.*|pqexpbuffer\.h|postgres_ext\.h|pg_config_ext\.h|postgresql/.*)$`)
	frontGenerated = []string{"cm.h", "functions.h"}
	declared       = regexp.MustCompile(`(?m)^extern\b.*`)
)

// frontIncludes finds headers that a file of the front may not include, and declarations that go
// round them.
func frontIncludes(path, text string) (all []string) {
	folder, file, inside := strings.Cut(strings.TrimPrefix(path, "libpq/"), "/")
	if !strings.HasPrefix(path, "libpq/") || inside && folder == "test" || path == "libpq/libpq-cm.h" {
		return nil
	}
	n := slices.IndexFunc(frontLayers, func(l frontLayer) bool { return l.folder == folder })
	if n < 0 || !inside || strings.Contains(file, "/") {
		return []string{path + " is in no layer of the front: base/, wire/, connect/ or handle/"}
	}
	layer := frontLayers[n]
	for _, m := range include.FindAllStringSubmatch(text, -1) {
		h := m[1]
		ours := slices.Contains(frontGenerated, h) || libpqHeader.MatchString(h) || strings.HasPrefix(h, "../") ||
			slices.ContainsFunc(frontLayers, func(l frontLayer) bool { return strings.HasPrefix(h, l.folder+"/") })
		if ours && !slices.Contains(layer.mayUse, h) {
			all = append(all, fmt.Sprintf("%s includes %s: %s", path, h, layer.reason))
		}
	}
	if filepath.Ext(path) == ".c" {
		for _, d := range declared.FindAllString(text, -1) {
			all = append(all, fmt.Sprintf("%s declares %q: what another file has is declared in a header, once", path, d))
		}
	}
	return all
}

var cFile = regexp.MustCompile(`\b[a-z0-9-]+\.[ch]\b`)

// frontMap compares libpq/README.md with the files that there are.
func frontMap(readme string, files []string) (all []string) {
	made := []string{"functions.h", "cm.h", "table.c", "forward.c"}
	listed := cFile.FindAllString(readme, -1)
	for _, f := range files {
		if !slices.Contains(listed, filepath.Base(f)) {
			all = append(all, "libpq/README.md does not say what "+f+" is for")
		}
	}
	for _, name := range listed {
		there := slices.ContainsFunc(files, func(f string) bool { return filepath.Base(f) == name })
		if !there && !slices.Contains(made, name) {
			all = append(all, "libpq/README.md tells of "+name+", which is not there")
		}
	}
	return all
}

// TestFrontMap: the map of libpq/ is true, and its files are small.
func TestFrontMap(t *testing.T) {
	tr, err := load("../..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../libpq/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files := slices.DeleteFunc(tr.cs, func(p string) bool { return !strings.HasPrefix(p, "libpq/") || strings.HasPrefix(p, "libpq/test/") })
	for _, b := range frontMap(string(readme), files) {
		t.Error(b)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join("../..", f))
		if n := strings.Count(string(text), "\n"); err != nil || n > mostLines {
			t.Errorf("%s has %d lines, more than %d (%v)", f, n, mostLines, err)
		}
	}
	if all := frontMap("a.c is gone, b.h is there, cm.h is made", []string{"libpq/wire/b.h", "libpq/wire/c.c"}); len(all) != 2 ||
		!strings.Contains(all[0], "what libpq/wire/c.c is for") || !strings.Contains(all[1], "a.c, which is not there") {
		t.Errorf("a map that is wrong in two places: found %q", all)
	}
}

// TestFrontLayers: the table is in the order in which the front is built, and each rule of it bites.
func TestFrontLayers(t *testing.T) {
	text, err := os.ReadFile("../../libpq/front.mk")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, l := range frontLayers {
		folders = append(folders, l.folder)
	}
	if want := "FRONT_LAYERS := " + strings.Join(folders, " ") + "\n"; !strings.Contains(string(text), want) {
		t.Errorf("libpq/front.mk does not say %q", want)
	}
	for _, c := range []struct{ path, text, want string }{
		{"libpq/base/a.c", "#include \"real.h\"\n#include <stdlib.h>\n", ""},
		{"libpq/base/a.h", "#include \"wire/wire.h\"\n", "knows nobody who stands on it"},
		{"libpq/wire/a.c", "#include \"link.h\"\n#include \"cm.h\"\n#include \"base/text.h\"\n#include <netinet/in.h>\n", ""},
		{"libpq/wire/a.c", "#include \"base/real.h\"\n", "knows no PGconn"},
		{"libpq/wire/a.h", "#include <libpq-fe.h>\n", "knows no PGconn"},
		{"libpq/wire/a.c", "#include \"functions.h\"\n", "knows no PGconn"},
		{"libpq/wire/a.c", "#include \"connect/connect.h\"\n", "knows no PGconn"},
		{"libpq/wire/a.c", "#include \"../connect/connect.h\"\n", "knows no PGconn"},
		{"libpq/wire/a.c", "extern void *PQfinish(void *);\n", "declared in a header"},
		{"libpq/connect/a.c", "#include \"steps.h\"\n#include \"wire/wire.h\"\n#include \"base/real.h\"\n", ""},
		{"libpq/connect/a.c", "#include \"wire/link.h\"\n", "by its one header"},
		{"libpq/connect/a.h", "#include <handle/handle.h>\n", "nothing of the handle"},
		{"libpq/handle/a.c", "#include \"handle.h\"\n#include \"connect/connect.h\"\n", ""},
		{"libpq/handle/a.c", "#include \"connect/steps.h\"\n", "one header each"},
		{"libpq/a.c", "#include <unistd.h>\n", "in no layer"},
		{"libpq/more/a.c", "#include <unistd.h>\n", "in no layer"},
		{"libpq/libpq-cm.h", "#include <libpq-fe.h>\n", ""},
		{"libpq/test/c/a.c", "#include <libpq-fe.h>\n#include \"wire/owner.h\"\n", ""},
		{"bench/c/a.c", "#include <libpq-fe.h>\n", ""},
	} {
		all := strings.Join(includes(c.path, c.text), "\n")
		if c.want == "" && all != "" || !strings.Contains(all, c.want) {
			t.Errorf("%s:\n%sfound %q, want %q", c.path, c.text, all, c.want)
		}
	}
}
