package console

// What a bound session is told without being ended (conmgr.notice). The session's own goroutine
// sends it, after its answer, while it is answering; else whoever tells does, and never blocks.

import (
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

// news is what is to be told.
type news struct {
	mu        sync.Mutex
	noted     []byte // not sent yet; the last one counts
	answering bool   // the session's goroutine sends it when it has answered
}

// Note leaves a message that ends nothing.
func (s *session) Note(message []byte) {
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	s.news.noted = message
}

// take returns what is to be sent; that is the caller's then. answered: the session's goroutine asks,
// and when there is nothing more, it is not answering any longer.
func (n *news) take(answered bool) (message []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.answering && !answered {
		return nil
	}
	message, n.noted = n.noted, nil
	n.answering = answered && message != nil
	return message
}

// due tells whether there is something to be sent by whoever tells.
func (n *news) due() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.noted != nil && !n.answering
}

// busy and idle are called by the session's goroutine around each message of the client. idle sends
// what was noted meanwhile.
func (s *session) busy() {
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	s.news.answering = true
}

func (s *session) idle() error {
	if s.written != nil {
		s.written()
		s.written = nil
	}
	if s.waited {
		s.waited = false
		s.service.registry.Answered(s)
	}
	if s.asked && !s.arrived {
		s.arrived = true
		s.service.registry.Arrived(s)
	}
	for {
		message := s.news.take(true)
		if message == nil {
			return nil
		}
		if err := s.write(message); err != nil {
			return err
		}
	}
}

// Push sends what was noted, as far as the send buffer takes it. For the rest there is a goroutine.
func (s *session) Push() {
	for s.news.due() && s.wmu.TryLock() { // else who has the lock looks again
		var rest []byte
		if message := s.news.take(false); message != nil && s.ended.Load() == nil {
			rest = rawsys.SendNow(s.conn, message)
		}
		if len(rest) == 0 {
			s.release()
			continue
		}
		s.service.group.Go("notice", func() {
			s.conn.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := s.conn.Write(rest); err != nil {
				s.conn.Close() // half a message is sent
			}
			s.release()
			s.Push()
		})
		return
	}
}

// release gives up wmu. Whoever has ended the session meanwhile has found it taken.
func (s *session) release() {
	s.wmu.Unlock()
	if s.ended.Load() != nil && s.wmu.TryLock() {
		s.say()
		s.wmu.Unlock()
	}
}
