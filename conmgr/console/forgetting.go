package console

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

// Who may do what, and sees whom: root and the user who runs conmgr everything, others what
// conmgr.conf says. And FORGET, DRAIN, UNDRAIN and RELOAD, which are for those. Run by the session's
// goroutine; blocks until the board has answered, and on the disk, also for the names of users.

// runsConmgr tells whether a user may do anything to it in any case.
func runsConmgr(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// isAdmin tells whether a user may have conmgr forget and drain.
func isAdmin(c *conf.Config, uid uint32) bool { return runsConmgr(uid) || isOneOf(c.AdminUsers, uid) }

// isOneOf tells whether a list has a user, by name or number. Numbers that may be anybody's are
// nobody's.
func isOneOf(users []string, uid uint32) bool {
	return uid != sockowner.Nobody && slices.ContainsFunc(users, func(u string) bool { return sockowner.IsUser(u, uid) })
}

// seesAll tells whether the session may look at the connections of others.
func (s *session) seesAll() bool {
	c, o := s.service.conf.Load(), s.Owner
	return slices.Contains(c.StatsUsers, conf.Everybody) ||
		o.Known && (isAdmin(c, o.UID) || isOneOf(c.StatsUsers, o.UID))
}

// visible are the applications that the session may look at: else its own user's, or its own
// address's.
func (s *session) visible(all []bind.Application) []bind.Application {
	if s.seesAll() {
		return all
	}
	return slices.DeleteFunc(all, func(a bind.Application) bool { return a.Owner != s.Owner })
}

// authorize is the right to have conmgr do something.
func (s *session) authorize(what string) error {
	uid, err := sockowner.Peer(s.conn)
	if err == nil && s.service.mayForget(uid) {
		return nil
	}
	detail := fmt.Sprintf("This connection is of the user with the number %d.", uid)
	if err != nil {
		detail = "Who has made this connection is not known: " + err.Error() + "."
	}
	return &backend.Error{Code: cm.InsufficientPrivilege,
		Text: "permission denied: only root and the user who runs conmgr may have it " + what, Detail: detail,
		Hint: "Others may if admin_users in conmgr.conf names them."}
}

func notConfigured(number int) error {
	return &backend.Error{Code: cm.InvalidParameterValue, Text: fmt.Sprintf("instance %d is not configured", number)}
}

// forget answers the statement.
func (s *session) forget(number int) ([][]string, error) {
	if err := s.authorize("forget"); err != nil {
		return nil, err
	}
	b := s.service.board
	t := b.Table.Load()
	if number >= 0 && t.Known.At.Instance != number && t.IndexOf(number) < 0 {
		return nil, notConfigured(number)
	}
	known, ok, err := b.Forget(number)
	if !ok {
		return nil, &backend.Error{Code: cm.CannotConnectNow, Text: bind.ShutdownText}
	}
	if err != nil {
		return nil, &backend.Error{Code: cm.IOError, Text: "forgotten until conmgr is restarted only: " + err.Error()}
	}
	return [][]string{{known.String()}}, nil
}

// setDrain answers DRAIN and UNDRAIN.
func (s *session) setDrain(number int, on bool) ([][]string, error) {
	if err := s.authorize("drain instances"); err != nil {
		return nil, err
	}
	b := s.service.board
	i := b.Table.Load().IndexOf(number)
	if i < 0 {
		return nil, notConfigured(number)
	}
	ok, err := b.Drain(i, on)
	if !ok {
		return nil, &backend.Error{Code: cm.CannotConnectNow, Text: bind.ShutdownText}
	}
	if err != nil {
		done := "drained"
		if !on {
			done = "undrained"
		}
		return nil, &backend.Error{Code: cm.IOError, Text: done + " until conmgr is restarted only: " + err.Error()}
	}
	bound := s.service.registry.BoundTo(i)
	return [][]string{{strconv.Itoa(number), orNull(b.Table.Load().Draining(i)), strconv.Itoa(bound)}}, nil
}

// Reloaded is what a reload has changed, or why it has changed nothing.
type Reloaded struct {
	Changes []Changed
	Err     *backend.Error // what is wrong with conmgr.conf; nil: nothing
	// Stays is closed if nothing comes of going on in place, for which the session waits; nil: it does not.
	Stays <-chan struct{}
}

// Changed is a parameter whose value in conmgr.conf is another one now.
type Changed struct{ Name, Value, Effect string }

// reloadConfig answers RELOAD.
func (s *session) reloadConfig() ([][]string, error) {
	if err := s.authorize("reload its configuration"); err != nil {
		return nil, err
	}
	if s.service.reload == nil {
		return nil, &backend.Error{Code: cm.FeatureNotSupported, Text: "this Connection Manager has no configuration file"}
	}
	r, written, ok := s.service.reload()
	if !ok {
		return nil, &backend.Error{Code: cm.CannotConnectNow, Text: bind.ShutdownText}
	}
	s.written, s.rest.until = written, r.Stays
	if r.Err != nil {
		return nil, r.Err
	}
	rows := [][]string{}
	for _, c := range r.Changes {
		rows = append(rows, []string{c.Name, c.Value, c.Effect})
	}
	return rows, nil
}
