package watchdog

// From where conmgrs may connect, and whether they have to prove who they are: what is set. Pure.

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// Authentication is watchdog.authentication, as in extension/bridge.h.
type Authentication uint8

const (
	Off     Authentication = iota // nobody proves anything
	Prefer                        // who has a key proves it, and nobody else touches what is his
	Require                       // nobody is served without a proof
)

// Access is who may be a conmgr of this server. It does not change; nil: everybody, without keys.
type Access struct {
	Authentication Authentication
	Keys           *proof.Keys
	Allowed        []netip.Prefix // nil: everywhere
	MinInterval    time.Duration  // the shortest heartbeat_interval of a HELLO; 0: the protocol's
	// NoKeys: there should be keys, and they could not be read yet. Who has one is not heard, through
	// no fault of his, and so is not judged.
	NoKeys bool
}

// lets tells whether a connection from an address is to be heard.
func (a *Access) lets(from netip.Addr) bool {
	if a == nil || a.Allowed == nil {
		return true
	}
	from = from.WithZone("")
	return slices.ContainsFunc(a.Allowed, func(p netip.Prefix) bool { return p.Contains(from) })
}

// deafTo tells whether one who has proved that keyid cannot be heard.
func (a *Access) deafTo(keyID proof.KeyID) bool {
	return a != nil && a.NoKeys && keyID != (proof.KeyID{})
}

// mode is Off where there is no Access.
func (a *Access) mode() Authentication {
	if a == nil {
		return Off
	}
	return a.Authentication
}

func (a *Access) minInterval() time.Duration {
	if a == nil {
		return 0
	}
	return a.MinInterval
}

// notLet closes a connection of which no byte was read.
func (t *Table) notLet(now Now, e Event) {
	t.store.Count(RefusedAddress)
	t.log.routine(now, e.From.Addr(), Line{Level: Log, Message: fmt.Sprintf("heartbeat connection from %s is closed: %s",
		HostPort(e.From.Addr(), e.From.Port()), whyNotLet)})
	t.act(Action{Kind: CloseNow, Conn: e.Conn})
}

const whyNotLet = "its address is not among watchdog.allowed_addresses"

// shutOut: who may not connect from where he is could not come back, and is served no more. Nor is he
// judged: nobody could tell that he lives.
func (t *Table) shutOut(now Now) {
	a := t.settings.Access
	for _, c := range t.conns {
		if c == nil || a.lets(c.addr) {
			continue
		}
		if p := c.peer; p != nil && !p.leaves(c) {
			p.conns = slices.DeleteFunc(p.conns, func(o *conn) bool { return o == c })
		}
		t.close(c)
	}
	for _, p := range t.sorted() {
		switch let := a.lets(p.Addr()); {
		case len(p.conns) > 0 || p.Deferred != 0 || p.Remembered:
		case !let:
			t.disown(now, p, whyNotLet)
		case p.State == Connected:
			t.closed(now, p, Broken, whyNotLet)
		}
	}
}
