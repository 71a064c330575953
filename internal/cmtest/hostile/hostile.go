// Package hostile is what may sit in a conmgr's place and does what no conmgr does, which is why
// package scripted, a real one, cannot play it: it names whatever it is told to, hosts that are
// none and instances that were to be left out; it answers before it is asked, cuts rows short, or
// says nothing at all. Clients must get no harm of it.
//
// One goroutine accepts, one serves each connection; they block on the network until Close.
package hostile

import (
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
type Row struct{ Instance, Host, HostAddr, Port, Attributes, Client string }

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
}

// Server is a running one.
type Server struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	script Script
	conns  map[net.Conn]struct{} // nil when it is closed
	asked  []string
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
	s := &Server{listener: l, script: script, conns: map[net.Conn]struct{}{}}
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
				s.conns[conn] = struct{}{}
				s.wg.Add(1)
				go s.serve(conn)
			}
			s.mu.Unlock()
		}
	}()
	return s
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

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

// Close ends it.
func (s *Server) Close() {
	s.listener.Close()
	s.mu.Lock()
	for conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) serve(conn net.Conn) {
	defer s.wg.Done()
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
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
	welcome := st.Greeting(1, make([]byte, st.SecretLength()))
	switch script.Mode {
	case Babble:
		babble(conn)
		return
	case Early, Abort:
		conn.Write(append(welcome, script.answer("")...))
		if t, is := conn.(*net.TCPConn); is && script.Mode == Abort {
			t.SetLinger(0)
		}
		return
	}
	conn.Write(welcome)
	for b := backend.New(conn); ; {
		m, err := b.Receive()
		if err != nil {
			return
		}
		if q, is := m.(*backend.Query); is {
			if script.Heard != nil {
				script.Heard(q.String)
			}
			s.mu.Lock()
			s.asked = append(s.asked, q.String)
			s.mu.Unlock()
			if script.Mode == Ramble {
				babble(conn)
				return
			}
			conn.Write(script.answer(q.String))
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

var ready = backend.Put(nil, &backend.ReadyForQuery{TxStatus: 'I'})

func (s *Script) answer(statement string) []byte {
	next := 0
	if _, except, has := strings.Cut(statement, " EXCEPT "); has && !s.Forgetful {
		next = strings.Count(except, ",") + 1
	}
	if s.Mode == Error || next >= len(s.Rows) {
		return append(backend.ErrorResponse("ERROR", cm.CannotEstablish, "no target", "", ""), ready...)
	}
	row := s.Rows[next]
	values := map[string]string{cm.ColInstance: row.Instance, cm.ColHost: row.Host, cm.ColHostAddr: row.HostAddr,
		cm.ColPort: row.Port, cm.ColAttributes: row.Attributes, cm.ColClient: row.Client}
	columns := s.Columns
	if columns == nil {
		columns = cm.TargetColumns
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
