package event

// An event as others see it: on the console, on the http page, and who is run by event_command.
// Pure.

import (
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

// Record is an event for programs. Its names are documented (conmgr.conf(5), event_command), and
// only appended to.
type Record struct {
	Number   uint64    `json:"number"` // rises, also over restarts
	Time     time.Time `json:"time"`
	Event    string    `json:"event"` // one of Names
	Level    string    `json:"level"`
	Instance *int      `json:"instance,omitempty"` // number of it; nil: it is about none
	Host     string    `json:"host,omitempty"`     // of the instance, as is the next
	Port     int       `json:"port,omitempty"`
	Reason   string    `json:"reason,omitempty"` // of a loss: one of heartbeat.LossReasons, or SupersededReason
	Text     string    `json:"text"`             // as in the log
	Detail   string    `json:"detail,omitempty"`
	Hint     string    `json:"hint,omitempty"`
	Repeated int       `json:"repeated,omitempty"` // so many more of the kind followed at once, and are not kept
}

// SupersededReason is the reason of a loss that no heartbeat has brought.
const SupersededReason = "superseded"

// Name is that of an event's type, for programs: attributes_changed.
func Name(e Event) string {
	var b strings.Builder
	name := []rune(reflect.TypeOf(e).Name())
	for i, r := range name {
		// A word begins, also behind an acronym.
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(name[i-1]) || i+1 < len(name) && unicode.IsLower(name[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// RecordOf is an event without number and time.
func RecordOf(e Event) Record {
	r := Record{Event: Name(e), Level: e.Level().String(), Text: e.Text()}
	if of, is := e.(interface{ instance() Instance }); is {
		in := of.instance()
		r.Instance, r.Host, r.Port = &in.Number, in.Host, in.Port
	}
	switch e := e.(type) {
	case Lost:
		r.Reason = e.Loss.Reason.String()
	case Superseded:
		r.Reason = SupersededReason
	}
	if x, is := e.(explained); is {
		r.Detail, r.Hint = x.Explain(false)
	}
	return r
}

// Kept tells whether an event is one that is worth to be remembered: those that the log has by
// default, and what is there of the set.
func Kept(e Event) bool {
	if _, is := e.(PresenceChanged); is {
		return true
	}
	return e.Level() > cmlog.INFO
}

// Repeats is by what an event is the same as another one, for who counts instead of keeping all:
// lasting ones by their text, until the instance is established again; "" otherwise.
func Repeats(e Event) (kind string, lasts bool) {
	if p, is := e.(peerMade); is {
		kind = p.Kind()
	}
	_, lasts = e.(lasting)
	return kind, lasts
}
