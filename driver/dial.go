package driver

// The walk through the hosts of a connection string: each may be a conmgr or a server. Where none
// has an instance with the attribute, those conmgrs are asked once more that wait until there is
// one. Runs in the caller's goroutine, and blocks on the network until its context, or
// connect_timeout, ends.

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
// prefer-standby goes through the list twice. Nobody waits at a host for what the next one has: of
// several hosts, those that wait are asked to do so when all have been asked.
func (d *Dialer) Walk(ctx context.Context, use Use) error {
	attribute, w := d.Config.Attribute, d.Waiting(nil)
	all := &ConnectError{}
	if attribute == PreferStandby && len(d.Config.Hosts) > 1 {
		failed, final := d.pass(ctx, Standby, w, use)
		if failed == nil || final {
			return asError(failed)
		}
		all = failed
	}
	failed, final := d.pass(ctx, attribute, w, use)
	if failed != nil && !final && !w.now && w.Begin() {
		all.Hosts = append(all.Hosts, failed.Hosts...)
		failed, _ = d.pass(ctx, attribute, w, use)
	}
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

func (d *Dialer) pass(ctx context.Context, attribute Attribute, w *Waiting, use Use) (failed *ConnectError,
	final bool) {
	failed = &ConnectError{}
	for _, host := range w.Hosts() {
		errs, final := d.host(ctx, host, attribute, w, use)
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
// attribute if it is a conmgr. It is for drivers that walk through the list themselves; those that
// wait use that of [Waiting]. The instances of except are not asked for.
func (d *Dialer) DialHost(ctx context.Context, host Host, attribute Attribute, use Use, except ...int) error {
	return d.Waiting(nil).DialHost(ctx, host, attribute, use, except...)
}

// host returns nil if a connection was accepted; final: the walk is at its end.
func (d *Dialer) host(ctx context.Context, host Host, attribute Attribute, w *Waiting, use Use, except ...int) (
	errs []*HostError, final bool) {
	left := slices.Clip(except) // out
	for plain := false; ; {
		others := len(left) > len(except)
		q := &question{attribute: attribute, except: left, wait: func(announced time.Duration) time.Duration {
			return w.clause(host, announced, others)
		}}
		target, err := d.attempt(ctx, host, q, plain, use)
		if err == nil {
			return nil, true
		}
		if target != nil && target.Client != "" && refusesLabels(err) && ctx.Err() == nil {
			plain = true
			continue
		}
		errs = appendError(errs, &HostError{Host: host.Name(), Port: host.Port, Target: target, Err: err})
		switch {
		case ctx.Err() != nil:
			return errs, true
		case target == nil: // no answer, or no (more) instance with the attribute
			if !w.again(ctx, err, others) {
				return errs, false
			}
			left = slices.Clip(except) // who has refused may do by now
			continue
		case !nextMayDo(err):
			return errs, true
		case target.Direct():
			return errs, false
		}
		left = append(left, target.Instance)
	}
}

// appendError keeps of the errors of one instance the latest: who waits may try it several times.
func appendError(errs []*HostError, e *HostError) []*HostError {
	errs = slices.DeleteFunc(errs, func(old *HostError) bool {
		if old.Target == nil || e.Target == nil {
			return old.Target == e.Target
		}
		return old.Target.Instance == e.Target.Instance
	})
	return append(errs, e)
}

// Waiting is how one attempt to connect waits for an instance with the attribute to appear, at
// those conmgrs that know how to: for as long as the connection string says, or each conmgr's own
// target_wait, and up to a second before connect_timeout, which is for the connection itself. For
// one goroutine.
type Waiting struct {
	dialer *Dialer
	own    *time.Duration // nil: as conmgr says
	now    bool           // or it is only found out who would wait
	able   map[Host]bool  // who would
	until  time.Time      // set when the first one does
	pause  time.Duration  // the latest, between two questions of the same kind
}

// The pauses of a Waiting, doubled from the first to the last.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Second
)

// Waiting is for one walk through the hosts. own is the application's target_wait, instead of the
// connection string's; nil: there is none. With one host, it waits at once.
func (d *Dialer) Waiting(own *time.Duration) *Waiting {
	if own == nil {
		own = d.Config.TargetWait
	}
	return &Waiting{dialer: d, own: own, now: len(d.Config.Hosts) == 1, able: map[Host]bool{}}
}

// Begin has those hosts wait that can, when all were asked in vain. False: none can.
func (w *Waiting) Begin() bool {
	w.now = w.now || len(w.able) > 0
	return w.now
}

// Hosts are those to be asked: all of them, and when it waits, those that can.
func (w *Waiting) Hosts() []Host {
	all := w.dialer.Config.Hosts
	if !w.now || len(all) == 1 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(h Host) bool { return !w.able[h] })
}

// DialHost is as [Dialer.DialHost].
func (w *Waiting) DialHost(ctx context.Context, host Host, attribute Attribute, use Use, except ...int) error {
	if errs, _ := w.dialer.host(ctx, host, attribute, w, use, except...); errs != nil {
		return &ConnectError{Hosts: errs}
	}
	return nil
}

// clause is for how long conmgr is asked to wait. Where others were left out, not for all of the
// time: one that starts up again may be the only one that there is.
func (w *Waiting) clause(host Host, announced time.Duration, others bool) time.Duration {
	most := announced
	if w.own != nil {
		most = *w.own
	}
	if t := w.dialer.Config.ConnectTimeout; t > 0 {
		most = min(most, t-time.Second)
	}
	if most <= 0 {
		return 0
	}
	w.able[host] = true
	if !w.now {
		return 0
	}
	if w.until.IsZero() {
		w.until = time.Now().Add(most)
	}
	left := time.Until(w.until)
	if others {
		left = min(left, w.next())
	}
	return left
}

func (w *Waiting) next() time.Duration {
	w.pause = min(max(2*w.pause, firstPause), lastPause)
	return w.pause
}

// again tells whether conmgr is asked once more, after a wait in which others were left out, or
// when it has gone away meanwhile: then after a pause.
func (w *Waiting) again(ctx context.Context, err error, others bool) bool {
	if left := time.Until(w.until); !w.now || left <= 0 {
		return false
	}
	var answer *ConmgrError
	var doubt *TrustError
	switch {
	case errors.As(err, &doubt):
		return false
	case errors.As(err, &answer) && answer.SQLState != cm.CannotConnectNow:
		return answer.NoTarget() && others
	}
	return pausing(ctx, w.next())
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
func (d *Dialer) attempt(ctx context.Context, host Host, q *question, plain bool, use Use) (*Target, error) {
	if t := d.Config.ConnectTimeout; t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t, &timeoutError{t})
		defer cancel()
	}
	target, watch, network, err := d.resolve(ctx, host, q)
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
	if err := use(ctx, conn, q.attribute); err != nil {
		conn.Close()
		return target, withCause(ctx, err)
	}
	return target, nil
}

// resolve finds out what the host is. A server is its own target.
func (d *Dialer) resolve(ctx context.Context, host Host, q *question) (*Target, *Watch, string, error) {
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
	target, watch, err := asker.ask(ctx, q)
	switch {
	case errors.Is(err, ErrNotConmgr):
		return direct, nil, network, nil
	case err != nil:
		return nil, nil, "", withCause(ctx, err)
	case slices.Contains(q.except, target.Instance):
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
