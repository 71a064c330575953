package simulate

// Random schedules: what is there, what applications do, and what goes wrong.

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

func newWorld(seed uint64, keep bool) *world {
	w := &world{now: Mono(time.Hour), rng: rand.New(rand.NewPCG(seed, 77)), keep: keep, slots: fewSlots}
	w.network = network{owners: map[netip.Addr]*host{}, paths: map[[2]netip.Addr]*path{}, holes: map[netip.AddrPort]bool{}}
	return w
}

const ms = time.Millisecond

// timings are those that schedules choose from. The first are quick, and few, as they cost more.
var timings = []settings{
	{100 * ms, 450 * ms, 100 * ms, time.Second},
	{500 * ms, 1500 * ms, time.Second, 2 * time.Second},
	{time.Second, 2 * time.Second, time.Second, 2 * time.Second},
	{time.Second, 3 * time.Second, 5 * time.Second, 2 * time.Second},
	{2 * time.Second, 5 * time.Second, time.Second, 10 * time.Second},
	{3 * time.Second, 9 * time.Second, time.Second, 10 * time.Second},
	{5 * time.Second, 15 * time.Second, 2 * time.Second, 10 * time.Second},
	{10 * time.Second, 20 * time.Second, 5 * time.Second, 10 * time.Second},
	{10 * time.Second, 30 * time.Second, time.Second, 10 * time.Second},
}

func clientAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}) }

func databaseAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 2, byte(i + 1)}) }

// people makes hosts and what runs on them.
func (w *world) people() {
	delays := []time.Duration{100 * time.Microsecond, 500 * time.Microsecond, 4 * ms, 25 * ms}
	databases, clients := 1+w.rng.IntN(2), 1+w.rng.IntN(2)
	for i := range databases {
		w.newDatabase("server"+string(rune('1'+i)), databaseAddr(i))
	}
	for i := range clients {
		addr := clientAddr(i)
		for _, d := range w.databases {
			delay := delays[w.rng.IntN(len(delays))]
			w.path(addr, d.h.addr).delay, w.path(d.h.addr, addr).delay = delay, delay
		}
		c := w.newClient("client"+string(rune('1'+i)), addr)
		for range 1 + w.rng.IntN(5)/3 {
			t := timings[1+w.rng.IntN(len(timings)-1)]
			if w.chance(0.03) {
				t = timings[0]
			}
			c.add(t)
		}
	}
}

// applications open a session now and then, wherever a conmgr sends them.
func (w *world) applications() {
	for _, c := range w.clients {
		for _, d := range w.databases {
			w.in(w.between(0, 10*time.Second), func() { w.application(c, d) })
		}
	}
}

const mostSessions = 6 // of one client at one server

func (w *world) application(c *client, d *database) {
	w.in(w.between(500*ms, 20*time.Second), func() { w.application(c, d) })
	w.use(c, d)
}

// use ends some sessions, and opens one.
func (w *world) use(c *client, d *database) {
	n := 0
	for _, s := range d.sessions {
		if s.c != c || s.over {
			continue
		}
		if n++; !s.dead() && !s.left && w.chance(0.15) { // it ends
			if _, ok := w.passes(c.h.addr, d.h.addr); ok {
				s.over = true
			}
		}
	}
	d.sweep()
	m := c.conmgrs[w.rng.IntN(len(c.conmgrs))]
	if in := m.instance(d); n >= mostSessions || !m.running || in == nil || !in.serves || !d.running || d.stopping ||
		d.h.frozen > w.now || c.h.frozen > w.now {
		return
	}
	if _, ok := w.passes(c.h.addr, d.h.addr); !ok {
		return
	}
	if s := d.open(c, m, w.chance(0.5)); d.opened%3 == 0 && len(w.nats) == 0 {
		s.work(time.Hour)
	}
}

// troubles plans the next fault, and the one after it.
func (w *world) troubles() {
	w.in(w.between(time.Second, 150*time.Second), func() {
		c, d := w.clients[w.rng.IntN(len(w.clients))], w.databases[w.rng.IntN(len(w.databases))]
		m := c.conmgrs[w.rng.IntN(len(c.conmgrs))]
		n := w.rng.IntN(total)
		for _, f := range faults {
			if n -= f.weight; n < 0 {
				f.do(w, c, m, d)
				break
			}
		}
		w.troubles()
	})
}

type fault struct {
	weight int
	do     func(w *world, c *client, m *conmgr, d *database)
}

var total = func() (n int) {
	for _, f := range faults {
		n += f.weight
	}
	return n
}()

var faults = []fault{
	{12, (*world).cut},
	{8, (*world).cutOneWay},
	{4, (*world).lossy},
	{3, (*world).delayed},
	{3, (*world).blackHole},
	{6, (*world).reset},
	{4, (*world).halfOpen},
	{6, (*world).stallConmgr},
	{6, (*world).stallWorker},
	{4, (*world).freezeClient},
	{5, (*world).freezeServer},
	{4, (*world).restartWorker},
	{5, (*world).restartConmgr},
	{6, (*world).clientDies},
	{2, (*world).serverDies},
	{2, (*world).serverStops},
	{2, (*world).clockStep},
	{1, (*world).toggle},
	{2, (*world).moveClient},
}

// length is how long a disturbance lasts: mostly close to what can be borne.
func (w *world) length(m *conmgr, d *database) time.Duration {
	h := w.bearable(m.set, d, m.c)
	switch w.rng.IntN(6) {
	case 0:
		return w.between(ms, h/2+ms)
	case 1:
		return w.between(h, 3*m.set.timeout)
	}
	return w.between(h/2, h)
}

func (w *world) cut(c *client, m *conmgr, d *database) {
	end := w.now.Add(w.length(m, d))
	w.path(c.h.addr, d.h.addr).cut, w.path(d.h.addr, c.h.addr).cut = end, end
	w.disturb(mark{from: w.now, to: end, hard: true,
		what: "cut between " + c.h.name + " and " + d.h.name, c: c, d: d})
}

func (w *world) cutOneWay(c *client, m *conmgr, d *database) {
	end := w.now.Add(w.length(m, d))
	from, to := c.h, d.h
	if w.chance(0.5) {
		from, to = to, from
	}
	w.path(from.addr, to.addr).cut = end
	w.disturb(mark{from: w.now, to: end, hard: true,
		what: "nothing passes from " + from.name + " to " + to.name, c: c, d: d})
}

func (w *world) lossy(c *client, m *conmgr, d *database) {
	end := w.now.Add(w.between(time.Second, 60*time.Second))
	for _, p := range [...]*path{w.path(c.h.addr, d.h.addr), w.path(d.h.addr, c.h.addr)} {
		p.loss, p.lossy = w.rng.Float64()*0.3, end
	}
	w.disturb(mark{from: w.now, to: end, hard: true,
		what: "packets are lost between " + c.h.name + " and " + d.h.name, c: c, d: d})
}

func (w *world) delayed(c *client, m *conmgr, d *database) {
	end := w.now.Add(w.between(time.Second, 20*time.Second))
	p := w.path(c.h.addr, d.h.addr)
	if w.chance(0.5) {
		p = w.path(d.h.addr, c.h.addr)
	}
	p.slow, p.slowT = w.between(ms, 150*ms), end
	w.disturb(mark{from: w.now, to: end.Add(p.slow), hard: true,
		what: "packets are late between " + c.h.name + " and " + d.h.name, c: c, d: d})
}

// blackHole: something between forgets one connection.
func (w *world) blackHole(c *client, m *conmgr, d *database) {
	if !m.running || m.instance(d).endpoint() == nil {
		return
	}
	w.holes[m.instance(d).endpoint().local] = true
	w.disturb(mark{from: w.now, to: w.now.Add(2 * m.set.timeout), hard: true,
		what: "a connection of " + c.h.name + " is forgotten", c: c, d: d})
}

func (w *world) bothEnds(m *conmgr, d *database) (client, server *endpoint) {
	if !m.running || m.instance(d).endpoint() == nil {
		return nil, nil
	}
	e := m.instance(d).endpoint()
	return e, d.h.ends[pair{e.remote, w.outside(e.local)}]
}

// reset: something between ends a connection, for both.
func (w *world) reset(c *client, m *conmgr, d *database) {
	a, b := w.bothEnds(m, d)
	if a == nil {
		return
	}
	w.disturb(mark{from: w.now, to: w.now, hard: true,
		what: "a connection of " + c.h.name + " to " + d.h.name + " is reset", c: c, d: d})
	a.fail(watchdog.Reset)
	if b != nil {
		b.fail(watchdog.Reset)
	}
}

// halfOpen: one end is reset, the other does not learn of it.
func (w *world) halfOpen(c *client, m *conmgr, d *database) {
	a, b := w.bothEnds(m, d)
	if a == nil {
		return
	}
	w.disturb(mark{from: w.now, to: w.now, hard: true, half: true,
		what: "one end of a connection of " + c.h.name + " to " + d.h.name + " is reset", c: c, d: d})
	if w.chance(0.5) {
		a.fail(watchdog.Reset)
	} else if b != nil {
		b.fail(watchdog.Reset)
	}
}

// halfReset tells whether a connection of m's was reset at one end, and conmgr may not know yet: to the
// server, that may be a firewall, and it proves nothing for others (docs/protocol.md 1.5).
func (w *world) halfReset(m *conmgr, d *database) bool {
	return slices.ContainsFunc(w.marks, func(k mark) bool {
		return k.half && k.c == m.c && k.d == d && k.to.Add(m.set.interval+500*ms) >= w.now
	})
}

func (w *world) stallConmgr(c *client, m *conmgr, d *database) {
	m.p.stopped = w.now.Add(w.length(m, d))
	w.disturb(mark{from: w.now, to: m.p.stopped, what: "a conmgr of " + c.h.name + " is stopped", c: c, m: m})
}

func (w *world) stallWorker(c *client, m *conmgr, d *database) {
	if d.worker == nil {
		return
	}
	d.worker.stopped = w.now.Add(w.length(m, d))
	w.disturb(mark{from: w.now, to: d.worker.stopped, what: "the worker of " + d.h.name + " is stopped", d: d})
}

func (w *world) freezeClient(c *client, m *conmgr, d *database) {
	c.freeze(w.length(m, d))
}

// freeze pauses the machine.
func (c *client) freeze(length time.Duration) {
	w := c.w
	c.h.frozen = w.now.Add(length)
	w.disturb(mark{from: w.now, to: c.h.frozen, frozen: true, what: c.h.name + " is frozen", c: c})
}

func (w *world) freezeServer(c *client, m *conmgr, d *database) {
	d.h.frozen = w.now.Add(w.length(m, d))
	w.disturb(mark{from: w.now, to: d.h.frozen, frozen: true, what: d.h.name + " is frozen", d: d})
}

func (w *world) restartWorker(c *client, m *conmgr, d *database) {
	after := w.between(30*ms, 300*ms)
	d.restartWorker(after)
	what := "no worker at "
	if w.keys != nil && w.seq%3 == 0 && d.worker == nil { // nor can the next one read its keys
		after += time.Duration(w.seq%4000) * ms
		d.keyless = w.now.Add(after)
		d.h.later(after, func() {
			if d.worker != nil {
				d.worker.wake()
			}
		})
		what = "no worker that has keys at "
	}
	w.disturb(mark{from: w.now, to: w.now.Add(after), away: true, what: what + d.h.name, d: d})
}

func (w *world) restartConmgr(c *client, m *conmgr, d *database) {
	m.kill(w.chance(0.3))
	c.h.later(w.between(10*ms, 2*m.set.timeout), m.start)
}

func (w *world) clientDies(c *client, m *conmgr, d *database) {
	if !c.h.up {
		return
	}
	c.powerOff()
	w.in(w.between(m.set.interval, 4*m.set.timeout), c.powerOn)
}

func (w *world) serverDies(c *client, m *conmgr, d *database) {
	if !d.h.up {
		return
	}
	d.powerOff()
	d.changed = w.now
	w.in(w.between(time.Second, 60*time.Second), func() {
		d.h.reboot()
		d.startServer()
	})
}

func (w *world) serverStops(c *client, m *conmgr, d *database) {
	if w.chance(0.3) {
		d.crash()
	} else {
		d.stopServer(w.between(ms, 30*time.Second))
	}
	w.in(w.between(40*time.Second, 60*time.Second), d.startServer)
}

func (w *world) clockStep(c *client, m *conmgr, d *database) {
	by := w.between(-10*time.Second, 10*time.Second)
	d.step += by
	w.note("-- the clock of %s is set by %v", d.h.name, by)
}

func (w *world) toggle(c *client, m *conmgr, d *database) {
	d.onClose, d.toggled = !d.onClose, w.now
	if d.worker != nil {
		d.worker.wake()
	}
}

func (w *world) moveClient(c *client, m *conmgr, d *database) {
	if !c.h.up {
		return
	}
	a := c.h.addr.As4()
	a[1]++
	c.move(netip.AddrFrom4(a))
	w.disturb(mark{from: w.now, to: w.now.Add(time.Minute), hard: true, always: true,
		what: "another address", c: c})
}
