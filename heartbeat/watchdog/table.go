package watchdog

// The conmgrs that this server knows, connected or not: docs/protocol.md 1.4. Called within Step;
// pure.

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/terminator"
)

// peer is one conmgr. Its slot in shared memory is what survives this process.
type peer struct {
	slot      int
	heapIndex int32  // in timers, -1: not there
	untold    uint16 // how often the log was not told that it has resumed, since toldResumed
	left      Close  // how the last connection ended, whoever has ended it
	due       heartbeat.Mono

	Slot
	pulse heartbeat.Pulse
	conns []*conn // by attempt, the latest one last; empty: not connected
	// followed is the process before this one, while it may live; nil: there is none.
	followed *followed
	// witnessed is the deadline at which the kernel was asked last: there it is not asked again.
	witnessed heartbeat.Mono
	// heard is when the kernel last had heard of its host's sessions.
	heard heartbeat.Mono
	// told is when the silence began, a nanosecond after what was heard last, of which the log was told
	// that its verdict is suspended; 0: of none.
	told heartbeat.Mono
	// order of admission: a later one is higher.
	order uint64
	// when the log was last told that it has resumed
	toldResumed heartbeat.Mono
}

// Table is the watchdog's end of all heartbeats: the conmgrs that are known, and the connections to
// the heartbeat port.
type Table struct {
	server   Server
	settings Settings
	store    Store
	actions  []Action // of this Step, and the bytes that they send
	bytes    []byte
	conns    []*conn         // by Conn
	begun    map[Conn][]byte // begins of frames that are not complete yet
	pending  *pending
	refused  *pending
	news     []*conn     // who has to be told of changed settings
	keys     *proof.Keys // of which connections have numbers: those that Access had last

	timers timers
	peers  map[heartbeat.ID]*peer // by label
	byHost map[netip.Addr][]*peer // by hostOf each of its addresses
	// taken is since when another boot has an address of a conmgr's, by hostOf, of which none is
	// known any more.
	taken  map[*peer]map[netip.Addr]terminator.Time
	free   []int                   // the first one has been free for longest: its verdict may be needed least
	left   map[heartbeat.ID]legacy // free slots that name the heir of a conmgr, by its label
	ending []int                   // slots that the terminator will free
	log    *logLimiter
	orders uint64
	// verdicts is how often the terminator was asked.
	verdicts uint64
	asking   *peer // its verdict waits for KernelHeard
	// deferrals is how many verdicts are put off.
	deferrals int
	deafSince heartbeat.Mono // Access.NoKeys

	forged   int            // messages without the proof that they need
	fullTold heartbeat.Mono // when the log was last told that there is no slot
}

// NewTable takes over what an earlier worker left in the store. Time without a worker does not
// count: whoever was connected then has what it had left of its heartbeat_timeout, to resume. The
// actions are log lines.
func NewTable(server Server, settings Settings, store Store, now Now) (*Table, []Action) {
	t := &Table{server: server, settings: settings, store: store, peers: make(map[heartbeat.ID]*peer),
		begun: make(map[Conn][]byte), left: make(map[heartbeat.ID]legacy), taken: make(map[*peer]map[netip.Addr]terminator.Time),
		byHost: make(map[netip.Addr][]*peer), pending: newPending(store.Len()), refused: newPending(0)}
	if settings.Access != nil {
		t.keys = settings.Access.Keys
	}
	t.log = newLogLimiter(t.write, store.Len())
	alive := store.Alive()
	known := 0
	t.deafSince = now.Mono
	for i := range store.Len() {
		s := store.Load(i)
		if s.Unasked { // that worker died before it could ask
			t.ask(i, s.lastCutOff())
			s.Unasked = false
		}
		switch {
		case s.State == Ending:
			if !store.Pending(i) { // the terminator died before it could free the slot
				t.ask(i, s.lastCutOff())
			}
			t.ending = append(t.ending, i)
		case s.KeyID == (proof.KeyID{}) && settings.Access.mode() == Require && store.Pending(i):
			store.SetState(i, Ending)
			t.ending = append(t.ending, i)
		case s.KeyID == (proof.KeyID{}) && settings.Access.mode() == Require || s.State == Free || s.Interval <= 0 || s.Timeout <= 0 ||
			!s.Addr().IsValid() || t.known(s.ID) != nil:
			store.SetState(i, Free)
			t.free = append(t.free, i)
		default:
			if s.State == Connected {
				s.State, s.Closed, s.WaitingSince = Waiting, Broken, now.Mono
			}
			if s.Deferred == 0 && !s.Remembered {
				known++
			}
			p := &peer{slot: i, heapIndex: -1, Slot: s, pulse: heartbeat.NewPulse(s.Interval, s.Timeout, now.Mono)}
			p.await()
			t.add(p)
			if alive != 0 {
				t.unheard(now, p, max(0, now.Mono.Sub(alive)))
			}
			store.Put(i, &p.Slot)
			t.resume(now, p)
		}
	}
	t.named()
	for _, i := range t.free {
		if s := t.store.Load(i); s.CutOff == 0 {
			t.cede(&s)
		}
	}
	if known > 0 {
		t.write(Line{Level: Log, Message: fmt.Sprintf("waiting for %d known conmgr processes to resume", known)})
	}
	return t, t.actions
}

// unheard: for so long nobody could hear p, nor those for whose sake its verdict is put off. That
// does not count.
func (t *Table) unheard(now Now, p *peer, d time.Duration) {
	last := p.LastReceived.Mono.Add(d)
	if p.Deferred != 0 {
		p.WaitingSince, p.Due = p.WaitingSince.Add(d), p.Due.Add(d)
		last = p.Due.Add(-p.Timeout)
	} else {
		p.LastReceived.Mono = min(last, now.Mono)
		if p.Until != 0 {
			p.Until = p.Until.Add(d)
		}
	}
	p.pulse = heartbeat.ResumePulse(p.Interval, p.Timeout, last, now.Mono)
	p.await()
}

// await leaves p, which has left with a grace, its time.
func (p *peer) await() {
	if p.Deferred == 0 {
		p.pulse.Await(p.Until)
	}
}

// resume has p, which is not connected, looked at again when its time is over, unless nobody can
// hear it.
func (t *Table) resume(now Now, p *peer) {
	switch {
	case p.Remembered:
	case t.settings.Access.deafTo(p.KeyID):
		t.timers.remove(p)
	default:
		t.timers.set(p, max(p.pulse.Deadline(), now.Mono)) // what was due before is not late by that
	}
}

// deaf: there are no keys any more, or there are again. What is between does not count.
func (t *Table) deaf(now Now, was bool) {
	is := t.settings.Access != nil && t.settings.Access.NoKeys
	if is == was {
		return
	}
	for _, p := range t.sorted() {
		if p.KeyID == (proof.KeyID{}) || len(p.conns) > 0 {
			continue
		}
		if was {
			t.unheard(now, p, now.Mono.Sub(max(t.deafSince, p.WaitingSince)))
			t.store.Put(p.slot, &p.Slot)
		}
		t.resume(now, p)
	}
	t.deafSince = now.Mono
}

// sorted are all conmgrs, by their slots.
func (t *Table) sorted() []*peer {
	return slices.SortedFunc(maps.Values(t.peers), func(a, b *peer) int { return cmp.Compare(a.slot, b.slot) })
}

// write is the way of all lines to the log.
func (t *Table) write(l Line) { t.act(Action{Kind: Write, Line: &l}) }

// known is the conmgr with an id, nil: nobody.
func (t *Table) known(id heartbeat.ID) *peer { return t.peers[heartbeat.LabelID(id)] }

func (t *Table) add(p *peer) {
	t.orders++
	p.order = t.orders
	if p.Deferred != 0 {
		t.deferrals++
	}
	t.peers[heartbeat.LabelID(p.ID)] = p
	for _, a := range p.Proved.All() {
		t.enlist(p, a.Addr)
	}
}

// enlist makes p one of the conmgrs of an address; delist takes that back.
func (t *Table) enlist(p *peer, addr netip.Addr) {
	host := hostOf(addr)
	if !slices.Contains(t.byHost[host], p) {
		t.byHost[host] = append(t.byHost[host], p)
	}
}

func (t *Table) delist(p *peer, addr netip.Addr) {
	host := hostOf(addr)
	list := t.byHost[host]
	if i := slices.Index(list, p); i >= 0 {
		list[i] = list[len(list)-1]
		list[len(list)-1] = nil
		list = list[:len(list)-1]
	}
	if len(list) == 0 {
		delete(t.byHost, host)
	} else {
		t.byHost[host] = list
	}
}

// drop forgets a peer. Its slot becomes free, unless a verdict keeps it for the terminator.
func (t *Table) drop(p *peer, end State) {
	t.forgetFormer(p)
	t.timers.remove(p)
	delete(t.peers, heartbeat.LabelID(p.ID))
	delete(t.taken, p)
	if p.Deferred != 0 {
		t.deferrals--
	} else if end == Free {
		t.cede(&p.Slot)
	}
	for _, a := range p.Proved.All() {
		t.delist(p, a.Addr)
	}
	if end == Free && t.store.Pending(p.slot) {
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

// cede: s is forgotten without a verdict. To whoever was silent when another boot came to its
// address by that conmgr, what began since is still that boot's.
func (t *Table) cede(s *Slot) {
	host, since := hostOf(s.Addr()), s.since(s.Addr())
	for _, p := range t.byHost[host] {
		last := terminator.Time(p.LastReceived.Mono)
		if !s.weighs(p.KeyID) || !terminator.Rebooted(s.Boot == p.Boot, since, last) {
			continue
		}
		if before, was := t.taken[p][host]; !was || before < last || since < before {
			if t.taken[p] == nil {
				t.taken[p] = map[netip.Addr]terminator.Time{}
			}
			t.taken[p][host] = since
		}
	}
}

// received records a frame of p.
func (t *Table) received(now Now, p *peer) {
	p.pulse.Received(now.Mono)
	p.LastReceived = now
	p.Received++
	t.store.Count(FramesReceived)
	t.store.Received(p.slot, p.Received, now)
	if p.Heir != (heartbeat.ID{}) { // it has not only looked
		p.Heir = heartbeat.ID{}
		t.store.Put(p.slot, &p.Slot)
	}
	if t.deferrals > 0 {
		t.settle(now, p.Addr())
	}
}

// countSent counts a frame to p.
func (t *Table) countSent(p *peer) {
	p.Sent++
	t.store.Sent(p.slot, p.Sent)
	t.store.Count(FramesSent)
}

// awaited is how many of a host's conmgrs are connected or may resume.
func awaited(peers []*peer) (n int) {
	for _, p := range peers {
		if p.standing() == terminator.Awaited {
			n++
		}
	}
	return n
}

// maxConns is how many connections of one conmgr are beaten on: the latest ones. One that is stuck,
// one that was opened beside it, and the next one before WELCOME on that is in its hands.
const maxConns = 3

// resumedEvery is how often the log is told that one conmgr has resumed.
const resumedEvery = time.Minute

// latest is the connection with the highest attempt, nil if there is none.
func (p *peer) latest() *conn {
	if len(p.conns) == 0 {
		return nil
	}
	return p.conns[len(p.conns)-1]
}

// outrun tells whether nothing is to be heard of a HELLO: later ones of the same conmgr have come
// before it, and have said more, or are as many as there may be. What others have given up may
// still be on its way.
func (p *peer) outrun(h heartbeat.Hello) bool {
	if h.Attempt == 0 || h.Attempt > p.Attempt || p.succeeds(h) {
		return false
	}
	later := 0
	for _, c := range p.conns {
		switch {
		case c.ch.Attempt == h.Attempt:
			return true
		case c.ch.Attempt > h.Attempt:
			later++
		}
	}
	return later == maxConns || later == maxConns-1 && p.surplus() > 0 || h.Generation < p.Generation
}

// surplus is which of its connections has to go for a later one: the earliest, but not one that
// conmgr may have no other of. On the later ones it has said HELLO, and may not know yet that it was
// heard, or have given them up. -1: none has to.
func (p *peer) surplus() int {
	if len(p.conns) < maxConns {
		return -1
	}
	if p.conns[0].ch.Heard() && !slices.ContainsFunc(p.conns[1:], func(c *conn) bool { return c.ch.Heard() }) {
		return 1
	}
	return 0
}

// join makes c, of that attempt, one of the connections of p, and returns those that have to be
// closed for it: what a conmgr of version 1 had, those of a generation before, and the earliest one
// that is too many.
func (p *peer) join(c *conn, attempt uint32, alone bool) (out []*conn) {
	if alone || attempt == 0 {
		out, p.conns = p.conns, nil
	}
	n := p.surplus()
	i := len(p.conns)
	for i > 0 && p.conns[i-1].ch.Attempt > attempt {
		i--
	}
	p.conns = slices.Insert(p.conns, i, c)
	if n >= 0 {
		out = append(out, p.conns[n])
		p.conns = slices.Delete(p.conns, n, n+1)
	}
	return out
}

// leave ends all connections of p, and returns them.
func (p *peer) leave() (conns []*conn) {
	conns, p.conns = p.conns, nil
	return conns
}

// parted records that a connection of p is no more, without a GOODBYE that counts. How it has ended
// means something if it was the last one only: a conmgr closes older ones.
func (t *Table) parted(now Now, p *peer, c *conn, how Close, cause string) {
	if p.leaves(c) {
		return
	}
	p.conns = slices.DeleteFunc(p.conns, func(o *conn) bool { return o == c })
	if rest := p.latest(); rest != nil {
		p.Port = rest.port
		t.store.Put(p.slot, &p.Slot)
		return
	}
	t.closed(now, p, how, cause)
}

// tellResumed logs that p has resumed. One that doubts its connection, or whose connections are
// reset all the time, does so often.
func (t *Table) tellResumed(now Now, p *peer) {
	if p.toldResumed != 0 && now.Mono.Sub(p.toldResumed) < resumedEvery {
		p.untold++
		return
	}
	line := Line{Level: Log, Message: "heartbeat connection is resumed: conmgr " + p.remote(), Detail: p.schedule()}
	if p.untold > 0 {
		line.Detail += fmt.Sprintf(" It has resumed %d more times since this was last logged.", p.untold)
	}
	p.toldResumed, p.untold = now.Mono, 0
	t.log.routine(now, p.Addr(), line)
}

func (p *peer) schedule() string {
	return fmt.Sprintf("heartbeat_interval is %d ms, heartbeat_timeout is %d ms.",
		p.Interval.Milliseconds(), p.Timeout.Milliseconds())
}

// hostOf is the address by which a host is known: the two ways to say loopback are one host.
// extension/sessions.c folds them alike.
func hostOf(addr netip.Addr) netip.Addr {
	if addr == netip.IPv6Loopback() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return addr
}

// remote names a conmgr in the log.
func (p *peer) remote() string { return HostPort(p.Addr(), p.Port) }

// HostPort is the form of PostgreSQL's log lines: host=... port=...
func HostPort(addr netip.Addr, port uint16) string {
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

// ownerOf is the label of the conmgr, connected or about to resume, that answers for who carries a
// label: owner_of() in extension/verdicts.c is the same rule. Zeros: nobody does.
func (t *Table) ownerOf(label heartbeat.ID) (owner heartbeat.ID) {
	for range maxHeirs {
		p := t.peers[label]
		if p != nil && p.standing() == terminator.Awaited {
			return label
		}
		l, left := t.left[label]
		switch {
		case p != nil && p.Heir != (heartbeat.ID{}):
			label = p.Heir
		case left:
			label = t.store.Load(l.slot).Heir
		default:
			return owner
		}
	}
	return owner
}

// maxHeirs is so often a conmgr may have been followed by another one.
const maxHeirs = 16
