package watchdog

// What is kept for those who ask later: cumulative counters, and the last verdicts. Both lie in
// shared memory beside the slots, so that they outlive this process. Called within Step; pure.

import (
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/terminator"
)

// Counter is one of the cumulative counters that the watchdog worker keeps, as in
// extension/bridge.h; those behind are the server's own.
type Counter uint8

const (
	ConmgrsAdmitted Counter = iota // that were not known
	ConmgrsResumed                 // HELLOs of those that were
	FramesReceived                 // of conmgrs
	FramesSent                     // to them
	verdicts                       // by cause, from Silence to Closed
	_
	_
	_
	VerdictsSpared    // ends of conmgrs by which no session ends
	VerdictsPutOff    // on addresses, as another conmgr was alive there
	VerdictsSuspended // silences during which the kernel has heard of the host's sessions
	OwnStalls         // timers of this process that fired late
	RefusedAddress    // connections from where nobody may connect
	refused           // connections by RefusedCode, from RefusedMalformed to RefusedTaken
	_
	RefusedFull // for which there was no slot
	_
	_
	_
	_
	_
	RefusedCrowd // connections that had not said HELLO, and were too many
	Counters     // how many there are
)

// Record is one verdict, or why there was none.
type Record struct {
	Slot         int
	Asked        bool // the terminator is asked for it next; else nothing follows
	Addr         netip.Addr
	Port         uint16
	ID           heartbeat.ID
	KeyID        proof.KeyID
	Cause        terminator.Cause
	Why          terminator.Why // sessions stay; NoReason: none does
	Timeout      time.Duration  // heartbeat_timeout
	At           Now
	LastReceived Wall
}

// record keeps a verdict on p, or that sessions stay, and counts it.
func (t *Table) record(now Now, p *peer, asked bool, cause terminator.Cause, why terminator.Why) {
	if asked {
		t.store.Count(verdicts + Counter(cause) - 1) // None is none
	} else {
		t.store.Count(VerdictsSpared)
	}
	t.store.Record(Record{Slot: p.slot, Asked: asked, Addr: p.Addr(), Port: p.Port, ID: p.ID, KeyID: p.KeyID, Cause: cause,
		Why: why, Timeout: p.Timeout, At: now, LastReceived: p.LastReceived.Wall})
}

// countRefused counts a connection that is not served.
func (t *Table) countRefused(code heartbeat.RefusedCode) {
	if code >= heartbeat.RefusedMalformed && code <= heartbeat.RefusedTaken {
		t.store.Count(refused + Counter(code-heartbeat.RefusedMalformed))
	}
}

// firstReason is why sessions of some of the addresses stay.
func firstReason(addresses []terminator.Decision) terminator.Why {
	for _, d := range addresses {
		if d.Why != terminator.NoReason {
			return d.Why
		}
	}
	return terminator.NoReason
}
