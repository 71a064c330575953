package conmgr

// Limits of the process: who may run it, and the file descriptors it needs. Called at start by the
// main goroutine.

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
)

// baseDescriptors and instanceDescriptors are the numbers of the guide's rule: the limit is greater
// than 9 + 2 * instances + max_connections.
const (
	baseDescriptors     = 9
	instanceDescriptors = 2

	// usualListeners are those that the rule knows: localhost has two addresses, and there is one
	// Unix socket.
	usualListeners = 3

	// With relay ports there are, besides: listeners, the loops' own descriptors, their pipes, and
	// connections that are being made.
	relayReserve = 200
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

// connectionLimit returns how many application connections there may be at a time: max_connections,
// or, where that is 0, what the descriptors allow. Heartbeat connections keep theirs: applications
// cannot take them away. With relay ports each connection may need a second one, to the instance.
func connectionLimit(limit uint64, instances, maxConnections int, relays bool, listeners int) (int, error) {
	more := max(0, listeners-usualListeners)
	reserved, each := baseDescriptors+instanceDescriptors*instances+more, 1
	rule := "9 + 2 * (number of instances) + max_connections"
	if relays {
		reserved, each = reserved+relayReserve, 2
		rule = fmt.Sprintf("9 + 2 * (number of instances) + %d + 2 * max_connections, as there are relay ports",
			relayReserve)
	}
	if more > 0 {
		rule += fmt.Sprintf(", and %d for addresses of listen_addresses and Unix sockets beyond the default ones", more)
	}
	need := uint64(reserved) + uint64(each)*uint64(maxConnections)
	if limit <= need {
		return 0, &conf.StartError{
			Text: fmt.Sprintf("the limit of %d open file descriptors is too low: %d instances and max_connections = %d need more than %d",
				limit, instances, maxConnections, need),
			Detail: "The limit must be greater than " + rule + ".",
			Hint:   `Raise it ("ulimit -n", or LimitNOFILE of the service), or lower max_connections.`,
		}
	}
	if maxConnections > 0 {
		return maxConnections, nil
	}
	return int(max(1, min((limit-uint64(reserved))/uint64(each), 1<<30))), nil
}

// places sets how many connections there may be: places of them; and those that wait for a target,
// which have none, within the rest of what descriptors allow, and no more than half of that.
func places(r *bind.Registry, c *conf.Config, most, descriptors int) {
	r.Max, r.Most, r.Share = most, descriptors, bind.UserShare(c, most)
	r.MaxWaiting = min(c.MaxWaiting, max(1, descriptors/2))
}

// countListeners is how many sockets the configuration opens for applications, as far as that is
// known without a look-up.
func countListeners(c *conf.Config) int {
	n := len(c.SocketDirs)
	for _, name := range c.ListenAddresses {
		if n++; name == "*" || name == "localhost" {
			n++ // of IPv4 and IPv6
		}
	}
	return n
}
