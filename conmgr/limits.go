package conmgr

// Limits of the process: who may run it, and the file descriptors it needs. Called at start by the
// main goroutine.

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
)

// descriptorLimit returns the soft limit, raised to the hard one first.
func descriptorLimit() (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("could not read the limit of file descriptors: %w", err)
	}
	if l.Cur < l.Max {
		raised := unix.Rlimit{Cur: l.Max, Max: l.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			l = raised
		}
	}
	return l.Cur, nil
}

// places sets how many connections there may be: places of them; and those that wait for a target,
// which have none, within the rest of what descriptors allow, and no more than half of that.
func places(r *bind.Registry, c *conf.Config, most, descriptors int) {
	r.Max, r.Most, r.Share = most, descriptors, bind.UserShare(c, most)
	r.MaxWaiting = min(c.MaxWaiting, max(1, descriptors/2))
}
