package listen

// Who may connect: a share for each user, places that are kept for cm_ctl, and the networks that
// may use relay ports. Run by the accepting goroutines; blocks on the kernel's answer only.

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/event"
)

const (
	RefusedMost = 64              // connections that are told why they are refused, at a time
	RefusedTime = 2 * time.Second // for one of them to say what it wants
)

// SeatOf is the place of a connection that is bound to nothing.
func SeatOf(conn net.Conn) bind.Seat {
	s := bind.Seat{Since: time.Now(), Bound: -1}
	if u, ok := conn.(*net.UnixConn); ok {
		if s.Local = credentials(u); s.Local != nil {
			s.Owner = bind.Owner{UID: s.Local.Uid, Known: true}
		}
		return s
	}
	s.Peer, _ = netip.ParseAddrPort(conn.RemoteAddr().String())
	own, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	s.Owner = bind.Owner{Address: s.Peer.Addr().Unmap().WithZone("")}
	if uid, err := OwnerOfPeer(own, s.Peer); err == nil { // else it is elsewhere, or the client is gone
		s.Owner = bind.Owner{UID: uid, Known: true}
	}
	return s
}

// HasRoom registers a connection. Over max_connections it is closed without a word, as the guide
// says; refuse tells the others why.
func (s *Door) HasRoom(m bind.Member, conn net.Conn, refuse func(code, text, hint string)) bool {
	seat := m.Place()
	switch a := s.Registry.Add(m); a {
	case bind.OverAll, bind.OverDescriptors:
		conn.Close()
		most, reason := s.Registry.Max, "max_connections"
		if a == bind.OverDescriptors {
			most = s.Registry.Most
		}
		if s.Conf.Load().MaxConnections == 0 || a == bind.OverDescriptors {
			reason = "as many as the limit of open file descriptors allows, ulimit -n"
		}
		s.Events.Emit(event.Overfull{Client: seat.Client(), Max: most, Limit: reason})
		return false
	case bind.OverShare:
		text := fmt.Sprintf("too many connections of %s: at most %d", seat.Owner, s.Registry.Share)
		s.Events.Emit(event.OverShare{Client: seat.Client(), What: text})
		s.explain(conn, func() {
			refuse(cm.TooManyConnections, text, "Close connections that are not used, or raise max_user_connections in conmgr.conf.")
		})
		return false
	}
	return true
}

// explain runs what tells a client that it is refused; if many are told at this time, it closes the
// connection.
func (s *Door) explain(conn net.Conn, tell func()) {
	if s.refusing.Add(1) > RefusedMost {
		s.refusing.Add(-1)
		conn.Close()
		return
	}
	s.Group.Go("refusal", func() {
		defer s.refusing.Add(-1)
		defer conn.Close()
		tell()
	})
}

// Explaining is how many clients are told why they are refused, at this time.
func (s *Door) Explaining() int { return int(s.refusing.Load()) }

// MayRelay tells whether a relay port takes a client: one of this host, or of a network that is
// allowed. Instances see this host's address whoever it is, and their pg_hba.conf cannot tell.
func (s *Door) MayRelay(conn net.Conn, of *bind.Seat) bool {
	peer := of.Peer.Addr().Unmap().WithZone("")
	if peer.IsLoopback() || of.Owner.Known {
		return true
	}
	for _, n := range s.Conf.Load().RelayNetworks {
		if n.Contains(peer) {
			return true
		}
	}
	conn.Close()
	s.Events.Emit(event.Foreign{Client: of.Client()})
	return false
}
