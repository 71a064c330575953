package control

// What is for a terminal: colours, and cm_ctl status --watch. Blocks on the terminal, and between two
// looks.

import (
	"context"
	"time"
)

// palette paints words; the zero value leaves them as they are.
type palette struct{ on bool }

// palette is for standard output: colours on a terminal that has some, unless NO_COLOR says otherwise
// (https://no-color.org).
func (c Command) palette() palette {
	return palette{isTerminal(c.Stdout) && c.Getenv("NO_COLOR") == "" && c.Getenv("TERM") != "dumb"}
}

// Colours, by their numbers in SGR sequences.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (p palette) paint(colour, text string) string {
	if !p.on || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// state paints the state of an instance.
func (p palette) state(text string) string {
	switch text {
	case stateEstablished:
		return p.paint(green, text)
	case "lost":
		return p.paint(red, text)
	}
	return p.paint(yellow, text)
}

// watchStatus shows the status again and again, until it is interrupted, or what it says is not
// taken any more.
func (r *run) watchStatus(ctx context.Context) int {
	terminal, first := isTerminal(r.Stdout), true
	for {
		switch {
		case terminal:
			r.say("\x1b[H\x1b[2J\x1b[3J")
		case !first && !r.json:
			r.say("\n")
		}
		first = false
		if code := r.statusOnce(ctx); code == exitInterrupted || code == exitNoDirectory {
			return code
		}
		if *r.unsaid != nil {
			r.fail("could not write to standard output: %v", cause(*r.unsaid))
			return exitFailure
		}
		select {
		case <-ctx.Done():
			return exitInterrupted
		case <-time.After(r.watch):
		}
	}
}
