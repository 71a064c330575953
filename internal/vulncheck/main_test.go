package main

import (
	"strings"
	"testing"
)

const report = `{"config":{"scanner_name":"govulncheck"}}
{"osv":{"id":"GO-2026-0001"}}
{"finding":{"osv":"GO-2026-0001","fixed_version":"v1.2.3","trace":[{"module":"example.com/m","version":"v1.2.0"}]}}
{"finding":{"osv":"GO-2026-0002","fixed_version":"v1.26.9","trace":[{"module":"stdlib","version":"v1.26.8","function":"F"},
{"module":"own","function":"main","position":{"filename":"main.go","line":7}}]}}
`

const reached = `{"finding":{"osv":"GO-2026-0001","trace":[{"module":"example.com/m","version":"v1.2.0","function":"Decode"},
{"module":"own","function":"main","position":{"filename":"main.go","line":9}}]}}`

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		report, want string
		failed       bool
	}{
		{`{"config":{}}`, "no known vulnerability is reached", false},
		{report, "GO-2026-0002: standard library v1.26.8, fixed in v1.26.9; for example from main.go:7", false},
		{report + reached, "GO-2026-0001: example.com/m v1.2.0, no fixed version; for example from main.go:9", true},
	} {
		found, err := read(c.report)
		if err != nil {
			t.Fatal(err)
		}
		text, failed := judge(found)
		if failed != c.failed || !strings.Contains(text, c.want) {
			t.Errorf("failed: %v, text %q; want %v, %q", failed, text, c.failed, c.want)
		}
	}
	if _, err := read(report + "{"); err == nil {
		t.Error("a cut answer was accepted")
	}
}
