package watchdog

// Whose slot a new conmgr gets. All slots may be taken, and whoever reaches the port can say HELLO
// with ever new ids, but from his own address only: so what an address can take from others is
// bounded. Called within Step; pure.

import (
	"fmt"
	"net/netip"
)

// reserveShare: one slot in so many is kept for addresses that have none.
const reserveShare = 16

const hintSlots = "Raise watchdog.max_heartbeat_connections."

func (t *Table) reserved() int { return t.store.Len() / reserveShare }

// shortage says why there is no slot.
func (t *Table) shortage() string {
	text := fmt.Sprintf("all %d heartbeat connections that watchdog.max_heartbeat_connections allows are taken",
		t.store.Len())
	if n := t.reserved(); n > 0 {
		text += fmt.Sprintf(", or are among the %d that are kept for addresses without any", n)
	}
	return text
}

// allocate finds a slot for a new conmgr, -1 if there is none. An address that has none yet always
// gets one, as long as any other has more than one: displaced is the connection of the conmgr whose
// slot it is then. replaces: the new one has just freed a slot of its address.
func (t *Table) allocate(now Now, addr netip.Addr, replaces bool) (slot int, displaced *conn) {
	t.collect()
	first := len(t.live(addr, nil)) == 0
	if n := len(t.free); n == 0 || !first && !replaces && n <= t.reserved() {
		var found *peer
		if found = t.overdue(); found == nil && first {
			if found = t.youngest(); found == nil {
				found = t.closedLongest()
			}
		}
		if found == nil {
			return -1, nil
		}
		displaced = t.displace(now, found, addr)
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	return i, displaced
}

// collect takes back the slots that the terminator has freed.
func (t *Table) collect() {
	kept := t.ending[:0]
	for _, i := range t.ending {
		if t.store.State(i) == Free {
			t.free = append(t.free, i)
		} else {
			kept = append(kept, i)
		}
	}
	t.ending = kept
}

// displace takes the slot of p, whose sessions stay.
func (t *Table) displace(now Now, p *peer, addr netip.Addr) *conn {
	c := p.conn
	switch {
	case c != nil:
		t.log.routine(now, addr, Line{Level: Warning,
			Message: fmt.Sprintf("conmgr %s has to make room for one of %s, which had no slot", p.remote(), addr),
			Detail:  "Its address has more slots than any other. Its sessions are not terminated.", Hint: hintSlots})
	case !p.remembered:
		t.log.routine(now, addr, Line{Level: Warning,
			Message: fmt.Sprintf("conmgr %s, which is not connected, is forgotten: its slot is needed", p.remote()),
			Detail:  "Its sessions are not terminated.", Hint: hintSlots})
	}
	p.conn = nil
	t.drop(p, Free)
	return c
}

// overdue is the one of those whose time to resume is over, and whose sessions were spared, that
// has waited longest.
func (t *Table) overdue() (found *peer) {
	for _, p := range t.peers {
		if p.remembered && !t.store.Pending(p.slot) && (found == nil || p.order < found.order) {
			found = p
		}
	}
	return found
}

// youngest is the last admitted one of the address that has most conmgrs, nil if no address has
// more than one: if it is one process that takes all the slots, the address's real conmgr was there
// before.
func (t *Table) youngest() (found *peer) {
	most := 1
	for host := range t.byHost {
		n, last := 0, (*peer)(nil)
		for _, p := range t.live(host, nil) {
			n++
			if !t.store.Pending(p.slot) && (last == nil || p.order > last.order) {
				last = p
			}
		}
		if last != nil && n > 1 && (n > most || n == most && found != nil && last.order > found.order) {
			most, found = n, last
		}
	}
	return found
}

// closedLongest is the one that closed its connection first, of those that have not resumed yet.
func (t *Table) closedLongest() (found *peer) {
	for _, p := range t.peers {
		if p.State == Waiting && p.Closed != Broken && !p.remembered && p.Deferred == 0 && !t.store.Pending(p.slot) &&
			(found == nil || p.WaitingSince < found.WaitingSince) {
			found = p
		}
	}
	return found
}
