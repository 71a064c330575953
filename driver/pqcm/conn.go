package pqcm

// lib/pq's connection as database/sql gets it: one whose instance is drained is not kept when it
// comes back, between transactions, and is closed at once if it is idle. Runs in the goroutines of
// database/sql, and that of a timer; blocks on the network as lib/pq does.

import (
	"context"
	sqldriver "database/sql/driver"
	"sync"

	"github.com/pgwatchdog/watchdog/driver"
)

// pqConn is what lib/pq's connection can do.
type pqConn interface {
	sqldriver.Conn
	sqldriver.ConnBeginTx
	sqldriver.ConnPrepareContext
	sqldriver.ExecerContext
	sqldriver.QueryerContext
	sqldriver.Pinger
	sqldriver.SessionResetter
	sqldriver.Validator
}

type conn struct {
	pqConn
	pooled  *driver.Pooled
	closing sync.Once
	closed  error
}

var (
	_ pqConn                      = (*conn)(nil)
	_ sqldriver.NamedValueChecker = (*conn)(nil)
)

func newConn(c sqldriver.Conn, nc *driver.Conn) sqldriver.Conn {
	w := &conn{pqConn: c.(pqConn)}
	w.pooled = nc.Pool(func() { w.Close() })
	return w
}

// Unwrap returns lib/pq's own connection of what sql.Conn.Raw gives, for lib/pq's functions that
// want one; nil, if that is no connection of this package.
func Unwrap(driverConn any) sqldriver.Conn {
	if c, is := driverConn.(*conn); is {
		return c.pqConn
	}
	return nil
}

// IsValid is asked by database/sql when it gets the connection back.
func (c *conn) IsValid() bool { return c.pqConn.IsValid() && c.pooled.Keep() }

// ResetSession is asked before somebody else gets it. One that is to be retired, and was given out
// just before that was told, is good for once more: database/sql tries three times only, and then
// tells the application.
func (c *conn) ResetSession(ctx context.Context) error {
	if c.pooled.Use() != nil {
		return sqldriver.ErrBadConn
	}
	return c.pqConn.ResetSession(ctx)
}

// Close may be called by database/sql while a drain closes it.
func (c *conn) Close() error {
	c.closing.Do(func() { c.closed = c.pqConn.Close() })
	return c.closed
}

// CheckNamedValue leaves it to lib/pq, in those versions that want to know.
func (c *conn) CheckNamedValue(v *sqldriver.NamedValue) error {
	if checker, is := c.pqConn.(sqldriver.NamedValueChecker); is {
		return checker.CheckNamedValue(v)
	}
	return sqldriver.ErrSkip
}
