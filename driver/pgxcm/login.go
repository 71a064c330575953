package pgxcm

// The login, from the answer to the StartupMessage up to ReadyForQuery. A server that has no room
// for this user says so after it has authenticated him. Another instance may do then: pgconn, which
// takes an authentication at any time of the login, does not notice that it comes from another one.
// Runs in pgx's goroutines, in Read; blocks on the network until the context, or connect_timeout,
// ends.

import (
	"encoding/binary"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// readLogin reads up to the end of a message, so that an error is seen before pgconn sees it.
func (c *conn) readLogin(b []byte) (n int, err error) {
	if rest := c.login.rest; rest > 0 && c.login.have == 0 {
		n, err = c.nc.Read(b[:min(uint32(len(b)), rest)])
		if n > 0 {
			return n, nil // an error comes again
		}
	} else {
		c.head, err = beginning(c.nc)
	}
	if (err != nil || elsewhere(c.head)) && c.another() {
		err = nil
	}
	n = copy(b, c.head)
	c.head = c.head[n:]
	return n, err
}

// another logs in on another instance instead. If there is none, everything is as before.
func (c *conn) another() bool {
	t := c.sql.Target()
	if c.ctx.Err() != nil || t.Direct() || c.config == nil || c.config.RequireAuth != "" ||
		c.config.ChannelBinding == "require" {
		return false // pgconn would take what the first server has proved for the second one's
	}
	old := c.sql
	c.except = append(c.except, t.Instance)
	if c.begin() != nil {
		return false
	}
	c.login = login{}
	c.router.forget(old)
	old.Close()
	return true
}

// login follows the server's messages up to ReadyForQuery, as long as connect_timeout holds.
type login struct {
	over   bool
	header [5]byte
	have   int    // bytes of the header
	rest   uint32 // bytes of the message that are still to come
	failed []byte // an ErrorResponse, as far as it has come
}

// refused: the server has answered that it does not let this user in, with these credentials, or
// not to this database.
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
