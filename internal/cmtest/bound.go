package cmtest

// Applications as conmgr sees them: a connection that has asked for a target, and waits for its
// loss.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

const maxMessage = 1 << 20

// Bound is a connection that is bound to an instance.
type Bound struct {
	Target map[string]string // the answer
	conn   net.Conn
	fe     *pgwire.Frontend
}

// Try runs a SHOW statement and returns a map a row.
func (c *Conmgr) Try(statement string) ([]map[string]string, error) {
	db := c.Console()
	defer db.Close()
	return rows(db, statement)
}

// Bind asks for a target and keeps the connection.
func (c *Conmgr) Bind(attribute string) *Bound {
	c.t.Helper()
	b, err := c.bind(attribute)
	if err != nil {
		c.t.Fatalf("SHOW TARGET %s: %v", attribute, err)
	}
	c.t.Cleanup(func() { b.conn.Close() })
	return b
}

func (c *Conmgr) bind(attribute string) (*Bound, error) {
	dial := (&net.Dialer{}).DialContext
	if c.host != nil {
		dial = c.host.Dialer().DialContext
	}
	conn, err := dial(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)))
	if err != nil {
		return nil, err
	}
	b := &Bound{conn: conn, fe: pgwire.NewFrontend(conn, conn, maxMessage, 0)}
	if err := b.ask(attribute); err != nil {
		conn.Close()
		return nil, err
	}
	return b, nil
}

func (b *Bound) ask(attribute string) error {
	_ = b.conn.SetDeadline(time.Now().Add(patience))
	err := b.fe.Startup(map[string]string{"user": "test", "database": "test", "application_name": "bound"})
	if err == nil {
		err = b.fe.Query("SHOW TARGET " + attribute)
	}
	var names []string
	for ready := 0; err == nil && ready < 2; {
		var kind byte
		var body []byte
		if kind, body, err = b.fe.Receive(); err != nil {
			return err
		}
		switch kind {
		case 'Z': // ReadyForQuery
			ready++
		case 'E':
			return answered(body)
		case 'T':
			names, err = pgwire.ParseColumns(body)
		case 'D':
			var values []*string
			if values, err = pgwire.ParseRow(body); err != nil {
				return err
			}
			b.Target = make(map[string]string)
			for i, v := range values {
				if v != nil {
					b.Target[names[i]] = *v
				}
			}
		}
	}
	_ = b.conn.SetDeadline(time.Time{})
	return err
}

// Wait waits for the end of the connection, and returns what conmgr said, nil if nothing came in
// time.
func (b *Bound) Wait(deadline time.Duration) error {
	_ = b.conn.SetReadDeadline(time.Now().Add(deadline))
	kind, body, err := b.fe.Receive()
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		return err
	}
	switch kind {
	case 'E':
		return answered(body)
	case 'S': // ParameterStatus
		return errors.New(strings.TrimSuffix(strings.Replace(string(body), "\x00", ": ", 1), "\x00"))
	}
	return fmt.Errorf("a message of type %q", kind)
}

// Notice waits for the next value of conmgr.notice.
func (b *Bound) Notice(deadline time.Duration) (string, error) {
	_ = b.conn.SetReadDeadline(time.Now().Add(deadline))
	for {
		kind, body, err := b.fe.Receive()
		switch {
		case err != nil:
			return "", err
		case kind == 'E':
			return "", answered(body)
		case kind != 'S': // ParameterStatus
			continue
		}
		name, value, err := pgwire.ParameterStatus(body)
		if err != nil || name == cm.NoticeParameter {
			return value, err
		}
	}
}

// answered is what an ErrorResponse says.
func answered(body []byte) error {
	e, err := pgwire.ParseError(body)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s %s: %s", e.Severity, e.Code, e.Message)
}

// Close closes the connection, as an application does at its end.
func (b *Bound) Close() { b.conn.Close() }
