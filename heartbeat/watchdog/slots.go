package watchdog

// Which slot a new conmgr gets. All slots may be taken, and whoever reaches the port can say HELLO
// with ever new ids, but from his own address only: so what an address can take from others is
// bounded. Who has to give way is decided in terminator/. Called within Step; pure.

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/terminator"
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
// gets one, as long as any other has more than one: displaced are the connections of the conmgr
// whose slot it is then. replaces: the new one has just freed a slot of its address.
func (t *Table) allocate(now Now, c *conn, h heartbeat.Hello, replaces bool) (slot int, displaced []*conn) {
	addr := c.addr
	t.collect()
	first := awaited(t.byHost[hostOf(addr)]) == 0
	if n := len(t.free); n == 0 || !first && !replaces && n <= t.reserved() {
		found := t.givesWay(first, t.keyID(c))
		if found == nil {
			return -1, nil
		}
		displaced = t.displace(now, found, c)
	}
	return t.take(now, h.ID), displaced
}

const (
	// standsFor is how long a verdict has to stand at least, if slots allow it: a session that
	// starts may need so long to look at it, by authentication_timeout.
	standsFor = time.Minute
	// lookedAt is how many free slots are looked at: thousands of conmgrs may come at once.
	lookedAt = 64
)

// take takes a free slot for a conmgr: the one that it has left to an heir before, or the one that
// has been free for longest; but those last which say whose heir answers for sessions, or have a
// verdict that has just fallen.
func (t *Table) take(now Now, id heartbeat.ID) (slot int) {
	k := 0
	label := heartbeat.LabelID(id)
	if own, left := t.left[label]; left && !own.verdict {
		k = max(0, slices.Index(t.free, own.slot))
	} else {
		if left {
			t.unname(own.slot)
			delete(t.left, label)
		}
		for j, i := range t.free[:min(lookedAt, len(t.free))] {
			s := t.store.Load(i)
			if s.Heir == (heartbeat.ID{}) && (s.CutOff == 0 || s.CutOff.Add(standsFor) < now.cutOff()) {
				k = j
				break
			}
		}
	}
	slot = t.free[k]
	if k == 0 {
		t.free = t.free[1:]
	} else {
		t.free = slices.Delete(t.free, k, k+1)
	}
	if before := heartbeat.LabelID(t.store.Load(slot).ID); t.left[before].slot == slot {
		delete(t.left, before)
	}
	t.store.Count(ConmgrsAdmitted)
	return slot
}

// collect takes back the slots that the terminator has freed.
func (t *Table) collect() {
	kept := t.ending[:0]
	for _, i := range t.ending {
		if t.store.State(i) == Free {
			t.free = append(t.free, i)
			if t.known(t.store.Load(i).ID) != nil {
				t.unname(i)
			}
		} else {
			kept = append(kept, i)
		}
	}
	t.ending = kept
}

// unname has a free slot name nobody's heir: its conmgr has another slot, and what carries its
// label is its own again, or will be somebody else's. One that the terminator is not done with comes
// by again.
func (t *Table) unname(slot int) {
	if s := t.store.Load(slot); s.State == Free && s.Heir != (heartbeat.ID{}) {
		s.Heir = heartbeat.ID{}
		t.store.Put(slot, &s)
	}
}

// named takes in which free slots name an heir, when a worker begins. Of two of one conmgr the
// later one counts.
func (t *Table) named() {
	for _, i := range t.free {
		s := t.store.Load(i)
		if s.Heir == (heartbeat.ID{}) {
			continue
		}
		if t.known(s.ID) != nil {
			t.unname(i)
			continue
		}
		label := heartbeat.LabelID(s.ID)
		if own, twice := t.left[label]; twice {
			if t.store.Load(own.slot).LastReceived.Mono > s.LastReceived.Mono {
				t.unname(i)
				continue
			}
			t.unname(own.slot)
		}
		t.left[label] = legacy{slot: i, verdict: s.CutOff != 0}
	}
}

// displace takes the slot of p, whose sessions stay.
func (t *Table) displace(now Now, p *peer, by *conn) []*conn {
	conns, addr := p.leave(), by.addr
	switch {
	case p.yields(t.keyID(by)) && !p.Remembered:
		t.log.routine(now, addr, Line{Level: Warning,
			Message: fmt.Sprintf("conmgr %s has to make room for one of %s, which has proved its key", p.remote(), addr),
			Detail:  "It has proved nothing. Its sessions are not terminated.", Hint: hintSlots})
	case len(conns) > 0:
		t.log.routine(now, addr, Line{Level: Warning,
			Message: fmt.Sprintf("conmgr %s has to make room for one of %s, which had no slot", p.remote(), addr),
			Detail:  "Its address has more slots than any other. Its sessions are not terminated.", Hint: hintSlots})
	case !p.Remembered:
		t.log.routine(now, addr, Line{Level: Warning,
			Message: fmt.Sprintf("conmgr %s, which is not connected, is forgotten: its slot is needed", p.remote()),
			Detail:  "Its sessions are not terminated.", Hint: hintSlots})
	}
	if p.Heir != (heartbeat.ID{}) {
		p.Heir = heartbeat.ID{}
		t.store.Put(p.slot, &p.Slot)
	}
	t.drop(p, Free)
	return conns
}

// yields tells whether p has proved nothing, and one with that keyid has.
func (p *peer) yields(keyID proof.KeyID) bool {
	return p.KeyID == (proof.KeyID{}) && keyID != (proof.KeyID{})
}

// givesWay is the conmgr whose slot is needed, nil if none has to give it up. None that has proved
// who it is does so for one that has not.
func (t *Table) givesWay(first bool, keyID proof.KeyID) (found *peer) {
	var best terminator.Holder
	for _, host := range t.byHost {
		siblings := awaited(host)
		for _, p := range host {
			if p.KeyID != (proof.KeyID{}) && keyID == (proof.KeyID{}) {
				continue
			}
			h := terminator.Holder{Standing: p.standing(), Left: p.Closed, Since: terminator.Time(p.WaitingSince), Order: p.order,
				Siblings: siblings, Claimed: t.store.Pending(p.slot),
				Yields: p.yields(keyID)}
			if h.GivesWay(first) && (found == nil || h.Before(best, first)) {
				best, found = h, p
			}
		}
	}
	return found
}
