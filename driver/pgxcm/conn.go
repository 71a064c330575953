package pgxcm

// The connection that pgconn gets. Which server it leads to is known when one has answered the
// StartupMessage: the first Write, which is that message, blocks until then, or until the context
// or connect_timeout ends. An instance that refuses is left out of the next question to conmgr.
// Runs in pgx's goroutines; while a Write takes long, pgconn has another one in Read.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/driver"
)

type conn struct {
	router  *router
	attempt *attempt // set before the first Write
	entry   *entry
	ctx     context.Context // of the attempt, up to the end of the login
	config  *pgconn.Config  // pgconn's, for this attempt to connect alone, up to its end

	startup []byte // sent to each instance
	except  []int  // the instances that did not take the login

	// closed at the end of the first Write; sql, pooled and nc are changed afterwards only by a Read
	// during the login
	begun  chan struct{}
	once   sync.Once
	sql    *driver.Conn
	pooled *driver.Pooled // sql's
	nc     net.Conn       // sql, or TLS over it
	err    error
	head   []byte // of the server's answer, read but not delivered
	login  login

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
		c.startup = append([]byte(nil), b...)
		c.err = c.begin()
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
	if err := c.pooled.Use(); err != nil {
		return 0, err
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
	case c.ctx != nil && !c.login.over:
		n, err = c.readLogin(b)
	default:
		n, err = c.nc.Read(b)
	}
	if !c.login.over && c.login.sees(b[:n]) {
		c.nc.SetDeadline(time.Time{})
	}
	if c.config != nil && (c.login.over || c.login.refused()) {
		if c.login.refused() {
			c.attempt.refused(c.entry)
		}
		c.config = nil
		c.ctx, c.startup = nil, nil // it may be a request's, and the connection lives on
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

// begin goes through the instances of the host, or to the server that it is, until one does not
// refuse the startup.
func (c *conn) begin() error {
	r := c.router
	if err := zeroFree(c.config); err != nil {
		return err
	}
	var failed []error
	for _, host := range c.entry.hosts(c.attempt.waiting) {
		err := c.attempt.waiting.DialHost(c.ctx, host, r.cm.Attribute, c.use, c.except...)
		if err == nil {
			c.entry = &entry{name: c.entry.name, host: host, turn: c.entry.turn, variant: c.entry.variant}
			return nil
		}
		if failed = append(failed, err); c.ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// use sends the startup to a server, and takes it unless it refuses.
func (c *conn) use(ctx context.Context, sql *driver.Conn, _ driver.Attribute) error {
	r, t := c.router, sql.Target()
	own, err := r.pgconnConfig(t.Host, strconv.Itoa(t.Port))
	if err != nil {
		return err
	}
	variants := tlsVariants(own)
	if c.entry.variant >= len(variants) {
		return fmt.Errorf("sslmode stands for %d ways to connect, not for %d as before", len(variants),
			c.entry.variant+1)
	}
	nc := net.Conn(sql)
	if config := variants[c.entry.variant]; config != nil {
		if nc, err = startTLS(ctx, sql, config, r.direct); err != nil {
			return err
		}
	}
	head, err := exchange(ctx, nc, labelled(c.startup, t), t.Client != "")
	if err != nil {
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
	c.sql, c.nc, c.head, c.pooled = sql, nc, head, sql.Pool(c.retire)
	return nil
}

// retire closes a connection that nobody uses.
func (c *conn) retire() {
	c.nc.SetWriteDeadline(time.Now().Add(time.Second)) // a farewell need not be waited for
	c.nc.Write([]byte{'X', 0, 0, 0, 4})
	c.Close()
}

const maxRefusal = 64 * 1024 // an ErrorResponse that is longer is left to pgconn

// exchange sends the startup and returns what it has read of the answer; or an error, if that is a
// refusal for which another server may do, or the same one without a label.
func exchange(ctx context.Context, nc net.Conn, startup []byte, hasLabel bool) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	_, err := nc.Write(startup)
	var answer []byte
	if err == nil {
		answer, err = beginning(nc)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	switch refusal := refusalOf(answer); {
	case refusal == nil:
	case driver.Elsewhere(refusal.Code):
		return nil, driver.TryNext(pgconn.ErrorResponseToPgError(refusal))
	case hasLabel && refusal.Code == cm.ProtocolViolation:
		return nil, pgconn.ErrorResponseToPgError(refusal)
	}
	return answer, nil
}

// beginning reads the header of a message, and the whole message if that is an error.
func beginning(nc net.Conn) ([]byte, error) {
	b := make([]byte, 5)
	if _, err := io.ReadFull(nc, b); err != nil {
		return nil, err
	}
	if n := binary.BigEndian.Uint32(b[1:]); b[0] == 'E' && n >= 4 && n <= maxRefusal {
		b = append(b, make([]byte, n-4)...)
		if _, err := io.ReadFull(nc, b[5:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// refusalOf is nil if the message is not one.
func refusalOf(message []byte) *pgproto3.ErrorResponse {
	var refusal pgproto3.ErrorResponse // pgx's own, for its error
	if len(message) > 5 && message[0] == 'E' && refusal.Decode(message[5:]) == nil {
		return &refusal
	}
	return nil
}

// elsewhere tells whether the message is a refusal for which another server may do.
func elsewhere(message []byte) bool {
	refusal := refusalOf(message)
	return refusal != nil && driver.Elsewhere(refusal.Code)
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
