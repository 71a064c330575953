// Command vulncheck looks for known vulnerabilities that the project's code can reach, with Go's
// own govulncheck and the module proxy's copy of its database. `make vulncheck` and CI run it; it
// blocks on the module proxy and on the analysis, minutes on a busy machine.
//
// Exit status: 0, no module has a vulnerability that is reached; 1, one has; 2, it could not be
// found out. What is known of the standard library is told, with the Go release that mends it, and
// is no failure: who builds the project chooses its Go.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	scanner  = "golang.org/x/vuln/cmd/govulncheck@v1.7.0" // the newest that builds with the Go of go.mod
	database = "golang.org/x/vulndb@latest"
)

func main() {
	patterns := os.Args[1:]
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	dir, version, err := fetch()
	if err != nil {
		fmt.Fprintf(os.Stderr, "vulncheck: could not fetch the vulnerability database %s: %v\n", database, err)
		fmt.Fprintln(os.Stderr, "hint: it comes from the module proxy (go env GOPROXY); without a network nothing is known of vulnerabilities.")
		os.Exit(2)
	}
	fmt.Printf("vulncheck: database %s\n", version)
	report, err := scan(dir, patterns)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck:", err)
		os.Exit(2)
	}
	found, err := read(report)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck: could not read the answer of govulncheck:", err)
		os.Exit(2)
	}
	text, failed := judge(found)
	fmt.Print(text)
	if failed {
		os.Exit(1)
	}
}

// fetch returns the folder of the database's entries, one file each, which govulncheck takes as it
// is.
func fetch() (dir, version string, err error) {
	out, err := exec.Command("go", "mod", "download", "-json", database).Output()
	var answer struct{ Dir, Version, Error string }
	if json.Unmarshal(out, &answer) == nil && answer.Error != "" {
		return "", "", errors.New(answer.Error)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", "", fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(answer.Dir, "data", "osv")
	_, err = os.Stat(dir)
	return dir, answer.Version, err
}

func scan(dir string, patterns []string) (string, error) {
	cmd := exec.Command("go", append([]string{"run", scanner, "-format", "json", "-db", "file://" + dir},
		patterns...)...)
	var failure strings.Builder
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("govulncheck failed: %w\n%s", err, failure.String())
	}
	return string(out), nil
}

// finding is one of govulncheck's: a vulnerability at the end of a trace, which begins with the
// vulnerable code.
type finding struct {
	OSV          string  `json:"osv"`
	FixedVersion string  `json:"fixed_version"`
	Trace        []frame `json:"trace"`
}

type frame struct {
	Module, Version, Package, Function, Receiver string
	Position                                     struct {
		Filename string
		Line     int
	}
}

// read takes govulncheck's stream of objects, and keeps the findings that are reached: their traces
// have functions.
func read(report string) ([]finding, error) {
	var reached []finding
	for d := json.NewDecoder(strings.NewReader(report)); ; {
		var message struct{ Finding *finding }
		if err := d.Decode(&message); err == io.EOF {
			return reached, nil
		} else if err != nil {
			return nil, err
		}
		if f := message.Finding; f != nil && len(f.Trace) > 0 && f.Trace[0].Function != "" {
			reached = append(reached, *f)
		}
	}
}

// judge has a line for each vulnerability. It fails for those of modules.
func judge(found []finding) (text string, failed bool) {
	lines := map[string]string{}
	for _, f := range found {
		vulnerable, ours := f.Trace[0], f.Trace[len(f.Trace)-1]
		where := "standard library"
		if vulnerable.Module != "stdlib" {
			where = vulnerable.Module
			failed = true
		}
		fixed := "no fixed version"
		if f.FixedVersion != "" {
			fixed = "fixed in " + f.FixedVersion
		}
		if lines[f.OSV] == "" {
			lines[f.OSV] = fmt.Sprintf("%s: %s %s, %s; for example from %s:%d\n  https://pkg.go.dev/vuln/%s\n", f.OSV,
				where,
				vulnerable.Version, fixed, ours.Position.Filename, ours.Position.Line, f.OSV)
		}
	}
	var all []string
	for _, l := range lines {
		all = append(all, l)
	}
	slices.Sort(all)
	switch {
	case failed:
		all = append(all, "vulncheck: a module of go.mod has a known vulnerability that is reached\n")
	case len(lines) > 0:
		all = append(all, "vulncheck: no module has a known vulnerability that is reached; build with a newer Go for those of the standard library\n")
	default:
		all = append(all, "vulncheck: no known vulnerability is reached\n")
	}
	return strings.Join(all, ""), failed
}
