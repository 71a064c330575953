// Package schema holds what is printed as JSON to the schemas in docs/. Tests only; reads files.
package schema

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// Check compares a line with a schema of docs/.
func Check(t *testing.T, name, line string) {
	t.Helper()
	root, err := pgtest.SourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(filepath.Join(root, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%s\n%#v", line, err)
	}
}
