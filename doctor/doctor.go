package doctor

// The findings, and the order of the checks.

import "fmt"

// Level of a finding.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Error   Level = "error"
)

func (l Level) rank() int {
	switch l {
	case Warning:
		return 1
	case Error:
		return 2
	}
	return 0
}

// Finding is one line.
type Finding struct {
	Check    string `json:"check"`
	Instance *int   `json:"instance"` // nil: of none
	Level    Level  `json:"level"`
	Text     string `json:"text"`
	Advice   string `json:"advice,omitempty"` // what to do
}

// findings gathers.
type findings struct {
	check    string
	instance *int
	all      []Finding
}

func (f *findings) add(l Level, text, advice string) {
	f.all = append(f.all, Finding{Check: f.check, Instance: f.instance, Level: l, Text: text, Advice: advice})
}

func (f *findings) ok(format string, args ...any) { f.add(OK, fmt.Sprintf(format, args...), "") }

func (f *findings) warn(advice, format string, args ...any) {
	f.add(Warning, fmt.Sprintf(format, args...), advice)
}

func (f *findings) fail(advice, format string, args ...any) {
	f.add(Error, fmt.Sprintf(format, args...), advice)
}

// Worst is the highest level.
func Worst(all []Finding) Level {
	worst := OK
	for _, f := range all {
		if f.Level.rank() > worst.rank() {
			worst = f.Level
		}
	}
	return worst
}

// Check is what the facts show.
func Check(facts *Facts) []Finding {
	f := &findings{}
	of := func(name string, instance *int, check func(f *findings)) {
		f.check, f.instance = name, instance
		check(f)
	}
	of("configuration", nil, facts.configuration)
	of("conmgr", nil, facts.conmgr)
	if facts.Settings == nil {
		return f.all
	}
	of("descriptors", nil, facts.descriptors)
	of("capability", nil, facts.capability)
	of("front", nil, facts.front)
	for i := range facts.Servers {
		s := &facts.Servers[i]
		n := &s.Number
		of("name", n, s.name)
		of("watchdog port", n, s.watchdogPort)
		of("SQL port", n, s.sqlPort)
		of("key", n, func(f *findings) { facts.key(s, f) })
		of("settings", n, func(f *findings) { facts.settings(s, f) })
		of("TCP_USER_TIMEOUT", n, func(f *findings) { facts.userTimeout(s, f) })
		of("address", n, func(f *findings) { facts.address(s, f) })
		of("other conmgr", n, func(f *findings) { facts.neighbours(s, f) })
		of("heartbeat", n, func(f *findings) { facts.heartbeat(s, f) })
		of("SQL", n, s.session)
	}
	of("clock", nil, facts.clock)
	of("cluster", nil, facts.cluster)
	of("primary", nil, facts.primary)
	return f.all
}
