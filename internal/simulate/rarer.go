package simulate

// What every second seed has in addition, by random numbers of its own: so the others, and among them
// those that are kept, mean what they have always meant.

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// rare is the source of those numbers.
type rare struct{ *rand.Rand }

func (r rare) chance(p float64) bool { return r.Float64() < p }

func (r rare) between(a, b time.Duration) time.Duration {
	return a + time.Duration(r.Int64N(int64(b-a)))
}

func (w *world) rarer(seed uint64) {
	if seed%2 != 0 {
		return
	}
	r := rare{rand.New(rand.NewPCG(seed, 78))}
	if len(w.clients) > 1 && r.chance(0.6) {
		w.hide(netip.AddrFrom4([4]byte{10, 0, 9, 1}), w.clients...)
	}
	if r.chance(0.4) {
		c := w.clients[r.IntN(len(w.clients))]
		c.conmgrs[r.IntN(len(c.conmgrs))].twice(w.databases[r.IntN(len(w.databases))])
	}
	w.postmastersStandStill(r)
}

// postmastersStandStill: mostly for no longer than a cut-off allows for.
func (w *world) postmastersStandStill(r rare) {
	w.in(r.between(2*time.Second, 100*time.Second), func() {
		d := w.databases[r.IntN(len(w.databases))]
		length := r.between(100*ms, 450*ms)
		if r.chance(0.3) {
			length = r.between(time.Second, 6*time.Second)
		}
		if d.running {
			d.standStill(length)
		}
		if c := w.clients[r.IntN(len(w.clients))]; d.running && r.chance(0.2) { // its last words
			w.in(r.between(0, length), func() { w.dies(c, d, r) })
		}
		w.postmastersStandStill(r)
	})
}

// dies: an application connects, and then the machine dies.
func (w *world) dies(c *client, d *database, r rare) {
	m := c.conmgrs[0]
	if !c.h.up || !m.running {
		return
	}
	w.use(c, d)
	c.powerOff()
	w.in(r.between(m.set.interval, 4*m.set.timeout), c.powerOn)
}
