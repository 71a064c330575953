package console

// Sessions that go on in the process that conmgr becomes: those that are bound to nothing, and wait for
// their client. So who has typed RELOAD sees what comes of it. The session's goroutine gives its socket
// up; leave and adopt are the main goroutine's, and leave waits for a moment.

import (
	"net"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// leaveTime is for goroutines that wait for their client to be woken.
const leaveTime = 250 * time.Millisecond

// rest is whether a session waits for its client, and is to leave.
type rest struct {
	mu    sync.Mutex
	is    bool
	gone  chan struct{}   // closed when it has decided; nil: it is not to leave
	asked chan struct{}   // closed when it is to leave; nil: nobody waits for that
	until <-chan struct{} // of the session: it reads nothing before that, or before it is to leave
}

// wait is before the session reads on when it has asked for a reload in place.
func (r *rest) wait() {
	if r.until == nil {
		return
	}
	r.mu.Lock()
	r.is, r.asked = true, make(chan struct{})
	asked := r.asked
	r.mu.Unlock()
	select {
	case <-r.until:
	case <-asked:
	}
	r.until = nil
}

// leaving are those that have left.
type leaving struct {
	mu   sync.Mutex
	open bool
	all  []handover.Session
}

// begin is before the session waits for its client.
func (r *rest) begin(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = nil
	if r.is = true; r.gone != nil {
		conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// end is after that. leaves: it was woken for that, if nothing was read.
func (r *rest) end() (leaves bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.is = false
	return r.gone != nil
}

// decided tells that it has left, or does not.
func (r *rest) decided() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone != nil {
		close(r.gone)
		r.gone = nil
	}
}

// leave wakes a session that waits for its client. The channel is closed when it has decided; nil: it
// does not wait.
func (s *session) leave() <-chan struct{} {
	s.rest.mu.Lock()
	defer s.rest.mu.Unlock()
	if !s.rest.is {
		return nil
	}
	s.rest.gone = make(chan struct{})
	s.conn.SetReadDeadline(time.Unix(1, 0))
	if s.rest.asked != nil {
		close(s.rest.asked)
		s.rest.asked = nil
	}
	return s.rest.gone
}

// giveUp hands the session's socket over, and tells whether it did: not of one that has more of a state
// than its wait and its name, or has said half a message.
func (s *session) giveUp(c *conversation) bool {
	defer s.rest.decided()
	l := &s.service.leaving
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open || s.input.taken > 0 || len(s.input.kept) > 0 || len(c.statements) > 0 || s.service.registry.IsBound(s) {
		return false
	}
	fd, err := netio.Hand(s.conn)
	if err != nil {
		return false
	}
	l.all = append(l.all, handover.Session{FD: fd, Since: s.Since, Name: s.Application, FirstName: s.firstName, Wait: s.wait,
		FirstWait: s.firstWait})
	return true
}

// Leave adds the sessions to a record that can go on. The others are as they were.
func (s *Service) Leave(r *handover.Record) {
	s.leaving.mu.Lock()
	s.leaving.open = true
	s.leaving.mu.Unlock()
	var all []<-chan struct{}
	for _, m := range s.registry.Members() {
		if se, is := m.(*session); is && !s.registry.IsBound(se) {
			if gone := se.leave(); gone != nil {
				all = append(all, gone)
			}
		}
	}
	late := time.After(leaveTime)
	for _, gone := range all {
		select {
		case <-gone:
		case <-late:
			late = time.After(0)
		}
	}
	s.leaving.mu.Lock()
	defer s.leaving.mu.Unlock()
	s.leaving.open = false
	r.Sessions = s.leaving.all
}

// Adopt goes on with the sessions of the process before.
func (s *Service) Adopt(r *handover.Record) {
	for _, left := range r.Sessions {
		conn, err := netio.Take(left.FD)
		if err != nil {
			continue
		}
		se := &session{service: s, conn: conn.(clientConn), Seat: listen.SeatOf(conn), started: true, wait: left.Wait,
			firstWait: left.FirstWait, firstName: left.FirstName}
		se.Since, se.Application, se.input.conn = left.Since, left.Name, conn
		refuse := func(code, text, hint string) { se.depart(se.refuse(backend.Fatal(code, text, "", hint))) }
		if s.door.HasRoom(se, conn, refuse) {
			se.asked, se.arrived = true, true
			s.registry.Arrived(se)
			c := &conversation{session: se, backend: backend.New(&se.input)}
			s.group.Go("session", func() { se.live(func() error { return se.serve(c) }) })
		}
	}
}
