// Package completed holds the files of completion in the source tree to the tables of options that
// they are made from. Tests only; reads and, with -update, writes files.
package completed

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/cmdline"
)

var update = flag.Bool("update", false, "write the files of completion")

// Check compares both files of a program.
func Check(t *testing.T, dir string, p *cmdline.Program) {
	t.Helper()
	for name, want := range map[string]string{p.Name + ".bash": p.Bash(), "_" + p.Name: p.Zsh()} {
		file := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s is not that of the table of options: run this test with -update (%v)", file, err)
		}
	}
}
