package route

// Instances, and what is known of the set of them. Pure.

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Succession is a declaration of a server: its cluster takes the place of another one.
type Succession = heartbeat.Succession

// Instance is what is known of one.
type Instance struct {
	Number  int
	Host    string     // as configured
	Address netip.Addr // invalid: not known yet
	Port    int

	State  heartbeat.State
	Detail string // last error

	Told             bool // it was reached once, and said of itself:
	Attributes       heartbeat.Attributes
	SystemIdentifier uint64
	PostmasterStart  int64
	Succeeds         Succession
	Lag              heartbeat.Lag // of a standby
	RTT              time.Duration // to its watchdog; 0: not known

	// For those who were bound before.
	Generation, KnownSince uint64       // as of heartbeats
	Losses                 uint64       // of any kind
	Addresses              []netip.Addr // that the name had when it was reached

	Drained bool // here, by cm_ctl drain
}

func (in *Instance) established() bool { return in.State == heartbeat.Established }

// heard: it speaks for itself now, so that its word counts.
func (in *Instance) heard() bool { return in.established() && in.Told }

func (in *Instance) isPrimary() bool { return in.Told && !in.Attributes.Has(heartbeat.InRecovery) }

// place is where a server was seen. Its own number may change with conmgr.conf: an entry is known
// again by its host and port.
func (in *Instance) place() Place {
	return Place{Instance: in.Number, Host: in.Host, Address: in.Address, Port: in.Port,
		PostmasterStart: in.PostmasterStart}
}

func (in *Instance) name() string { return fmt.Sprintf("instance %d (host %q)", in.Number, in.Host) }

// Place is an entry of conmgr.conf, and the server that was there.
type Place struct {
	Instance        int
	Host            string
	Address         netip.Addr
	Port            int
	PostmasterStart int64
}

func (p Place) String() string { return fmt.Sprintf("instance %d (host %q)", p.Instance, p.Host) }

// sameEntry: a server that was restarted has another start, but still its host or its address.
func (p Place) sameEntry(in *Instance) bool {
	return p.Port == in.Port && (p.Host == in.Host || p.Address.IsValid() && p.Address == in.Address)
}

// Takeover is a succession that has come into force.
type Takeover struct {
	From, To uint64 // system identifiers
	Timeline uint32 // that was declared
}

// Step is a promotion: the highest timeline since a time.
type Step struct {
	Timeline uint32
	Since    time.Time
}

// Known is what is kept of the set of instances, whatever becomes of those that told it. The zero
// value is: nothing.
type Known struct {
	SystemIdentifier uint64 // of the set; 0: not known
	Timeline         uint32 // the highest one that was seen of it; 0: none
	Since            time.Time
	Earlier          []Step // the timelines before, the latest last: a standby may have missed several
	At               Place  // where it was seen
	// At was a primary then: it holds the timeline, and no other primary of the same timeline is used
	Held      bool
	Takeovers []Takeover // the latest last
}

// Equal tells whether there is nothing to write.
func (k Known) Equal(o Known) bool {
	sameStep := func(a, b Step) bool { return a.Timeline == b.Timeline && a.Since.Equal(b.Since) }
	return slices.Equal(k.Takeovers, o.Takeovers) && slices.EqualFunc(k.Earlier, o.Earlier, sameStep) &&
		k.SystemIdentifier == o.SystemIdentifier && k.Timeline == o.Timeline && k.Since.Equal(o.Since) &&
		k.At == o.At && k.Held == o.Held
}

// outdatedSince is when a timeline newer than the given one became known. There is one.
func (k *Known) outdatedSince(timeline uint32) time.Time {
	for _, s := range k.Earlier {
		if s.Timeline > timeline {
			return s.Since
		}
	}
	return k.Since
}

func (k Known) String() string {
	switch {
	case k.SystemIdentifier == 0:
		return "nothing"
	case k.Timeline == 0:
		return fmt.Sprintf("system identifier %d", k.SystemIdentifier)
	}
	return fmt.Sprintf("system identifier %d, timeline %d of %s", k.SystemIdentifier, k.Timeline, k.At)
}
