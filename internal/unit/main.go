// Command unit runs the tests that need neither root, nor a server, nor network namespaces: `make
// check-unit`. These are those of all packages whose tests are not linked with what starts servers
// and makes namespaces. It names the packages that it leaves out, and every test that skips itself.
//
//	go run ./internal/unit [-race]
//
// Tests of conmgr mostly wait, and look for what they have left behind in their process: they are
// spread over several processes. Exit status: 0 all passed, 1 one did not.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// needy packages start servers and make network namespaces.
var needy = []string{"internal/pgtest", "internal/testnet"}

// spread says over how many processes a package's tests are spread.
var spread = map[string]int{"conmgr": 4, "control": 2}

func main() {
	race := flag.Bool("race", false, "with the race detector")
	flag.Parse()
	start := time.Now()
	r := &run{race: *race}
	if err := r.all(); err != nil {
		fmt.Fprintln(os.Stderr, "unit:", err)
		os.Exit(1)
	}
	for _, s := range r.skipped {
		fmt.Println("SKIPPED", s)
	}
	fmt.Printf("%d tests passed, %d failed, %d skipped themselves; %.0f s\n", r.passed, r.failed, len(r.skipped),
		time.Since(start).Seconds())
	if r.failed > 0 || r.passed == 0 {
		os.Exit(1)
	}
}

// run is one of all tests.
type run struct {
	race bool

	mu             sync.Mutex
	passed, failed int // tests, without their parts
	skipped        []string
	problem        error
}

func (r *run) all() error {
	module, err := output("go", "list", "-m")
	if err != nil {
		return err
	}
	chosen, left, err := choose(strings.TrimSpace(module))
	if err != nil {
		return err
	}
	fmt.Println("left out, as they need a server or network namespaces:", strings.Join(left, " "))
	var together []string
	var jobs [][]string
	for _, p := range chosen {
		n := spread[p]
		if n == 0 {
			together = append(together, "./"+p)
			continue
		}
		names, err := tests(p)
		if err != nil {
			return err
		}
		for i := range n {
			var share []string
			for k := i; k < len(names); k += n {
				share = append(share, names[k])
			}
			jobs = append(jobs, []string{"-run", "^(" + strings.Join(share, "|") + ")$", "./" + p})
		}
	}
	var wg sync.WaitGroup
	for _, args := range append(jobs, together) {
		wg.Go(func() { r.test(args) })
	}
	wg.Wait()
	return r.problem
}

// choose returns the packages with tests: those to run, and those to leave out.
func choose(module string) (chosen, left []string, err error) {
	text, err := output("go", "list", "-test", "-f", "{{.ImportPath}} {{join .Deps \" \"}}", "./...")
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		name, isTest := strings.CutSuffix(words[0], ".test")
		if !isTest {
			continue
		}
		name = strings.TrimPrefix(name, module+"/")
		needs := slices.ContainsFunc(append(words[1:], module+"/"+name), func(dep string) bool {
			return slices.Contains(needy, strings.TrimPrefix(dep, module+"/"))
		})
		if needs {
			left = append(left, name)
		} else {
			chosen = append(chosen, name)
		}
	}
	return chosen, left, nil
}

// tests are the names of a package's tests, fuzz targets and examples.
func tests(p string) (names []string, err error) {
	text, err := output("go", "test", "-list", "^(Test|Fuzz|Example)", "./"+p)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		if name := strings.TrimSpace(line); !strings.Contains(name, " ") && !strings.Contains(name, "\t") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no tests", p)
	}
	return names, nil
}

// event is one of go test -json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// test runs go test.
func (r *run) test(args []string) {
	args = append([]string{"test", "-json", "-count=1", "-timeout", "5m"}, args...)
	if r.race {
		args = slices.Insert(args, 1, "-race")
	}
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.failWith(err)
		return
	}
	said := map[string]string{} // by package and test
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			r.take(e, said)
		}
	}
	if err := cmd.Wait(); err != nil && r.failures() == 0 {
		r.failWith(fmt.Errorf("go %s: %w", strings.Join(args, " "), err))
	}
}

func (r *run) take(e event, said map[string]string) {
	top, _, isPart := strings.Cut(e.Test, "/")
	id := e.Package + " " + top
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Action {
	case "output", "build-output":
		said[id] += e.Output
	case "pass":
		if e.Test == "" {
			fmt.Printf("ok   %-60s %6.1f s\n", e.Package, e.Elapsed)
		} else if !isPart {
			r.passed++
		}
	case "skip":
		if e.Test != "" {
			r.skipped = append(r.skipped, e.Package+" "+e.Test+": "+reason(said[id]))
		}
	case "fail", "build-fail":
		if !isPart && (e.Test != "" || r.failed == 0) { // of a package: it did not build, or panicked
			r.failed++
			fmt.Printf("FAIL %s\n%s", id, said[id])
		}
	}
}

// reason is what a test has said when it skipped itself.
func reason(said string) string {
	for line := range strings.Lines(said) {
		if _, text, found := strings.Cut(line, "_test.go:"); found {
			_, text, _ = strings.Cut(text, ": ")
			return strings.TrimSpace(text)
		}
	}
	return "it does not say why"
}

func (r *run) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *run) failWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problem = err
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), err
}
