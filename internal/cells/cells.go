// Package cells is text on a terminal: how many cells it takes, and how it is folded into lines.
// Pure. What it is given is printable: Printable makes it so.
package cells

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Printable keeps what others put into their names, application_name above all, from playing with
// the terminal.
func Printable(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// Width is the number of cells: two for a wide character, none for one that is set upon the one
// before.
func Width(s string) (n int) {
	for _, c := range s {
		n += of(c)
	}
	return n
}

func of(c rune) int {
	switch {
	case c < 0x300: // most of all
		return 1
	case unicode.In(c, unicode.Mn, unicode.Me), c >= 0x1160 && c <= 0x11ff: // and the later letters of a Hangul syllable
		return 0
	}
	switch width.LookupRune(c).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Fold is text in lines: the first one of so many cells, and the others. It is cut at a space, or
// within a word that is longer than a line.
func Fold(text string, first, others int) (lines []string) {
	rest, room := []rune(text), max(first, 2) // of which every character finds place
	for {
		full := 0 // runes that find room
		for n := 0; full < len(rest); full++ {
			if n += of(rest[full]); n > room {
				break
			}
		}
		if full == len(rest) {
			return append(lines, string(rest))
		}
		cut, skip := full, 0
		for k := full; k > 0; k-- {
			if rest[k] == ' ' {
				cut, skip = k, 1
				break
			}
		}
		lines = append(lines, string(rest[:cut]))
		rest, room = rest[cut+skip:], max(others, 2)
	}
}
