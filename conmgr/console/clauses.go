package console

// The clauses of SHOW TARGET: any of them, in any order, each at most once. Pure functions.

import (
	"strconv"
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/internal/duration"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// features are the clauses that 1.0 does not have, as clients are told: those that work.
var features = strings.Join([]string{cm.FeatureWait, cm.FeatureNotify, cm.FeatureResume, cm.FeatureLag}, ",")

// clauses by their words. parse takes what follows the word, and returns what it leaves; without an
// error of its own, errClause is that the statement is none.
var clauses = []struct {
	word  string
	parse func(st *statement, t []token) ([]token, error)
}{
	{"EXCEPT", (*statement).parseExcept},
	{"WAIT", (*statement).parseWait},
	{"LAG", (*statement).parseLag},
	{"RESUME", (*statement).parseResume},
	{"NOTIFY", func(st *statement, t []token) ([]token, error) { st.notify = true; return t, nil }},
}

// errClause: not what this clause has.
var errClause = &backend.Error{}

// parseClauses takes what follows the attribute; source is the text for messages.
func (st *statement) parseClauses(t []token, source string) error {
	given := make([]bool, len(clauses))
next:
	for len(t) > 0 {
		for i := range clauses {
			c := &clauses[i]
			if !t[0].isWord(c.word) {
				continue
			}
			if given[i] {
				return &backend.Error{Code: cm.InvalidParameterValue, Text: "clause " + c.word + " stands twice"}
			}
			given[i] = true
			var err error
			if t, err = c.parse(st, t[1:]); err == errClause {
				return notSupported(source)
			} else if err != nil {
				return err
			}
			continue next
		}
		return notSupported(source)
	}
	return nil
}

// parseExcept takes numbers of instances, separated by commas.
func (st *statement) parseExcept(t []token) ([]token, error) {
	for {
		if len(t) == 0 || t[0].kind != number {
			return nil, errClause
		}
		n, err := instanceNumber(t[0].text)
		if err != nil {
			return nil, err
		}
		st.except = append(st.except, n)
		if t = t[1:]; len(t) == 0 || t[0].kind != symbol || t[0].text != "," {
			return t, nil
		}
		t = t[1:]
	}
}

// parseWait takes a duration.
func (st *statement) parseWait(t []token) ([]token, error) {
	text, rest, ok := quantity(t)
	if !ok {
		return nil, errClause
	}
	d, err := duration.Parse(text, 0, duration.Most)
	if err != nil {
		return nil, invalidValue("WAIT", text, "It is a time: "+err.Error()+".")
	}
	st.waits, st.wait = true, d
	return rest, nil
}

// parseLag takes a size or a duration.
func (st *statement) parseLag(t []token) ([]token, error) {
	text, rest, ok := quantity(t)
	if !ok {
		return nil, errClause
	}
	limit, err := conf.ParseLag(text)
	if err != nil {
		return nil, invalidValue("LAG", text, "It is how far a standby may be behind: "+err.Error()+".")
	}
	st.lag = &limit
	return rest, nil
}

// quantity is a literal, or a number with or without a unit.
func quantity(t []token) (text string, rest []token, ok bool) {
	if len(t) == 0 || t[0].kind != literal && t[0].kind != number {
		return "", nil, false
	}
	text, rest = t[0].text, t[1:]
	if t[0].kind == number && len(rest) > 0 && rest[0].pos == t[0].pos+len(text) && rest[0].kind == word {
		text, rest = text+rest[0].text, rest[1:]
	}
	return text, rest, true
}

func invalidValue(clause, text, detail string) error {
	return &backend.Error{Code: cm.InvalidParameterValue, Text: "invalid value " + strconv.Quote(conf.Clip(
		strings.ToValidUTF8(text, "?"))) + " of the clause " + clause, Detail: detail}
}

// parseResume takes a token, as a literal.
func (st *statement) parseResume(t []token) ([]token, error) {
	if len(t) == 0 || t[0].kind != literal {
		return nil, errClause
	}
	k, ok := route.ParseToken(t[0].text)
	if !ok {
		return nil, invalidValue("RESUME", t[0].text, "It is what the column "+cm.ColResume+" has told.")
	}
	st.resume = &k
	return t[1:], nil
}
