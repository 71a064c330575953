package main

// Which tests run in which process, and in which order. Any goroutine; blocks on the test programs,
// which are asked for the names of their tests.

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// needy packages start servers and make network namespaces.
var needy = []string{"internal/pgtest", "internal/testnet"}

// spread says over how many processes a package's tests are spread; 0: each has its own. All others
// are quick, and run in one process.
var spread = map[string]int{"conmgr": 8, "control": 6, "driver": 2, "driver/pgxcm": 3, "driver/pqcm": 2,
	"internal/pgtest": 3, "internal/simulate": 2, "internal/testnet": 2, "libpq/test": 5, "test": 0}

// seconds of those that take long, so that they start first. Nothing but the order depends on it.
var seconds = map[string]int{"libpq/test": 60, "driver/pgxcm": 30, "TestServerLife": 52, "TestWorkerFaults": 37,
	"TestCleanShutdownUnderLoad": 33, "TestFloatingAddress": 26, "TestSilentCuts": 22, "TestManyHostsDie": 21,
	"TestReceivewalByRelay": 16, "TestLibrariesGone": 13, "conmgr": 14, "TestOldPrimaryIsNeverOffered": 12,
	"TestShutdownIsNotDelayed": 12, "TestCmCtl": 11, "TestPeersCannotFillTheLog": 11, "TestLoss": 11,
	"driver/pqcm": 11, "TestFrozenConmgr": 10, "control": 9}

// alone are tests that ask how long the machine stands still, what it is busy with, or how long a
// server takes; or to which a busy machine is a silent one; or that are late if 600 sessions do not
// begin within seconds: nothing may run beside them but what yields to everything.
var alone = []string{"TestNoFalseVerdict", "TestNobodyIsBusyAtRest", "TestShutdownIsNotDelayed", "TestRandomLoss",
	"TestJitter", "TestCrowdDies"}

// pkg is a package with tests.
type pkg struct {
	path string // of import
	name string // within the module
	dir  string
}

// job is one process: all tests of a package, or those that it names.
type job struct {
	pkg
	program string
	tests   []string
	all     bool
}

func (j *job) label() string {
	if j.all || len(j.tests) > 1 {
		return j.name
	}
	return j.name + " " + j.tests[0]
}

func (j *job) weight() int {
	w := 5
	if !j.all {
		w = max(seconds[j.name], w)
		for _, t := range j.tests {
			w = max(w, seconds[t])
		}
	}
	return w
}

// choose returns the packages with tests: those to run, and the names of those to leave out.
func choose(ctx context.Context, unit bool, packages []string) (chosen []pkg, left []string, err error) {
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	module, err := output(ctx, "", "go", "list", "-m")
	if err != nil {
		return nil, nil, err
	}
	module = strings.TrimSpace(module) + "/"
	format := `{{.ImportPath}} {{.Dir}} {{join .Deps " "}}`
	text, err := output(ctx, "", "go", append([]string{"list", "-test", "-f", format}, packages...)...)
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		path, isTest := strings.CutSuffix(words[0], ".test")
		if !isTest {
			continue
		}
		p := pkg{path, strings.TrimPrefix(path, module), words[1]}
		needs := slices.ContainsFunc(append(words[2:], path), func(dep string) bool {
			return slices.Contains(needy, strings.TrimPrefix(dep, module))
		})
		if unit && needs {
			left = append(left, p.name)
		} else {
			chosen = append(chosen, p)
		}
	}
	return chosen, left, nil
}

// apart divides packages into those whose tests wait, and take longest, and all others.
func apart(chosen []pkg) (waiting, computing []pkg) {
	for _, p := range chosen {
		if _, several := spread[p.name]; several {
			waiting = append(waiting, p)
		} else {
			computing = append(computing, p)
		}
	}
	return waiting, computing
}

// plan makes jobs of all tests that the programs list, the longest first.
func (s *suite) plan(ctx context.Context, chosen []pkg) (together, last []*job, err error) {
	for _, p := range chosen {
		program := program(s.dir, p)
		names, err := tests(ctx, p, program)
		if err != nil {
			return nil, nil, err
		}
		for _, j := range shares(p, program, s.wanted.among(names)) {
			j.all = j.all && s.wanted == nil
			if !j.all && len(j.tests) == 1 && slices.Contains(alone, j.tests[0]) {
				last = append(last, j)
			} else {
				together = append(together, j)
			}
		}
	}
	slices.SortStableFunc(together, func(a, b *job) int { return cmp.Compare(b.weight(), a.weight()) })
	return together, last, nil
}

// shares deals the names out: each is in one job.
func shares(p pkg, program string, names []string) (jobs []*job) {
	n, several := spread[p.name]
	switch {
	case len(names) == 0:
		return nil
	case !several:
		return []*job{{pkg: p, program: program, tests: names, all: true}}
	case n == 0:
		n = len(names)
	}
	n = min(n, len(names))
	for i := range n {
		j := &job{pkg: p, program: program}
		for k := i; k < len(names); k += n {
			j.tests = append(j.tests, names[k])
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// tests are the names of a program's tests, fuzz targets and examples.
func tests(ctx context.Context, p pkg, program string) (names []string, err error) {
	text, err := output(ctx, p.dir, program, "-test.list", "^(Test|Fuzz|Example)")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		if name := strings.TrimSpace(line); name != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 && text != "" {
		return nil, fmt.Errorf("%s has no tests", p.name)
	}
	return names, nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said.String())
	}
	return string(out), err
}
