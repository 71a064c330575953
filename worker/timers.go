package worker

// A heap of the peers by the time at which each has to be looked at again. A reception only ever puts that time off, so it leaves the heap alone: a
// peer that comes up too early is just put back.

import (
	"container/heap"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

type timers struct{ h peerHeap }

// set puts p into the heap, or moves it, to be due at t.
func (t *timers) set(p *peer, due heartbeat.Mono) {
	p.due = due
	if p.heapIndex < 0 {
		heap.Push(&t.h, p)
	} else {
		heap.Fix(&t.h, p.heapIndex)
	}
}

func (t *timers) remove(p *peer) {
	if p.heapIndex >= 0 {
		heap.Remove(&t.h, p.heapIndex)
	}
}

// next is the peer that is due first, nil if there is none.
func (t *timers) next() *peer {
	if len(t.h) == 0 {
		return nil
	}
	return t.h[0]
}

type peerHeap []*peer

var _ heap.Interface = (*peerHeap)(nil)

func (h peerHeap) Len() int           { return len(h) }
func (h peerHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h peerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}
func (h *peerHeap) Push(x any) {
	p := x.(*peer)
	p.heapIndex = len(*h)
	*h = append(*h, p)
}
func (h *peerHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.heapIndex = -1
	return p
}
