package control

// cm_ctl doctor: its command line, and its exit status. Who examines is handed in: that needs
// conmgr's configuration and the heartbeat protocol, of which cm_ctl knows nothing otherwise.

import (
	"context"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// DoctorRequest is what is to be examined, and how it is to be shown.
type DoctorRequest struct {
	Dir      string        // absolute
	Limit    time.Duration // of each question; 0: not given
	Conninfo string        // for SQL; "": none was given
	Getenv   func(string) string
	JSON     bool
	Width    int
	Paint    func(level, word string) string
}

// DoctorAnswer is what was found.
type DoctorAnswer struct {
	Text             string
	Warnings, Errors bool
}

// Exit statuses of doctor, as monitoring systems have them.
const (
	exitWarnings = 1
	exitErrors   = 2
)

func (r *run) doctor(ctx context.Context) int {
	p := r.palette()
	a := r.Doctor(ctx, DoctorRequest{Dir: r.dir, Limit: r.timeout, Conninfo: r.conninfo, Getenv: r.Getenv, JSON: r.json,
		Width: r.outputWidth(), Paint: func(level, word string) string {
			return p.paint(map[string]string{"ok": green, "warning": yellow, "error": red}[level], word)
		}})
	if ctx.Err() != nil {
		return exitInterrupted
	}
	r.say("%s", a.Text)
	switch {
	case a.Errors:
		return exitErrors
	case a.Warnings:
		return exitWarnings
	}
	return exitOK
}

// Ask puts statements to a conmgr that runs: a row by the names of its columns, "" for NULL. version
// is conmgr's.
func Ask(ctx context.Context, info Info, limit time.Duration, statements ...string) (version string, answers [][]map[string]string, err error) {
	said, told, err := askConsole(ctx, info, limit, statements...)
	if err != nil {
		return "", nil, err
	}
	for _, a := range told {
		list := []map[string]string{}
		for i := range a.values {
			row := map[string]string{}
			for name, v := range a.row(i) {
				if v != nil {
					row[name] = printable(*v)
				}
			}
			list = append(list, row)
		}
		answers = append(answers, list)
	}
	return said[cm.VersionParameter], answers, nil
}
