package event

// What happens to the set of instances and to what is bound to them; emitted by the board's
// goroutine, its keeper's, and those that destroy sockets. Pure.

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// Presence is what is there of the set: two facts, and what they are made of.
type Presence struct {
	Primary     int // number of the primary in use, -1: none
	Established int // heartbeats prove that so many are there
	Instances   int
}

// HasPrimary is the one fact: a primary is there.
func (p Presence) HasPrimary() bool { return p.Primary >= 0 }

// IsComplete is the other one: all are there.
func (p Presence) IsComplete() bool { return p.Established == p.Instances }

// PresenceChanged is told at the start, too. It is not for the log, which has what lies behind it.
type PresenceChanged struct {
	debug
	Presence
}

// Text of it.
func (e PresenceChanged) Text() string {
	primary := "no primary"
	if e.HasPrimary() {
		primary = fmt.Sprintf("primary is instance %d", e.Primary)
	}
	return fmt.Sprintf("%d of %d instances established, %s", e.Established, e.Instances, primary)
}

// Superseded tells that what is written there is lost. Whoever is bound to it is told next.
type Superseded struct {
	warning
	Instance
	By string
}

// Text of it.
func (e Superseded) Text() string {
	return fmt.Sprintf("%s is superseded by %s", e.short(), e.By)
}

// ApplicationsTold of a loss.
type ApplicationsTold struct {
	notable
	Instance
	N int
}

// Text of it.
func (e ApplicationsTold) Text() string {
	return fmt.Sprintf("told %d application connections of the loss of %s", e.N, e.short())
}

// WouldHaveTold is what notify_loss = off has kept from being done.
type WouldHaveTold struct {
	notable
	Instance
	Applications, Relayed int
	Destroy               bool // sockets of this host, too
}

// Text of it.
func (e WouldHaveTold) Text() string {
	s := fmt.Sprintf("would have told %d application connections of the loss of %s", e.Applications, e.short())
	if e.Relayed > 0 {
		s += fmt.Sprintf(", and reset %d relayed ones", e.Relayed)
	}
	if e.Destroy {
		s += ", and destroyed this host's sockets to it"
	}
	return s
}

// Explain it.
func (WouldHaveTold) Explain(bool) (detail, hint string) { return "notify_loss is off.", "" }

// RelaysReset because of a loss.
type RelaysReset struct {
	notable
	Instance
	N int
}

// Text of it.
func (e RelaysReset) Text() string {
	return fmt.Sprintf("reset %d relayed connections because of the loss of %s", e.N, e.short())
}

// RoleTold tells whom on_role_change concerns.
type RoleTold struct {
	notable
	Instance
	Now         string // its attributes
	Told, Ended int
}

// Text of it.
func (e RoleTold) Text() string {
	if e.Ended > 0 {
		return fmt.Sprintf("ended %d connections as %s is %s now (on_role_change)", e.Ended, e.short(), e.Now)
	}
	return fmt.Sprintf("told %d application connections that %s is %s now (on_role_change)", e.Told, e.short(), e.Now)
}

// SocketsDestroyed because of a loss.
type SocketsDestroyed struct {
	notable
	Instance
	N    int
	To   []netip.AddrPort
	Took time.Duration
}

// Text of it.
func (e SocketsDestroyed) Text() string {
	return fmt.Sprintf("destroyed %d connections to the lost %s, addresses %v, in %d us", e.N, e.short(), e.To,
		e.Took.Microseconds())
}

// SocketsNotDestroyed tells that some are left.
type SocketsNotDestroyed struct {
	warning
	Instance
	Err error
}

// Text of it.
func (e SocketsNotDestroyed) Text() string {
	return fmt.Sprintf("could not destroy all connections to the lost %s: %s", e.short(), e.Err)
}

// Conflict among the instances: an administrator should look into it.
type Conflict struct {
	warning
	What string
}

// Text of it.
func (e Conflict) Text() string { return e.What }

// DrainBegun tells that no application is sent to an instance any more. Those that are bound to it
// stay.
type DrainBegun struct {
	notable
	Instance
	By    string // cm.DrainServer, cm.DrainHere, or both
	Bound int    // connections that stay, relayed ones included
	Told  int    // of them, as they have asked for it
}

// Text of it.
func (e DrainBegun) Text() string {
	by := "by cm_ctl drain on this host"
	if strings.HasPrefix(e.By, cm.DrainServer) {
		by = "by its server"
	}
	return fmt.Sprintf("%s is draining, %s: %d connections are bound to it, %d of them have been told", e.short(), by,
		e.Bound, e.Told)
}

// Kind of it.
func (e DrainBegun) Kind() string { return e.kind("drain") }

// DrainEnded tells that it is as any other again.
type DrainEnded struct {
	notable
	Instance
	Bound, Told int
}

// Text of it.
func (e DrainEnded) Text() string {
	return fmt.Sprintf("%s is not draining any more: %d connections are bound to it, %d of them have been told",
		e.short(), e.Bound, e.Told)
}

// Kind of it.
func (e DrainEnded) Kind() string { return e.kind("drain") }

// DrainKept tells that a conmgr before this one has drained it.
type DrainKept struct {
	notable
	Instance
}

// Text of it.
func (e DrainKept) Text() string {
	return fmt.Sprintf("%s is drained on this host, since before this start", e.short())
}

// Explain it.
func (e DrainKept) Explain(bool) (detail, hint string) {
	return "", fmt.Sprintf("\"cm_ctl undrain -i %d\" ends that.", e.Number)
}

// DrainDropped tells that what was drained is not configured any more.
type DrainDropped struct {
	warning
	What fmt.Stringer
}

// Text of it.
func (e DrainDropped) Text() string {
	return fmt.Sprintf("%s was drained on this host, and is not configured any more", e.What)
}

// DrainsUnreadable is of the file of what is drained.
type DrainsUnreadable struct {
	warning
	Err  error
	Hint string
}

// Text of it.
func (e DrainsUnreadable) Text() string {
	return "which instances are drained on this host is lost: " + e.Err.Error()
}

// Explain it.
func (e DrainsUnreadable) Explain(bool) (detail, hint string) { return "", e.Hint }

// KnownBefore tells what a conmgr before this one has kept.
type KnownBefore struct {
	notable
	Known fmt.Stringer
}

// Text of it.
func (e KnownBefore) Text() string { return fmt.Sprintf("known from before: %s", e.Known) }

// KnownChanged tells of a new system identifier or timeline.
type KnownChanged struct {
	notable
	Known fmt.Stringer
}

// Text of it.
func (e KnownChanged) Text() string { return fmt.Sprintf("known of the set of instances: %s", e.Known) }

// Forgotten on request.
type Forgotten struct {
	notable
	Was, Now fmt.Stringer
}

// Text of it.
func (e Forgotten) Text() string {
	return fmt.Sprintf("forgotten on request: %s; known now: %s", e.Was, e.Now)
}

// StateUnreadable is of the file of what was known.
type StateUnreadable struct {
	warning
	Err  error
	Hint string
}

// Text of it.
func (e StateUnreadable) Text() string {
	return "what was known of the instances is lost: " + e.Err.Error()
}

// Explain it.
func (e StateUnreadable) Explain(bool) (detail, hint string) { return "", e.Hint }

// StateUnwritten is of the same file.
type StateUnwritten struct {
	warning
	Why string
}

// Text of it.
func (e StateUnwritten) Text() string { return e.Why }

// Explain it.
func (e StateUnwritten) Explain(bool) (detail, hint string) {
	return "What is known of the instances would be lost at a restart of conmgr.", ""
}

// RelaysNotResumed tells of relayed connections that a restart has interrupted, as their instance is
// lost, and why.
type RelaysNotResumed struct {
	notable
	Instance
	N   int
	Why string
}

// Text of it.
func (e RelaysNotResumed) Text() string {
	return fmt.Sprintf("%s is lost: %s: %d relayed connections of before the restart are reset", e.short(), e.Why, e.N)
}
