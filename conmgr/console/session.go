package console

// One application connection: its life, its writes, and its end by somebody else. run is its
// goroutine and blocks on the client; end and finish are called by whoever tells of a loss or a
// shutdown, for thousands of sessions in a loop, and never block.

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/history"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/duration"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

// StartupTime is until ReadyForQuery.
const startupTime = 10 * time.Second

const (
	writeTime   = 60 * time.Second // a client that does not take an answer for so long is gone
	maxBuffered = 64 * 1024        // of an answer, before it is written
)

// errEnded: the session was told to end.
var errEnded = errors.New("the session has been ended")

// errSleeps: it goes on in another goroutine.
var errSleeps = errors.New("the session sleeps")

// errLeft: it goes on in the next process.
var errLeft = errors.New("the session has left")

// clientConn is a TCP connection, or one by a Unix socket.
type clientConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// Service is what sessions share.
type Service struct {
	conf     *conf.Current
	group    *group.Group
	board    *bind.Board
	registry *bind.Registry
	trace    *bind.Trace
	stats    *Stats
	door     *listen.Door
	history  *history.History
	now      func() heartbeat.Mono

	startupTime time.Duration
	mayForget   func(uid uint32) bool // may have conmgr forget what it knows, drain and reload
	reload      func() (answer Reloaded, written func(), ok bool)

	nextID  atomic.Uint32
	leaving leaving
}

// Options of a console; zero values are those of a running conmgr.
type Options struct {
	StartupTime time.Duration         // until ReadyForQuery
	MayForget   func(uid uint32) bool // who may have conmgr forget what it knows, and drain
	Stats       *Stats                // what SHOW STATS tells; nil: nothing was counted
	History     *history.History      // nil: none is kept
	// Reload reads conmgr.conf again; written is to be called after the answer. ok is false if conmgr ends.
	Reload func() (answer Reloaded, written func(), ok bool)
}

// New makes the console of a board.
func New(c *conf.Current, b *bind.Board, d *listen.Door, tr *bind.Trace, now func() heartbeat.Mono, o Options) *Service {
	s := &Service{conf: c, group: d.Group, board: b, registry: d.Registry, trace: tr, door: d, now: now,
		startupTime: o.StartupTime, mayForget: o.MayForget, stats: o.Stats, history: o.History, reload: o.Reload}
	if s.startupTime == 0 {
		s.startupTime = startupTime
	}
	if s.mayForget == nil {
		s.mayForget = func(uid uint32) bool { return isAdmin(c.Load(), uid) }
	}
	if s.stats == nil {
		s.stats = NewStats(c.Load())
	}
	return s
}

// Admit takes a new connection.
func (s *Service) Admit(conn net.Conn) {
	se := &session{service: s, conn: conn.(clientConn), Seat: listen.SeatOf(conn), wait: s.conf.Load().TargetWait}
	se.input.conn = conn
	refuse := func(code, text, hint string) {
		se.refusal = backend.Fatal(code, text, "", hint)
		se.depart(se.talk())
	}
	if s.door.HasRoom(se, conn, refuse) {
		s.group.Go("session", se.run)
	}
}

type session struct {
	service *Service
	conn    clientConn
	bind.Seat

	refusal []byte        // the answer to its startup, if it may not connect; it is not registered then
	started bool          // startup is complete; of the session's goroutine, as are the next
	wait    time.Duration // of its statements, if they do not say
	// what the startup has said: of wait, and of the application's name
	firstWait time.Duration
	firstName string
	announced []byte // goes before the next answer
	written   func() // after the next answer; nil: nothing
	waited    bool   // for the answer that is sent next
	asked     bool   // it has said something
	arrived   bool   // and has had an answer
	input     input

	rest  rest
	ended atomic.Pointer[[]byte] // the last message, once somebody has ended the session
	owed  atomic.Bool            // it is bound, and the answer that says so is not written

	wmu  sync.Mutex // held while writing
	said bool       // the last message is sent, or there was no room for it; guarded by wmu

	news news
}

// run serves the client until either side ends, or until the session sleeps.
func (s *session) run() {
	s.service.trace.Accepted(&s.Seat)
	s.live(s.talk)
}

// live is a part of the session's life, in a goroutine of its own: the last one, if it does not
// sleep then.
func (s *session) live(part func() error) {
	sleeps := false
	defer func() {
		if !sleeps {
			s.conn.Close()
			s.service.registry.Remove(s)
		}
	}()
	err := part()
	if sleeps = err == errSleeps; sleeps || err == errLeft {
		return
	}
	s.depart(err)
	s.service.trace.Ended(&s.Seat)
}

// depart is after the last of the conversation.
func (s *session) depart(err error) {
	if errors.Is(err, errEnded) || s.ended.Load() != nil {
		s.drain()
	}
}

// talk is the conversation from its beginning.
func (s *session) talk() error {
	if err := s.start(); err != nil {
		return err
	}
	return s.serve(&conversation{session: s, backend: backend.New(&s.input)})
}

// sleep waits for a bound client, who has seldom more to say: thousands do, so it does it in a new
// goroutine, whose stack is a quarter of one that has served a statement.
func (s *session) sleep(c *conversation) {
	s.service.group.Go("session", func() {
		s.input.first() // an error comes again
		s.live(func() error { return s.serveNext(c) })
	})
}

// start does what precedes the first statement.
func (s *session) start() error {
	limit := s.service.startupTime
	if s.refusal != nil {
		limit = listen.RefusedTime
	}
	s.conn.SetDeadline(time.Now().Add(limit))
	if s.ended.Load() != nil {
		return errEnded
	}
	var st backend.Startup
	for requests := 0; ; requests++ {
		var err error
		st, err = backend.ReadStartup(s.conn)
		var refused *backend.StartupError
		if errors.As(err, &refused) {
			return s.refuse(backend.Fatal(refused.Code, refused.Text, "", ""))
		}
		if err != nil {
			return err
		}
		if st.Kind == backend.WantsNothing {
			s.discard()
			return io.EOF
		}
		if st.Kind == backend.WantsSession {
			break
		}
		if requests >= 2 { // one each of SSLRequest and GSSENCRequest
			return s.refuse(backend.Fatal(cm.ProtocolViolation, "too many requests for encryption", "", ""))
		}
		if err := s.write([]byte{'N'}); err != nil {
			return err
		}
	}
	if s.refusal != nil {
		return s.refuse(s.refusal)
	}
	s.Application = st.Application
	if s.service.registry.IsEnding() {
		s.service.trace.Rejected(&s.Seat)
		return s.refuse(backend.Fatal(cm.CannotConnectNow, bind.ShutdownText, "", ""))
	}
	if err := s.greet(&st); err != nil {
		return err
	}
	s.started, s.firstWait, s.firstName = true, s.wait, s.Application
	s.conn.SetDeadline(time.Time{})
	if s.ended.Load() != nil { // its deadline was meant to stay
		s.conn.SetDeadline(time.Now().Add(bind.DrainTime))
		return errEnded
	}
	return nil
}

// greet ends the startup.
func (s *session) greet(st *backend.Startup) error {
	if text, err := s.ownWait(st); err != nil {
		s.write(st.Parameters()) // so that it knows who says so
		return s.refuse(backend.Fatal(cm.InvalidParameterValue, text, "It is a time: "+err.Error()+".", ""))
	}
	secret := make([]byte, st.SecretLength())
	rand.Read(secret)
	all := []backend.Parameter{{Name: cm.FeaturesParameter, Value: features}, milliseconds(cm.TargetWaitParameter, s.wait)}
	if grace := s.service.conf.Load().ApplicationGrace; grace > 0 {
		all = append(all, milliseconds(cm.GraceParameter, grace))
	}
	return s.write(st.Greeting(s.service.nextID.Add(1), secret, all...))
}

func milliseconds(name string, d time.Duration) backend.Parameter {
	return backend.Parameter{Name: name, Value: strconv.FormatInt(d.Milliseconds(), 10)}
}

// ownWait takes the client's own target_wait out of the options of its startup.
func (s *session) ownWait(st *backend.Startup) (text string, err error) {
	value, found, _ := pgwire.CutOption(st.Options, cm.WaitSetting)
	if !found {
		return "", nil
	}
	s.wait, err = duration.Parse(value, 0, duration.Most)
	return "invalid value " + strconv.Quote(conf.Clip(strings.ToValidUTF8(value, "?"))) + " for " +
		strconv.Quote(cm.WaitSetting) + " in options", err
}

// serve reads messages until the client ends.
func (s *session) serve(c *conversation) error {
	for {
		if err := s.idle(); err != nil {
			return err
		}
		bound := s.service.registry.IsBound(s)
		s.limitIdle(bound) // before looking at ended: finish sets a deadline afterwards
		if s.ended.Load() != nil {
			return errEnded
		}
		if bound {
			s.sleep(c)
			return errSleeps
		}
		if err := s.take(c); err != nil {
			return err
		}
	}
}

// serveNext serves a client who has said something, or whose connection has ended.
func (s *session) serveNext(c *conversation) error {
	if err := s.take(c); err != nil {
		return err
	}
	return s.serve(c)
}

// take serves the next message.
func (s *session) take(c *conversation) error {
	s.input.taken = 0
	s.rest.wait()
	s.rest.begin(s.conn)
	m, err := c.backend.Receive()
	leaves := s.rest.end()
	s.busy()
	if leaves {
		late := errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case !late:
			s.rest.decided()
		case s.giveUp(c):
			return errLeft
		case s.input.taken == 0 && s.ended.Load() == nil:
			return nil // it goes on as it was
		}
	}
	s.asked = true
	var long backend.TooLongError
	var bad *backend.BadMessageError
	switch {
	case errors.As(err, &long):
		return s.refuse(backend.Fatal(cm.ProgramLimitExceeded, err.Error(), "", Hint))
	case errors.As(err, &bad):
		return s.refuse(backend.Fatal(cm.ProtocolViolation, err.Error(), "", ""))
	case errors.Is(err, os.ErrDeadlineExceeded) && s.ended.Load() == nil:
		return s.refuse(backend.Fatal(cm.IdleSessionTimeout, "terminating connection due to idle timeout", "It was bound to no instance.",
			""))
	case err != nil:
		return err
	}
	return c.handle(m)
}

// limitIdle bounds the wait for the next message of a connection that is bound to nothing.
func (s *session) limitIdle(bound bool) {
	most := s.service.conf.Load().IdleTimeout
	switch {
	case most <= 0:
	case bound:
		s.conn.SetReadDeadline(time.Time{})
	default:
		s.conn.SetReadDeadline(time.Now().Add(most))
	}
}

// write sends bytes to the client. The error is errEnded if the session was ended meanwhile; the
// last message is sent then: in place of the bytes, but after an answer that is owed.
func (s *session) write(p []byte) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.started {
		// before looking at ended: finish sets a shorter one afterwards
		s.conn.SetWriteDeadline(time.Now().Add(writeTime))
	}
	owed := s.owed.Swap(false) // before looking at ended: End looks at it afterwards
	switch {
	case s.ended.Load() == nil:
	case owed && !s.said:
		s.conn.SetWriteDeadline(time.Now().Add(bind.DrainTime))
	default:
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
	s.End(message)
	s.Finish(time.Now().Add(bind.DrainTime))
	return errEnded
}

// End makes message the session's last one, and sends it if that is possible without waiting. The
// first call counts. An answer that is owed goes first: who has asked for a target, and is told of
// its loss only, would not know that he has had one, and what to ask for next.
func (s *session) End(message []byte) {
	if !s.ended.CompareAndSwap(nil, &message) || s.owed.Load() {
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
	rawsys.SendNow(s.conn, *s.ended.Load())
}

// Finish closes our direction after end, and gives the client until a time to close its own.
func (s *session) Finish(until time.Time) {
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
	s.conn.SetReadDeadline(time.Now().Add(bind.DrainTime))
	var buf [512]byte
	for {
		if _, err := s.conn.Read(buf[:]); err != nil {
			return
		}
	}
}
