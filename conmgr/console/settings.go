package console

// SET and RESET. Drivers and poolers send them of their own accord, and expect no error: what means
// nothing here is taken and does nothing. Parsing is pure; the rest is run by the session's goroutine.

import (
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/internal/duration"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// setting is what SET and RESET name. Without a name it is one of the forms that name none, such as
// SET TRANSACTION.
type setting struct {
	name     string // in lower case; "all" of RESET ALL
	value    string
	standard bool // TO DEFAULT, or RESET
}

func badSetting(source string) error {
	return &backend.Error{Code: cm.SyntaxError, Text: "syntax error in " + conf.Clip(strings.ToValidUTF8(source, "?")), Hint: Hint}
}

// parseSet takes the whole statement.
func parseSet(t []token, source string) (statement, error) {
	st, begin := statement{verb: set}, t[0].pos
	t = t[1:]
	for _, k := range t {
		if k.kind == broken {
			return st, badSetting(source)
		}
	}
	if len(t) > 1 && (t[0].isWord("SESSION") || t[0].isWord("LOCAL")) {
		t = t[1:]
	}
	name, rest := settingName(t)
	switch {
	case len(t) == 0 || name == "":
		return st, badSetting(source)
	case len(rest) < 2 || !rest[0].isWord("TO") && !rest[0].isSymbol("="):
		return st, unnamedSetting(t, source) // TIME ZONE 'UTC', TRANSACTION ..., NAMES 'UTF8'
	}
	st.set = setting{name: name, value: rest[1].text, standard: rest[1].isWord("DEFAULT")}
	if len(rest) > 2 { // a list, a sign, or a number with its unit; only SET of our own names looks at it
		st.set.value = strings.TrimSpace(source[rest[1].pos-begin:])
	}
	return st, nil
}

// unnamedSetting: some forms of SET name no setting.
func unnamedSetting(t []token, source string) error {
	for _, word := range []string{"TIME", "TRANSACTION", "NAMES", "CHARACTERISTICS", "CONSTRAINTS", "ROLE", "AUTHORIZATION", "SCHEMA",
		"XML", "SESSION"} {
		if t[0].isWord(word) && len(t) > 1 {
			return nil
		}
	}
	return badSetting(source)
}

// settingName takes a name, which may have a prefix.
func settingName(t []token) (name string, rest []token) {
	for len(t) > 0 && (t[0].kind == word || t[0].kind == identifier) {
		name += strings.ToLower(t[0].text)
		if t = t[1:]; len(t) == 0 || !t[0].isSymbol(".") {
			return name, t
		}
		name, t = name+".", t[1:]
	}
	return "", t
}

// parseReset takes what follows RESET.
func parseReset(t []token, source string) (statement, error) {
	name, rest := settingName(t)
	if name == "" || len(rest) > 0 {
		return statement{}, badSetting(source)
	}
	return statement{verb: reset, set: setting{name: name, standard: true}}, nil
}

// ownPrefix is that of settings that mean something here.
const ownPrefix = "conmgr."

// change does what SET and RESET say. The announcement, if it is not nil, goes before the answer.
func (s *session) change(c setting) (announced []byte, err error) {
	switch {
	case c.name == "all":
		s.wait = s.firstWait
		return s.rename(s.firstName), nil
	case c.name == "application_name":
		name := s.firstName
		if !c.standard {
			name = backend.ApplicationName(c.value)
		}
		return s.rename(name), nil
	case c.name == cm.WaitSetting && c.standard:
		s.wait = s.firstWait
	case c.name == cm.WaitSetting:
		d, err := duration.Parse(c.value, 0, duration.Most)
		if err != nil {
			return nil, &backend.Error{Code: cm.InvalidParameterValue, Text: "invalid value " + quoted(c.value) + " for " +
				quoted(c.name), Detail: "It is a time: " + err.Error() + "."}
		}
		s.wait = d
	case strings.HasPrefix(c.name, ownPrefix):
		return nil, &backend.Error{Code: cm.UndefinedObject, Text: "unrecognized configuration parameter " + quoted(c.name),
			Hint: "The one that can be set here is " + cm.WaitSetting + "; SHOW CONFIG tells those of conmgr.conf."}
	default:
		return nil, nil
	}
	p := milliseconds(cm.TargetWaitParameter, s.wait)
	return backend.ParameterStatus(p.Name, p.Value), nil
}

// rename changes the name of the application, and returns what tells it so.
func (s *session) rename(name string) []byte {
	if name == s.Application {
		return nil
	}
	s.service.registry.Rename(s, name)
	return backend.ParameterStatus("application_name", name)
}
