package console

// The statements of the console (docs/protocol.md 2.2): splitting a query string and parsing each
// statement. Pure functions.

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// verb says which statement it is.
type verb uint8

const (
	nothing verb = iota // an empty statement
	showTarget
	showInstances
	showApplications
	showWaiting
	showConfig
	showVersion
	showHelp
	showEvents
	forget
	drain
	undrain
	set
	reset
	showStats
	reload
)

// tag of its CommandComplete.
func (v verb) tag() string {
	switch v {
	case forget:
		return "FORGET"
	case drain:
		return "DRAIN"
	case undrain:
		return "UNDRAIN"
	case reload:
		return "RELOAD"
	case set:
		return "SET"
	case reset:
		return "RESET"
	}
	return "SHOW"
}

// statement is a parsed one.
type statement struct {
	verb     verb
	want     cm.Attribute // of showTarget
	except   []int
	notify   bool
	waits    bool // wait is given
	wait     time.Duration
	resume   *route.Token
	lag      *heartbeat.LagLimit // nil: that of conmgr.conf
	instance int                 // number, of forget, drain and undrain; -1: everything
	set      setting             // of set and reset
	after    uint64              // of showEvents
}

const Hint = "This is a Connection Manager and not a database. SHOW HELP tells its statements."

// catalogHint is for those who ask for catalogs, by a command of psql mostly.
const catalogHint = "This is a Connection Manager and not a database: psql's \\d, \\l and the like find nothing here, nor do tools " +
	"that look into catalogs. SHOW HELP tells its statements, among them SHOW INSTANCES and SHOW APPLICATIONS."

func notSupported(source string) error {
	return &backend.Error{Code: cm.FeatureNotSupported, Text: "statement is not supported: " + quoted(source), Hint: Hint}
}

// notKnown is for a statement that is none of these.
func notKnown(t []token, source string) error {
	for _, k := range t {
		if k.isName("pg_catalog") || k.isName("information_schema") {
			return &backend.Error{Code: cm.FeatureNotSupported, Text: "a Connection Manager has no system catalogs", Hint: catalogHint}
		}
	}
	return notSupported(source)
}

// quoted is what somebody has sent, for messages.
func quoted(s string) string { return strconv.Quote(conf.Clip(strings.ToValidUTF8(s, "?"))) }

type tokenKind uint8

const (
	word tokenKind = iota
	literal
	identifier
	number
	symbol
	broken // an unterminated quote or comment
)

type token struct {
	kind tokenKind
	text string // quotes removed
	pos  int
}

// tokenize never fails: what it does not know is a symbol, and no statement has one.
func tokenize(s string) (out []token) {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f':
			i++
		case strings.HasPrefix(s[i:], "--"):
			if n := strings.IndexAny(s[i:], "\r\n"); n >= 0 {
				i += n
			} else {
				i = len(s)
			}
		case strings.HasPrefix(s[i:], "/*"):
			n := commentEnd(s[i:])
			if n < 0 {
				return append(out, token{broken, "/*", i})
			}
			i += n
		case c == '\'' || c == '"':
			text, n := unquote(s[i:])
			if n < 0 {
				return append(out, token{broken, s[i : i+1], i})
			}
			kind := literal
			if c == '"' {
				kind = identifier
			}
			out = append(out, token{kind, text, i})
			i += n
		case isLetter(c):
			n := i + 1
			for n < len(s) && (isLetter(s[n]) || isDigit(s[n]) || s[n] == '-' && n+1 < len(s) && isLetter(s[n+1])) {
				n++
			}
			out = append(out, token{word, s[i:n], i})
			i = n
		case isDigit(c):
			n := i + 1
			for n < len(s) && isDigit(s[n]) {
				n++
			}
			out = append(out, token{number, s[i:n], i})
			i = n
		default:
			_, n := utf8.DecodeRuneInString(s[i:])
			out = append(out, token{symbol, s[i : i+n], i})
			i += n
		}
	}
	return out
}

// commentEnd returns the length of the comment that s begins with; comments nest.
func commentEnd(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// unquote returns the text between the quotes that s begins with, and the length with them; -1:
// unterminated.
func unquote(s string) (string, int) {
	q := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != q {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == q {
			b.WriteByte(q)
			i++
			continue
		}
		return b.String(), i + 1
	}
	return "", -1
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// parsed is one statement of a query string, or why it is none.
type parsed struct {
	statement
	err error
}

// parseStatements splits a query string at its semicolons. Empty statements are left out; a string
// with nothing else gives none.
func parseStatements(s string) (out []parsed) {
	tokens := tokenize(s)
	for len(tokens) > 0 {
		n := slices.IndexFunc(tokens, func(t token) bool { return t.kind == symbol && t.text == ";" })
		end := len(s)
		part := tokens
		if n >= 0 {
			part, end = tokens[:n], tokens[n].pos
			tokens = tokens[n+1:]
		} else {
			tokens = nil
		}
		if len(part) == 0 {
			continue
		}
		st, err := parseStatement(part, s[part[0].pos:end])
		out = append(out, parsed{st, err})
	}
	return out
}

// isWord: keywords in any case.
func (t token) isWord(w string) bool { return t.kind == word && strings.EqualFold(t.text, w) }

// isSymbol: no letter, digit or quote.
func (t token) isSymbol(s string) bool { return t.kind == symbol && t.text == s }

// isName: so is a name, unless it is in quotes.
func (t token) isName(n string) bool { return t.isWord(n) || t.kind == identifier && t.text == n }

var plainShows = []struct {
	name string
	verb verb
}{{"INSTANCES", showInstances}, {"APPLICATIONS", showApplications}, {"WAITING", showWaiting}, {"STATS", showStats}, {"CONFIG", showConfig}, {"VERSION", showVersion},
	{"HELP", showHelp}}

// parseStatement takes at least one token; source is the text for messages.
func parseStatement(t []token, source string) (statement, error) {
	switch {
	case t[0].isWord("FORGET") && len(t) == 1:
		return statement{verb: forget, instance: -1}, nil
	case t[0].isWord("FORGET"):
		return parseInstance(forget, t[1:], source)
	case t[0].isWord("DRAIN"):
		return parseInstance(drain, t[1:], source)
	case t[0].isWord("UNDRAIN"):
		return parseInstance(undrain, t[1:], source)
	case t[0].isWord("RELOAD") && len(t) == 1:
		return statement{verb: reload}, nil
	case t[0].isWord("SET"):
		return parseSet(t, source)
	case t[0].isWord("RESET"):
		return parseReset(t[1:], source)
	}
	if len(t) < 2 || !t[0].isWord("SHOW") {
		return statement{}, notKnown(t, source)
	}
	for _, p := range plainShows {
		if len(t) == 2 && t[1].isWord(p.name) {
			return statement{verb: p.verb}, nil
		}
	}
	if t[1].isWord("EVENTS") {
		return parseEvents(t[2:], source)
	}
	if !t[1].isWord("TARGET") || len(t) < 3 || t[2].kind > identifier {
		return statement{}, notSupported(source)
	}
	st := statement{verb: showTarget, want: cm.Attribute(strings.ToLower(t[2].text))}
	if !slices.Contains(cm.Attributes, st.want) {
		return statement{}, unknownAttribute(t[2].text)
	}
	return st, st.parseClauses(t[3:], source)
}

// parseEvents takes what follows EVENTS: nothing, or AFTER and a number.
func parseEvents(t []token, source string) (statement, error) {
	st := statement{verb: showEvents}
	if len(t) == 0 {
		return st, nil
	}
	if len(t) != 2 || !t[0].isWord("AFTER") || t[1].kind != number {
		return st, notSupported(source)
	}
	var err error
	if st.after, err = strconv.ParseUint(t[1].text, 10, 63); err != nil {
		return st, invalidValue("AFTER", t[1].text, "It is the number of an event.")
	}
	return st, nil
}

// parseInstance takes what follows the verb: INSTANCE and a number.
func parseInstance(v verb, t []token, source string) (statement, error) {
	if len(t) != 2 || !t[0].isWord("INSTANCE") || t[1].kind != number {
		return statement{}, notSupported(source)
	}
	n, err := instanceNumber(t[1].text)
	return statement{verb: v, instance: n}, err
}

func instanceNumber(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n > cm.MaxInstanceNumber {
		return 0, &backend.Error{Code: cm.InvalidParameterValue, Text: "invalid instance number " + conf.Clip(text),
			Detail: "Allowed are 0 to " + strconv.Itoa(cm.MaxInstanceNumber) + "."}
	}
	return n, nil
}

func unknownAttribute(name string) error {
	return &backend.Error{Code: cm.InvalidParameterValue, Text: "invalid target attribute " +
		quoted(name),
		Detail: "Allowed are " + cm.JoinAttributes(", ") + "."}
}
