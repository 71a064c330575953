package conmgr

// The routing table: an immutable snapshot of all instances, and the choice among them. Any goroutine reads it, without a lock.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// status is what an instance's goroutine tells of it.
type status struct {
	State            heartbeat.State
	Generation       uint64
	Known            bool // Attributes and SystemIdentifier are
	Attributes       heartbeat.Attributes
	SystemIdentifier uint64
	HostAddr         netip.Addr   // of the last established connection
	Addrs            []netip.Addr // all that the name had then; never changed
	Detail           string       // last error
}

// entry is an instance in the table.
type entry struct {
	status
	cfg    *InstanceConfig
	losses uint64 // times that it was declared lost, for whatever reason: bindings made before the last one are void
}

// address is where to connect to: the very one that heartbeats prove alive.
func (e *entry) address() netip.Addr {
	if e.HostAddr.IsValid() {
		return e.HostAddr
	}
	return e.cfg.HostAddr
}

func (e *entry) established() bool { return e.State == heartbeat.Established }

// connected tells whether heartbeats prove that the server is there, by way of this entry or of another one.
func (e *entry) connected() bool { return e.established() || e.State == heartbeat.Duplicate }

func (e *entry) usable() bool {
	return e.established() && !e.Attributes.Has(heartbeat.ShuttingDown)
}

func (e *entry) isPrimary() bool { return e.Known && !e.Attributes.Has(heartbeat.InRecovery) }

// table is never changed once it is published.
type table struct {
	entries []entry // ordered by instance number
	primary int     // index of the established primary of the highest timeline, -1: none
}

// attribute names what an application wants.
type attribute string

const (
	attrAny           attribute = "any"
	attrReadWrite     attribute = "read-write"
	attrReadOnly      attribute = "read-only"
	attrPrimary       attribute = "primary"
	attrStandby       attribute = "standby"
	attrPreferStandby attribute = "prefer-standby"
	attrPreferRead    attribute = "prefer-read" // the old name of prefer-standby
)

var attributes = []attribute{attrAny, attrReadWrite, attrReadOnly, attrPrimary, attrStandby, attrPreferStandby, attrPreferRead}

func newTable(entries []entry) *table {
	t := &table{entries: entries, primary: -1}
	for i := range entries {
		e := &entries[i]
		if e.established() && e.isPrimary() && (t.primary < 0 || e.Attributes.Timeline > entries[t.primary].Attributes.Timeline) {
			t.primary = i
		}
	}
	return t
}

// choose returns the index of an instance, -1 if there is none. Of two primaries the one of the lower timeline is what a failover has left
// behind: what is written there is lost. It is offered for no attribute, even if the other one is excepted or shuts down.
func (t *table) choose(want attribute, except []int) int {
	find := func(ok func(i int, e *entry) bool) int {
		for i := range t.entries {
			e := &t.entries[i]
			stale := e.isPrimary() && i != t.primary
			if e.usable() && !stale && !slices.Contains(except, e.cfg.Number) && ok(i, e) {
				return i
			}
		}
		return -1
	}
	all := func(int, *entry) bool { return true }
	standby := func(_ int, e *entry) bool { return !e.isPrimary() }
	switch want {
	case attrAny:
		return find(all)
	case attrReadWrite:
		return find(func(i int, e *entry) bool { return i == t.primary && !e.Attributes.IsReadOnly() })
	case attrReadOnly:
		return find(func(_ int, e *entry) bool { return e.Attributes.IsReadOnly() })
	case attrPrimary:
		return find(func(i int, _ *entry) bool { return i == t.primary })
	case attrStandby:
		return find(standby)
	case attrPreferStandby, attrPreferRead:
		if i := find(standby); i >= 0 {
			return i
		}
		return find(all)
	}
	return -1
}

// conflicts describes what an administrator should look into, one text each.
func (t *table) conflicts() (out []string) {
	var primaries, systems []string
	ids := map[uint64]bool{}
	for i := range t.entries {
		e := &t.entries[i]
		if !e.established() {
			continue
		}
		if e.isPrimary() {
			primaries = append(primaries, fmt.Sprintf("instance %d (timeline %d)", e.cfg.Number, e.Attributes.Timeline))
		}
		ids[e.SystemIdentifier] = true
		systems = append(systems, fmt.Sprintf("instance %d (system identifier %d)", e.cfg.Number, e.SystemIdentifier))
	}
	if len(primaries) > 1 {
		out = append(out, fmt.Sprintf("more than one instance is a primary: %s; instance %d is used",
			strings.Join(primaries, ", "), t.entries[t.primary].cfg.Number))
	}
	if len(ids) > 1 {
		out = append(out, "the instances belong to different database clusters: "+strings.Join(systems, ", "))
	}
	return out
}

// describe tells the state of each instance in one line, for the DETAIL of an error.
func (t *table) describe() string {
	var b strings.Builder
	for i := range t.entries {
		e := &t.entries[i]
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "instance %d (host %q) is %s", e.cfg.Number, e.cfg.Name(), e.State)
		switch {
		case e.established():
			fmt.Fprintf(&b, ", %s", e.Attributes)
			if !e.usable() {
				b.WriteString(", shutting down")
			}
		case e.Detail != "":
			fmt.Fprintf(&b, " (%s)", e.Detail)
		}
	}
	return b.String()
}
