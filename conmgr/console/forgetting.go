package console

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

// FORGET, DRAIN and UNDRAIN, for those who run conmgr. Run by the session's goroutine; blocks until
// the board has answered, and on the disk.

// runsConmgr tells whether a user may have it forget and drain.
func runsConmgr(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

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
		Text: "permission denied: only root and the user who runs conmgr may have it " + what, Detail: detail}
}

// indexOf finds an instance by its number.
func indexOf(t *bind.Table, number int) int {
	return slices.IndexFunc(t.Entries, func(e bind.Entry) bool { return e.Config.Number == number })
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
	if number >= 0 && t.Known.At.Instance != number && indexOf(t, number) < 0 {
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
	i := indexOf(b.Table.Load(), number)
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
