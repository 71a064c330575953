// Command conmgr is the Connection Manager daemon. It runs in the foreground; cm_ctl and systemd
// start and stop it. This file reads the command line and turns results into an exit status;
// package conmgr does the rest.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/internal/cmdline"
)

// options are the command line.
type options struct {
	dir                  string
	check, help, version bool
}

// program is the table of options: the help and the completion of shells are made of it.
func (o *options) program() *cmdline.Program {
	const section = "Options"
	set := func(to *bool, err error) func(string) error { return func(string) error { *to = true; return err } }
	return &cmdline.Program{
		Name: "conmgr", Epilogue: signalsText, Summary: "conmgr is the Connection Manager: it monitors PostgreSQL instances by heartbeats\n" +
			"and tells applications where to connect. It runs in the foreground.",
		Sections: []cmdline.Section{{Title: section}},
		Options: []cmdline.Option{
			{Short: 'D', Long: "directory", Value: "DIRECTORY", Kind: cmdline.Directory, Of: []string{""}, Section: section,
				Help: "directory with conmgr.conf; without it, the environment variable CMDATA",
				Set:  func(v string) error { o.dir = v; return nil }},
			{Long: "check", Of: []string{""}, Section: section, Set: set(&o.check, nil),
				Help: "report all errors of conmgr.conf, and do nothing else; exit status 0 or 1"},
			{Short: 'V', Long: "version", Section: section, Set: set(&o.version, cmdline.ErrStop),
				Help: "output version information, then exit"},
			{Short: '?', Long: "help", Section: section, Set: set(&o.help, cmdline.ErrStop), Help: "show this help, then exit"},
		},
	}
}

const signalsText = `
Signals: SIGTERM fast shutdown, SIGINT smart shutdown, SIGQUIT immediate
shutdown, SIGUSR1 shutdown of a conmgr that will be back, SIGUSR2 restart.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	o := options{dir: os.Getenv("CMDATA")}
	p := o.program()
	if n := slices.Index(args, cm.HandoverOption); n >= 0 && slices.Contains(args[:n], "--check") {
		args = slices.Delete(slices.Clone(args), n, n+1) // cm_ctl asks whether this program knows how
	}
	switch operands, err := p.Parse(args); {
	case len(args) > 0 && args[0] == "-h", o.help:
		io.WriteString(stdout, p.Help())
		return 0
	case o.version:
		fmt.Fprintf(stdout, "conmgr (watchdog) %s\n", cm.Version)
		return 0
	case err != nil:
		return misuse(stderr, "%v", err)
	case len(operands) > 0:
		return misuse(stderr, "unrecognized argument %q", operands[0])
	}
	dir, check := o.dir, o.check
	if !check {
		if err := conmgr.CheckUser(); err != nil {
			return report(stderr, err)
		}
	}
	if dir == "" {
		return misuse(stderr, "no directory specified: use -D or set the environment variable CMDATA")
	}
	if check {
		if _, ok := conf.Check(dir, stderr); !ok {
			return 1
		}
		return 0
	}
	signals := make(chan os.Signal, 8)
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	err := conmgr.Run(conmgr.Options{Dir: dir, Signals: signals, Stderr: stderr, Program: self()})
	if next := (*conmgr.Successor)(nil); errors.As(err, &next) {
		signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2) // until it waits for them
		err = fmt.Errorf("could not become \"%s\": %w", next.Path, syscall.Exec(next.Path, next.Args, next.Env))
	}
	if err != nil {
		return report(stderr, err)
	}
	return 0
}

// self is the path by which this program was started, at which another one may stand by now; "" if
// it is not known.
func self() string {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		path, err = os.Executable()
	}
	if err != nil {
		return ""
	}
	return path
}

func misuse(w io.Writer, format string, args ...any) int {
	fmt.Fprintf(w, "conmgr: "+format+"\n", args...)
	fmt.Fprintln(w, `Try "conmgr --help" for more information.`)
	return 1
}

func report(w io.Writer, err error) int {
	if errors.Is(err, conmgr.ErrReported) {
		return 1
	}
	fmt.Fprintf(w, "FATAL:  %s\n", err)
	var start *conf.StartError
	if errors.As(err, &start) {
		if start.Detail != "" {
			fmt.Fprintf(w, "DETAIL:  %s\n", start.Detail)
		}
		if start.Hint != "" {
			fmt.Fprintf(w, "HINT:  %s\n", start.Hint)
		}
	}
	return 1
}
