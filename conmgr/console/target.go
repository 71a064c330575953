package console

// SHOW TARGET: a session is bound to an instance, at once or after it has waited for one. Run by the
// session's goroutine, which blocks on the client while it waits: whoever has its answer ends the
// reading.

import (
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/internal/duration"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

func (s *session) bindTarget(st *statement) ([][]string, error) {
	w := &bind.Waiter{Member: s, Target: string(st.want), Wait: s.patience(st),
		Wake:  func() { s.conn.SetReadDeadline(netio.LongPast) },
		Bound: func() { s.owed.Store(true) }}
	var left bind.LeftOut
	w.Choose = func(t *bind.Table, l bind.Load) (i int) {
		s.Notified = st.notify
		if left == nil {
			left = t.LeaveOut(st.except)
		}
		i, w.How = t.Pick(bind.Request{Want: st.want, Except: left.In(t), Lag: st.lag}, l)
		return i
	}
	var lost []byte
	if st.resume != nil {
		w.Resumes, w.Wait = true, time.Until(s.service.board.ResumeUntil())
		w.Choose = func(t *bind.Table, _ bind.Load) (i int) {
			s.Notified = st.notify
			i, w.Notice, lost = s.resume(st, t)
			return i
		}
	}
	a, err := s.seek(w)
	switch {
	case err != nil:
		return nil, err
	case a.Shutdown:
		s.service.trace.Rejected(&s.Seat)
		return nil, &backend.Error{Code: cm.CannotConnectNow, Text: bind.ShutdownText}
	case lost != nil:
		s.service.trace.NotResumed(&s.Seat, st.resume.Instance)
		return nil, s.refuse(lost)
	}
	asked := bind.Request{Want: st.want, Except: st.except, Lag: st.lag}
	s.service.trace.Bound(&s.Seat, asked, a.Table, a.Index, a.How)
	if a.Index < 0 {
		return nil, &backend.Error{Code: cm.CannotEstablish, Text: "no target server address from Connection Manager",
			Detail: "No instance has the attribute " + string(st.want) + ": " + a.Table.Describe(asked) + "."}
	}
	e := &a.Table.Entries[a.Index]
	return [][]string{{strconv.Itoa(e.Config.Number), e.Config.Name(), e.Address().String(), strconv.Itoa(e.Config.Port),
		e.Attributes.String(), e.Client, s.service.board.Token(a.Table, a.Index)}}, nil
}

// resume chooses by a token; notice is what is told first then, and lost what is told instead.
func (s *session) resume(st *statement, t *bind.Table) (i int, notice, lost []byte) {
	i, text, lost := s.service.board.Resume(t, *st.resume, st.want, time.Now())
	if text != "" && st.notify {
		notice = backend.ParameterStatus(cm.NoticeParameter, text)
	}
	return i, notice, lost
}

// patience is how long a statement waits.
func (s *session) patience(st *statement) time.Duration {
	if st.waits {
		return st.wait
	}
	return s.wait
}

// seek asks the registry. The error ends the session if it is errEnded, or one of the connection.
func (s *session) seek(w *bind.Waiter) (bind.Answer, error) {
	r, load := s.service.registry, s.service.board.Table.Load
	if w.Wait > 0 {
		s.conn.SetReadDeadline(time.Now().Add(w.Wait)) // first: Wake sets another one
	}
	a, waits := r.Seek(w, load)
	if waits {
		s.waited = true
		s.service.trace.Waits(&s.Seat, cm.Attribute(w.Target), w.Wait)
		err := s.input.await()
		if err == errTooMuch {
			err = s.refuse(backend.Fatal(cm.ProgramLimitExceeded, err.Error(), "", ""))
		}
		if err != nil {
			r.Abandon(w)
			return bind.Answer{}, err
		}
		a = r.Leave(w, load)
	}
	s.conn.SetReadDeadline(time.Time{})
	if a.Full == "" {
		return a, nil
	}
	s.service.trace.NoPlace(&s.Seat, a.Full)
	if waits { // it has no place among the connections any more
		return a, s.refuse(backend.Fatal(cm.TooManyConnections, a.Full, "", fullHint))
	}
	return a, &backend.Error{Code: cm.TooManyConnections, Text: a.Full, Hint: fullHint}
}

const fullHint = "Look at SHOW WAITING and SHOW APPLICATIONS, or raise max_waiting or max_connections in conmgr.conf."

// ---- the clauses: any of them, in any order, each at most once; pure ----

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
	sign := "" // of what is none: that is said of the value
	if len(t) > 1 && t[0].isSymbol("-") && t[1].kind == number {
		sign, t = "-", t[1:]
	}
	if len(t) == 0 || t[0].kind != literal && t[0].kind != number {
		return "", nil, false
	}
	text, rest = t[0].text, t[1:]
	if t[0].kind == number && len(rest) > 0 && rest[0].pos == t[0].pos+len(text) && rest[0].kind == word {
		text, rest = text+rest[0].text, rest[1:]
	}
	return sign + text, rest, true
}

func invalidValue(clause, text, detail string) error {
	return &backend.Error{Code: cm.InvalidParameterValue, Text: "invalid value " + quoted(text) + " of the clause " + clause, Detail: detail}
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
