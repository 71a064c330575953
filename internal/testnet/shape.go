package testnet

// Links of a limited rate, addresses that move from host to host, and one that several hosts share;
// a host's own firewall.

import (
	"fmt"
	"net/netip"
	"strings"
)

// Rate limits what goes to a host, to a number of megabits a second; more is queued for up to half
// a second, and then dropped. It takes the place of an earlier limit of that host.
func (n *Net) Rate(to *Host, mbits int) *Fault {
	n.t.Helper()
	tc := func(verb, rest string) error {
		return n.sw.do(func() error {
			return run("tc", append([]string{"qdisc", verb, "dev", to.port, "root"}, strings.Fields(rest)...), "")
		})
	}
	w, err := measure(func() error { return tc("replace", fmt.Sprintf("tbf rate %dmbit burst 64kb latency 500ms", mbits)) })
	if err != nil {
		n.t.Fatalf("limit the rate to %s: %v", to.Name, err)
	}
	return &Fault{Applied: w, net: n, heal: func() error { return tc("del", "") }}
}

// Floating is an address that no host has at first: 10.77.255.x, of the network of all hosts.
func Floating(x byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 255, x}) }

// Assign gives an IPv4 address to a host, besides its own; the switch sends there what is addressed
// to it from now on. A host that had it keeps it until Withdraw: a dead host does not let go.
func (n *Net) Assign(a netip.Addr, to *Host) {
	n.t.Helper()
	err := to.space.do(func() error { return ip(fmt.Sprintf("addr replace %s/32 dev eth0", a)) })
	if err == nil {
		err = n.sw.do(func() error { return ip(fmt.Sprintf("route replace %s/32 via %s dev %s", a, to.Addr4, to.port)) })
	}
	if err != nil {
		n.t.Fatalf("address %s to %s: %v", a, to.Name, err)
	}
}

// Withdraw takes an address from a host.
func (n *Net) Withdraw(a netip.Addr, from *Host) {
	n.t.Helper()
	if err := from.space.do(func() error { return ip(fmt.Sprintf("addr del %s/32 dev eth0", a)) }); err != nil {
		n.t.Fatalf("address %s of %s: %v", a, from.Name, err)
	}
}

// Masquerade puts hosts behind one address, as a router with NAT does: whom they connect to sees
// them under it. Nobody reaches them there. A net has one such address.
func (n *Net) Masquerade(as netip.Addr, hosts ...*Host) {
	n.t.Helper()
	var inside []string
	for _, h := range hosts {
		inside = append(inside, h.Addr4.String())
	}
	err := n.sw.nft(fmt.Sprintf(`
table ip nat {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr { %s } snat to %s
	}
}
`, strings.Join(inside, ", "), as))
	if err != nil {
		n.t.Fatalf("NAT: %v", err)
	}
}

// Prefer has a host connect from one of its addresses, if nobody asks for another one.
func (n *Net) Prefer(a netip.Addr, h *Host) {
	n.t.Helper()
	err := h.space.do(func() error {
		return run("sh", []string{"-c", fmt.Sprintf("ip route replace $(ip route show default) src %s", a)}, "")
	})
	if err != nil {
		n.t.Fatalf("%s prefers %s: %v", h.Name, a, err)
	}
}

// DropUnknown gives a host a firewall that drops what belongs to no connection of its: it is not
// answered with a reset.
func (n *Net) DropUnknown(h *Host) {
	n.t.Helper()
	err := h.space.nft(`
table inet firewall {
	chain input {
		type filter hook input priority filter; policy accept;
		ct state invalid drop
		tcp flags & (fin | syn | rst | ack) != syn ct state new drop
	}
}
`)
	if err != nil {
		n.t.Fatalf("the firewall of %s: %v", h.Name, err)
	}
}

// Reject gives a host a firewall that refuses connections to a TCP port, with "tcp reset" or
// "icmpx admin-prohibited" for example (nft's words), or drops them: "". undo takes it away.
func (n *Net) Reject(h *Host, port int, with string) (undo func()) {
	n.t.Helper()
	verdict := "drop"
	if with != "" {
		verdict = "reject with " + with
	}
	err := h.space.nft(fmt.Sprintf(`
table inet reject%d {
	chain input {
		type filter hook input priority filter; policy accept;
		tcp dport %d %s
	}
}
`, port, port, verdict))
	if err != nil {
		n.t.Fatalf("the firewall of %s: %v", h.Name, err)
	}
	return func() {
		if err := h.space.nft(fmt.Sprintf("delete table inet reject%d\n", port)); err != nil {
			n.t.Fatalf("the firewall of %s: %v", h.Name, err)
		}
	}
}
