package listen

// What the kernel knows of the other end of a connection within this network namespace: whose it
// is, and whether it is still open. Called by accepting and relay goroutines; the kernel answers
// while it is asked.

import (
	"net/netip"

	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

// withinHost tells whether both ends of a connection are certainly sockets of this network
// namespace.
func withinHost(own, peer netip.Addr) bool {
	own, peer = own.Unmap().WithZone(""), peer.Unmap().WithZone("")
	return peer.IsLoopback() || own == peer
}

// OwnerOfPeer asks who holds the other end of a connection. The error is sockowner.ErrGone if nobody
// does any more, and wraps sockowner.ErrUnknown if that cannot be known: it is elsewhere, or the
// kernel does not answer.
func OwnerOfPeer(own, peer netip.AddrPort) (uid uint32, err error) {
	if !withinHost(own.Addr(), peer.Addr()) {
		return 0, sockowner.ErrUnknown
	}
	return sockowner.Lookup(peer, own)
}
