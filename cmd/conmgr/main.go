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
	"syscall"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
)

const usage = `conmgr is the Connection Manager: it monitors PostgreSQL instances by heartbeats and tells applications where to connect.

Usage:
  conmgr [-D DIRECTORY]           run in the foreground
  conmgr --check [-D DIRECTORY]   check conmgr.conf, and do nothing else

Options:
  -D, --directory=DIRECTORY  directory with conmgr.conf; without it, the environment variable CMDATA
      --check                report all errors of conmgr.conf; exit status 0 or 1
  -V, --version              output version information, then exit
  -?, --help                 show this help, then exit

Signals: SIGTERM fast shutdown, SIGINT smart shutdown, SIGQUIT immediate shutdown,
SIGUSR1 shutdown of a conmgr that will be back, SIGUSR2 restart.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	dir, check := os.Getenv("CMDATA"), false
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "-?" || a == "-h" || a == "--help":
			io.WriteString(stdout, usage)
			return 0
		case a == "-V" || a == "--version":
			fmt.Fprintf(stdout, "conmgr (watchdog) %s\n", cm.Version)
			return 0
		case a == "--check":
			check = true
		case a == cm.HandoverOption && check: // cm_ctl asks whether this program knows how
		case a == "-D" || a == "--directory":
			if i++; i == len(args) {
				return misuse(stderr, "option %q needs a directory", a)
			}
			dir = args[i]
		case len(a) > 2 && a[:2] == "-D":
			dir = a[2:]
		case len(a) > 12 && a[:12] == "--directory=":
			dir = a[12:]
		default:
			return misuse(stderr, "unrecognized argument %q", a)
		}
	}
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
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	err := conmgr.Run(conmgr.Options{Dir: dir, Signals: signals, Stderr: stderr, Program: self()})
	if next := (*conmgr.Successor)(nil); errors.As(err, &next) {
		signal.Ignore(syscall.SIGUSR1, syscall.SIGUSR2) // until it waits for them
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
