package bind

import (
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
)

// Who may be registered: a share for each user, and places that are kept for cm_ctl. Called by the
// accepting goroutines; never blocks.

// ReservedPlaces are those beyond the limit of connections, by the Unix socket, for conmgr's own
// user and root: cm_ctl status works when applications have taken all.
const ReservedPlaces = 3

// Owner is whose connection it is: a user of this host, or an address elsewhere.
type Owner struct {
	UID     uint32
	Known   bool // of uid
	Address netip.Addr
}

func (o Owner) String() string {
	if o.Known {
		return "user " + strconv.FormatUint(uint64(o.UID), 10)
	}
	return "address " + o.Address.String()
}

// isPrivileged: conmgr's own user, and root, who can do anything to it.
func (o Owner) isPrivileged() bool { return o.Known && (o.UID == 0 || o.UID == uint32(os.Geteuid())) }

// Admission is what becomes of a new connection.
type Admission uint8

const (
	admitted        Admission = iota
	OverAll                   // there is no place
	OverShare                 // its owner has as many as he may
	OverDescriptors           // there would be a place, as some wait for a target, but no descriptor
)

// Add registers a connection, if there is room for one more.
func (r *Registry) Add(c Member) Admission {
	s := c.Place()
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.room(s); a != admitted {
		return a
	}
	if r.Most > 0 && len(r.all) >= r.Most+s.reserved() {
		return OverDescriptors
	}
	r.all[c] = struct{}{}
	r.owners[s.Owner]++
	return admitted
}

// Arrived tells that the first question of a connection is answered.
func (r *Registry) Arrived(c Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.Place().arrived = true
}

// Settle waits until all connections have arrived, but for relayed ones and those that wait for a
// target, at most for the given time. No new one may come.
func (r *Registry) Settle(most time.Duration) {
	ticker, limit := time.NewTicker(settleLook), time.NewTimer(most)
	defer ticker.Stop()
	defer limit.Stop()
	for coming := true; coming; coming = r.isComing() { // one may have been accepted, and not be here yet
		select {
		case <-ticker.C:
		case <-limit.C:
			return
		}
	}
}

const settleLook = 5 * time.Millisecond

func (r *Registry) isComing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.all {
		if s := c.Place(); !s.arrived && !s.Relay && !s.rests {
			return true
		}
	}
	return false
}

// reserved places are there for one of these beside all others.
func (s *Seat) reserved() int {
	if s.Local != nil && s.Owner.isPrivileged() {
		return ReservedPlaces
	}
	return 0
}

// room tells whether there is a place. Those that wait for a target have none. The lock is held.
func (r *Registry) room(s *Seat) Admission {
	limit := r.Max + s.reserved()
	switch {
	case len(r.all)-r.resting >= limit:
		return OverAll
	case r.Share > 0 && r.owners[s.Owner] >= r.Share && s.reserved() == 0:
		return OverShare
	}
	return admitted
}

// UserShare is the most connections of one user: as configured; else, where descriptors are the
// limit, three quarters of the places; else no less than max_connections, which says how many there
// may be.
func UserShare(c *conf.Config, places int) int {
	switch {
	case c.MaxUserConnections > 0:
		return c.MaxUserConnections
	case c.MaxConnections > 0:
		return 0
	}
	return max(1, places/4*3)
}
