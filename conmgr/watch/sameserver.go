package watch

// One server under two entries, such as its own address and one that floats: the entry that reaches
// it first serves it, by its one heartbeat, and others are duplicates, which look again when that
// entry is lost or has another server, and now and then, as their address may lead elsewhere by
// then. A duplicate that reaches the server from another address of this host keeps its heartbeats,
// which prove that address alive. Called by the instances' goroutines; never blocks.

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// duplicateCheck is the least time after which a duplicate looks where its address leads. It costs
// the server a connection that is closed at once.
const duplicateCheck = 10 * time.Second

// leastRestart is shorter than any restart of a server.
const leastRestart = 50 * time.Millisecond

// serverKey is one run of one server: whatever the address by which it is reached.
type serverKey struct {
	system uint64
	start  int64
}

// holder is the entry that serves a server.
type holder struct {
	index int
	local netip.Addr // from which: the server takes that for the client host
	since clock.Mono
}

// serverMap tells which entry serves which server.
type serverMap struct {
	mu      sync.Mutex
	holders map[serverKey]holder
	wake    []chan struct{} // by index of the instance; there is something new for duplicates
}

func newServerMap(instances int) *serverMap {
	m := &serverMap{holders: map[serverKey]holder{}, wake: make([]chan struct{}, instances)}
	for i := range m.wake {
		m.wake[i] = make(chan struct{}, 1)
	}
	return m
}

// claim makes an entry serve a server, and no other one, unless another entry serves it already. It
// returns who serves.
func (m *serverMap) claim(index int, key serverKey, local netip.Addr, now clock.Mono) holder {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, taken := m.holders[key]
	if taken && h.index == index {
		h.local = local
		m.holders[key] = h
		return h
	}
	m.drop(index)
	if !taken {
		h = holder{index: index, local: local, since: now}
		m.holders[key] = h
	}
	return h
}

// release is called when an entry is lost: another entry may reach the server still.
func (m *serverMap) release(index int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(index)
}

func (m *serverMap) drop(index int) {
	for key, h := range m.holders {
		if h.index != index {
			continue
		}
		delete(m.holders, key)
		for i, w := range m.wake {
			if i == index {
				continue
			}
			select {
			case w <- struct{}{}:
			default:
			}
		}
	}
}

// share claims the server that a WELCOME has named. alone is false if the entry becomes a duplicate
// without a connection.
func (in *Instance) share(l *link, loss *heartbeat.Loss) (alone bool) {
	now := in.now()
	h := in.servers.claim(in.index, serverKey{in.mon.SystemIdentifier(), in.mon.PostmasterStart()}, in.local, now)
	in.servedBy = h.index
	if h.index == in.index {
		in.told = -1
		return true
	}
	// Were both servers heard of at one time? Then this one is not the other one, restarted.
	if loss != nil && loss.Reason == heartbeat.LossRestarted && h.since < now.Add(leastRestart-loss.Silence) {
		loss.Reason = heartbeat.LossMoved
	}
	if h.index != in.told { // the first time; it is checked again and again
		in.told = h.index
		in.events.Emit(event.Duplicate{Instance: in.id, Of: in.serving()})
	}
	if h.local != in.local {
		return true
	}
	l.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeDuplicate,
		Text: fmt.Sprintf("this server is monitored as instance %d", in.serving())}.Append(nil))
	l.close()
	in.mon.Duplicate()
	if loss != nil {
		in.lost(loss)
	}
	in.lossText = ""
	in.say("")
	return false
}

// isDuplicate tells whether another entry serves.
func (in *Instance) isDuplicate() bool { return in.servedBy != in.index }

// serving is the number of the entry that serves.
func (in *Instance) serving() int { return in.conf.Instances[in.servedBy].Number }

// leftAlone tells a duplicate with a connection that the server may be its own to serve.
func (in *Instance) leftAlone() bool {
	if !in.isDuplicate() {
		return false
	}
	select {
	case <-in.servers.wake[in.index]:
		return true
	default:
		return false
	}
}
