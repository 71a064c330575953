package control

// The command cm_ctl: help, checks, dispatch, and how it talks. Run by cm_ctl's main goroutine;
// blocks as the action does.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// Exit statuses, those of pg_ctl. exitInterrupted is what a shell makes of SIGINT.
const (
	exitOK          = 0
	exitFailure     = 1
	exitCheckFailed = 2
	exitNotRunning  = 3
	exitNoDirectory = 4
	exitInterrupted = 130
)

// Command is one run of cm_ctl.
type Command struct {
	Args   []string // without the name of the program
	Getenv func(string) string
	Stdin  *os.File // for questions; nil: nobody is there to answer
	Stdout *os.File
	Stderr *os.File
	Euid   int
	Conmgr string // the program to start; empty: beside cm_ctl, else in PATH
	// Doctor examines; nil: this program cannot.
	Doctor func(context.Context, DoctorRequest) DoctorAnswer

	unsaid *error // why something of what was to be said is missing
}

// Run does what the command line says, and returns the exit status. The end of ctx interrupts it: a
// conmgr process that it waits for to become ready is told to end.
func (c Command) Run(ctx context.Context) int {
	c.unsaid = new(error)
	o, err := parseOptions(c.Args)
	code := c.act(ctx, o, err)
	// An action that is done is done; an answer that is not whole is none.
	if asked := o.help || o.version || o.action == "status" || o.action == "genkey" || o.action == "doctor"; asked && code == exitOK && *c.unsaid != nil {
		c.fail("could not write to standard output: %v", cause(*c.unsaid))
		return exitFailure
	}
	return code
}

func (c Command) act(ctx context.Context, o options, err error) int {
	switch {
	case o.help:
		c.say("%s", Program().Help())
		return exitOK
	case o.version:
		c.say("cm_ctl (watchdog) %s\n", cm.Version)
		return exitOK
	}
	if err == nil && o.action == "genkey" { // which touches nothing
		return c.genkey(o)
	}
	if c.Euid == 0 && o.action != "doctor" { // which starts nothing
		c.fail("cannot be run as root")
		c.hint("Please log in (using, e.g., \"su\") as the (unprivileged) user that will\nown the conmgr process.")
		return exitFailure
	}
	if err == nil && o.dir == "" {
		if o.dir = c.Getenv("CMDATA"); o.dir == "" {
			err = usage("no directory specified and environment variable CMDATA unset")
		}
	}
	if err != nil {
		c.fail("%v", err)
		c.hint("Try \"cm_ctl --help\" for more information.")
		return exitFailure
	}
	if err := checkDirectory(o.dir); err != nil {
		c.fail("%v", err)
		if o.action == "status" || o.action == "doctor" {
			return exitNoDirectory
		}
		return exitFailure
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		c.fail("could not find the current directory: %v", err)
		return exitFailure
	}
	r := &run{Command: c, options: o}
	switch o.action {
	case "start":
		return r.start(ctx)
	case "stop":
		return r.stop(ctx)
	case "restart":
		return r.restart(ctx)
	case "reload":
		return r.reload(ctx)
	case "forget":
		return r.forget(ctx)
	case "drain", "undrain":
		return r.drain(ctx)
	case "events":
		return r.events(ctx)
	case "doctor":
		return r.doctor(ctx)
	}
	return r.status(ctx)
}

// checkDirectory looks at no more than what tells the directory of a conmgr process from any other:
// a broken conmgr.conf must not keep anybody from stopping conmgr.
func checkDirectory(dir string) error {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("directory \"%s\" does not exist", dir)
	case err != nil:
		return fmt.Errorf("could not access directory \"%s\": %w", dir, cause(err))
	case !st.IsDir():
		return fmt.Errorf("\"%s\" is not a directory", dir)
	}
	for _, name := range []string{cm.ConfigFile, cm.PidFile} {
		switch _, err := os.Lstat(filepath.Join(dir, name)); {
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("could not access directory \"%s\": %w", dir, cause(err))
		}
	}
	return fmt.Errorf("\"%s\" is not a directory of a conmgr process: there is no %s in it", dir, cm.ConfigFile)
}

// run is an action under way.
type run struct {
	Command
	options
}

func (r *run) pidPath() string { return filepath.Join(r.dir, cm.PidFile) }

// limit is how long to wait.
func (r *run) limit(otherwise time.Duration) time.Duration {
	if r.timeout > 0 {
		return r.timeout
	}
	return otherwise
}

func (c Command) say(format string, args ...any) { c.write(fmt.Appendf(nil, format, args...)) }

func (c Command) write(b []byte) {
	if _, err := c.Stdout.Write(b); err != nil && *c.unsaid == nil {
		*c.unsaid = err
	}
}

func (c Command) fail(format string, args ...any) {
	fmt.Fprintf(c.Stderr, "cm_ctl: "+format+"\n", args...)
}

func (c Command) hint(text string) { fmt.Fprintln(c.Stderr, text) }

// notRunning says why nobody runs, and returns false if there is something to stop.
func (r *run) notRunning(info Info, running bool, err error) bool {
	switch {
	case running && err == nil:
		return false
	case err != nil:
		r.fail("%v", err)
	case info.Pid != 0:
		r.fail("PID file \"%s\" is stale: conmgr process (PID %d) is gone", r.pidPath(), info.Pid)
		r.hint("Is conmgr process running?")
	default:
		if _, err := os.Lstat(r.pidPath()); err == nil {
			r.fail("PID file \"%s\" is stale: no process has locked it", r.pidPath())
		} else {
			r.fail("PID file \"%s\" does not exist", r.pidPath())
		}
		r.hint("Is conmgr process running?")
	}
	return true
}

// progress prints a dot for each second of waiting.
type progress struct {
	r    *run
	next time.Time
	dots bool
}

func (r *run) progress() *progress { return &progress{r: r, next: time.Now().Add(time.Second)} }

func (p *progress) tick() {
	if now := time.Now(); !now.Before(p.next) {
		p.next = p.next.Add(time.Second)
		p.dots = true
		p.r.say(".")
	}
}
