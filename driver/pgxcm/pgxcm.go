// Package pgxcm lets applications that use github.com/jackc/pgx connect by way of a Connection
// Manager:
//
//	config, err := pgxcm.ParsePoolConfig("host=localhost port=27546 target_session_attrs=read-write dbname=app")
//	...
//	pool, err := pgxpool.NewWithConfig(ctx, config)
//
// and, with [ParseConfig], for pgx.ConnectConfig and stdlib.OpenDB.
//
// When the instance of a connection is lost, a query that is blocked on it returns at once, with an
// error in which errors.As finds a [*driver.LostError]; pgconn.SafeToRetry knows its answer, too.
// The pool throws the connection away; the next one goes to an instance that has the attribute
// then.
//
// TLS and passwords are as the connection string, the environment, and the password file say for
// the name of the instance. TLSConfig of the returned configuration is nil, and has to stay so: TLS
// is done below it. So is connect_timeout, which holds for each attempt to connect; ConnectTimeout,
// if the application sets it, holds for a host with all its instances. Config().Host and Port of a
// connection are the instance's.
//
// Runs in the goroutines of pgx; blocks on the network until the context, or connect_timeout, ends.
package pgxcm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgwatchdog/watchdog/driver"
)

// ParseConfig is as pgx.ParseConfig: each host of the list may be a conmgr or a server.
func ParseConfig(connString string) (*pgx.ConnConfig, error) {
	r, normal, err := newRouter(connString)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(normal)
	if err != nil {
		return nil, err
	}
	r.install(&config.Config)
	return config, nil
}

// ParsePoolConfig is as pgxpool.ParseConfig: each host of the list may be a conmgr or a server.
func ParsePoolConfig(connString string) (*pgxpool.Config, error) {
	r, normal, err := newRouter(connString)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(normal)
	if err != nil {
		return nil, err
	}
	r.install(&config.ConnConfig.Config)
	config.AfterConnect = func(_ context.Context, c *pgx.Conn) error {
		keep(c) // it is idle now, until ShouldPing is asked
		return nil
	}
	config.AfterRelease = keep
	// A connection that was lost, or retired, while nobody used it does not answer the ping, and so
	// the pool takes another one.
	config.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool {
		if c := unwrap(p.Conn.PgConn().Conn()); c != nil && (c.broken.seen() || !c.take()) {
			return true
		}
		w := Watch(p.Conn.PgConn())
		return w != nil && w.Err() != nil || p.IdleDuration > time.Second // the latter is pgxpool's default
	}
	return config, nil
}

// keep is false for a connection that the pool should close rather than keep.
func keep(conn *pgx.Conn) bool {
	c := unwrap(conn.PgConn().Conn())
	return c == nil || c.pooled.Keep()
}

// take is false for a connection that nobody should get: it is closed.
func (c *conn) take() bool {
	if c.pooled.Take() {
		return true
	}
	c.retire()
	return false
}

// Watch tells the loss of the connection's instance, also to an application that does not wait for
// an answer. It is nil if no conmgr named the instance.
func Watch(c *pgconn.PgConn) *driver.Watch {
	if c := unwrap(c.Conn()); c != nil {
		return c.sql.Watch()
	}
	return nil
}

// newRouter returns, beside the router, the connection string for pgx's own parser: one host, and a
// value of target_session_attrs that it knows.
func newRouter(connString string) (*router, string, error) {
	cm, err := driver.ParseConfig(connString)
	if err != nil {
		return nil, "", err
	}
	if service := cm.Settings["service"]; (service != "" || os.Getenv("PGSERVICE") != "") && !cm.HostsGiven {
		return nil, "", errors.New("a service does not tell the hosts of a Connection Manager: name them by \"host\" in the connection string")
	}
	h := cm.Hosts[0]
	normal := fmt.Sprintf("%s target_session_attrs=%s", cm.ConnString(h.Name(), h.Port), cm.Attribute)
	r := &router{cm: cm, conns: map[string]map[*driver.Conn]struct{}{}, passwords: map[string]bool{}}
	own, err := r.pgconnConfig(h.Name(), h.Port)
	if err != nil {
		return nil, "", err
	}
	r.passwords[own.Password] = true
	if err := zeroFree(own); err != nil { // of a service, too
		return nil, "", err
	}
	if own, err = r.pgconnConfig("localhost", h.Port); err != nil { // TLS is never for a Unix socket
		return nil, "", err
	}
	cm.SSLMode = verifying(own.TLSConfig, cm.SSLMode)
	variants := tlsVariants(own)
	r.variants = len(variants)
	tlsRequired := !slices.Contains(variants, nil)
	r.dialer = &driver.Dialer{Config: cm, TLSRequired: tlsRequired}
	return r, normal, nil
}

// pgconnConfig is what pgconn makes of the connection string for one host: password file,
// certificates, sslmode.
func (r *router) pgconnConfig(host, port string) (*pgconn.Config, error) {
	config, err := parseAll(r.cm, host, port)
	if err != nil {
		return nil, withoutSecrets(r.cm, host, port)
	}
	return &config.ConnConfig.Config, nil
}

// parseAll knows the settings of all layers.
func parseAll(cm *driver.Config, host, port string) (*pgxpool.Config, error) {
	return pgxpool.ParseConfig(cm.ConnString(host, port) + " target_session_attrs=any")
}

// withoutSecrets is the same error once more, of a connection string without passwords: the error
// quotes it, and what pgx blackens ends at the first quote of a password.
func withoutSecrets(cm *driver.Config, host, port string) error {
	settings := maps.Clone(cm.Settings)
	for k := range settings {
		if strings.Contains(k, "password") {
			settings[k] = "xxxxx"
		}
	}
	if _, err := parseAll(&driver.Config{Settings: settings}, host, port); err != nil {
		return err
	}
	return errors.New("cannot parse the connection string: its password does not fit")
}

// verifying is the value of sslmode that says what is verified, whatever it was that said it: the
// environment, a service, or a root certificate beside sslmode=require.
func verifying(c *tls.Config, sslmode string) string {
	switch {
	case c == nil:
		return sslmode
	case !c.InsecureSkipVerify:
		return "verify-full"
	case c.VerifyPeerCertificate != nil || c.VerifyConnection != nil:
		return "verify-ca"
	}
	return sslmode
}

// zeroFree looks at everything that becomes part of a StartupMessage, wherever it came from: the
// application may have set it, too.
func zeroFree(c *pgconn.Config) error {
	if c == nil {
		return nil
	}
	if err := errors.Join(driver.ZeroFree("user", c.User), driver.ZeroFree("dbname", c.Database),
		driver.ZeroFree("password", c.Password)); err != nil {
		return err
	}
	for name, value := range c.RuntimeParams {
		if err := driver.ZeroFree(name, value); err != nil {
			return err
		}
	}
	return nil
}

// tlsVariants are the attempts that sslmode stands for: prefer is TLS, then none; allow is none,
// then TLS.
func tlsVariants(c *pgconn.Config) []*tls.Config {
	variants := []*tls.Config{c.TLSConfig}
	for _, f := range c.Fallbacks {
		variants = append(variants, f.TLSConfig)
	}
	return variants
}

// startTLS does what pgconn would do after its dial, with the certificate's name being the
// instance's.
func startTLS(ctx context.Context, nc net.Conn, config *tls.Config, direct bool) (net.Conn, error) {
	if !direct {
		stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
		_, err := nc.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}) // SSLRequest
		answer := make([]byte, 1)
		if err == nil {
			_, err = io.ReadFull(nc, answer)
		}
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		if answer[0] != 'S' {
			return nil, errors.New("server refused TLS connection")
		}
	}
	t := tls.Client(nc, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

func portNumber(port string) uint16 {
	n, _ := strconv.ParseUint(port, 10, 16) // the parser has checked it
	return uint16(n)
}
