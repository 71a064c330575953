package main

// docs/benchmarks.md, its plots, and the raw data in build/bench.

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

type report struct {
	root, out string
	quick     bool
	took      time.Duration
	figures   []figure
	failures  []string
	results   *results
}

// page is the section of a figure.
type page struct {
	dir     string // for plots
	key     string
	text    strings.Builder
	targets []target
	err     error
}

type target struct {
	title, want, got string
	met              bool
}

// Para adds a paragraph.
func (p *page) Para(format string, args ...any) {
	p.text.WriteString(wrapped(fmt.Sprintf(format, args...)) + "\n\n")
}

// wrapped breaks a paragraph into lines of at most 100 characters.
func wrapped(paragraph string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(paragraph) {
		switch n := utf8.RuneCountInString(word); {
		case column == 0:
			column = n
		case column+1+n > 100:
			b.WriteByte('\n')
			column = n
		default:
			b.WriteByte(' ')
			column += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}

// Table adds a table.
func (p *page) Table(head []string, rows [][]string) {
	write := func(cells []string) { fmt.Fprintf(&p.text, "| %s |\n", strings.Join(cells, " | ")) }
	write(head)
	write(slices.Repeat([]string{"---"}, len(head)))
	for _, r := range rows {
		write(r)
	}
	p.text.WriteString("\n")
}

// Plot adds a picture.
func (p *page) Plot(name, alt, svg string) {
	file := p.key + "-" + name + ".svg"
	p.err = errors.Join(p.err, os.WriteFile(filepath.Join(p.dir, file), []byte(svg), 0o644))
	fmt.Fprintf(&p.text, "![%s](benchmarks/%s)\n\n", alt, file)
}

// Target says whether something that was aimed at has been reached.
func (p *page) Target(want, got string, met bool) {
	p.targets = append(p.targets, target{want: want, got: got, met: met})
}

// rawData is where the samples of each figure go, as CSV: megabytes, which nobody wants in the tree.
const rawData = "build/bench"

func (r *report) write() error {
	dir, raw := filepath.Join(r.out, "benchmarks"), filepath.Join(r.root, rawData)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(raw, 0o755)); err != nil {
		return err
	}
	var body strings.Builder
	var targets []target
	var errs []error
	for _, f := range r.figures {
		p := &page{dir: dir, key: f.key}
		fmt.Fprintf(&body, "## %s\n\n", f.title)
		if slices.Contains(r.failures, f.key) {
			p.Para("**Could not be measured completely in this run.**")
		}
		f.show(r.results, p)
		if note, err := os.ReadFile(filepath.Join(r.root, "bench", "notes", f.key+".md")); err == nil {
			p.text.Write(note)
			p.text.WriteString("\n")
		}
		for _, t := range p.targets {
			t.title = f.title
			targets = append(targets, t)
		}
		body.WriteString(p.text.String())
		errs = append(errs, p.err, r.writeCSV(filepath.Join(raw, f.key+".csv"), f.key))
	}
	var head strings.Builder
	head.WriteString("# Benchmarks\n\n")
	head.WriteString(wrapped("Written by `make bench`; do not edit. The remarks are in bench/notes, the raw data of each figure is written to "+rawData+". "+
		"Ratios of one run are what counts here; absolute times are those of a small virtual machine.") + "\n\n")
	if r.quick {
		head.WriteString("**A quick run: few samples.**\n\n")
	}
	if len(r.failures) > 0 {
		fmt.Fprintf(&head, "**Not, or not completely, measured in this run: %s.**\n\n", strings.Join(r.failures, ", "))
	}
	head.WriteString(r.machine())
	head.WriteString("## Targets\n\n| figure | target | measured | met |\n| --- | --- | --- | --- |\n")
	for _, t := range targets {
		met := "yes"
		if !t.met {
			met = "**no**"
		}
		fmt.Fprintf(&head, "| %s | %s | %s | %s |\n", t.title, t.want, t.got, met)
	}
	head.WriteString("\n" + wrapped("Values are medians with the range of the middle 90 % where there is a range; `> x`: not yet when the observation ended after x.") + "\n\n")
	errs = append(errs, os.WriteFile(filepath.Join(r.out, "benchmarks.md"),
		[]byte(head.String()+strings.TrimRight(body.String(), "\n")+"\n"), 0o644))
	return errors.Join(errs...)
}

func (r *report) writeCSV(path, key string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	w.Write([]string{"figure", "what", "series", "condition", "unit", "value", "at_least"})
	for _, s := range r.results.samples {
		if s.figure == key {
			w.Write([]string{s.figure, s.what, s.series, s.when, s.unit, strconv.FormatFloat(s.value, 'g', 6, 64),
				strconv.FormatBool(s.censored)})
		}
	}
	w.Flush()
	return errors.Join(w.Error(), f.Close())
}

// machine says what it was measured on, and with.
func (r *report) machine() string {
	var b strings.Builder
	line := func(what, value string) { fmt.Fprintf(&b, "| %s | %s |\n", what, value) }
	b.WriteString("| | |\n| --- | --- |\n")
	line("when", fmt.Sprintf("%s, %.0f minutes", time.Now().UTC().Format("2006-01-02"), r.took.Minutes()))
	line("source", output(r.root, "git", "describe", "--always", "--dirty"))
	line("machine", fmt.Sprintf("%d processors (%s), %s of memory, Linux %s", runtime.NumCPU(),
		procField("/proc/cpuinfo", "model name"), procField("/proc/meminfo", "MemTotal"),
		output("/", "uname", "-r")))
	line("Go", runtime.Version())
	line("PostgreSQL", strings.TrimPrefix(output("/", pgConfig(), "--version"), "PostgreSQL "))
	line("libpq", output("/", "dpkg-query", "-W", "-f", "${Version}", "libpq5"))
	line("HAProxy", first(output("/", "haproxy", "-v"), 3))
	line("PgBouncer", first(output("/", "pgbouncer", "--version"), 2))
	var worst time.Duration
	for _, f := range r.figures {
		worst = max(worst, r.results.stalls[f.key])
	}
	line("longest time for which the machine stood still in this run", worst.Round(time.Millisecond).String())
	b.WriteString("\n")
	return b.String()
}

func pgConfig() string {
	if c := os.Getenv("PG_CONFIG"); c != "" {
		return c
	}
	return "pg_config"
}

// output is the first line of what a command says, "unknown" if it does not.
func output(dir, name string, args ...string) string {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	text, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || text == "" {
		return "unknown"
	}
	return text
}

// first is the n-th word of a line.
func first(line string, n int) string {
	if f := strings.Fields(line); len(f) >= n {
		return f[n-1]
	}
	return line
}

func procField(file, name string) string {
	text, _ := os.ReadFile(file)
	for _, l := range strings.Split(string(text), "\n") {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
