package conmgr

import (
	"fmt"
	"io"

	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

// What is wrong with a conmgr.conf, for people. Run by the main goroutine; blocks on the writer.

// CheckConfig reports what is wrong with conmgr.conf. ok is false if conmgr would not start with
// it.
func CheckConfig(dir string, w io.Writer) (c *Config, ok bool) {
	c, diags := LoadConfig(dir)
	reportDiagnostics(diags, w)
	return c, c != nil
}

// reportDiagnostics writes what is wrong with the file.
func reportDiagnostics(diags []Diagnostic, w io.Writer) {
	for _, d := range diags {
		fmt.Fprintf(w, "%s:  %s\n", d.level(), d)
		if d.Hint != "" {
			fmt.Fprintf(w, "HINT:  %s\n", d.Hint)
		}
	}
}

// level is that of the message.
func (d *Diagnostic) level() cmlog.Level {
	if d.Warning {
		return cmlog.WARNING
	}
	return cmlog.ERROR
}
