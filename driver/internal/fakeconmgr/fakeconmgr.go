// Package fakeconmgr is a conmgr for tests of the drivers: the application protocol
// (docs/protocol.md, part 2) as far as a driver uses it, without heartbeats. The test says what the
// instances are, and when one is lost.
//
// One goroutine accepts, one serves each connection; they block on the network until Close.
package fakeconmgr

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgproto3/v2"
)

// Instance is a row of conmgr.conf, and what the heartbeats say of it.
type Instance struct {
	Number     int
	Host       string
	HostAddr   string
	Port       int
	Attributes string // as SHOW TARGET answers: "primary,read-write"
}

// Server is a running conmgr.
type Server struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu        sync.Mutex
	instances []Instance
	conns     map[net.Conn]*session
	questions []string
	smart     bool // a smart shutdown is under way
	fatal     bool // the end of a shutdown is
	mute      bool
	full      bool // over max_connections
	deaf      bool // to EXCEPT
	hasty     bool // answers before it is asked, and closes
}

const shutdownText = "the Connection Manager is shutting down"

type session struct {
	application string
	instance    int // -1: unbound
}

// New starts a conmgr on a free loopback port.
func New(instances ...Instance) (*Server, error) {
	return Listen("tcp", "127.0.0.1:0", instances...)
}

// Listen starts a conmgr on an address, or on the path of a Unix-domain socket.
func Listen(network, address string, instances ...Instance) (*Server, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, instances: instances, conns: map[net.Conn]*session{}}
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

// Addr is host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Port is the port alone.
func (s *Server) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Set changes what is known of the instances.
func (s *Server) Set(instances ...Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances = instances
}

// SmartShutdown lets connections in, and answers SHOW TARGET with ERROR 57P03; what is bound
// remains.
func (s *Server) SmartShutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.smart = true
}

// Refuse makes every startup end with FATAL 57P03, as at the very end of a shutdown.
func (s *Server) Refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fatal = true
}

// Mute makes it accept connections and say nothing.
func (s *Server) Mute() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = true
}

// Full makes it close connections without a word, as over max_connections.
func (s *Server) Full() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = true
}

// Deaf makes it name instances that were to be left out.
func (s *Server) Deaf() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = true
}

// Hasty makes it answer all at once, before it is asked, and close: nobody can be told to have said
// it.
func (s *Server) Hasty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasty = true
}

// Bound counts the connections bound to an instance.
func (s *Server) Bound(instance int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.conns {
		if c.instance == instance {
			n++
		}
	}
	return n
}

// Connections counts all connections.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Applications are the application_names of the connections.
func (s *Server) Applications() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, c := range s.conns {
		names = append(names, c.application)
	}
	return names
}

// Questions are the statements received so far.
func (s *Server) Questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.questions)
}

// Lose declares an instance lost: the connections bound to it get the FATAL and are closed, and it
// is not named any more.
func (s *Server) Lose(instance int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances = slices.DeleteFunc(slices.Clone(s.instances), func(i Instance) bool { return i.Number == instance })
	for nc, c := range s.conns {
		if c.instance == instance {
			b, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01",
				Message: fmt.Sprintf("instance %d is lost: %s", instance, reason)}).Encode(nil)
			nc.Write(b)
			nc.Close()
		}
	}
}

// Close ends it without a word, as a crash does.
func (s *Server) Close() {
	s.listener.Close()
	s.mu.Lock()
	for nc := range s.conns {
		nc.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[nc] = &session{instance: -1}
		s.mu.Unlock()
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			s.serve(nc)
			nc.Close()
			s.mu.Lock()
			delete(s.conns, nc)
			s.mu.Unlock()
		}()
	}
}

func (s *Server) serve(nc net.Conn) {
	backend := pgproto3.NewBackend(pgproto3.NewChunkReader(nc), nc)
	s.mu.Lock()
	fatal, mute, hasty := s.fatal, s.mute, s.hasty
	full := s.full
	s.mu.Unlock()
	if full {
		return
	}
	for started := false; !started; {
		m, err := backend.ReceiveStartupMessage()
		if err != nil || mute {
			if mute {
				nc.Read(make([]byte, 1))
			}
			return
		}
		switch m := m.(type) {
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			nc.Write([]byte{'N'})
		case *pgproto3.StartupMessage:
			started = true
			s.mu.Lock()
			s.conns[nc].application = m.Parameters["application_name"]
			s.mu.Unlock()
		default:
			return
		}
	}
	if fatal {
		backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: shutdownText})
		return
	}
	greeting := []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"},
		&pgproto3.ParameterStatus{Name: "conmgr.version", Value: "1.0"},
		&pgproto3.BackendKeyData{}, &pgproto3.ReadyForQuery{TxStatus: 'I'}}
	if hasty {
		s.mu.Lock()
		send(nc, append(greeting, s.answer(s.conns[nc], "SHOW TARGET any")...)...)
		s.mu.Unlock()
		return
	}
	send(nc, greeting...)
	for {
		m, err := backend.Receive()
		if err != nil {
			return
		}
		query, ok := m.(*pgproto3.Query)
		if !ok {
			return
		}
		s.mu.Lock()
		s.questions = append(s.questions, query.String)
		send(nc, s.answer(s.conns[nc], query.String)...)
		s.mu.Unlock()
	}
}

func send(nc net.Conn, messages ...pgproto3.BackendMessage) {
	var b []byte
	for _, m := range messages {
		b, _ = m.Encode(b)
	}
	nc.Write(b)
}

// answer is called with mu held: a binding is not missed by Lose.
func (s *Server) answer(c *session, query string) []pgproto3.BackendMessage {
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	fail := func(code, message, detail string) []pgproto3.BackendMessage {
		return []pgproto3.BackendMessage{&pgproto3.ErrorResponse{Severity: "ERROR", Code: code, Message: message,
			Detail: detail}, ready}
	}
	rest, ok := strings.CutPrefix(query, "SHOW TARGET ")
	if !ok {
		return fail("0A000", "this is a Connection Manager and not a database", "")
	}
	if s.smart {
		return fail("57P03", shutdownText, "")
	}
	attribute, list, _ := strings.Cut(rest, " EXCEPT ")
	except := strings.Split(list, ", ")
	for _, wanted := range wishes(attribute) {
		for _, i := range s.instances {
			number := strconv.Itoa(i.Number)
			if slices.Contains(except, number) && !s.deaf || wanted != "any" &&
				!slices.Contains(strings.Split(i.Attributes, ","), wanted) {
				continue
			}
			c.instance = i.Number
			var columns []pgproto3.FieldDescription
			for _, name := range []string{"instance", "host", "hostaddr", "port", "attributes"} {
				columns = append(columns, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: 25,
					DataTypeSize: -1, TypeModifier: -1})
			}
			return []pgproto3.BackendMessage{
				&pgproto3.RowDescription{Fields: columns},
				&pgproto3.DataRow{Values: [][]byte{[]byte(number), []byte(i.Host), []byte(i.HostAddr),
					[]byte(strconv.Itoa(i.Port)), []byte(i.Attributes)}},
				&pgproto3.CommandComplete{CommandTag: []byte("SHOW")}, ready}
		}
	}
	return fail("08001", "no target server address from Connection Manager",
		fmt.Sprintf("%d instances are known", len(s.instances)))
}

func wishes(attribute string) []string {
	switch attribute {
	case "prefer-standby", "prefer-read":
		return []string{"standby", "any"}
	}
	return []string{attribute}
}
