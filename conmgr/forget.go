package conmgr

// FORGET: what is known of the set of instances is forgotten, for those who run conmgr. The
// session's goroutine asks the board's, and then waits for the disk.

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

// forgetRequest is a question to the board.
type forgetRequest struct {
	instance int // number; -1: everything
	done     chan route.Known
}

// forget is called by run. What the instances say now counts at once, so that only what nobody says
// any more is really forgotten.
func (b *board) forget(f forgetRequest) {
	t, now := b.table.Load(), time.Now()
	all := factsOf(t.entries)
	known := t.Known.Forget(f.instance, all, now).Learn(all, true, now)
	b.log.Log(cmlog.LOG, "forgotten on request: %s; known now: %s", t.Known, known)
	b.publish(slices.Clone(t.entries), nil, known, true, now)
	f.done <- known
}

// forgetters may have it forget; a variable for tests.
var forgetters = func(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// forget answers the statement.
func (s *session) forget(number int) ([][]string, error) {
	uid, err := sockowner.Peer(s.conn)
	if err != nil || !forgetters(uid) {
		detail := fmt.Sprintf("This connection is of the user with the number %d.", uid)
		if err != nil {
			detail = "Who has made this connection is not known: " + err.Error() + "."
		}
		return nil, &backend.Error{Code: cm.InsufficientPrivilege, Text: "permission denied: only root and the user who runs conmgr may have it forget", Detail: detail}
	}
	b := s.service.board
	t := b.table.Load()
	if number >= 0 && t.Known.At.Instance != number && !slices.ContainsFunc(t.entries,
		func(e entry) bool { return e.cfg.Number == number }) {
		return nil, &backend.Error{Code: cm.InvalidParameterValue, Text: fmt.Sprintf("instance %d is not configured", number)}
	}
	f := forgetRequest{number, make(chan route.Known, 1)}
	select {
	case b.forgets <- f:
	case <-b.ended:
		return nil, &backend.Error{Code: cm.CannotConnectNow, Text: shutdownText}
	}
	known := <-f.done
	if err := b.keeper.save(); err != nil {
		return nil, &backend.Error{Code: cm.IOError, Text: "forgotten until conmgr is restarted only: " + err.Error()}
	}
	return [][]string{{known.String()}}, nil
}
