package control

// cm_ctl forget: what conmgr keeps of its set of instances is forgotten, by the running conmgr
// itself, or in its file while none runs. Blocks on the answer to its question, and then for at
// most the timeout.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

func (r *run) forget(ctx context.Context) int {
	what, hint := "all that conmgr knows of its instances", ""
	if r.instance >= 0 {
		what = fmt.Sprintf("what instance %d has told conmgr of the timeline", r.instance)
	}
	state, err := LoadState(r.dir)
	if err != nil {
		hint = err.Error() + "\n"
	} else {
		hint = fmt.Sprintf("Known: %s.\n", state)
	}
	if !r.yes {
		if !isTerminal(r.Stdin) {
			r.fail("standard input is not a terminal, so that nobody can be asked: use --yes")
			return exitFailure
		}
		r.say("%sConmgr may then send applications to a primary whose writes will be lost, if one is there.\nForget %s? (y/N) ", hint, what)
		if !r.answersYes(ctx) {
			r.say("nothing is forgotten\n")
			return exitFailure
		}
	}
	info, running, err := Running(r.dir)
	switch {
	case err != nil:
		r.fail("%v", err)
		return exitFailure
	case running:
		return r.forgetRunning(ctx, info)
	}
	if err := r.forgetFile(); err != nil {
		r.fail("%v", err)
		return exitFailure
	}
	return exitOK
}

// forgetRunning asks the conmgr process.
func (r *run) forgetRunning(ctx context.Context, info Info) int {
	statement := "FORGET"
	if r.instance >= 0 {
		statement = fmt.Sprintf("FORGET INSTANCE %d", r.instance)
	}
	answers, err := ask(ctx, info, r.limit(defaultStatusTimeout), statement)
	if ctx.Err() != nil {
		return exitInterrupted
	}
	if err != nil {
		r.fail("conmgr process (PID %d) has not forgotten: %s", info.Pid, strings.ReplaceAll(err.Error(), "\n", "; "))
		return exitFailure
	}
	known := "?"
	if len(answers[0].values) > 0 {
		known = answers[0].row(0).shown("known")
	}
	r.say("forgotten; known now: %s\n", known)
	return exitOK
}

// forgetFile edits the file under the lock that a conmgr process would have.
func (r *run) forgetFile() error {
	_, err := os.Lstat(r.pidPath())
	existed := err == nil
	lock, err := lockPidFile(r.dir, r.pidPath())
	var other *RunningError
	if errors.As(err, &other) {
		return fmt.Errorf("%w: it has just been started, try again", err)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if !existed {
		defer os.Remove(r.pidPath())
	}
	state, err := LoadState(r.dir)
	if r.instance >= 0 {
		if err != nil {
			return err
		}
		if state = state.Forget(r.instance); state.SystemIdentifier != 0 {
			if err := SaveState(r.dir, state, nil); err != nil {
				return err
			}
		}
		r.say("forgotten; known now: %s\n", state)
		return nil
	}
	path := filepath.Join(r.dir, cm.StateFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("could not remove file \"%s\": %w", path, cause(err))
	}
	r.say("forgotten; known now: nothing\n")
	return nil
}

// answersYes reads a line; an interrupt is a no.
func (r *run) answersYes(ctx context.Context) bool {
	lines := make(chan string, 1)
	go func() { // ends with the line, or with cm_ctl
		line, _ := bufio.NewReader(r.Stdin).ReadString('\n')
		lines <- line
	}()
	select {
	case line := <-lines:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return true
		}
	case <-ctx.Done():
		r.say("\n")
	}
	return false
}

func isTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
