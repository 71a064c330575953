package control

// Tables for people. Pure.

import (
	"strings"

	"github.com/pgwatchdog/watchdog/internal/cells"
)

func printable(s string) string { return cells.Printable(s) }

// formatTable aligns as psql does. The columns of right are aligned to the right.
func formatTable(header []string, lines [][]string, right map[string]bool) string {
	return formatPainted(header, lines, right, palette{})
}

// formatPainted has the states of instances in colours.
func formatPainted(header []string, lines [][]string, right map[string]bool, p palette) string {
	width := make([]int, len(header))
	for _, line := range append([][]string{header}, lines...) {
		for i, cell := range line {
			width[i] = max(width[i], cells.Width(cell))
		}
	}
	var b strings.Builder
	write := func(line []string) {
		var l strings.Builder
		for i, cell := range line {
			if i > 0 {
				l.WriteString(" | ")
			}
			pad := strings.Repeat(" ", width[i]-cells.Width(cell))
			if header[i] == stateTitle && cell != stateTitle {
				cell = p.state(cell)
			}
			if right[header[i]] {
				l.WriteString(pad + cell)
			} else {
				l.WriteString(cell + pad)
			}
		}
		b.WriteString(" " + strings.TrimRight(l.String(), " ") + "\n")
	}
	write(header)
	for i, w := range width {
		if i > 0 {
			b.WriteByte('+')
		}
		b.WriteString(strings.Repeat("-", w+2))
	}
	b.WriteByte('\n')
	for _, line := range lines {
		write(line)
	}
	return b.String()
}
