package worker

// The conmgrs that this server knows, connected or not, and what follows from what they do: docs/protocol.md 1.4 and 1.5. No I/O, no
// clock; it is called by the reactor's goroutine only.

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// Key identifies a conmgr: its id counts only together with the address that it comes from.
type Key struct {
	ID   heartbeat.ID
	Addr netip.Addr // IPv4-mapped addresses unmapped
}

// peer is one conmgr. Its slot in shared memory is what survives this process.
type peer struct {
	slot      int
	heapIndex int // in timers, -1: not there
	due       heartbeat.Mono

	Slot
	pulse    heartbeat.Pulse
	conn     *conn // nil: not connected
	sequence uint32
	// remembered: its time to resume is over and its sessions were spared,
	// but should it come back with a higher generation, they are ended.
	remembered bool
	// heir: the cut-off of another conmgr of this address whose sessions
	// were spared because of this one; 0: none.
	heir terminator.Wall
}

// Table is all conmgrs.
type Table struct {
	host   Host
	store  Store
	timers timers
	peers  map[Key]*peer
	byHost map[netip.Addr][]*peer // by hostOf its address
	free   []int
	ending []int // slots that the terminator will free

	fullTold heartbeat.Mono // when the log was last told that there is no slot
}

// NewTable takes over what an earlier worker left in the store: whoever was connected then has its heartbeat_timeout, from now on, to resume.
func NewTable(host Host, store Store, now Now) *Table {
	t := &Table{host: host, store: store, peers: make(map[Key]*peer), byHost: make(map[netip.Addr][]*peer)}
	for i := store.Len() - 1; i >= 0; i-- {
		s := store.Load(i)
		switch {
		case s.State == Ending && store.Pending(i):
			t.ending = append(t.ending, i)
		case s.State == Free || s.State == Ending || s.Interval <= 0 || s.Timeout <= 0 || t.peers[s.Key] != nil:
			store.SetState(i, Free)
			t.free = append(t.free, i)
		default:
			if s.State == Connected {
				s.State, s.Closed, s.WaitingSince = Waiting, false, now.Wall
			}
			p := &peer{slot: i, heapIndex: -1, Slot: s, pulse: heartbeat.NewPulse(s.Interval, s.Timeout, now.Mono)}
			t.add(p)
			store.Put(i, &p.Slot)
			t.timers.set(p, p.pulse.Deadline())
		}
	}
	if n := len(t.peers); n > 0 {
		host.Log(Line{Level: Log, Message: fmt.Sprintf("waiting for %d known conmgr processes to resume", n)})
	}
	return t
}

func (t *Table) add(p *peer) {
	t.peers[p.Key] = p
	t.byHost[hostOf(p.Key.Addr)] = append(t.byHost[hostOf(p.Key.Addr)], p)
}

// drop forgets a peer. Its slot becomes free, unless a cut-off keeps it for the terminator.
func (t *Table) drop(p *peer, end State) {
	t.timers.remove(p)
	delete(t.peers, p.Key)
	host := hostOf(p.Key.Addr)
	list := t.byHost[host]
	for i := range list {
		if list[i] == p {
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(t.byHost, host)
	} else {
		t.byHost[host] = list
	}
	if t.store.Pending(p.slot) {
		end = Ending
	}
	t.store.SetState(p.slot, end)
	if end == Ending && !t.store.Pending(p.slot) { // the terminator was faster, and saw the state before
		end = Free
		t.store.SetState(p.slot, end)
	}
	if end == Ending {
		t.ending = append(t.ending, p.slot)
	} else {
		t.free = append(t.free, p.slot)
	}
	p.slot = -1
}

// allocate finds a slot for a new conmgr, -1 if there is none.
func (t *Table) allocate() int {
	if len(t.free) == 0 {
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
	if len(t.free) == 0 {
		if p := t.dispensable(); p != nil {
			if !p.remembered {
				t.host.Log(Line{Level: Warning, Message: fmt.Sprintf("conmgr %s, which has closed its heartbeat connection, is forgotten: its slot is needed", p.remote()),
					Detail: "Its sessions are not terminated.", Hint: hintSlots})
			}
			t.drop(p, Free)
		}
	}
	if len(t.free) == 0 {
		return -1
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	return i
}

// dispensable is the one whose slot goes to a new conmgr if all are taken, nil if there is none: of those whose time to resume is over, else of
// those that closed their connection, of the host that has most of them. Nobody's sessions end for want of a slot.
func (t *Table) dispensable() (found *peer) {
	waiting := make(map[netip.Addr]int)
	for _, p := range t.peers {
		if p.State == Waiting && p.Closed {
			waiting[hostOf(p.Key.Addr)]++
		}
	}
	better := func(p, q *peer) bool {
		if p.remembered != q.remembered {
			return p.remembered
		}
		if n, m := waiting[hostOf(p.Key.Addr)], waiting[hostOf(q.Key.Addr)]; !p.remembered && n != m {
			return n > m
		}
		return p.WaitingSince < q.WaitingSince
	}
	for _, p := range t.peers {
		if p.State == Waiting && p.Closed && !t.store.Pending(p.slot) && (found == nil || better(p, found)) {
			found = p
		}
	}
	return found
}

const hintSlots = "Raise watchdog.max_heartbeat_connections."

// Hello admits a conmgr. replaced is its older connection, if it still has one: close it. The error is a *heartbeat.ProtocolError.
func (t *Table) Hello(now Now, c *conn, addr netip.Addr, port uint16, h heartbeat.Hello) (p *peer, flags heartbeat.WelcomeFlags, replaced *conn, err error) {
	key := Key{h.ID, addr}
	p = t.peers[key]
	if p != nil && h.Generation < p.Generation {
		return nil, 0, nil, &heartbeat.ProtocolError{Code: heartbeat.RefusedMalformed,
			Text: fmt.Sprintf("generation %d after %d", h.Generation, p.Generation)}
	}
	givenUp := p != nil && h.Generation > p.Generation
	if p != nil {
		replaced = p.conn
		p.Resumed++
		if !givenUp {
			flags |= heartbeat.Resumed
		}
	} else {
		t.supersede(addr, h.Boot)
		slot := t.allocate()
		if slot < 0 {
			if t.fullTold == 0 || now.Mono.Sub(t.fullTold) >= repeatLog { // a conmgr tries again every second
				t.fullTold = now.Mono
				t.host.Log(Line{Level: Warning, Message: "could not accept heartbeat connection from " + hostPort(addr, port),
					Detail: fmt.Sprintf("All %d slots for heartbeat connections are taken.", t.store.Len()), Hint: hintSlots})
			}
			return nil, 0, nil, &heartbeat.ProtocolError{Code: heartbeat.RefusedFull,
				Text: fmt.Sprintf("all %d heartbeat connections that watchdog.max_heartbeat_connections allows are taken", t.store.Len())}
		}
		p = &peer{slot: slot, heapIndex: -1, Slot: Slot{Key: key, ConnectedAt: now.Wall}}
		t.add(p)
	}
	p.State, p.Closed, p.remembered, p.heir = Connected, false, false, 0
	p.Boot, p.Port, p.Generation, p.Interval, p.Timeout = h.Boot, port, h.Generation, h.Interval, h.Timeout
	p.conn, p.sequence = c, 0
	p.pulse = heartbeat.NewPulse(h.Interval, h.Timeout, now.Mono)
	p.Received++
	p.Sent++
	p.LastReceived = now
	t.store.Put(p.slot, &p.Slot)
	t.timers.set(p, p.pulse.Wake())
	what := "established"
	if givenUp {
		t.judge(now, p, terminator.GivenUp)
		what = "established again, after conmgr had declared this instance lost"
	} else if flags&heartbeat.Resumed != 0 {
		what = "resumed"
	}
	t.host.Log(Line{Level: Log, Message: fmt.Sprintf("heartbeat connection is %s: conmgr %s", what, p.remote()),
		Detail: fmt.Sprintf("heartbeat_interval is %d ms, heartbeat_timeout is %d ms.", p.Interval.Milliseconds(), p.Timeout.Milliseconds())})
	return p, flags, replaced, nil
}

// supersede frees the slots of conmgrs that closed their connection and left this address to a new one: the host is alive.
func (t *Table) supersede(addr netip.Addr, boot heartbeat.ID) {
	for _, p := range append([]*peer(nil), t.byHost[hostOf(addr)]...) {
		if p.State == Waiting && p.Closed && p.Boot == boot && !p.remembered {
			t.host.Log(Line{Level: Log, Message: fmt.Sprintf("conmgr %s is replaced by another one of its host", p.remote())})
			t.drop(p, Free)
		}
	}
}

// Received records a frame of p.
func (t *Table) Received(now Now, p *peer) {
	p.pulse.Received(now.Mono)
	p.LastReceived = now
	p.Received++
	p.heir = 0
	t.store.Received(p.slot, p.Received, now)
}

// NextBeat counts a frame to p and returns its sequence number.
func (t *Table) NextBeat(p *peer) uint32 {
	p.sequence++
	p.Sent++
	t.store.Sent(p.slot, p.Sent)
	return p.sequence
}

// Closed records that the connection of p has ended without a GOODBYE. byPeer: the conmgr (or its kernel) closed it; otherwise the
// network gave up. Either way it may resume until its deadline.
func (t *Table) Closed(now Now, p *peer, byPeer bool, cause string) {
	p.conn = nil
	p.State, p.Closed, p.WaitingSince = Waiting, byPeer, now.Wall
	t.store.Put(p.slot, &p.Slot)
	t.timers.set(p, p.pulse.Deadline())
	what := "heartbeat connection is broken"
	if byPeer {
		what = "remote node closes heartbeat connection"
	}
	t.host.Log(Line{Level: Log, Message: fmt.Sprintf("%s: conmgr %s", what, p.remote()),
		Detail: fmt.Sprintf("%s It may resume for %d ms.", sentence(cause), max(0, p.pulse.Deadline().Sub(now.Mono).Milliseconds()))})
}

// Goodbye records an announced end.
func (t *Table) Goodbye(now Now, p *peer, g heartbeat.Goodbye) {
	t.Received(now, p)
	p.conn = nil
	cause := terminator.Goodbye
	if g.Code == heartbeat.GoodbyeGivenUp {
		cause = terminator.GivenUp
	}
	t.host.Log(Line{Level: Log, Message: fmt.Sprintf("remote node shuts down heartbeat connection: conmgr %s", p.remote()), Detail: sentence(g.Text)})
	t.drop(p, t.judge(now, p, cause))
}

// Dead ends p, whose deadline has passed. connected: it was still connected; close the connection.
func (t *Table) Dead(now Now, p *peer) {
	silence := now.Mono.Sub(p.pulse.LastReceived())
	cause := terminator.Silence
	if p.State == Waiting && p.Closed {
		cause = terminator.Closed
	}
	p.conn = nil
	if cause == terminator.Silence {
		t.host.Log(Line{Level: Log, Message: fmt.Sprintf("heartbeat is timed out: conmgr %s", p.remote()),
			Detail: fmt.Sprintf("Nothing was received for %d ms, heartbeat_timeout is %d ms.", silence.Milliseconds(), p.Timeout.Milliseconds())})
	} else {
		t.host.Log(Line{Level: Log, Message: fmt.Sprintf("conmgr %s closed its heartbeat connection and did not resume", p.remote())})
	}
	if cause == terminator.Closed && !t.host.TerminateOnClose() && p.heir == 0 {
		t.timers.remove(p)
		p.remembered = true
		return
	}
	t.drop(p, t.judge(now, p, cause))
}

// judge decides about the sessions of p's address, and asks the terminator if some have to end. The result is the state for p's slot
// in case p is dropped.
func (t *Table) judge(now Now, p *peer, cause terminator.Cause) State {
	others := t.othersAlive(now, p)
	d := terminator.Decide(cause, terminator.Facts{
		Now: now.Wall, LastReceived: now.Wall.Add(-now.Mono.Sub(p.pulse.LastReceived())), ClosedAt: p.WaitingSince, Interval: p.Interval,
		OtherAlive: len(others) > 0, TerminateOnClose: t.host.TerminateOnClose(),
	})
	if p.heir > d.CutOff && cause != terminator.GivenUp { // p dies as well, and with it the reason to spare
		d.CutOff = p.heir
		if d.Action == terminator.Spare {
			d.Action = terminator.End
			if len(others) > 0 {
				d.Action = terminator.Defer
			}
		}
	}
	switch d.Action {
	case terminator.End:
		t.store.CutOff(p.slot, cause, d.CutOff)
		t.host.WakeTerminator()
		return Ending
	case terminator.Defer:
		for _, o := range others {
			o.heir = max(o.heir, d.CutOff)
		}
	}
	t.host.Log(Line{Level: Log, Message: fmt.Sprintf("no session of %s is terminated", p.Key.Addr), Detail: sentence(d.Why)})
	return Free
}

// othersAlive are the other conmgrs of p's address that prove, or may still prove, that its host is up.
func (t *Table) othersAlive(now Now, p *peer) (alive []*peer) {
	for _, o := range t.byHost[hostOf(p.Key.Addr)] {
		if o == p || o.remembered || o.pulse.Dead(now.Mono) {
			continue
		}
		if o.Boot != p.Boot && o.ConnectedAt > p.LastReceived.Wall {
			continue // the machine was restarted meanwhile: it says nothing of what ran before
		}
		alive = append(alive, o)
	}
	return alive
}

// Late tells every pulse that this process was held up; see heartbeat.Pulse.Late.
func (t *Table) Late(by time.Duration) {
	for _, p := range t.peers {
		p.pulse.Late(by)
	}
}

// hostOf is the address by which a host is known: the two ways to say loopback are one host. extension/terminator.c folds them alike.
func hostOf(addr netip.Addr) netip.Addr {
	if addr == netip.IPv6Loopback() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return addr
}

// remote names a conmgr in the log.
func (p *peer) remote() string { return hostPort(p.Key.Addr, p.Port) }

// hostPort is the form of PostgreSQL's log lines: host=... port=...
func hostPort(addr netip.Addr, port uint16) string {
	return "host=" + addr.String() + " port=" + strconv.Itoa(int(port))
}

// sentence makes a DETAIL of a lower-case reason.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	if s[0] >= 'a' && s[0] <= 'z' && !strings.HasPrefix(s, "watchdog.") {
		s = string(s[0]-'a'+'A') + s[1:]
	}
	return s + "."
}
