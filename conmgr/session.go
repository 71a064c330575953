package conmgr

// One application connection: its life, its writes, and its end by somebody else. run is its
// goroutine and blocks on the client; end and finish are called by whoever tells of a loss or a
// shutdown, for thousands of sessions in a loop, and never block.

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgproto3/v2"
	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

var startupTime = 10 * time.Second // until ReadyForQuery; a variable for tests

const (
	writeTime   = 60 * time.Second // a client that does not take an answer for so long is gone
	drainTime   = time.Second      // for the client to close after a FATAL
	maxBuffered = 64 * 1024        // of an answer, before it is written
)

// errEnded: the session was told to end.
var errEnded = errors.New("the session has been ended")

// clientConn is a TCP connection, or one by a Unix socket.
type clientConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

type session struct {
	service *service
	conn    clientConn
	seat

	refusal []byte // the answer to its startup, if it may not connect; it is not registered then
	started bool   // startup is complete; of the session's goroutine

	ended atomic.Pointer[[]byte] // the last message, once somebody has ended the session

	wmu  sync.Mutex // held while writing
	said bool       // the last message is sent, or there was no room for it; guarded by wmu
}

// run serves the client until either side ends.
func (s *session) run() {
	defer s.service.registry.remove(s)
	defer s.conn.Close()
	s.service.traceConnection(&s.seat, "accepted")
	s.talk()
	s.service.traceConnection(&s.seat, "ended")
}

// talk is the whole conversation.
func (s *session) talk() {
	err := s.start()
	if err == nil {
		err = s.serve()
	}
	if errors.Is(err, errEnded) || s.ended.Load() != nil {
		s.drain()
	}
}

// start does what precedes the first statement.
func (s *session) start() error {
	limit := startupTime
	if s.refusal != nil {
		limit = refusedTime
	}
	s.conn.SetDeadline(time.Now().Add(limit))
	if s.ended.Load() != nil {
		return errEnded
	}
	var st startup
	for requests := 0; ; requests++ {
		var err error
		st, err = readStartup(s.conn)
		var refused *startupError
		if errors.As(err, &refused) {
			return s.refuse(fatal(refused.code, refused.text, "", ""))
		}
		if err != nil {
			return err
		}
		if st.kind == wantsNothing {
			s.discard()
			return io.EOF
		}
		if st.kind == wantsSession {
			break
		}
		if requests >= 2 { // one each of SSLRequest and GSSENCRequest
			return s.refuse(fatal(cm.ProtocolViolation, "too many requests for encryption", "", ""))
		}
		if err := s.write([]byte{'N'}); err != nil {
			return err
		}
	}
	if s.refusal != nil {
		return s.refuse(s.refusal)
	}
	s.application = st.application
	if s.service.registry.ending.Load() {
		s.service.logRejection(&s.seat)
		return s.refuse(fatal(cm.CannotConnectNow, shutdownText, "", ""))
	}
	secret := make([]byte, st.secretLength())
	rand.Read(secret)
	if err := s.write(st.greeting(s.service.nextID.Add(1), secret)); err != nil {
		return err
	}
	s.started = true
	s.conn.SetDeadline(time.Time{})
	if s.ended.Load() != nil { // its deadline was meant to stay
		s.conn.SetDeadline(time.Now().Add(drainTime))
		return errEnded
	}
	return nil
}

// serve reads messages until the client ends.
func (s *session) serve() error {
	c := &conversation{session: s, backend: pgproto3.NewBackend(&boundedReader{r: s.conn}, nil)}
	for {
		s.limitIdle() // before looking at ended: finish sets a deadline afterwards
		if s.ended.Load() != nil {
			return errEnded
		}
		m, err := receive(c.backend)
		var long tooLongError
		var bad *badMessageError
		switch {
		case errors.As(err, &long):
			return s.refuse(fatal(cm.ProgramLimitExceeded, err.Error(), "", consoleHint))
		case errors.As(err, &bad):
			return s.refuse(fatal(cm.ProtocolViolation, err.Error(), "", ""))
		case errors.Is(err, os.ErrDeadlineExceeded) && s.ended.Load() == nil:
			return s.refuse(fatal(cm.IdleSessionTimeout, "terminating connection due to idle timeout", "It was bound to no instance.",
				""))
		case err != nil:
			return err
		}
		if err := c.handle(m); err != nil {
			return err
		}
	}
}

// limitIdle bounds the wait for the next message of a connection that is bound to nothing.
func (s *session) limitIdle() {
	most := s.service.conf.IdleTimeout
	switch {
	case most <= 0:
	case s.service.registry.isBound(s):
		s.conn.SetReadDeadline(time.Time{})
	default:
		s.conn.SetReadDeadline(time.Now().Add(most))
	}
}

// badMessageError is a message that cannot be decoded.
type badMessageError struct{ text string }

func (e *badMessageError) Error() string { return e.text }

// receive is Backend.Receive, with errors told apart: pgproto3's decoders return errors without a
// type, and some panic on short messages.
func receive(b *pgproto3.Backend) (m pgproto3.FrontendMessage, err error) {
	defer func() {
		if recover() != nil {
			m, err = nil, &badMessageError{"invalid message format"}
		}
	}()
	m, err = b.Receive()
	var ne net.Error
	var long tooLongError
	if err != nil && !errors.As(err, &ne) && !errors.As(err, &long) && !errors.Is(err, io.EOF) &&
		!errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) {
		err = &badMessageError{err.Error()}
	}
	return m, err
}

// write sends bytes to the client. The error is errEnded if the session was ended meanwhile; the
// last message is sent then.
func (s *session) write(p []byte) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.started {
		// before looking at ended: finish sets a shorter one afterwards
		s.conn.SetWriteDeadline(time.Now().Add(writeTime))
	}
	if s.ended.Load() != nil {
		s.say()
		return errEnded
	}
	_, err := s.conn.Write(p)
	if s.ended.Load() != nil {
		if err == nil {
			s.say()
		}
		s.said = true
		s.conn.CloseWrite()
		return errEnded
	}
	return err
}

// refuse ends the session with a message of its own.
func (s *session) refuse(message []byte) error {
	s.end(message)
	s.finish(time.Now().Add(drainTime))
	return errEnded
}

// end makes message the session's last one, and sends it if that is possible without waiting. The
// first call counts.
func (s *session) end(message []byte) {
	if !s.ended.CompareAndSwap(nil, &message) {
		return
	}
	if s.wmu.TryLock() { // else its goroutine is writing, and sends it afterwards
		s.say()
		s.wmu.Unlock()
	}
}

// say sends the last message, as far as the send buffer takes it. wmu is held.
func (s *session) say() {
	if s.said {
		return
	}
	s.said = true
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return
	}
	message := *s.ended.Load()
	raw.Control(func(fd uintptr) {
		for len(message) > 0 {
			n, err := rawsys.Send(int(fd), message) // never waits: Go's sockets are non-blocking
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return
			}
			message = message[n:]
		}
	})
}

// finish closes our direction after end, and gives the client until a time to close its own.
func (s *session) finish(until time.Time) {
	s.conn.SetDeadline(until)
	if s.wmu.TryLock() {
		if s.said {
			s.conn.CloseWrite()
		}
		s.wmu.Unlock()
	}
}

// drain ends a session that has a last message.
func (s *session) drain() {
	s.wmu.Lock()
	s.say()
	s.wmu.Unlock()
	s.discard()
}

// discard reads until the client closes: closing with unread bytes would send an RST, which
// destroys a message on its way.
func (s *session) discard() {
	s.conn.CloseWrite()
	s.conn.SetReadDeadline(time.Now().Add(drainTime))
	var buf [512]byte
	for {
		if _, err := s.conn.Read(buf[:]); err != nil {
			return
		}
	}
}
