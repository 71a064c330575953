// Command mutate breaks, one after the other, the invariants that this project states, and demands
// that a test notices each. `make mutate` runs it over all of them, `make mutate-fast` over those
// whose test needs no server.
//
//	go run ./internal/mutate [-fast] [-list] [NAME-PREFIX ...]
//
// A mutation of Go code is laid over the package by go test's -overlay: the tree itself stays as it
// is. One of C code, or one whose test runs the programs of build/, is made in a copy of the tree.
// Exit status: 0 all were noticed, 1 one was not, or no longer fits the code.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// mutation is one invariant and how to break it.
type mutation struct {
	name      string // area/what, unique
	invariant string // in words
	file      string // from the module's root
	from, to  string // from stands in file exactly once
	test      string // arguments of go test that must fail: package and -run
	build     string // make targets for the copy; empty: none, and the mutation is fast
}

func (m mutation) fast() bool { return m.build == "" }

// limit of one go test: a mutant that hangs is noticed as well.
const limit = "120s"

func main() {
	fast := flag.Bool("fast", false, "only those that need no build")
	list := flag.Bool("list", false, "print the invariants, run nothing")
	flag.Parse()
	if err := run(*fast, *list, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(fast, list bool, prefixes []string) error {
	var chosen []mutation
	for _, m := range mutations {
		if (m.fast() || !fast) && matches(m.name, prefixes) {
			chosen = append(chosen, m)
		}
	}
	if list {
		for _, m := range chosen {
			fmt.Printf("%-40s %s\n", m.name, m.invariant)
		}
	}
	if len(chosen) == 0 {
		return errors.New("no mutation has such a name")
	}
	if list {
		return nil
	}
	if failed := tryAll(chosen); len(failed) > 0 {
		return fmt.Errorf("%d of %d were not noticed: %s", len(failed), len(chosen), strings.Join(failed, ", "))
	}
	return nil
}

// atOnce is how many fast mutants are tried at a time: a test that fails mostly waits for what does
// not happen.
const atOnce = 3

// tryAll returns the names of those that no test has noticed. Those that need a build are tried one
// after the other: the servers of their tests need the machine.
func tryAll(chosen []mutation) (failed []string) {
	var mu sync.Mutex
	try := func(m mutation) {
		start := time.Now()
		err := try(m)
		mu.Lock()
		defer mu.Unlock()
		verdict := "noticed"
		if err != nil {
			verdict = err.Error()
			failed = append(failed, m.name)
		}
		fmt.Printf("%-40s %5.1f s  %s\n", m.name, time.Since(start).Seconds(), verdict)
	}
	var wg sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, m := range chosen {
		if m.fast() {
			places <- struct{}{}
			wg.Go(func() { try(m); <-places })
		}
	}
	wg.Wait()
	for _, m := range chosen {
		if !m.fast() {
			try(m)
		}
	}
	return failed
}

func matches(name string, prefixes []string) bool {
	if len(prefixes) == 0 {
		return true
	}
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// mutant returns the mutated file.
func (m mutation) mutant() ([]byte, error) {
	b, err := os.ReadFile(m.file)
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(b), m.from); n != 1 {
		return nil, fmt.Errorf("the text to change stands in %s %d times, not once", m.file, n)
	}
	return []byte(strings.Replace(string(b), m.from, m.to, 1)), nil
}

// try returns nil if the test noticed.
func try(m mutation) error {
	mutant, err := m.mutant()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if m.fast() {
		return m.tryOverlay(dir, mutant)
	}
	return m.tryCopy(dir, mutant)
}

func (m mutation) tryOverlay(dir string, mutant []byte) error {
	path, err := filepath.Abs(m.file)
	if err != nil {
		return err
	}
	replacement, overlay := filepath.Join(dir, "mutant"), filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]map[string]string{"Replace": {path: replacement}})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(replacement, mutant, 0o644), os.WriteFile(overlay, b, 0o644)); err != nil {
		return err
	}
	args := strings.Fields(m.test)
	build := append([]string{"vet", "-overlay", overlay}, packages(args)...)
	if out, err := exec.Command("go", build...).CombinedOutput(); err != nil {
		return fmt.Errorf("the mutant does not compile: %s", out)
	}
	return noticed(exec.Command("go", append([]string{"test", "-count=1", "-timeout", limit, "-overlay", overlay}, args...)...))
}

// tryCopy works in a copy of the files that git knows, and those that it does not ignore.
func (m mutation) tryCopy(dir string, mutant []byte) error {
	files, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return err
	}
	tar := exec.Command("sh", "-c", `tar -c --null --ignore-failed-read -T - 2>/dev/null | tar -x -C "$0"`, dir)
	tar.Stdin = strings.NewReader(string(files))
	if out, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("copy: %v: %s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // servers run as another user
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, m.file), mutant, 0o644); err != nil {
		return err
	}
	build := exec.Command("make", strings.Fields(m.build)...)
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("the mutant does not build: %v: %s", err, tail(string(out)))
	}
	test := exec.Command("go", append([]string{"test", "-count=1", "-timeout", "10m"}, strings.Fields(m.test)...)...)
	test.Dir = dir
	return noticed(test)
}

// noticed runs a test that has to fail: by a failed test, not because there was none.
func noticed(c *exec.Cmd) error {
	out, err := c.CombinedOutput()
	switch text := string(out); {
	case err == nil:
		return errors.New("NOT NOTICED: the tests pass")
	case strings.Contains(text, "--- FAIL"), strings.Contains(text, "panic: "), strings.Contains(text, "DATA RACE"):
		return nil
	default:
		return fmt.Errorf("no test has failed: %v: %s", err, tail(text))
	}
}

// packages are the arguments of go test that name packages.
func packages(args []string) (out []string) {
	for _, a := range args {
		if strings.HasPrefix(a, "./") {
			out = append(out, a)
		}
	}
	return out
}

func tail(s string) string {
	const most = 600
	if len(s) > most {
		s = "..." + s[len(s)-most:]
	}
	return s
}
