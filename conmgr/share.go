package conmgr

import (
	"net/netip"
	"os"
	"strconv"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
)

// Who may be registered: a share for each user, and places that are kept for cm_ctl. Called by the
// accepting goroutines; never blocks.

// reservedPlaces are those beyond the limit of connections, by the Unix socket, for conmgr's own
// user and root: cm_ctl status works when applications have taken all.
const reservedPlaces = 3

// owner is whose connection it is: a user of this host, or an address elsewhere.
type owner struct {
	uid     uint32
	known   bool // of uid
	address netip.Addr
}

func (o owner) String() string {
	if o.known {
		return "user " + strconv.FormatUint(uint64(o.uid), 10)
	}
	return "address " + o.address.String()
}

// isPrivileged: conmgr's own user, and root, who can do anything to it.
func (o owner) isPrivileged() bool { return o.known && (o.uid == 0 || o.uid == uint32(os.Geteuid())) }

// admission is what becomes of a new connection.
type admission uint8

const (
	admitted  admission = iota
	overAll             // there is no place
	overShare           // its owner has as many as he may
)

// add registers a connection, if there is room for one more.
func (r *registry) add(c member) admission {
	s := c.place()
	limit := r.max
	privileged := s.local != nil && s.owner.isPrivileged()
	if privileged {
		limit += reservedPlaces
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.all) >= limit:
		return overAll
	case r.share > 0 && r.owners[s.owner] >= r.share && !privileged:
		return overShare
	}
	r.all[c] = struct{}{}
	r.owners[s.owner]++
	return admitted
}

// userShare is the most connections of one user: as configured; else, where descriptors are the
// limit, three quarters of the places; else no less than max_connections, which says how many there
// may be.
func userShare(c *conf.Config, places int) int {
	switch {
	case c.MaxUserConnections > 0:
		return c.MaxUserConnections
	case c.MaxConnections > 0:
		return 0
	}
	return max(1, places/4*3)
}
