package event

// The log's subscriber: what of the events is written, and how often. Run by whoever emits; the
// logger does not block.

import (
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

// repeatAfter is how often what lasts is logged again.
const repeatAfter = time.Minute

// maxRepeated bounds the texts that are remembered of an instance.
const maxRepeated = 16

type logWriter struct {
	log   *cmlog.Logger
	limit *cmlog.Limiter
	now   clock.Clock
	told  map[int]map[string]clock.Mono // by number of the instance: what lasts, and when it was told; of the hub
}

// Log is a subscriber that writes the log; limit is of the same log.
func Log(log *cmlog.Logger, limit *cmlog.Limiter, now clock.Clock) func(Event) {
	return (&logWriter{log: log, limit: limit, now: now, told: map[int]map[string]clock.Mono{}}).take
}

func (w *logWriter) take(e Event) {
	switch e := e.(type) {
	case PresenceChanged:
		return
	case Established:
		delete(w.told, e.Number)
	}
	if !w.log.Wants(e.Level()) {
		return
	}
	m := cmlog.Message{Level: e.Level(), Text: e.Text()}
	if l, is := e.(lasting); is && w.again(l.instance().Number, m.Text) {
		return
	}
	if x, is := e.(explained); is {
		m.Detail, m.Hint = x.Explain(w.log.Wants(cmlog.DEBUG))
	}
	if p, is := e.(peerMade); is {
		w.limit.Log(p.Kind(), m.Level, "%s", m.Text)
		return
	}
	w.log.Message(m)
}

// again tells whether a text was told within the last minute.
func (w *logWriter) again(instance int, text string) bool {
	now, told := w.now(), w.told[instance]
	if last, is := told[text]; is && now.Sub(last) < repeatAfter {
		return true
	}
	if told == nil || len(told) >= maxRepeated {
		told = map[string]clock.Mono{}
		w.told[instance] = told
	}
	told[text] = now
	return false
}
