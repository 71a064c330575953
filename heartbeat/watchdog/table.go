package watchdog

// The conmgrs that this server knows, connected or not: docs/protocol.md 1.4. Called within Step;
// pure.

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/terminator"
)

// peer is one conmgr. Its slot in shared memory is what survives this process.
type peer struct {
	slot      int
	heapIndex int // in timers, -1: not there
	due       heartbeat.Mono

	Slot
	pulse heartbeat.Pulse
	conn  *conn // nil: not connected
	// remembered: its time to resume is over and its sessions were spared,
	// but should it come back with a higher generation, they are ended.
	remembered bool
	// putOff is when its verdict was first put off, with Deferred.
	putOff heartbeat.Mono
	// order of admission: a later one is higher.
	order uint64
}

// Table is the watchdog's end of all heartbeats: the conmgrs that are known, and the connections to
// the heartbeat port.
type Table struct {
	server   Server
	settings Settings
	store    Store
	actions  []Action // of this Step, and the bytes that they send
	bytes    []byte
	conns    []*conn // by Conn
	pending  *pending
	refused  *pending
	news     []*conn // who has to be told of changed settings

	timers timers
	peers  map[Key]*peer
	byHost map[netip.Addr][]*peer // by hostOf its address
	free   []int                  // the first one has been free for longest: its verdict may be needed least
	ending []int                  // slots that the terminator will free
	log    *logLimiter
	orders uint64
	// deferrals is how many verdicts are put off.
	deferrals int

	fullTold heartbeat.Mono // when the log was last told that there is no slot
}

// NewTable takes over what an earlier worker left in the store: whoever was connected then has its
// heartbeat_timeout, from now on, to resume.
// The actions are log lines.
func NewTable(server Server, settings Settings, store Store, now Now) (*Table, []Action) {
	t := &Table{server: server, settings: settings, store: store, peers: make(map[Key]*peer),
		byHost: make(map[netip.Addr][]*peer), pending: newPending(store.Len()), refused: newPending(0)}
	t.log = newLogLimiter(t.write, store.Len())
	known := 0
	for i := range store.Len() {
		s := store.Load(i)
		switch {
		case s.State == Ending:
			if !store.Pending(i) { // that worker died before it could ask
				t.ask(i, s.CutOff)
			}
			t.ending = append(t.ending, i)
		case s.State == Free || s.Interval <= 0 || s.Timeout <= 0 || t.peers[s.Key] != nil:
			store.SetState(i, Free)
			t.free = append(t.free, i)
		default:
			if s.State == Connected {
				s.State, s.Closed, s.WaitingSince = Waiting, Broken, now.Mono
			}
			if s.Deferred == 0 {
				known++
			}
			// A deferred verdict has its time from now on, too: those that may prove its host alive
			// have to resume first.
			p := &peer{slot: i, heapIndex: -1, Slot: s, pulse: heartbeat.NewPulse(s.Interval, s.Timeout, now.Mono),
				putOff: now.Mono}
			t.add(p)
			store.Put(i, &p.Slot)
			t.timers.set(p, p.pulse.Deadline())
		}
	}
	if known > 0 {
		t.write(Line{Level: Log, Message: fmt.Sprintf("waiting for %d known conmgr processes to resume", known)})
	}
	return t, t.actions
}

// write is the way of all lines to the log.
func (t *Table) write(l Line) { t.act(Action{Kind: Write, Line: &l}) }

func (t *Table) add(p *peer) {
	t.orders++
	p.order = t.orders
	if p.Deferred != 0 {
		t.deferrals++
	}
	t.peers[p.Key] = p
	t.byHost[hostOf(p.Key.Addr)] = append(t.byHost[hostOf(p.Key.Addr)], p)
}

// drop forgets a peer. Its slot becomes free, unless a verdict keeps it for the terminator.
func (t *Table) drop(p *peer, end State) {
	t.timers.remove(p)
	delete(t.peers, p.Key)
	if p.Deferred != 0 {
		t.deferrals--
	}
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

// received records a frame of p.
func (t *Table) received(now Now, p *peer) {
	p.pulse.Received(now.Mono)
	p.LastReceived = now
	p.Received++
	t.store.Received(p.slot, p.Received, now)
	if t.deferrals > 0 {
		t.settle(now, p.Key.Addr)
	}
}

// countSent counts a frame to p.
func (t *Table) countSent(p *peer) {
	p.Sent++
	t.store.Sent(p.slot, p.Sent)
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

// hostOf is the address by which a host is known: the two ways to say loopback are one host.
// extension/sessions.c folds them alike.
func hostOf(addr netip.Addr) netip.Addr {
	if addr == netip.IPv6Loopback() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return addr
}

// remote names a conmgr in the log.
func (p *peer) remote() string { return HostPort(p.Key.Addr, p.Port) }

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
