package conf

// Hints for mistakes that people make in conmgr.conf. Pure functions.

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"
)

// hintedError is an error with what to do about it.
type hintedError struct {
	error
	hint string
}

// isTypographic: a quote that an editor or a web page has made of a straight one.
func isTypographic(r rune) bool {
	return strings.ContainsRune("‘’‚‛“”„‟«»‹›´`′″＇＂", r)
}

// lineHint looks at a line that is an error for what cannot be seen well.
func lineHint(s string) string {
	for _, r := range s {
		switch {
		case isTypographic(r):
			return fmt.Sprintf("The line contains %q (U+%04X), which is not a quote here: write ' instead.", r, r)
		case r > unicode.MaxASCII && unicode.Is(unicode.Zs, r), r >= '\u200b' && r <= '\u200f', r == '\ufeff',
			r == '\u2060':
			return fmt.Sprintf("The line contains an invisible character (U+%04X): retype it.", r)
		case r > unicode.MaxASCII && unicode.Is(unicode.Pd, r):
			return fmt.Sprintf("The line contains %q (U+%04X), which is no hyphen: write - instead.", r, r)
		case r == '\uff1d':
			return fmt.Sprintf("The line contains %q (U+%04X), which is no equal sign: write = instead.", r, r)
		}
	}
	if strings.Contains(s, `\`) && strings.Contains(s, "'") {
		return `Within single quotes a backslash begins an escape, as in postgresql.conf: write \\ for one backslash.`
	}
	return ""
}

// nameHint is for a parameter that does not exist.
func nameHint(name string) string {
	base := strings.TrimRight(name, "0123456789")
	number := name[len(base):]
	best, least := "", 3 // a greater distance is another word
	for i := range Params {
		p := &Params[i]
		if d := distance(base, p.Name); d < least && d <= len(p.Name)/3 {
			least, best = d, p.Name
			switch {
			case p.Numbered && number == "":
				best += "0"
			case p.Numbered:
				best += number
			}
		}
	}
	if best == "" {
		return lineHint(name)
	}
	return fmt.Sprintf("Perhaps you meant the parameter %q.", best)
}

// distance is that of Levenshtein, for names of reasonable length.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// hostHint is for a host that is none. N stands for the number of the instance.
func hostHint(v string) string {
	_, err := netip.ParseAddrPort(v)
	host, port, found := strings.Cut(v, ":")
	switch {
	case err == nil, found && host != "" && strings.Trim(port, "0123456789") == "" && port != "":
		return "The port is set by backend_portN."
	case strings.HasPrefix(v, "["):
		return "An IPv6 address is written without brackets."
	case strings.Contains(v, "://"):
		return "Write the host name alone; the port is set by backend_portN."
	case strings.HasPrefix(v, "/"):
		return "Heartbeats go by TCP: a Unix socket is no way to an instance."
	case strings.Contains(v, ","):
		return "Each instance has a number of its own: backend_host0, backend_host1."
	}
	return lineHint(v)
}
