package doctor

// Findings for people, within the width of a terminal, and for programs (docs/doctor.schema.json).

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pgwatchdog/watchdog/internal/cells"
)

// Report is the shape of --json.
type Report struct {
	Level     Level     `json:"level"` // the worst one
	Directory string    `json:"directory"`
	Version   string    `json:"version"`
	Findings  []Finding `json:"findings"`
}

// JSON is one line.
func JSON(facts *Facts, all []Finding) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(Report{Level: Worst(all), Directory: facts.Directory, Version: facts.Version, Findings: all})
	return b.Bytes()
}

// Colours paints a level; it may return the word as it is.
type Colours func(l Level, word string) string

// Text is for people.
func Text(all []Finding, width int, paint Colours) string {
	var b strings.Builder
	n := map[Level]int{}
	for _, f := range all {
		n[f.Level]++
		what := f.Check
		if f.Instance != nil {
			what = fmt.Sprintf("instance %d: %s", *f.Instance, f.Check)
		}
		word := string(f.Level)
		pad := strings.Repeat(" ", 8-len(word))
		fold(&b, paint(f.Level, word)+pad, "        ", what+": "+f.Text, width-8)
		if f.Advice != "" {
			fold(&b, "          ", "          ", f.Advice, width-10)
		}
	}
	fmt.Fprintf(&b, "\n%s, %s, %d ok\n", count(n[Error], "error", "errors"), count(n[Warning], "warning", "warnings"), n[OK])
	return b.String()
}

// fold writes words after first, and goes on after next where a line of that width is full.
func fold(b *strings.Builder, first, next, text string, width int) {
	for _, line := range cells.Fold(cells.Printable(strings.Join(strings.Fields(text), " ")), width, width) {
		b.WriteString(first + line + "\n")
		first = next
	}
}
