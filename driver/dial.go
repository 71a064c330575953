package driver

// The walk through the hosts of a connection string: each may be a conmgr or a server. Runs in the
// caller's goroutine, and blocks on the network until its context, or connect_timeout, ends.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// Dialer connects as a connection string says. It is safe for concurrent use.
type Dialer struct {
	Config *Config
	// TLSRequired says that the application demands TLS of its server (sslmode=require and
	// stronger). Then only hosts on a loopback address are asked whether they are a conmgr; others
	// are taken for servers, and nothing is sent to them in the clear.
	TLSRequired bool
}

// Dial returns a connection to the first host, or instance, that takes one. It does not log in:
// servers of the list are taken whatever their attribute is. Use [Dialer.Walk] to look at it.
func (d *Dialer) Dial(ctx context.Context) (*Conn, error) {
	var conn *Conn
	err := d.Walk(ctx, func(_ context.Context, c *Conn, _ Attribute) error {
		conn = c
		return nil
	})
	return conn, err
}

// Use logs in on a connection. It owns the connection if it returns nil; the walk closes it
// otherwise. An error marked by [TryNext], or of the network, leads to the next instance or host;
// any other ends the walk. The attribute has to be checked if the target is Direct. The context
// ends with the attempt.
type Use func(ctx context.Context, c *Conn, attribute Attribute) error

// Walk goes through the hosts in their order until use accepts a connection. As in libpq,
// prefer-standby goes through the list twice.
func (d *Dialer) Walk(ctx context.Context, use Use) error {
	attribute := d.Config.Attribute
	all := &ConnectError{}
	if attribute == PreferStandby && len(d.Config.Hosts) > 1 {
		failed, final := d.pass(ctx, Standby, use)
		if failed == nil || final {
			return asError(failed)
		}
		all = failed
	}
	failed, _ := d.pass(ctx, attribute, use)
	if failed != nil {
		failed.Hosts = append(all.Hosts, failed.Hosts...)
	}
	return asError(failed)
}

func asError(e *ConnectError) error {
	if e == nil {
		return nil
	}
	return e
}

func (d *Dialer) pass(ctx context.Context, attribute Attribute, use Use) (failed *ConnectError, final bool) {
	failed = &ConnectError{}
	for _, host := range d.Config.Hosts {
		errs, final := d.host(ctx, host, attribute, use)
		if errs == nil {
			return nil, true
		}
		failed.Hosts = append(failed.Hosts, errs...)
		if final || ctx.Err() != nil {
			return failed, true
		}
	}
	return failed, false
}

// DialHost connects to one host of the list: to it if it is a server, to an instance with the
// attribute if it is a conmgr. It is for drivers that walk through the list themselves. The
// instances of except are not asked for.
func (d *Dialer) DialHost(ctx context.Context, host Host, attribute Attribute, use Use, except ...int) error {
	if errs, _ := d.host(ctx, host, attribute, use, except...); errs != nil {
		return &ConnectError{Hosts: errs}
	}
	return nil
}

// host returns nil if a connection was accepted; final: the walk is at its end.
func (d *Dialer) host(ctx context.Context, host Host, attribute Attribute, use Use, except ...int) (errs []*HostError,
	final bool) {
	for plain := false; ; {
		target, err := d.attempt(ctx, host, attribute, except, plain, use)
		if err == nil {
			return nil, true
		}
		if target != nil && target.Client != "" && refusesLabels(err) && ctx.Err() == nil {
			plain = true
			continue
		}
		errs = append(errs, &HostError{Host: host.Name(), Port: host.Port, Target: target, Err: err})
		switch {
		case ctx.Err() != nil:
			return errs, true
		case target == nil: // no answer, or no (more) instance with the attribute
			return errs, false
		case !nextMayDo(err):
			return errs, true
		case target.Direct():
			return errs, false
		}
		except = append(except, target.Instance)
	}
}

// nextMayDo tells the errors that are about one server from those that any server would answer
// with, such as a wrong password.
func nextMayDo(err error) bool {
	var marked *tryNextError
	var network net.Error
	return errors.As(err, &marked) || errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) // it hung up in the middle of the login
}

// refusesLabels tells whether something else than a server, such as a pooler, takes no options, or
// not all of them.
func refusesLabels(err error) bool {
	var refusal interface{ SQLState() string }
	return errors.As(err, &refusal) && refusal.SQLState() == cm.ProtocolViolation
}

// attempt is one connection attempt, within connect_timeout. plain: its session is not labelled.
func (d *Dialer) attempt(ctx context.Context, host Host, attribute Attribute, except []int, plain bool,
	use Use) (*Target, error) {
	if t := d.Config.ConnectTimeout; t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t, &timeoutError{t})
		defer cancel()
	}
	target, watch, network, err := d.resolve(ctx, host, attribute, except)
	if err != nil {
		return nil, err
	}
	if plain {
		target.Client = ""
	}
	address := target.Address()
	if network == "unix" {
		address = target.HostAddr
	}
	nc, err := dialWatched(ctx, network, address, watch)
	var conn *Conn
	if err == nil {
		conn, err = newConn(nc, *target, watch, true)
	}
	if err != nil {
		if watch != nil {
			watch.Close()
		}
		return target, withCause(ctx, TryNext(err))
	}
	if err := use(ctx, conn, attribute); err != nil {
		conn.Close()
		return target, withCause(ctx, err)
	}
	return target, nil
}

// resolve finds out what the host is. A server is its own target.
func (d *Dialer) resolve(ctx context.Context, host Host, attribute Attribute, except []int) (*Target, *Watch, string,
	error) {
	port, err := strconv.Atoi(host.Port)
	if err != nil {
		return nil, nil, "", err
	}
	direct := &Target{Instance: -1, Host: host.Name(), HostAddr: host.HostAddr, Port: port}
	if direct.HostAddr == "" {
		direct.HostAddr = host.Host
	}
	asker := &Asker{
		Address:         direct.Address(),
		ApplicationName: d.Config.ApplicationName,
		User:            d.Config.User,
		Database:        d.Config.Database,
		SSLMode:         d.Config.SSLMode,
		RequirePeer:     d.Config.RequirePeer,
		LoopbackOnly:    d.TLSRequired,
	}
	network := "tcp"
	if host.IsUnix() {
		direct.HostAddr = filepath.Join(host.Host, ".s.PGSQL."+host.Port)
		asker.Address, network = direct.HostAddr, "unix"
	}
	target, watch, err := asker.Ask(ctx, attribute, except...)
	switch {
	case errors.Is(err, ErrNotConmgr):
		return direct, nil, network, nil
	case err != nil:
		return nil, nil, "", withCause(ctx, err)
	case slices.Contains(except, target.Instance):
		watch.Close()
		return nil, nil, "", fmt.Errorf("the Connection Manager named instance %d, which was to be left out",
			target.Instance)
	}
	return target, watch, "tcp", nil
}

// withCause says that the attempt took too long, instead of what that led to.
func withCause(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return err
}

type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("timeout expired: connect_timeout is %v", e.after)
}
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }
func (e *timeoutError) Is(target error) bool {
	return target == context.DeadlineExceeded
}
