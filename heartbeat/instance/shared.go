package instance

// One server under two entries, such as its own address and one that floats: the entry that reaches
// it first serves it, by its one heartbeat, and others are duplicates, which look again when that
// entry is lost or has another server, and now and then, as their address may lead elsewhere by
// then. A duplicate that reaches the server from another address of this host keeps its heartbeats,
// which prove that address alive.

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// leastRestart is shorter than any restart of a server.
const leastRestart = 50 * time.Millisecond

// Server is one run of one server: whatever the address by which it is reached.
type Server struct {
	System uint64
	Start  int64
}

// Holder is the entry that serves a server.
type Holder struct {
	Index  int
	Number int            // as conmgr.conf has it
	Local  netip.Addr     // from which: the server takes that for the client host
	Since  heartbeat.Mono // when it has claimed the server
}

// claim asks who serves the server that WELCOME has named.
func (in *Instance) claim() {
	in.phase, in.until = claiming, never
	in.act(Action{Kind: Claim, Local: in.local,
		Server: Server{System: in.mon.SystemIdentifier(), Start: in.mon.PostmasterStart()}})
}

// claimed: some entry serves it.
func (in *Instance) claimed(now heartbeat.Mono, h Holder) {
	if in.phase != claiming {
		return
	}
	in.servedBy = h.Index
	loss := in.loss
	// Were both servers heard of at one time? Then this one is not the other one, restarted.
	if loss != nil && loss.Reason == heartbeat.LossRestarted && in.isDuplicate() &&
		h.Since < now.Add(leastRestart-loss.Silence) {
		loss.Reason = heartbeat.LossMoved
	}
	if !in.isDuplicate() || h.Local != in.local {
		in.established(now)
		return
	}
	in.sayGoodbye(heartbeat.GoodbyeDuplicate, fmt.Sprintf("this server is monitored as instance %d", h.Number))
	in.hangUpAll()
	in.mon.Duplicate()
	if loss != nil {
		in.lost(loss)
	}
	in.act(Action{Kind: Duplicate})
	in.rest(now, heartbeat.Severed)
}

// isDuplicate tells whether another entry serves.
func (in *Instance) isDuplicate() bool { return in.servedBy != in.cfg.Index }

// letGo: an entry has let a server go. A duplicate looks at once.
func (in *Instance) letGo(now heartbeat.Mono) {
	in.freed = true
	if in.phase == resting && in.mon.State() == heartbeat.Duplicate {
		in.try(now)
	}
}
