package driver

// The errors of this package. All are found by errors.As through what the real drivers wrap around
// them.

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// ErrNotConmgr is returned by [Asker.Ask] when the peer is not a Connection Manager: connect to it
// directly.
var ErrNotConmgr = errors.New("the peer is not a Connection Manager")

// LostError says that the instance of a connection is lost: declared so by conmgr, or conmgr itself
// has ended.
type LostError struct {
	Instance int    // number of the instance in conmgr.conf
	Host     string // as configured
	HostAddr string
	Port     int
	Reason   string    // conmgr's own words
	SQLState string    // 57P01; 08006 if conmgr went away without a word
	Since    time.Time // when this process learned of it

	nothingSent bool
}

// Error leaves it to the reason to name the instance: conmgr does.
func (e *LostError) Error() string { return "connection is lost: " + e.Reason }

func (e *LostError) instance() string {
	return fmt.Sprintf("instance %d (host %q, address %s)", e.Instance, e.Host,
		net.JoinHostPort(e.HostAddr, strconv.Itoa(e.Port)))
}

// SafeToRetry is true if nothing was sent to the instance since its last answer: the failed
// statement has not run, and a new connection may run it. It is false if something was under way:
// the statement, a COMMIT above all, may have taken effect or not.
func (e *LostError) SafeToRetry() bool { return e.nothingSent }

// ConmgrError is an error that conmgr answered with: 08001, no instance has the attribute; 57P03,
// it shuts down (a server that starts up or shuts down says that, too).
type ConmgrError struct {
	SQLState, Message, Detail, Hint string
}

func (e *ConmgrError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (SQLSTATE %s)", e.Message, e.SQLState)
	if e.Detail != "" {
		b.WriteString("; detail: " + e.Detail)
	}
	if e.Hint != "" {
		b.WriteString("; hint: " + e.Hint)
	}
	return b.String()
}

// NoTarget is true if no instance has the attribute now.
func (e *ConmgrError) NoTarget() bool { return e.SQLState == cm.CannotEstablish }

// HostError is why one host of the connection string was not connected to.
type HostError struct {
	Host   string
	Port   string
	Target *Target // the instance that conmgr named; nil: none, or the host is a server
	Err    error
}

func (e *HostError) Error() string {
	if t := e.Target; t != nil && t.Instance >= 0 {
		return fmt.Sprintf("host %q, port %s, instance %d (host %q, address %s): %v",
			e.Host, e.Port, t.Instance, t.Host, t.Address(), e.Err)
	}
	return fmt.Sprintf("host %q, port %s: %v", e.Host, e.Port, e.Err)
}

func (e *HostError) Unwrap() error { return e.Err }

// ConnectError is why no host of the connection string was connected to.
type ConnectError struct {
	Hosts []*HostError // in the order in which they were tried
}

func (e *ConnectError) Error() string {
	lines := make([]string, len(e.Hosts))
	for i, h := range e.Hosts {
		lines[i] = h.Error()
	}
	return "could not connect: " + strings.Join(lines, "\n")
}

func (e *ConnectError) Unwrap() []error {
	errs := make([]error, len(e.Hosts))
	for i, h := range e.Hosts {
		errs[i] = h
	}
	return errs
}

// SafeToRetry is true: no statement was sent.
func (e *ConnectError) SafeToRetry() bool { return true }

// Elsewhere tells by its SQLSTATE whether the refusal of a login is about that one server at this
// time, so that another instance or host may take it: the server starts up or shuts down (57P..),
// or has no connection or no memory left (53...). The others, such as a wrong password, any server
// would answer with. The libpq front has the same rule.
func Elsewhere(sqlState string) bool {
	return strings.HasPrefix(sqlState, "57P") || strings.HasPrefix(sqlState, "53")
}

// AnyServerRefuses tells by its SQLSTATE whether the refusal of a login is about who wants to log
// in, so that it ends the attempt: a wrong password, an unknown role, no line in pg_hba.conf (class
// 28), a database that is not there (3D000) or may not be used (42501).
func AnyServerRefuses(sqlState string) bool {
	return strings.HasPrefix(sqlState, "28") || sqlState == "3D000" || sqlState == cm.InsufficientPrivilege
}

// TryNext marks an error of the function given to [Dialer.Walk]: this server does not do, and the
// next one may.
func TryNext(err error) error { return &tryNextError{err} }

type tryNextError struct{ err error }

func (e *tryNextError) Error() string { return e.err.Error() }
func (e *tryNextError) Unwrap() error { return e.err }
