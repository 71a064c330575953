package watchdog

// A heap of the peers by the time at which each has to be looked at again. A reception only ever
// puts that time off, so it leaves the heap alone: a peer that comes up too early is just put back.
// The times lie in the heap itself, four children side by side: with thousands of peers, looking
// each of them up is what costs.

import "github.com/pgwatchdog/watchdog/heartbeat"

type timers struct{ h []timer }

type timer struct {
	due heartbeat.Mono
	p   *peer
}

const children = 4

// set puts p into the heap, or moves it, to be due at t.
func (t *timers) set(p *peer, due heartbeat.Mono) {
	p.due = due
	if p.heapIndex < 0 {
		p.heapIndex = int32(len(t.h))
		t.h = append(t.h, timer{})
	}
	t.place(int(p.heapIndex), timer{due, p})
}

func (t *timers) remove(p *peer) {
	i := int(p.heapIndex)
	if i < 0 {
		return
	}
	last := len(t.h) - 1
	moved := t.h[last]
	t.h[last] = timer{}
	t.h = t.h[:last]
	p.heapIndex = -1
	if i < last {
		t.place(i, moved)
	}
}

// next is the peer that is due first, nil if there is none.
func (t *timers) next() *peer {
	if len(t.h) == 0 {
		return nil
	}
	return t.h[0].p
}

// place puts x where it belongs, starting from a free place i.
func (t *timers) place(i int, x timer) {
	for i > 0 {
		parent := (i - 1) / children
		if t.h[parent].due <= x.due {
			break
		}
		t.put(i, t.h[parent])
		i = parent
	}
	for {
		first := children*i + 1
		if first >= len(t.h) {
			break
		}
		least := first
		for c := first + 1; c < min(first+children, len(t.h)); c++ {
			if t.h[c].due < t.h[least].due {
				least = c
			}
		}
		if t.h[least].due >= x.due {
			break
		}
		t.put(i, t.h[least])
		i = least
	}
	t.put(i, x)
}

func (t *timers) put(i int, x timer) {
	t.h[i] = x
	x.p.heapIndex = int32(i)
}
