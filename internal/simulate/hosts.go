package simulate

// Machines, the addresses that they have, the paths between them, and a box that hides several
// behind one address: all that a server sees of them.

import (
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// host is a machine and its kernel.
type host struct {
	w      *world
	name   string
	addr   netip.Addr
	nat    *nat // that hides the address from others, nil: none does
	up     bool
	frozen Mono // nothing of it runs until then, and what arrives is lost
	boot   heartbeat.ID
	boots  byte
	port   uint16 // next one for an outgoing connection
	listen func(e *endpoint)
	ends   map[pair]*endpoint
	sql    func() heartbeat.StopAnswer
}

// pair is both ends of a connection, as one of them sees it.
type pair struct{ local, remote netip.AddrPort }

// path is one direction between two addresses.
type path struct {
	delay time.Duration
	cut   Mono    // nothing passes until then
	loss  float64 // and of the rest so much is lost, until
	lossy Mono
	port  Mono          // heartbeats do not pass until then
	slow  time.Duration // added to the delay, until
	slowT Mono
}

type network struct {
	owners   map[netip.Addr]*host
	nats     []*nat
	paths    map[[2]netip.Addr]*path
	holes    map[netip.AddrPort]bool // clients' ends of connections that a middlebox has forgotten
	firewall func(p *packet) bool    // answers for who is not there
	endless  bool                    // kernels give up no connection
}

func (w *world) newHost(name string, addr netip.Addr) *host {
	h := &host{w: w, name: name, addr: addr, up: true, ends: map[pair]*endpoint{}, port: 40000}
	w.owners[addr] = h
	h.reboot()
	return h
}

func (h *host) reboot() {
	h.boots++
	h.boot = heartbeat.ID{h.addr.As4()[2], h.addr.As4()[3], h.boots, 0xb0}
	h.up, h.frozen = true, 0
	h.w.owners[h.addr] = h
}

// powerOff is the death of a machine: nobody is told.
func (h *host) powerOff() {
	h.up, h.listen, h.sql = false, nil, nil
	for _, e := range h.ends {
		e.forget()
	}
}

func (w *world) path(from, to netip.Addr) *path {
	k := [2]netip.Addr{from, to}
	p := w.paths[k]
	if p == nil {
		p = &path{}
		w.paths[k] = p
	}
	return p
}

// passes tells whether packets pass now, and how long they take.
func (w *world) passes(from, to netip.Addr) (time.Duration, bool) {
	p := w.path(from, to)
	d := p.delay
	if w.now < p.slowT {
		d += p.slow
	}
	return d, w.now >= p.cut && (w.now >= p.lossy || !w.chance(p.loss))
}

// send puts a packet on its way.
func (w *world) send(p *packet) {
	to, ok := w.inside(p.to)
	if !ok || len(w.holes) > 0 && (w.holes[p.from] || w.holes[to]) {
		return
	}
	d, ok := w.passes(p.from.Addr(), to.Addr())
	if !ok || w.now < w.path(p.from.Addr(), to.Addr()).port {
		return
	}
	p.from, p.to = w.outside(p.from), to
	w.in(d, func() {
		h := w.owners[p.to.Addr()]
		if h == nil || !h.up {
			if w.firewall != nil && w.firewall(p) && p.kind != rst {
				w.send(&packet{kind: rst, from: p.to, to: p.from})
			}
			return
		}
		if h.frozen <= w.now {
			h.arrives(p)
		}
	})
}

// nat is such a box. It maps each connection to a port of its own.
type nat struct {
	addr  netip.Addr
	ports map[netip.AddrPort]netip.AddrPort // from inside
	ends  map[netip.AddrPort]netip.AddrPort // and back
	last  uint16
}

// hide puts hosts behind an address.
func (w *world) hide(addr netip.Addr, clients ...*client) {
	n := &nat{addr: addr, ports: map[netip.AddrPort]netip.AddrPort{}, ends: map[netip.AddrPort]netip.AddrPort{}}
	w.nats = append(w.nats, n)
	for _, c := range clients {
		c.h.nat = n
		w.note("%s: is seen as %s", c.h.name, addr)
	}
}

// seen is the address that others have of a host.
func (h *host) seen() netip.Addr {
	if h.nat != nil {
		return h.nat.addr
	}
	return h.addr
}

// outside is what others see of an end of a connection.
func (w *world) outside(end netip.AddrPort) netip.AddrPort {
	if len(w.nats) == 0 {
		return end
	}
	h := w.owners[end.Addr()]
	if h == nil || h.nat == nil {
		return end
	}
	n := h.nat
	out, known := n.ports[end]
	if !known {
		n.last = max(n.last+1, 1024)
		out = netip.AddrPortFrom(n.addr, n.last)
		delete(n.ports, n.ends[out])
		n.ports[end], n.ends[out] = out, end
	}
	return out
}

// inside is the end that is seen as another one. ok is false if the box does not know it.
func (w *world) inside(end netip.AddrPort) (in netip.AddrPort, ok bool) {
	for _, n := range w.nats {
		if n.addr == end.Addr() {
			in, ok = n.ends[end]
			return in, ok
		}
	}
	return end, true
}

// neighbours tells whether other hosts are seen as the one that c is.
func (c *client) neighbours() bool {
	for _, o := range c.w.clients {
		if o != c && o.h.seen() == c.h.seen() {
			return true
		}
	}
	return false
}

// move gives a client host another address. What was connected from the old one finds that out by
// itself: to the server, both are addresses of one host that lives.
func (c *client) move(to netip.Addr) {
	w := c.w
	w.note("%s: address is %s now", c.h.name, to)
	for _, d := range w.databases {
		for _, s := range d.all() {
			s.over = s.over || s.c == c
		}
		d.sweep()
	}
	delete(w.owners, c.h.addr)
	for k, p := range w.paths {
		if k[0] == c.h.addr {
			w.path(to, k[1]).delay = p.delay
		} else if k[1] == c.h.addr {
			w.path(k[0], to).delay = p.delay
		}
	}
	c.h.addr = to
	w.owners[to] = c.h
}
