package pgxcm

// The connection that pgconn gets. Which server it leads to is known when one has answered the StartupMessage: the first Write, which is that
// message, blocks until then, or until the context or connect_timeout ends. An instance that refuses is left out of the next question to
// conmgr. Runs in pgx's goroutines; while a Write takes long, pgconn has another one in Read.

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

type conn struct {
	router *router
	entry  *entry
	ctx    context.Context // of the attempt, for the first Write
	config *pgconn.Config  // pgconn's, for this attempt to connect alone, up to its end

	begun chan struct{} // closed at the end of the first Write; sql, nc and err are not changed afterwards
	once  sync.Once
	sql   *driver.Conn
	nc    net.Conn // sql, or TLS over it
	err   error
	head  []byte // of the server's answer, read but not delivered
	login login

	broken broken

	mu sync.Mutex // what asks for addresses, or sets deadlines, may do so before there is an nc
}

var _ net.Conn = (*conn)(nil)

func newConn(ctx context.Context, r *router, e *entry) *conn {
	return &conn{router: r, entry: e, ctx: ctx, begun: make(chan struct{})}
}

func (c *conn) Write(b []byte) (int, error) {
	first := false
	c.once.Do(func() { first = true })
	if first {
		c.err = c.begin(b)
		c.ctx = nil // it may be a request's, and the connection lives on
		close(c.begun)
		if c.err != nil {
			return 0, c.err
		}
		return len(b), nil
	}
	<-c.begun
	if c.nc == nil {
		return 0, net.ErrClosed
	}
	return c.nc.Write(b)
}

func (c *conn) Read(b []byte) (n int, err error) {
	<-c.begun
	switch {
	case c.nc == nil:
		return 0, net.ErrClosed
	case len(c.head) > 0:
		n = copy(b, c.head)
		c.head = c.head[n:]
	default:
		n, err = c.nc.Read(b)
	}
	if !c.login.over && c.login.sees(b[:n]) {
		c.nc.SetDeadline(time.Time{})
	}
	if c.config != nil && (c.login.over || c.login.refused()) {
		if c.login.refused() {
			c.router.refused(c.config, c.entry)
		}
		c.config = nil
	}
	return n, c.broken.tell(err)
}

// Close is called after the first Write, or instead of it.
func (c *conn) Close() error {
	closed := false
	c.once.Do(func() { closed = true; close(c.begun) })
	if closed || c.nc == nil {
		return nil
	}
	c.router.forget(c.sql)
	return c.nc.Close()
}

// begin goes through the instances of the host, or to the server that it is, until one does not refuse the startup.
func (c *conn) begin(startup []byte) error {
	r := c.router
	if err := zeroFree(c.config); err != nil {
		return err
	}
	return r.dialer.DialHost(c.ctx, c.entry.host, r.cm.Attribute, func(ctx context.Context, sql *driver.Conn, _ driver.Attribute) error {
		t := sql.Target()
		own, err := r.pgconnConfig(t.Host, strconv.Itoa(t.Port))
		if err != nil {
			return err
		}
		variants := tlsVariants(own)
		if c.entry.variant >= len(variants) {
			return fmt.Errorf("sslmode stands for %d ways to connect, not for %d as before", len(variants), c.entry.variant+1)
		}
		nc := net.Conn(sql)
		if config := variants[c.entry.variant]; config != nil {
			if nc, err = startTLS(ctx, sql, config, r.direct); err != nil {
				return err
			}
		}
		if c.head, err = exchange(ctx, nc, startup); err != nil {
			return err
		}
		if c.config != nil {
			r.adopt(c.config, own, t)
		}
		if until, ok := ctx.Deadline(); ok { // until the end of the login
			nc.SetDeadline(until)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ctx.Err() != nil { // the deadline that pgconn sets at its end has found no nc
			return context.Cause(c.ctx)
		}
		r.remember(sql)
		c.sql, c.nc = sql, nc
		return nil
	})
}

const maxRefusal = 64 * 1024 // an ErrorResponse that is longer is left to pgconn

// exchange sends the startup and returns what it has read of the answer; or an error, if that is a refusal for which another server may do.
func exchange(ctx context.Context, nc net.Conn, startup []byte) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	answer := make([]byte, 5)
	_, err := nc.Write(startup)
	if err == nil {
		_, err = io.ReadFull(nc, answer)
	}
	if n := binary.BigEndian.Uint32(answer[1:]); err == nil && answer[0] == 'E' && n >= 4 && n <= maxRefusal {
		answer = append(answer, make([]byte, n-4)...)
		_, err = io.ReadFull(nc, answer[5:])
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	var refusal pgproto3.ErrorResponse // pgx's own, for its error
	if answer[0] == 'E' && len(answer) > 5 && refusal.Decode(answer[5:]) == nil && driver.Elsewhere(refusal.Code) {
		return nil, driver.TryNext(pgconn.ErrorResponseToPgError(&refusal))
	}
	return answer, nil
}

// login follows the server's messages up to ReadyForQuery, as long as connect_timeout holds.
type login struct {
	over   bool
	header [5]byte
	have   int    // bytes of the header
	rest   uint32 // bytes of the message that are still to come
	failed []byte // an ErrorResponse, as far as it has come
}

// refused: the server has answered that it does not let this user in, with these credentials, or not to this database.
func (l *login) refused() bool {
	if l.over || len(l.failed) == 0 || l.rest > 0 {
		return false
	}
	e, err := pgwire.ParseError(l.failed)
	return err == nil && driver.AnyServerRefuses(e.Code)
}

// sees is true once: at the end of the login.
func (l *login) sees(b []byte) bool {
	for len(b) > 0 {
		if l.rest > 0 {
			n := min(l.rest, uint32(len(b)))
			l.rest -= n
			if l.header[0] == 'E' && len(l.failed) < maxRefusal {
				l.failed = append(l.failed, b[:n]...)
			}
			b = b[n:]
			continue
		}
		n := copy(l.header[l.have:], b)
		l.have += n
		b = b[n:]
		if l.have < len(l.header) {
			continue
		}
		if l.header[0] == 'Z' {
			l.over = true
			return true
		}
		l.have = 0
		l.rest = max(4, binary.BigEndian.Uint32(l.header[1:])) - 4
	}
	return false
}

// SetDeadline is for pgconn's watching of the context, in a goroutine of its own.
func (c *conn) SetDeadline(t time.Time) error { return c.set(net.Conn.SetDeadline, t) }

func (c *conn) SetReadDeadline(t time.Time) error { return c.set(net.Conn.SetReadDeadline, t) }

func (c *conn) SetWriteDeadline(t time.Time) error { return c.set(net.Conn.SetWriteDeadline, t) }

func (c *conn) set(deadline func(net.Conn, time.Time) error, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nc == nil {
		return nil // begin has the same context
	}
	return deadline(c.nc, t)
}

func (c *conn) RemoteAddr() net.Addr { return c.addr(net.Conn.RemoteAddr) }

func (c *conn) LocalAddr() net.Addr { return c.addr(net.Conn.LocalAddr) }

// addr is asked for by a cancel request, too, which may come before there is anything to cancel.
func (c *conn) addr(of func(net.Conn) net.Addr) net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nc == nil {
		return &net.TCPAddr{}
	}
	return of(c.nc)
}
