// Command suite runs the tests: all of them for `make test`; with -unit, for `make check-unit`,
// those of the packages whose tests are not linked with what starts servers and makes network
// namespaces.
//
//	go run ./internal/suite [-unit] [-race] [-jobs n] [-only test,... | -except test,...] [-beside command]... [package...]
//
// Most tests wait: for a timeout, a verdict, a server. So many processes run side by side, each
// with a share of one package's tests (plan.go), and what only computes runs at a low priority,
// whenever all of them wait: building the programs of packages that do not, static checks and
// fuzzing (-beside). What measures the machine's pauses comes last, alone.
//
// Each test that a program lists must have said how it ended. Exit status: 0 all passed, 1 one did
// not, or a process ended in another way. Blocks on its children; an interrupt ends them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

type commands []string

func (c *commands) String() string     { return strings.Join(*c, ", ") }
func (c *commands) Set(s string) error { *c = append(*c, s); return nil }

func main() {
	unit := flag.Bool("unit", false, "only what needs no root, no server and no network namespaces")
	race := flag.Bool("race", false, "with the race detector")
	only := flag.String("only", "", "run these `tests` only, of any package; each of them must be there")
	except := flag.String("except", "", "do not run these `tests`; each of them must be there")
	jobs := flag.Int("jobs", 2*runtime.NumCPU()+1, "how many processes side by side")
	var beside commands
	flag.Var(&beside, "beside", "a `command` that runs meanwhile, at a low priority")
	flag.Parse()
	r := &report{start: time.Now(), to: os.Stdout}
	wanted, err := newWanted(*only, *except)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	s := &suite{report: r, race: *race, wanted: wanted}
	if err := s.run(*unit, *jobs, beside, flag.Args()); err != nil {
		r.fail("suite", "", err.Error()+"\n")
	}
	if !r.summary() {
		os.Exit(1)
	}
}

// suite is one run of tests.
type suite struct {
	*report
	race   bool
	wanted *wanted
	dir    string // of the test programs
}

func (s *suite) run(unit bool, jobs int, beside, packages []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "wdsuite")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // servers have a user of their own
		return err
	}
	os.Setenv("WATCHDOG_TEST_TEMPLATE", dir)
	s.dir = dir
	chosen, left, err := choose(ctx, unit, packages)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		fmt.Fprintln(s.to, "left out, as they need a server or network namespaces:", strings.Join(left, " "))
	}
	waiting, computing := apart(chosen)
	if err := s.build(ctx, waiting); err != nil {
		return err
	}
	together, alone, err := s.plan(ctx, waiting)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.to, "%d test programs are built; %.0f s\n", len(waiting), time.Since(s.start).Seconds())
	queue, rest := make(chan *job), make(chan []*job, 1)
	var wg sync.WaitGroup
	wg.Go(func() { // while those before wait
		later, err := s.programs(ctx, computing)
		if err != nil {
			s.fail("suite", "", err.Error()+"\n")
		}
		rest <- later
		for _, c := range beside {
			s.other(ctx, c)
		}
	})
	wg.Go(func() {
		defer close(queue)
		for _, j := range together {
			queue <- j
		}
		for _, j := range <-rest {
			queue <- j
		}
	})
	inParallel(ctx, s.report, jobs, queue)
	last := make(chan *job, len(alone))
	for _, j := range alone {
		last <- j
	}
	close(last)
	inParallel(ctx, s.report, 1, last)
	wg.Wait()
	return errors.Join(ctx.Err(), s.wanted.missing())
}

// programs builds those that need not be there first, at a low priority, and makes jobs of them.
func (s *suite) programs(ctx context.Context, computing []pkg) ([]*job, error) {
	if err := s.build(ctx, computing, yielding...); err != nil {
		return nil, err
	}
	jobs, alone, err := s.plan(ctx, computing)
	return append(jobs, alone...), err
}

// inParallel runs jobs as they come by n workers. Each has ports of its own for what the tests
// start on loopback.
func inParallel(ctx context.Context, r *report, n int, queue <-chan *job) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for j := range queue {
				if ctx.Err() == nil {
					r.test(ctx, j, fmt.Sprintf("WATCHDOG_TEST_PORTS=%d/%d", i, n))
				}
			}
		})
	}
	wg.Wait()
}

// build makes the test programs. -o names them by the last element of their path: those that share
// it with another one are made apart.
func (s *suite) build(ctx context.Context, chosen []pkg, by ...string) error {
	for len(chosen) > 0 {
		made, err := os.MkdirTemp(s.dir, "made")
		if err != nil {
			return err
		}
		args := append(slices.Clone(by), "go", "test", "-c", "-o", made+"/")
		if s.race {
			args = append(args, "-race")
		}
		taken := map[string]bool{}
		var later []pkg
		for _, p := range chosen {
			if taken[filepath.Base(p.path)] {
				later = append(later, p)
				continue
			}
			taken[filepath.Base(p.path)] = true
			args = append(args, p.path)
		}
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("the tests do not build: %w\n%s", err, out)
		}
		for _, p := range chosen {
			if slices.Contains(later, p) {
				continue
			}
			if err := os.Rename(filepath.Join(made, filepath.Base(p.path)+".test"), program(s.dir, p)); err != nil {
				return err
			}
		}
		chosen = later
	}
	return nil
}

// program is where a package's test program lies.
func program(dir string, p pkg) string {
	return filepath.Join(dir, strings.ReplaceAll(p.name, "/", "-")+".test")
}
