package conf

// The syntax of conmgr.conf: one `name = value` a line. Pure functions, nothing blocks.

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// line is what one line of the file says.
type line struct {
	name   string // as written; "" of an empty line or a comment
	value  string
	quoted bool
}

// parseLine takes a line without its line end apart. The error is a text without position.
func parseLine(s string) (l line, err error) {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return l, fmt.Errorf("the line is not valid UTF-8 text")
	}
	s = trimSpace(s)
	if s == "" || s[0] == '#' {
		return l, nil
	}
	n := 0
	for n < len(s) && isNameByte(s[n]) {
		n++
	}
	if n == 0 || s[0] >= '0' && s[0] <= '9' {
		return l, fmt.Errorf("syntax error at or near %q: a parameter name is expected", firstToken(s))
	}
	l.name, s = s[:n], s[n:]
	rest := trimSpace(s)
	if strings.HasPrefix(rest, "=") {
		rest = trimSpace(rest[1:])
		if strings.HasPrefix(rest, "=") {
			return l, fmt.Errorf("syntax error at or near %q: one \"=\" is expected", firstToken(rest))
		}
	} else if rest != "" && len(rest) == len(s) && rest[0] != '\'' && rest[0] != '"' && rest[0] != '#' {
		return l, fmt.Errorf("syntax error at or near %q: \"=\" is expected after the name", firstToken(s))
	}
	if rest == "" || rest[0] == '#' {
		return l, fmt.Errorf("parameter %q has no value", l.name)
	}
	l.value, l.quoted, rest, err = scanValue(rest)
	if err != nil {
		return l, fmt.Errorf("%w for parameter %q", err, l.name)
	}
	if !l.quoted && strings.ContainsFunc(l.value, isTypographic) {
		return l, fmt.Errorf("the value of parameter %q has typographic quotes", l.name)
	}
	if rest = trimSpace(rest); rest != "" && rest[0] != '#' {
		err = fmt.Errorf("syntax error at or near %q after the value of parameter %q", firstToken(rest), l.name)
		if !l.quoted {
			err = fmt.Errorf("%w: a value with spaces or quotes is written in single quotes", err)
		}
		return l, err
	}
	for i := 0; i < len(l.value); i++ {
		if l.value[i] < ' ' || l.value[i] == 0x7f {
			return l, fmt.Errorf("the value of parameter %q contains a control character", l.name)
		}
	}
	if !utf8.ValidString(l.value) { // by an escape
		return l, fmt.Errorf("the value of parameter %q is not valid UTF-8 text", l.name)
	}
	return l, nil
}

// scanValue splits the value off s, which is not empty.
func scanValue(s string) (value string, quoted bool, rest string, err error) {
	q := s[0]
	if q != '\'' && q != '"' {
		n := strings.IndexAny(s, " \t\v\f#'\"")
		if n < 0 {
			n = len(s)
		}
		return s[:n], false, s[n:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case q == '\'' && s[i] == '\\' && i+1 < len(s):
			c, n := unescape(s[i+1:])
			b.WriteByte(c)
			i += n
		case s[i] == q && i+1 < len(s) && s[i+1] == q: // doubled
			b.WriteByte(q)
			i++
		case s[i] == q:
			return b.String(), true, s[i+1:], nil
		case q == '"' && s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			b.WriteByte(s[i+1])
			i++
		default:
			b.WriteByte(s[i])
		}
	}
	return "", true, "", fmt.Errorf("unterminated quoted value")
}

// unescape is what stands after a backslash within single quotes, and how long that is: as in
// postgresql.conf.
func unescape(s string) (c byte, n int) {
	switch s[0] {
	case 'b':
		return '\b', 1
	case 'f':
		return '\f', 1
	case 'n':
		return '\n', 1
	case 'r':
		return '\r', 1
	case 't':
		return '\t', 1
	}
	for n < len(s) && n < 3 && s[n] >= '0' && s[n] <= '7' {
		c = c<<3 + s[n] - '0'
		n++
	}
	if n == 0 {
		return s[0], 1
	}
	return c, n
}

// splitLines cuts a file into lines; CRLF and a missing newline at the end are fine.
func splitLines(data []byte) []string {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	lines := strings.Split(string(data), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Quote writes a value as conmgr.conf wants it.
func Quote(s string) string {
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(s) + "'"
}

func trimSpace(s string) string { return strings.Trim(s, " \t\v\f\r") }

func isNameByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// firstToken is the part of a bad line that a message shows.
func firstToken(s string) string {
	if n := strings.IndexAny(s, " \t\v\f"); n > 0 {
		s = s[:n]
	}
	return Clip(s)
}

// Clip keeps what goes into a message short.
func Clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	n := most
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
