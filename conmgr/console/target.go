package console

// SHOW TARGET: a session is bound to an instance, at once or after it has waited for one. Run by the
// session's goroutine, which blocks on the client while it waits: whoever has its answer ends the
// reading.

import (
	"strconv"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

func (s *session) bindTarget(st *statement) ([][]string, error) {
	w := &bind.Waiter{Member: s, Target: string(st.want), Wait: s.patience(st),
		Wake: func() { s.conn.SetReadDeadline(netio.LongPast) }}
	var left bind.LeftOut
	w.Choose = func(t *bind.Table, l bind.Load) int {
		s.Notified = st.notify
		if left == nil {
			left = t.LeaveOut(st.except)
		}
		return t.Choose(bind.Request{Want: st.want, Except: left.In(t), Lag: st.lag}, l)
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
	s.service.trace.Bound(&s.Seat, asked, a.Table, a.Index)
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
