package conf

// What is wrong with a conmgr.conf, for people. Run by the main goroutine; blocks on the writer.

import (
	"fmt"
	"io"

	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

// Check reports what is wrong with conmgr.conf. ok is false if conmgr would not start with
// it.
func Check(dir string, w io.Writer) (c *Config, ok bool) {
	c, diags := Load(dir)
	Report(diags, w)
	return c, c != nil
}

// Report writes what is wrong with the file.
func Report(diags []Diagnostic, w io.Writer) {
	for _, d := range diags {
		fmt.Fprintf(w, "%s:  %s\n", d.Level(), d)
		if d.Hint != "" {
			fmt.Fprintf(w, "HINT:  %s\n", d.Hint)
		}
	}
}

// Level is that of the message.
func (d *Diagnostic) Level() cmlog.Level {
	if d.Warning {
		return cmlog.WARNING
	}
	return cmlog.ERROR
}

// StartError is why conmgr does not start, though there is nothing wrong with the file by itself.
type StartError struct{ Text, Detail, Hint string }

func (e *StartError) Error() string { return e.Text }
