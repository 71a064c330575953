package simulate

// A box that hides client hosts behind one address: all that a server sees of them.

import "net/netip"

// nat maps each of their connections to a port of its own.
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
