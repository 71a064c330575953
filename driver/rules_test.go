package driver_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var own = []string{"github.com/pgwatchdog/watchdog/cm", "github.com/pgwatchdog/watchdog/internal/pgwire",
	"github.com/pgwatchdog/watchdog/internal/sockowner", "github.com/pgwatchdog/watchdog/internal/duration",
	"github.com/pgwatchdog/watchdog/driver/internal/keepalive"}

// The core has no dependency but a few packages of its own: an application that uses one driver must
// not link the other.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			root, _, _ := strings.Cut(path, "/")
			if strings.Contains(root, ".") && !slices.Contains(own, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}
