package control

// The lists of cm_ctl status for people, within the width of the terminal. Pure, but for the width
// itself.

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/cells"
)

const (
	usualWidth    = 80
	smallestWidth = 40 // less is no terminal that shows a list
)

// outputWidth is what COLUMNS says (watch sets it), else the terminal's width, else 80.
func (c Command) outputWidth() int {
	if n, err := strconv.Atoi(c.Getenv("COLUMNS")); err == nil && n > 0 {
		return max(n, smallestWidth)
	}
	if ws, err := unix.IoctlGetWinsize(int(c.Stdout.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 {
		return max(int(ws.Col), smallestWidth)
	}
	return usualWidth
}

// column of a list: a title, and what it shows of a row.
type column struct {
	title string
	right bool
	cell  func(f fields) string
}

// shown is a column of the answer as it is.
func shown(title, name string, right bool) column {
	return column{title, right, func(f fields) string { return f.shown(name) }}
}

func (f fields) shown(name string) string {
	if v := f[name]; v != nil {
		return printable(*v)
	}
	return ""
}

// stateTitle is of the column that has colours.
const stateTitle = "state"

// What people look for first; the rest is in --json.
var instanceColumns = []column{
	shown("instance", cm.ColInstance, true),
	shown("host", cm.ColHost, false),
	shown("port", cm.ColPort, true),
	shown(stateTitle, cm.ColState, false),
	{"role", false, roleCell},
	shown("timeline", cm.ColTimeline, true),
	{"heartbeat", true, func(f fields) string { return ago(f.number(cm.ColLastHeartbeat)) }},
}

var applicationColumns = []column{
	{"client", false, clientCell},
	shown("application", cm.ColApplicationName, false),
	shown("target", cm.ColTarget, false),
	shown("instance", cm.ColInstance, true),
	shown("via", cm.ColVia, false),
	{"connected at", false, func(f fields) string { return secondsOnly(f.shown(cm.ColConnectedAt)) }},
}

var waitingColumns = []column{
	{"client", false, clientCell},
	shown("application", cm.ColApplicationName, false),
	shown("target", cm.ColTarget, false),
	{"waiting since", false, func(f fields) string { return secondsOnly(f.shown(cm.ColWaitingSince)) }},
	{"until", false, func(f fields) string { return secondsOnly(f.shown(cm.ColWaitsUntil)) }},
}

// clientCell is where a connection comes from; that of a Unix socket has no address, and is [local],
// as ps shows it of a server's.
func clientCell(f fields) string {
	if f.text(cm.ColClientAddr) == nil {
		return "[local]"
	}
	return net.JoinHostPort(f.shown(cm.ColClientAddr), f.shown(cm.ColClientPort))
}

func roleCell(f fields) string {
	role := f.shown(cm.ColRole)
	if ro := f.boolean(cm.ColReadOnly); ro != nil && *ro && role == "primary" {
		return role + ", read only"
	}
	return role
}

// ago tells how long ago something was, in the unit that reads best.
func ago(ms *int64) string {
	switch {
	case ms == nil:
		return ""
	case *ms < 10_000:
		return fmt.Sprintf("%d ms", *ms)
	case *ms < 600_000:
		return fmt.Sprintf("%d s", *ms/1000)
	case *ms < 36_000_000:
		return fmt.Sprintf("%d min", *ms/60_000)
	}
	return fmt.Sprintf("%d h", *ms/3_600_000)
}

// secondsOnly leaves out the fraction of a second of an ISO 8601 time.
func secondsOnly(t string) string {
	dot := strings.IndexByte(t, '.')
	if dot < 0 {
		return t
	}
	end := dot + 1
	for end < len(t) && t[end] >= '0' && t[end] <= '9' {
		end++
	}
	return t[:dot] + t[end:]
}

// instanceNotes are what a table has no room for: what an instance is used for, why it is not, and
// the last error. Columns that this conmgr does not have are left out.
func instanceNotes(f fields) (notes []string) {
	if v := f.text(cm.ColUsedFor); v != nil {
		notes = append(notes, "used for "+printable(strings.ReplaceAll(*v, ",", ", ")))
	}
	if v := f.text(cm.ColNotUsed); v != nil {
		notes = append(notes, "not used: "+printable(*v))
	}
	if v := f.text(cm.ColDraining); v != nil {
		notes = append(notes, drainNote(*v, f.number(cm.ColBound)))
	}
	if v := f.text(cm.ColLastRole); v != nil && f.shown(cm.ColRole) == "unknown" {
		notes = append(notes, "was "+printable(*v))
	}
	if v := f.text(cm.ColDetail); v != nil {
		notes = append(notes, "detail: "+printable(*v))
	}
	return notes
}

// drainNote says who is left.
func drainNote(by string, bound *int64) string {
	note := "draining (" + printable(strings.ReplaceAll(by, ",", ", ")) + ")"
	if bound != nil {
		note += ": " + countBound(*bound)
	}
	return note
}

// countBound says how many there are.
func countBound(n int64) string {
	switch n {
	case 0:
		return "no application is bound to it"
	case 1:
		return "1 application is bound to it"
	}
	return strconv.FormatInt(n, 10) + " applications are bound to it"
}

// formatList makes a table of an answer, or, where that is wider than width, one record a row, as
// psql does with \x auto. notes, if not nil, follow their row.
func formatList(answer rows, columns []column, notes func(fields) []string, width int, p palette) string {
	header := make([]string, len(columns))
	right := map[string]bool{}
	for i, c := range columns {
		header[i], right[c.title] = c.title, c.right
	}
	lines := make([][]string, len(answer.values))
	for i := range answer.values {
		f := answer.row(i)
		for _, c := range columns {
			lines[i] = append(lines[i], c.cell(f))
		}
	}
	table := strings.SplitAfter(formatTable(header, lines, right), "\n")
	painted := strings.SplitAfter(formatPainted(header, lines, right, p), "\n")
	wide := 0
	for _, line := range table {
		wide = max(wide, cells.Width(strings.TrimRight(line, "\n")))
	}
	var b strings.Builder
	if wide <= width {
		b.WriteString(table[0] + table[1])
	}
	for i := range lines {
		if wide <= width {
			b.WriteString(painted[2+i])
		} else {
			writeRecord(&b, i, header, lines[i], width, p)
		}
		if notes != nil {
			for _, n := range notes(answer.row(i)) {
				writeFolded(&b, "     ", "       ", n, width)
			}
		}
	}
	return b.String()
}

func writeRecord(b *strings.Builder, i int, header, cells []string, width int, p palette) {
	title := 0
	for _, h := range header {
		title = max(title, len(h))
	}
	fmt.Fprintf(b, "-[ %d ]%s\n", i+1, strings.Repeat("-", max(0, min(width, usualWidth)-8)))
	for j, h := range header {
		if h == stateTitle { // one word
			fmt.Fprintf(b, "%-*s | %s\n", title, h, p.state(cells[j]))
			continue
		}
		writeFolded(b, fmt.Sprintf("%-*s | ", title, h), strings.Repeat(" ", title)+" | ", cells[j], width)
	}
}

// writeFolded writes text after first, and goes on after next where a line is full.
func writeFolded(b *strings.Builder, first, next, text string, width int) {
	room := func(prefix string) int { return max(width-cells.Width(prefix), 8) }
	prefix := first
	for _, line := range cells.Fold(text, room(first), room(next)) {
		b.WriteString(strings.TrimRight(prefix+line, " ") + "\n")
		prefix = next
	}
}
