// Package pqcm lets applications that use github.com/lib/pq through database/sql connect by way of
// a Connection Manager:
//
//	connector, err := pqcm.NewConnector("host=localhost port=27546 target_session_attrs=read-write dbname=app")
//	...
//	db := sql.OpenDB(connector)
//
// When the instance of a connection is lost, a query that is blocked on it returns at once, with an
// error in which errors.As finds a [*driver.LostError]. database/sql throws the connection away;
// the next one goes to an instance that has the attribute then. A statement that finds its
// connection lost before anything of it was sent is repeated by database/sql on another connection,
// without the application's noticing; in a transaction it returns sql/driver.ErrBadConn: the
// transaction has not been committed.
//
// The connections are lib/pq's own, in a wrapper ([Unwrap]): COPY, notifications and notices work as
// ever. When the instance is drained, database/sql closes them between transactions.
//
// Runs in the goroutines of database/sql; blocks on the network until the context, or
// connect_timeout, ends.
package pqcm

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"sync"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/driver"
)

// Connector makes connections for database/sql. It is safe for concurrent use.
type Connector struct {
	// AfterConnect is called with lib/pq's own connection, if it is not nil: for
	// pq.SetNoticeHandler and pq.SetNotificationHandler.
	AfterConnect func(ctx context.Context, conn sqldriver.Conn) error

	dialer *driver.Dialer
}

var _ sqldriver.Connector = (*Connector)(nil)

// NewConnector parses a connection string: keyword/value or URI, with lists of hosts, each a conmgr
// or a server, and all values of target_session_attrs. All other settings are lib/pq's; remember
// that its default for sslmode is require.
func NewConnector(dsn string) (*Connector, error) {
	config, err := driver.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	h := config.Hosts[0]
	if _, err := pqConnector(config.ConnString(h.Name(), h.Port)); err != nil {
		return nil, err
	}
	config.SSLMode = verifying(config)
	return &Connector{dialer: &driver.Dialer{Config: config, TLSRequired: config.SSLMode != "disable"}}, nil
}

// verifying is the value of sslmode that says what lib/pq verifies: with a root certificate,
// require is verify-ca.
func verifying(c *driver.Config) string {
	root := c.Settings["sslrootcert"]
	if root == "" {
		root = os.Getenv("PGSSLROOTCERT")
	}
	if c.SSLMode != "" && c.SSLMode != "require" || root == "" {
		return c.SSLMode
	}
	if _, err := os.Stat(root); err != nil {
		return c.SSLMode
	}
	return "verify-ca"
}

// pqConnector tells what lib/pq refuses by panic (PGSERVICE and others in the environment) as an
// error.
func pqConnector(dsn string) (c *pq.Connector, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("pq: %v", p)
		}
	}()
	return pq.NewConnector(dsn)
}

// Driver is lib/pq's.
func (c *Connector) Driver() sqldriver.Driver { return &pq.Driver{} }

// Connect makes a connection.
func (c *Connector) Connect(ctx context.Context) (sqldriver.Conn, error) {
	var conn sqldriver.Conn
	err := c.dialer.Walk(ctx, func(ctx context.Context, nc *driver.Conn, attribute driver.Attribute) error {
		var err error
		conn, err = c.login(ctx, nc, attribute)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// connString is for a session with a target, which may be labelled.
func connString(c driver.Config, t driver.Target) string {
	if t.Client != "" {
		own, given := c.Settings["options"]
		if !given {
			own = os.Getenv("PGOPTIONS")
		}
		c.Settings = maps.Clone(c.Settings)
		c.Settings["options"] = t.Options(own)
	}
	return c.ConnString(t.Host, fmt.Sprint(t.Port))
}

// login lets lib/pq log in on nc. Certificates and passwords are looked up by the instance's name.
func (c *Connector) login(ctx context.Context, nc *driver.Conn, attribute driver.Attribute) (sqldriver.Conn, error) {
	t := nc.Target()
	connector, err := pqConnector(connString(*c.dialer.Config, t))
	if err != nil {
		return nil, err
	}
	connector.Dialer(&dialer{conn: nc})
	// lib/pq does not heed the context after the dial: a deadline in the past ends the read that
	// the context's end finds under way.
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	conn, err := connector.Connect(ctx)
	if err == nil && t.Direct() {
		if err = check(ctx, conn, attribute); err != nil {
			conn.Close()
		}
	}
	if !stop() && err == nil {
		conn.Close()
		err = context.Cause(ctx)
	}
	var refused *pq.Error
	if errors.As(err, &refused) && driver.Elsewhere(string(refused.Code)) {
		err = driver.TryNext(err)
	}
	if err == nil && c.AfterConnect != nil {
		if err = c.AfterConnect(ctx, conn); err != nil {
			conn.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return newConn(conn, nc), nil
}

// check asks a server of the list for its attribute. A conmgr has done so for its instances.
func check(ctx context.Context, conn sqldriver.Conn, attribute driver.Attribute) error {
	var question, want string
	switch attribute {
	case driver.ReadWrite:
		question, want = "SHOW transaction_read_only", "off"
	case driver.ReadOnly:
		question, want = "SHOW transaction_read_only", "on"
	case driver.Primary:
		question, want = "SELECT pg_catalog.pg_is_in_recovery()::text", "false"
	case driver.Standby:
		question, want = "SELECT pg_catalog.pg_is_in_recovery()::text", "true"
	default:
		return nil
	}
	rows, err := conn.(sqldriver.QueryerContext).QueryContext(ctx, question, nil)
	if err != nil {
		return driver.TryNext(err)
	}
	defer rows.Close()
	value := make([]sqldriver.Value, 1)
	if err := rows.Next(value); err != nil {
		return driver.TryNext(err)
	}
	got := fmt.Sprint(value[0])
	if b, ok := value[0].([]byte); ok {
		got = string(b)
	}
	if got != want {
		return driver.TryNext(fmt.Errorf("the server is not %s: %s is %s", attribute, question, got))
	}
	return nil
}

// dialer gives lib/pq the connection that is there. Whatever lib/pq dials later is a cancel
// request: it goes to the same instance.
type dialer struct {
	mu    sync.Mutex
	conn  *driver.Conn
	given bool
}

var _ pq.DialerContext = (*dialer)(nil)

func (d *dialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	d.mu.Lock()
	first := !d.given
	d.given = true
	d.mu.Unlock()
	if first {
		return d.conn, nil
	}
	return d.conn.Again(ctx)
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}
