// Package fakeconmgr is a Connection Manager for the tests of libpq/: it speaks docs/protocol.md
// part 2 and knows what a test has told it, so that a test decides which instance has which
// attribute, who is lost, and what conmgr does wrong.
//
// One goroutine per connection, and one that accepts; each blocks on its socket alone, and all end
// with Close.
package fakeconmgr

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgproto3/v2"
)

// Instance is a server that this conmgr knows.
type Instance struct {
	Name, Host, Hostaddr, Port string
	Attributes                 []string // what SHOW TARGET may ask for, next to any
}

// Application is a connection that is bound to an instance.
type Application struct {
	Name, User, Database, Target, Instance string
}

// Server is the conmgr.
type Server struct {
	listener net.Listener
	done     sync.WaitGroup

	mu        sync.Mutex
	changed   *sync.Cond
	instances []Instance
	conns     map[*session]struct{}
	frozen    bool
	silent    bool
	shutdown  Shutdown
	forgetful bool
	asked     []string
	started   []Application
	closed    bool
}

type session struct {
	net.Conn
	app Application
}

// Listen starts a conmgr on a free port of 127.0.0.1.
func Listen(instances ...Instance) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return Serve(l, instances...), nil
}

// Serve starts one on a listener, which it closes at its end.
func Serve(l net.Listener, instances ...Instance) *Server {
	s := &Server{listener: l, instances: instances, conns: map[*session]struct{}{}}
	s.changed = sync.NewCond(&s.mu)
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn := &session{Conn: c}
			s.mu.Lock()
			closed := s.closed
			if !closed {
				s.conns[conn] = struct{}{}
				s.done.Add(1)
			}
			s.mu.Unlock()
			if closed {
				c.Close()
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

// Port is where it listens.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	return port
}

// Close ends it as a kill does: no message to anyone.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	s.listener.Close()
	s.done.Wait()
}

// SetInstances replaces what is known.
func (s *Server) SetInstances(instances ...Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances = instances
}

// Freeze makes it accept connections and answer nothing; Freeze(false) lets it answer.
func (s *Server) Freeze(frozen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = frozen
	s.changed.Broadcast()
}

// FreezeAnswers makes it accept startups and answer no statement.
func (s *Server) FreezeAnswers(frozen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = frozen
	s.changed.Broadcast()
}

// ForgetExcept makes it answer as if there were no EXCEPT.
func (s *Server) ForgetExcept() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetful = true
}

// Shutdown is how far a conmgr has come with its end.
type Shutdown int

// Up is none; Smart, waiting for its applications, lets connections in and answers SHOW TARGET with
// 57P03; at the very end (Last) a connection gets no further than its startup.
const (
	Up Shutdown = iota
	Smart
	Last
)

// ShutDown takes it there.
func (s *Server) ShutDown(how Shutdown) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutdown = how
}

// Lose declares an instance lost: every application bound to it gets a FATAL, and its connection is
// closed. It returns their number.
func (s *Server) Lose(name, why string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	s.instances = slices.DeleteFunc(slices.Clone(s.instances), func(i Instance) bool { return i.Name == name })
	for c := range s.conns {
		if c.app.Instance == name {
			n++
			c.Write(encode(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01",
				Message: why}))
			c.Close()
		}
	}
	return n
}

// Applications lists the bound connections.
func (s *Server) Applications() []Application {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bound()
}

func (s *Server) bound() (list []Application) {
	for c := range s.conns {
		if c.app.Instance != "" {
			list = append(list, c.app)
		}
	}
	return list
}

// WaitBound waits until n connections are bound, for at most 10 seconds.
func (s *Server) WaitBound(n int) error {
	timer := time.AfterFunc(10*time.Second, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer timer.Stop()
	end := time.Now().Add(10 * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.bound()) != n {
		if time.Now().After(end) {
			return fmt.Errorf("%d bound connections, not %d", len(s.bound()), n)
		}
		s.changed.Wait()
	}
	return nil
}

// Asked lists the statements so far.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Started lists the applications that have connected so far.
func (s *Server) Started() []Application {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.started)
}

func (s *Server) serve(c *session) {
	defer s.done.Done()
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.changed.Broadcast()
		s.mu.Unlock()
	}()
	backend := pgproto3.NewBackend(pgproto3.NewChunkReader(c), c)
	if !s.startup(c, backend) {
		return
	}
	for {
		message, err := backend.Receive()
		if err != nil {
			return
		}
		switch m := message.(type) {
		case *pgproto3.Query:
			if s.wait(&s.silent) != nil {
				return
			}
			s.answer(c, m.String)
		default:
			return
		}
	}
}

// wait holds the caller while the server is frozen in one way or wholly.
func (s *Server) wait(frozen *bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for (s.frozen || *frozen) && !s.closed {
		s.changed.Wait()
	}
	if s.closed {
		return errors.New("closed")
	}
	return nil
}

func (s *Server) startup(c *session, backend *pgproto3.Backend) bool {
	for {
		message, err := backend.ReceiveStartupMessage()
		if err != nil || s.wait(&s.frozen) != nil {
			return false
		}
		switch m := message.(type) {
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			c.Write([]byte("N"))
		case *pgproto3.StartupMessage:
			s.mu.Lock()
			c.app = Application{Name: m.Parameters["application_name"], User: m.Parameters["user"],
				Database: m.Parameters["database"]}
			s.started = append(s.started, c.app)
			last := s.shutdown == Last
			s.mu.Unlock()
			if last {
				c.Write(encode(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P03",
					Message: shuttingDown}))
				return false
			}
			out := encode(&pgproto3.AuthenticationOk{},
				&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"},
				&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
				&pgproto3.ParameterStatus{Name: "conmgr.version", Value: "1.0"},
				&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: 1}, ready)
			c.Write(out)
			return true
		default:
			return false
		}
	}
}

const shuttingDown = "the Connection Manager is shutting down"

var ready = &pgproto3.ReadyForQuery{TxStatus: 'I'}

func encode(messages ...pgproto3.BackendMessage) (out []byte) {
	for _, m := range messages {
		var err error
		if out, err = m.Encode(out); err != nil {
			panic(err) // a message of ours
		}
	}
	return out
}

var showTarget = regexp.MustCompile(`^SHOW TARGET ([a-z-]+)(?: EXCEPT (.*))?$`)

func (s *Server) answer(c *session, query string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, query)
	m := showTarget.FindStringSubmatch(query)
	if m == nil {
		c.Write(encode(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "0A000", Message: "not supported"}, ready))
		return
	}
	if s.shutdown != Up {
		c.Write(encode(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "57P03",
			Message: shuttingDown}, ready))
		return
	}
	var except []string
	for _, e := range strings.Split(m[2], ", ") {
		except = append(except, strings.Trim(e, "'"))
	}
	if s.forgetful {
		except = nil
	}
	i := s.find(m[1], except)
	if i == nil {
		c.app.Target, c.app.Instance = "", ""
		c.Write(encode(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "08001",
			Message: "no target server address from Connection Manager", Detail: "no instance is " + m[1]}, ready))
		return
	}
	c.app.Target, c.app.Instance = m[1], i.Name
	var fields []pgproto3.FieldDescription
	for _, name := range []string{"instance", "host", "hostaddr", "port", "attributes"} {
		fields = append(fields, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: 25, DataTypeSize: -1,
			TypeModifier: -1})
	}
	row := [][]byte{[]byte(i.Name), []byte(i.Host), []byte(i.Hostaddr), []byte(i.Port),
		[]byte(strings.Join(i.Attributes, ","))}
	c.Write(encode(&pgproto3.RowDescription{Fields: fields}, &pgproto3.DataRow{Values: row},
		&pgproto3.CommandComplete{CommandTag: []byte("SHOW")}, ready))
	s.changed.Broadcast()
}

func (s *Server) find(attribute string, except []string) *Instance {
	wanted := attribute
	if attribute == "prefer-standby" {
		wanted = "standby"
	}
	for pass := 0; pass < 2; pass++ {
		for k := range s.instances {
			i := &s.instances[k]
			if !slices.Contains(except, i.Name) && (wanted == "any" || slices.Contains(i.Attributes, wanted)) {
				return i
			}
		}
		if attribute != "prefer-standby" {
			return nil
		}
		wanted = "any"
	}
	return nil
}
