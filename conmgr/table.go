package conmgr

// The routing table: an immutable snapshot of all instances, with the verdicts of package route.
// Any goroutine reads it, without a lock.

import (
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// status is what an instance's goroutine tells of it.
type status struct {
	State            heartbeat.State
	Generation       uint64
	Known            bool // the following four are
	Attributes       heartbeat.Attributes
	SystemIdentifier uint64
	PostmasterStart  int64
	Succeeds         route.Succession
	HostAddr         netip.Addr   // of the last established connection
	Addrs            []netip.Addr // all that the name had then; never changed
	Detail           string       // last error
}

// entry is an instance in the table.
type entry struct {
	status
	cfg    *conf.Instance
	losses uint64 // times that it was declared lost, for whatever reason: bindings made before the last one are void
}

// address is where to connect to: the very one that heartbeats prove alive.
func (e *entry) address() netip.Addr {
	if e.HostAddr.IsValid() {
		return e.HostAddr
	}
	return e.cfg.HostAddr
}

func (s *status) established() bool { return s.State == heartbeat.Established }

// connected tells whether heartbeats prove that the server is there, by way of this entry or of
// another one.
func (e *entry) connected() bool { return e.established() || e.State == heartbeat.Duplicate }

func (e *entry) isPrimary() bool { return e.Known && !e.Attributes.Has(heartbeat.InRecovery) }

// role is what the instance is; nobody knows that of a lost one.
func (e *entry) role() string {
	if !e.Known || e.State == heartbeat.Lost || e.State == heartbeat.Stopped {
		return "unknown"
	}
	return e.Attributes.Role()
}

// facts are what the choice depends on.
func (e *entry) facts() route.Instance {
	return route.Instance{Number: e.cfg.Number, Host: e.cfg.Name(), Address: e.address(), Port: e.cfg.Port,
		State: e.State, Detail: e.Detail,
		Told: e.Known, Attributes: e.Attributes, SystemIdentifier: e.SystemIdentifier,
		PostmasterStart: e.PostmasterStart, Succeeds: e.Succeeds}
}

// table is never changed once it is published.
type table struct {
	*route.Table
	entries []entry // ordered by instance number
}

func factsOf(entries []entry) []route.Instance {
	facts := make([]route.Instance, len(entries))
	for i := range entries {
		facts[i] = entries[i].facts()
	}
	return facts
}

func newTable(entries []entry, known route.Known, settled bool, rules route.Rules, now time.Time) *table {
	return &table{route.Decide(known, factsOf(entries), settled, rules, now), entries}
}
