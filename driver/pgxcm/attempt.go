package pgxcm

// One attempt to connect, as pgconn makes it: through all entries, until one takes it. Runs in the
// goroutine that connects, as pgconn calls it; blocks on nothing.

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgwatchdog/watchdog/driver"
)

type attempt struct {
	router  *router
	waiting *driver.Waiting
	failed  *entry // its login has failed for whom it is
	second  bool   // a server was found that is not what is preferred, and will do
}

// newAttempt makes a configuration, which is that of one attempt to connect alone, its own.
func newAttempt(r *router, config *pgconn.Config) (*attempt, error) {
	// However they have come into it: by a service, or set by the application.
	wait, rest, err := driver.CutTargetWait(config.RuntimeParams["options"])
	if err != nil {
		return nil, err
	}
	if wait != nil {
		config.RuntimeParams["options"] = rest
	}
	a := &attempt{router: r, waiting: r.dialer.Waiting(wait)}
	config.DialFunc = a.dial
	return a, nil
}

func (a *attempt) dial(ctx context.Context, network, address string) (net.Conn, error) {
	e := a.router.entryOf(address)
	switch {
	case e == nil:
		return a.router.dial(ctx, network, address)
	case a.failed != nil && a.failed.turn != e.turn:
		return nil, errors.New("not tried, as the authentication has failed before")
	case e.waits && a.second:
		return nil, errors.New("not waited for, as another server will do")
	case e.waits && !a.waiting.Begin():
		return nil, errors.New("there is none (no target_wait)")
	}
	c := newConn(ctx, a.router, e)
	c.attempt = a
	return c, nil
}

// refused is told that an entry's login has failed for whom it is, and not for where: no other host
// is tried, as in libpq. The other ways that sslmode has for the same host remain.
func (a *attempt) refused(e *entry) { a.failed = e }
