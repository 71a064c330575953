package conmgr

// Who may connect: a share for each user, places that are kept for cm_ctl, and the networks that
// may use relay ports. Run by the accepting goroutines; blocks on the kernel's answer only.

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
)

const (
	// Places beyond the limit of connections, by the Unix socket, for conmgr's own user and root:
	// cm_ctl status works when applications have taken all.
	reservedPlaces = 3

	refusedMost = 64              // connections that are told why they are refused, at a time
	refusedTime = 2 * time.Second // for one of them to say what it wants
)

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

// seatOf is the place of a connection that is bound to nothing.
func seatOf(conn net.Conn) seat {
	s := seat{since: time.Now(), bound: -1}
	if u, ok := conn.(*net.UnixConn); ok {
		if s.local = credentials(u); s.local != nil {
			s.owner = owner{uid: s.local.Uid, known: true}
		}
		return s
	}
	s.peer, _ = netip.ParseAddrPort(conn.RemoteAddr().String())
	own, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	s.owner = owner{address: s.peer.Addr().Unmap().WithZone("")}
	if uid, err := ownerOfPeer(own, s.peer); err == nil { // else it is elsewhere, or the client is gone
		s.owner = owner{uid: uid, known: true}
	}
	return s
}

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

// hasRoom registers a connection. Over max_connections it is closed without a word, as the guide
// says; refuse tells the others why.
func (s *service) hasRoom(m member, conn net.Conn, refuse func(code, text, hint string)) bool {
	seat := m.place()
	switch s.registry.add(m) {
	case overAll:
		conn.Close()
		reason := "max_connections"
		if s.conf.MaxConnections == 0 {
			reason = "as many as the limit of open file descriptors allows, ulimit -n"
		}
		s.limit.Log("max_connections", cmlog.LOG, "closed a connection from application: %s: there are %d connections already (%s)",
			seat, s.registry.max, reason)
		return false
	case overShare:
		text := fmt.Sprintf("too many connections of %s: at most %d", seat.owner, s.registry.share)
		s.limit.Log("max_user_connections", cmlog.LOG, "refused a connection from application: %s: %s (max_user_connections)",
			seat, text)
		s.explain(conn, func() {
			refuse(cm.TooManyConnections, text, "Close connections that are not used, or raise max_user_connections in conmgr.conf.")
		})
		return false
	}
	return true
}

// explain runs what tells a client that it is refused; if many are told at this time, it closes the
// connection.
func (s *service) explain(conn net.Conn, tell func()) {
	if s.refusing.Add(1) > refusedMost {
		s.refusing.Add(-1)
		conn.Close()
		return
	}
	s.group.Go("refusal", func() {
		defer s.refusing.Add(-1)
		defer conn.Close()
		tell()
	})
}

// mayRelay tells whether a relay port takes a client: one of this host, or of a network that is
// allowed. Instances see this host's address whoever it is, and their pg_hba.conf cannot tell.
func (s *service) mayRelay(conn net.Conn, of *seat) bool {
	peer := of.peer.Addr().Unmap().WithZone("")
	if peer.IsLoopback() || of.owner.known {
		return true
	}
	for _, n := range s.conf.RelayNetworks {
		if n.Contains(peer) {
			return true
		}
	}
	conn.Close()
	s.limit.Log("relay_allowed_networks", cmlog.LOG, "closed a connection to a relay port: %s: it is not from this host, nor of relay_allowed_networks", of)
	return false
}
