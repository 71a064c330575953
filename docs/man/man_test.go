// Package man_test holds the manual pages to the programs: a parameter, default or option that is
// missing, or no longer exists, fails. Runs in the test process, and blocks on reading the pages
// only.
package man_test

import (
	"flag"
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
	"github.com/pgwatchdog/watchdog/conmgr/console"
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

var update = flag.Bool("update", false, "write the section of parameters in conmgr.conf.5")

// The section PARAMETERS is made of the rows of conmgr/conf.
func TestParameters(t *testing.T) {
	const name, begin, end = "conmgr.conf.5", ".SH PARAMETERS\n", ".SH FILES\n"
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(file), begin)
	section, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no section PARAMETERS before FILES", name)
	}
	if want := conf.Manual(); begin+section != want {
		if !*update {
			t.Fatalf("the section PARAMETERS of %s is not that of the rows in conmgr/conf/params.go: run the test with "+
				"-update. It would be\n%s", name, want)
		}
		if err := os.WriteFile(name, []byte(before+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(before, strconv.Itoa(cm.MaxInstanceNumber)) {
		t.Errorf("%s does not tell the highest instance number, %d", name, cm.MaxInstanceNumber)
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

// The statements of conmgr's console stand in its manual page and in the protocol's, as SHOW HELP has
// them.
func TestEveryStatementIsDescribed(t *testing.T) {
	protocol, err := os.ReadFile("../protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := words(page(t, "conmgr.1"))
	for _, row := range console.HelpRows {
		statement, _, _ := strings.Cut(row[0], " <")
		statement = strings.TrimSuffix(strings.TrimSuffix(statement, " [INSTANCE"), " [AFTER")
		if statement == "" {
			continue // the list of attributes
		}
		if !strings.Contains(manual, statement) {
			t.Errorf("conmgr.1 does not tell of %q", statement)
		}
		if !strings.Contains(string(protocol), "`"+statement) {
			t.Errorf("protocol.md does not tell of %q", statement)
		}
	}
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
