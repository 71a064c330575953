package watch

// Which entry serves which server, where several lead to one. Called by the instances' goroutines;
// never blocks.

import (
	"net/netip"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/heartbeat/instance"
)

// duplicateCheck is the least time after which a duplicate looks where its address leads. It costs
// the server a connection that is closed at once.
const duplicateCheck = 10 * time.Second

// serverMap tells which entry serves which server.
type serverMap struct {
	mu      sync.Mutex
	holders map[instance.Server]instance.Holder
	wake    []chan struct{} // by index of the instance; there is something new for duplicates
}

func newServerMap(instances int) *serverMap {
	m := &serverMap{holders: map[instance.Server]instance.Holder{}, wake: make([]chan struct{}, instances)}
	for i := range m.wake {
		m.wake[i] = make(chan struct{}, 1)
	}
	return m
}

// claim makes an entry serve a server, and no other one, unless another entry serves it already. It
// returns who serves.
func (m *serverMap) claim(index int, key instance.Server, local netip.Addr, now clock.Mono) instance.Holder {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, taken := m.holders[key]
	if taken && h.Index == index {
		h.Local = local
		m.holders[key] = h
		return h
	}
	m.drop(index)
	if !taken {
		h = instance.Holder{Index: index, Local: local, Since: now}
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
		if h.Index != index {
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
