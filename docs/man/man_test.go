// Package man_test holds the manual pages to the programs: a parameter, default or option that is
// missing, or no longer exists, fails. Runs in the test process, and blocks on reading the pages
// only.
package man_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/control"
)

var (
	fontEscape = regexp.MustCompile(`\\f[A-Z]`)
	macro      = regexp.MustCompile(`(?m)^\.(\w+) ?`)
)

// page returns a manual page without comments, its markup reduced to words; paragraph macros are
// left.
func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s := regexp.MustCompile(`(?m)^\.\\".*\n`).ReplaceAllString(string(b), "")
	s = fontEscape.ReplaceAllString(s, "")
	return strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\(dq`, `"`, `\e`, `\`, `\&`, "").Replace(s)
}

// words drops the macros too.
func words(s string) string {
	s = macro.ReplaceAllString(s, "")
	s = strings.ReplaceAll(s, `"`, "")
	return strings.Join(strings.Fields(s), " ")
}

// entries returns the .TP entries of a page: the first word of the heading, and all the text.
func entries(s string) map[string]string {
	m := map[string]string{}
	parts := strings.Split(s, "\n.TP\n")
	for _, p := range parts[1:] {
		p, _, _ = strings.Cut(p, "\n.S")
		text := words(p)
		name, _, _ := strings.Cut(text, " ")
		m[name] = text
	}
	return m
}

func hasWord(text, word string) bool {
	return regexp.MustCompile(`(^|[^\w.])` + regexp.QuoteMeta(word) + `($|[^\w])`).MatchString(text)
}

func TestEveryParameterIsDescribed(t *testing.T) {
	parameters := page(t, "conmgr.conf.5")
	_, parameters, found := strings.Cut(parameters, ".SH PARAMETERS")
	parameters, _, ended := strings.Cut(parameters, ".SH FILES")
	if !found || !ended {
		t.Fatal("conmgr.conf.5 has no section PARAMETERS before FILES")
	}
	described := entries(parameters)
	for _, p := range conf.Params {
		text, ok := described[p.Name]
		delete(described, p.Name)
		if !ok {
			t.Errorf("conmgr.conf.5 does not describe %s", p.Name)
			continue
		}
		kind := map[conf.ParamType]string{conf.Integer: "(integer)", conf.Octal: "(integer)",
			conf.Duration: "(duration)", conf.Enum: "(enum)", conf.Boolean: "(boolean)"}[p.Type]
		if kind == "" {
			kind = "(string)"
		}
		want := []string{kind}
		if p.Default != "" {
			want = append(want, p.Default)
		}
		want = append(want, p.Values...)
		switch p.Type {
		case conf.Integer:
			want = append(want, strconv.FormatInt(p.Min, 10), strconv.FormatInt(p.Max, 10))
		case conf.Duration:
			want = append(want, "second", strconv.FormatInt(p.Max/1000, 10)+" seconds")
			if !strings.Contains(text, strconv.FormatInt(p.Min, 10)+" ms") &&
				!strings.Contains(text, strconv.FormatInt(p.Min, 10)+"ms") {
				t.Errorf("conmgr.conf.5: %s: the lowest value, %d ms, is not told", p.Name, p.Min)
			}
		}
		for _, w := range want {
			if !strings.Contains(text, w) || w[0] != '(' && !hasWord(text, w) && w != "second" {
				t.Errorf("conmgr.conf.5: %s: %q does not occur", p.Name, w)
			}
		}
		if heading := regexp.MustCompile(`(?m)^\.BI ` + p.Name + ` N `).MatchString(parameters); heading != p.Numbered {
			t.Errorf("conmgr.conf.5: %s: is the name followed by an instance number? The page says %v", p.Name, heading)
		}
	}
	for name := range described {
		t.Errorf("conmgr.conf.5 describes %s, which does not exist", name)
	}
	if !strings.Contains(page(t, "conmgr.conf.5"), strconv.Itoa(cm.MaxInstanceNumber)) {
		t.Errorf("conmgr.conf.5 does not tell the highest instance number, %d", cm.MaxInstanceNumber)
	}
}

// The examples of the page are files that conmgr accepts.
func TestExampleConfigurationsAreValid(t *testing.T) {
	_, examples, _ := strings.Cut(page(t, "conmgr.conf.5"), ".SH EXAMPLES")
	blocks := strings.Split(examples, ".EX\n")[1:]
	if len(blocks) < 2 {
		t.Fatal("no examples")
	}
	for _, b := range blocks {
		text, _, _ := strings.Cut(b, ".EE")
		if c, diagnostics := conf.Parse("example", []byte(text)); c == nil || len(diagnostics) > 0 {
			t.Errorf("%s%v", text, diagnostics)
		}
	}
}

func TestEveryOptionOfCmCtlIsDescribed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "help")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if code := (control.Command{Args: []string{"--help"}, Getenv: os.Getenv, Stdout: out,
		Stderr: out}).Run(t.Context()); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	help, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	compareOptions(t, "cm_ctl.1", string(help))
}

func TestEveryOptionOfConmgrIsDescribed(t *testing.T) {
	help, err := exec.Command("go", "run", "../../cmd/conmgr", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%s%v", help, err)
	}
	compareOptions(t, "conmgr.1", string(help))
}

func compareOptions(t *testing.T, name, help string) {
	t.Helper()
	option := regexp.MustCompile(`--?[a-zA-Z?][a-z-]*`)
	var inHelp []string
	for _, line := range strings.Split(help, "\n") {
		if strings.HasPrefix(line, "  -") || strings.HasPrefix(line, "      --") { // the line of an option
			definition, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
			inHelp = append(inHelp, option.FindAllString(definition, -1)...)
		}
	}
	if len(inHelp) < 5 {
		t.Fatalf("options not found in\n%s", help)
	}
	text := page(t, name)
	_, options, _ := strings.Cut(text, ".SH OPTIONS")
	options, _, _ = strings.Cut(options, "\n.SH")
	var inPage []string
	for _, p := range strings.Split(options, "\n.TP\n")[1:] {
		heading, _, _ := strings.Cut(p, "\n")
		inPage = append(inPage, option.FindAllString(strings.ReplaceAll(words(heading), " , ", ", "), -1)...)
	}
	slices.Sort(inHelp)
	slices.Sort(inPage)
	if !slices.Equal(inHelp, inPage) {
		t.Errorf("options of %s: %q, of the help: %q", name, inPage, inHelp)
	}
}
