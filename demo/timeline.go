package main

// The output: events with the milliseconds since the beginning of their act. Used by the script's
// goroutine only.

import (
	"fmt"
	"io"
	"slices"
	"time"
)

type event struct {
	at        time.Time
	who, what string
}

type timeline struct {
	out     io.Writer
	color   bool
	zero    time.Time
	pending []event
}

func newTimeline(out io.Writer, color bool) *timeline { return &timeline{out: out, color: color} }

func (t *timeline) paint(code, text string) string {
	if !t.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// colours of those who act; others are not coloured.
var colours = map[string]string{"primary": "31", "conmgr": "36", "application": "32", "manager": "35", "standby": "34",
	"watchdog": "33", "terminator": "33", "old primary": "31",
	"new primary": "34", "client host": "31"}

// act begins a part of the demo.
func (t *timeline) act(title string) {
	fmt.Fprintf(t.out, "\n%s\n", t.paint("1", title))
}

// note tells something that has no time.
func (t *timeline) note(format string, args ...any) {
	fmt.Fprintf(t.out, "  %s\n", fmt.Sprintf(format, args...))
}

// start sets the zero of the times that follow.
func (t *timeline) start(zero time.Time) { t.zero = zero }

// add leaves an event to be shown by flush: what a log tells is often learned after later events.
func (t *timeline) add(at time.Time, who, format string, args ...any) {
	t.pending = append(t.pending, event{at, who, fmt.Sprintf(format, args...)})
}

// flush shows the events in the order in which they happened.
func (t *timeline) flush() {
	slices.SortStableFunc(t.pending, func(a, b event) int { return a.at.Compare(b.at) })
	for _, e := range t.pending {
		who := t.paint(colours[e.who], fmt.Sprintf("%-11s", e.who))
		if colours[e.who] == "" {
			who = fmt.Sprintf("%-11s", e.who)
		}
		fmt.Fprintf(t.out, "%s  %s  %s\n", t.paint("1", fmt.Sprintf("%6d ms", milliseconds(e.at.Sub(t.zero)))), who,
			e.what)
	}
	t.pending = t.pending[:0]
}

// milliseconds rounds; a log's time stamps are cut to whole ones.
func milliseconds(d time.Duration) int64 { return d.Round(time.Millisecond).Milliseconds() }
