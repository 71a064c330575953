// Package hostile is what may sit in a conmgr's place and does what no conmgr does, which is why
// package scripted, a real one, cannot play it: it names whatever it is told to, hosts that are
// none and instances that were to be left out; it answers before it is asked, cuts rows short, or
// says nothing at all. Clients must get no harm of it. And it is a conmgr of any version: it
// announces, says and answers what the test wants, when the test wants it.
//
// One goroutine accepts, two serve each connection; they block on the network until Close.
package hostile

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// Row is an instance as it is named.
type Row struct{ Instance, Host, HostAddr, Port, Attributes, Client, Resume string }

// Mode is when it answers.
type Mode uint8

// The modes.
const (
	Asked  Mode = iota
	Early       // at once, and closes
	Abort       // the same, with a reset
	Mute        // never
	Error       // always that there is no target
	Babble      // never ends its startup
	Ramble      // never ends its answer
)

// Script is what it does.
type Script struct {
	Mode      Mode
	Rows      []Row                  // named one after the other, to who leaves those before out
	Forgetful bool                   // the first is named always
	Copies    int                    // of the row in an answer; 0: one, -1: none
	Short     int                    // bytes that each row lacks
	Columns   []string               // nil: as they are
	Heard     func(statement string) `json:"-"`
	Announced []backend.Parameter    // at the startup, beside those of every conmgr
	// Answer replaces the answer to a statement, unless it gives nil; it may take its time. left is
	// closed when the client has left, or is to. One without ReadyForQuery is the last.
	Answer func(statement string, left <-chan struct{}) []byte `json:"-"`
}

// Server is a running one.
type Server struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	script Script
	conns  map[net.Conn]chan struct{} // closed when it is at its end; nil when the server is closed
	asked  []string
	done   []string // of these, those that are answered
}

// New starts one on a free port of 127.0.0.1.
func New(s Script) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return Serve(l, s), nil
}

// Serve starts one on a listener, which it closes at its end.
func Serve(l net.Listener, script Script) *Server {
	s := &Server{listener: l, script: script, conns: map[net.Conn]chan struct{}{}}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			if s.conns == nil {
				conn.Close()
			} else {
				left := make(chan struct{})
				s.conns[conn] = left
				s.wg.Add(1)
				go s.serve(conn, left)
			}
			s.mu.Unlock()
		}
	}()
	return s
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Listener is where it accepts.
func (s *Server) Listener() net.Listener { return s.listener }

// Port of it.
func (s *Server) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Set changes what it does.
func (s *Server) Set(script Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// Asked are the statements so far.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Answered are those whose answer is written: what is said to a client afterwards comes behind it.
func (s *Server) Answered() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.done)
}

// Connections counts those that there are.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Say writes to all who are connected.
func (s *Server) Say(messages ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Write(bytes.Join(messages, nil))
	}
}

// Drop ends all connections, with a reset or without; who connects is let in.
func (s *Server) Drop(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		s.leaveLocked(conn, reset)
	}
}

func (s *Server) leave(conn net.Conn, reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(conn, reset)
}

func (s *Server) leaveLocked(conn net.Conn, reset bool) {
	if t, is := conn.(*net.TCPConn); is && reset {
		t.SetLinger(0)
	}
	conn.Close()
	if left, is := s.conns[conn]; is {
		close(left)
		delete(s.conns, conn)
	}
}

// statements gives what a client asks, until it leaves.
func (s *Server) statements(conn net.Conn) <-chan string {
	all := make(chan string, 100)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer close(all)
		defer s.leave(conn, false)
		for b := backend.New(conn); ; {
			switch m, err := b.Receive(); q := m.(type) {
			case *backend.Query:
				all <- q.String
			case *backend.Terminate:
				return
			default:
				if err != nil {
					return
				}
			}
		}
	}()
	return all
}

// Close ends it.
func (s *Server) Close() {
	s.listener.Close()
	s.mu.Lock()
	for conn := range s.conns {
		s.leaveLocked(conn, false)
	}
	s.conns = nil // at once: one that was accepted just before is closed, too
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) serve(conn net.Conn, left chan struct{}) {
	defer s.wg.Done()
	defer s.leave(conn, false)
	s.mu.Lock()
	script := s.script
	s.mu.Unlock()
	if script.Mode == Mute {
		io.Copy(io.Discard, conn)
		return
	}
	var st backend.Startup
	for {
		var err error
		if st, err = backend.ReadStartup(conn); err != nil || st.Kind == backend.WantsNothing {
			return
		}
		if st.Kind == backend.WantsSession {
			break
		}
		conn.Write([]byte("N"))
	}
	welcome := st.Greeting(1, make([]byte, st.SecretLength()), script.Announced...)
	switch script.Mode {
	case Babble:
		babble(conn)
		return
	case Early, Abort:
		conn.Write(append(welcome, script.answer("", left)...))
		if t, is := conn.(*net.TCPConn); is && script.Mode == Abort {
			t.SetLinger(0)
		}
		return
	}
	conn.Write(welcome)
	for statement := range s.statements(conn) {
		if script.Heard != nil {
			script.Heard(statement)
		}
		s.mu.Lock()
		s.asked = append(s.asked, statement)
		script = s.script
		s.mu.Unlock()
		if script.Mode == Ramble {
			babble(conn)
			return
		}
		answer := script.answer(statement, left)
		conn.Write(answer)
		s.mu.Lock()
		s.done = append(s.done, statement)
		s.mu.Unlock()
		if !bytes.Contains(answer, ready) {
			return // a FATAL
		}
	}
}

// babble writes ParameterStatus without end.
func babble(w io.Writer) {
	const text = "word\x00"
	value := strings.Repeat("word ", 2000) + "\x00"
	message := binary.BigEndian.AppendUint32([]byte{'S'}, uint32(4+len(text)+len(value)))
	message = append(append(message, text...), value...)
	for {
		if _, err := w.Write(message); err != nil {
			return
		}
	}
}

// None is the answer that there is no such instance.
func None() []byte {
	return append(backend.ErrorResponse("ERROR", cm.CannotEstablish, "no target", "", ""), ready...)
}

var ready = backend.Put(nil, &backend.ReadyForQuery{TxStatus: 'I'})

func (s *Script) answer(statement string, left <-chan struct{}) []byte {
	if s.Answer != nil {
		if answer := s.Answer(statement, left); answer != nil {
			return answer
		}
	}
	next := 0
	if _, except, has := strings.Cut(statement, " EXCEPT "); has && !s.Forgetful {
		next = strings.Count(except, ",") + 1
	}
	if s.Mode == Error || next >= len(s.Rows) {
		return None()
	}
	return s.Named(next)
}

// Named is the answer that names one of the rows.
func (s *Script) Named(number int) []byte {
	row := s.Rows[number]
	values := map[string]string{cm.ColInstance: row.Instance, cm.ColHost: row.Host, cm.ColHostAddr: row.HostAddr,
		cm.ColPort: row.Port, cm.ColAttributes: row.Attributes, cm.ColClient: row.Client, cm.ColResume: row.Resume}
	columns := s.Columns
	if columns == nil {
		columns = cm.TargetColumns
		if row.Resume != "" && !slices.Contains(columns, cm.ColResume) {
			columns = append(slices.Clone(columns), cm.ColResume)
		}
	}
	var fields backend.RowDescription
	var cells backend.DataRow
	for _, name := range columns {
		fields.Fields = append(fields.Fields, backend.FieldDescription{Name: []byte(name), DataTypeOID: 25,
			DataTypeSize: -1, TypeModifier: -1})
		cells.Values = append(cells.Values, []byte(values[name]))
	}
	out := backend.Put(nil, &fields)
	copies := s.Copies
	if copies == 0 {
		copies = 1
	}
	for range max(copies, 0) {
		message := backend.Put(nil, &cells)
		message = message[:len(message)-s.Short]
		binary.BigEndian.PutUint32(message[1:], uint32(len(message)-1))
		out = append(out, message...)
	}
	return append(backend.Put(out, &backend.CommandComplete{CommandTag: []byte("SHOW")}), ready...)
}
