package conmgr

// One server under two entries, such as its own address and one that floats: the entry that reaches it first serves it,
// by its one heartbeat, and others are duplicates, which look again when that entry is lost or has another server, and
// now and then, as their address may lead elsewhere by then. Called by the instances' goroutines; never blocks.

import (
	"fmt"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// duplicateCheck is the least time after which a duplicate looks where its address leads. It costs the server a
// connection that is closed at once.
var duplicateCheck = 10 * time.Second

// serverKey is one run of one server: whatever the address by which it is reached.
type serverKey struct {
	system uint64
	start  int64
}

// holder is the entry that serves a server.
type holder struct {
	index int
	since Mono
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

// claim makes an entry serve a server, and no other one, unless another entry serves it already. It returns who serves.
func (m *serverMap) claim(index int, key serverKey, now Mono) holder {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, taken := m.holders[key]
	if taken && h.index == index {
		return h
	}
	m.drop(index)
	if !taken {
		h = holder{index: index, since: now}
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

// share claims the server that a WELCOME has named. If another entry serves it, this one becomes a duplicate, and a loss
// that the WELCOME has shown gets its true reason.
func (in *instance) share(loss *heartbeat.Loss) (serving int) {
	now := in.now()
	h := in.servers.claim(in.index, serverKey{in.mon.SystemIdentifier(), in.mon.PostmasterStart()}, now)
	if h.index == in.index {
		return h.index
	}
	// Were both servers heard of at one time? Then this one is not the other one, restarted.
	if loss != nil && loss.Reason == heartbeat.LossRestarted && h.since < now.Add(-loss.Silence) {
		loss.Reason = heartbeat.LossMoved
	}
	in.mon.Duplicate()
	return h.index
}

// duplicated: the entry's server is served by another one. A line in the log the first time; it is checked again and again.
func (in *instance) duplicated(l *link, serving int, loss *heartbeat.Loss) {
	number := in.conf.Instances[serving].Number
	l.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeDuplicate,
		Text: fmt.Sprintf("this server is monitored as instance %d", number)}.Append(nil))
	l.close()
	if loss != nil {
		in.lost(loss)
	}
	in.lossText = ""
	in.say(fmt.Sprintf("same server as instance %d", number))
	if serving != in.servedBy {
		in.servedBy = serving
		in.note("duplicate", LOG, "%s is the same server as instance %d, whose heartbeats serve for both", in, number)
	}
}
