package console

import (
	"fmt"
	"os"
	"slices"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

// FORGET, for those who run conmgr. Run by the session's goroutine; blocks until the board has
// answered, and on the disk.

// runsConmgr tells whether a user may have it forget.
func runsConmgr(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// forget answers the statement.
func (s *session) forget(number int) ([][]string, error) {
	uid, err := sockowner.Peer(s.conn)
	if err != nil || !s.service.mayForget(uid) {
		detail := fmt.Sprintf("This connection is of the user with the number %d.", uid)
		if err != nil {
			detail = "Who has made this connection is not known: " + err.Error() + "."
		}
		return nil, &backend.Error{Code: cm.InsufficientPrivilege, Text: "permission denied: only root and the user who runs conmgr may have it forget", Detail: detail}
	}
	b := s.service.board
	t := b.Table.Load()
	if number >= 0 && t.Known.At.Instance != number && !slices.ContainsFunc(t.Entries,
		func(e bind.Entry) bool { return e.Config.Number == number }) {
		return nil, &backend.Error{Code: cm.InvalidParameterValue, Text: fmt.Sprintf("instance %d is not configured", number)}
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
