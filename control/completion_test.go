package control

// The completion of shells, made of the table of options, as bash runs it.

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/completed"
)

const completions = "../packaging/completion"

func TestCompletionFiles(t *testing.T) { completed.Check(t, completions, Program()) }

// What zsh says of an option is whole, whatever stands in parentheses within.
func TestZshDescribes(t *testing.T) {
	zsh := Program().Zsh()
	for _, want := range []string{"[write messages of conmgr to FILENAME]", `[ITEMS can be "all", "instance", or "application"]`, "[seconds to wait]"} {
		if !strings.Contains(zsh, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// completeInBash is what bash offers for the last word.
func completeInBash(t *testing.T, words ...string) []string {
	t.Helper()
	script := `. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _cm_ctl; printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.Command("bash", append([]string{"-c", script, "bash", completions + "/cm_ctl.bash", "cm_ctl"}, words...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", words, err, out)
	}
	return strings.Fields(string(out))
}

func TestBashCompletes(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "cm"), 0o700); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"sta":                        "start status",
		"und":                        "undrain",
		"status --c":                 "--check",
		"status --check = p":         "primary",
		"status --check a":           "all any",
		"status -i i":                "instance",
		"drain -i i":                 "",
		"stop -m s":                  "smart",
		"start -m s":                 "",
		"start --com":                "--complete",
		"stop --com":                 "",
		"-D " + dir + "/c":           dir + "/cm",
		"status -D " + dir + "/c":    dir + "/cm",
		"-D " + dir + "/cm status -": "",
	} {
		got := completeInBash(t, strings.Split(line, " ")...)
		if strings.HasSuffix(line, " -") {
			if !slices.Contains(got, "--json") || slices.Contains(got, "--log") {
				t.Errorf("%s: %q", line, got)
			}
			continue
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	all := completeInBash(t, "")
	for _, a := range actions {
		if !slices.Contains(all, a.Name) {
			t.Errorf("%s is not offered: %q", a.Name, all)
		}
	}
}
