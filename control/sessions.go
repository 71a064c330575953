package control

// How many SQL connections of this host the servers end when conmgr ends: counted for cm_ctl stop
// and restart. Blocks until conmgr has answered, for at most askLimit, and on /proc.

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

// askLimit: a conmgr that does not answer is stopped all the same.
const askLimit = 2 * time.Second

// warnOfSessions says what the end of conmgr does to this host's sessions, if there are any.
func (r *run) warnOfSessions(ctx context.Context, info Info) {
	answers, err := ask(ctx, info, askLimit, "SHOW INSTANCES")
	if err != nil {
		return // the end of a conmgr that hangs is not held up by a question
	}
	var servers []netip.AddrPort
	for i := range answers[0].values {
		f := answers[0].row(i)
		a, err := netip.ParseAddr(f.shown(cm.ColHostAddr))
		port := f.number(cm.ColPort)
		if err == nil && port != nil && f.shown(cm.ColState) == "established" {
			servers = append(servers, netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(*port)))
		}
	}
	n := countConnections(servers)
	if n == 0 {
		return
	}
	there := "is 1 connection"
	if n > 1 {
		there = fmt.Sprintf("are %d connections", n)
	}
	r.hint(fmt.Sprintf("NOTICE: The servers end all SQL sessions of this host now, also those that do not use\n"+
		"the Connection Manager, unless watchdog.terminate_on_close is off there. At present\n"+
		"there %s to them. Replication connections stay.", there))
}

// countConnections counts the established connections of this network namespace that lead to one of
// the servers.
func countConnections(servers []netip.AddrPort) (n int) {
	sockowner.Connections(func(_, remote netip.AddrPort) {
		if slices.Contains(servers, remote) {
			n++
		}
	})
	return n
}
