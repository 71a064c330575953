package main

// Plain sessions: clients that do not know conmgr, from any loopback address, which stands for a
// client host. Used by the script's goroutine.

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// The client hosts of the demo: conmgr and the application run on the first.
const (
	clientHost = "127.0.0.1"
	otherHost  = "127.0.0.2"
)

type session struct {
	db   *sql.DB
	conn *sql.Conn
	pid  int
	from *localDialer
}

// openSession connects to a server from a loopback address.
func openSession(ctx context.Context, server *pgtest.Cluster, from, name string) (*session, error) {
	connector, err := pq.NewConnector(server.DSN() + " connect_timeout=10 application_name=" + name)
	if err != nil {
		return nil, err
	}
	s := &session{from: &localDialer{addr: net.ParseIP(from)}}
	connector.Dialer(s.from)
	s.db = sql.OpenDB(connector)
	if s.conn, err = s.db.Conn(ctx); err == nil {
		err = s.conn.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&s.pid)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("session from %s on %s: %w", from, server.Name, err)
	}
	return s, nil
}

// exec runs a statement. It is not given a context, for whose end lib/pq would ask a server that
// may be frozen: close ends it.
func (s *session) exec(statement string) error {
	_, err := s.conn.ExecContext(context.Background(), statement)
	return err
}

func (s *session) close() {
	s.from.close()
	if s.conn != nil {
		s.conn.Close()
	}
	s.db.Close()
}

// localDialer connects from a given address, and remembers the connections.
type localDialer struct {
	addr net.IP

	mu    sync.Mutex
	conns []net.Conn
}

var _ pq.DialerContext = (*localDialer)(nil)

func (d *localDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: d.addr}}
	c, err := dialer.DialContext(ctx, network, address)
	if err == nil {
		d.mu.Lock()
		d.conns = append(d.conns, c)
		d.mu.Unlock()
	}
	return c, err
}

func (d *localDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *localDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// close breaks the connections: whoever waits for an answer gets an error.
func (d *localDialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		c.Close()
	}
}
