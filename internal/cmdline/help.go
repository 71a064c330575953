package cmdline

// The text of --help, within 80 columns.

import (
	"fmt"
	"slices"
	"strings"
)

const (
	helpWidth  = 80
	helpIndent = 29 // where the texts of options begin
)

// Help is what --help says.
func (p *Program) Help() string {
	var b strings.Builder
	b.WriteString(p.Summary + "\n\nUsage:\n")
	if len(p.Actions) == 0 {
		p.usage(&b, p.Name, "")
	}
	width := 0
	for _, a := range p.Actions {
		width = max(width, len(a.Name))
	}
	for _, a := range p.Actions {
		head := fmt.Sprintf("%s %-*s", p.Name, width, a.Name)
		if a.Operand != "" {
			head += " " + a.Operand
		}
		p.usage(&b, head, a.Name)
	}
	for _, s := range p.Sections {
		fmt.Fprintf(&b, "\n%s:\n", s.Title)
		for i := range p.Options {
			if o := &p.Options[i]; o.Section == s.Title {
				o.describe(&b)
			}
		}
		b.WriteString(s.After)
	}
	b.WriteString(p.Epilogue)
	return b.String()
}

// usage is the line of an action.
func (p *Program) usage(b *strings.Builder, head, action string) {
	line := "  " + head
	indent := strings.Repeat(" ", len(p.Name)+3)
	if action != "" {
		indent = strings.Repeat(" ", len(line))
	}
	for i := range p.Options {
		o := &p.Options[i]
		if !slices.Contains(o.Of, action) {
			continue
		}
		word := o.synopsis()
		if len(line)+1+len(word) > helpWidth {
			b.WriteString(line + "\n")
			line = indent
		}
		line += " " + word
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// synopsis is the option in a line of usage.
func (o *Option) synopsis() string {
	word := "--" + o.Long
	switch {
	case o.Short != 0 && o.Value != "":
		word = "-" + string(o.Short) + " " + o.Value
	case o.Short != 0:
		word = "-" + string(o.Short)
	case o.Optional:
		word += "[=" + o.Value + "]"
	case o.Value != "":
		word += "=" + o.Value
	}
	if o.Required {
		return word
	}
	return "[" + word + "]"
}

// describe is the option in the list.
func (o *Option) describe(b *strings.Builder) {
	left := "      --" + o.Long
	if o.Short != 0 {
		left = "  -" + string(o.Short) + ", --" + o.Long
	}
	switch {
	case o.Optional:
		left += "[=" + o.Value + "]"
	case o.Value != "":
		left += "=" + o.Value
	}
	for _, word := range strings.Fields(o.Help) {
		switch {
		case len(left) < helpIndent:
			left += strings.Repeat(" ", helpIndent-len(left)) + word
		case len(left)+1+len(word) > helpWidth:
			b.WriteString(left + "\n")
			left = strings.Repeat(" ", helpIndent) + word
		default:
			left += " " + word
		}
	}
	b.WriteString(left + "\n")
}
