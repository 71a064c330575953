package testnet

// Faults, all in the switch's forward chain. The chains stand from the start; a fault adds elements
// to their sets in one transaction, so that it applies to both directions and both address families
// at once.

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const baseRules = `
table inet fault {
	set isolated { type ifname; }
	set cut4 { type ipv4_addr . ipv4_addr; }
	set cut6 { type ipv6_addr . ipv6_addr; }
	set cutport4 { type ipv4_addr . ipv4_addr . inet_service; }
	set cutport6 { type ipv6_addr . ipv6_addr . inet_service; }
	set reset4 { type ipv4_addr . ipv4_addr . inet_service; }
	set reset6 { type ipv6_addr . ipv6_addr . inet_service; }
	map loss4 { type ipv4_addr . ipv4_addr : verdict; }
	map loss6 { type ipv6_addr . ipv6_addr : verdict; }
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname @isolated drop
		oifname @isolated drop
		ip saddr . ip daddr @cut4 drop
		ip6 saddr . ip6 daddr @cut6 drop
		ip saddr . ip daddr . th dport @cutport4 drop
		ip saddr . ip daddr . th sport @cutport4 drop
		ip6 saddr . ip6 daddr . th dport @cutport6 drop
		ip6 saddr . ip6 daddr . th sport @cutport6 drop
		meta l4proto tcp ip saddr . ip daddr . tcp dport @reset4 reject with tcp reset
		meta l4proto tcp ip saddr . ip daddr . tcp sport @reset4 reject with tcp reset
		meta l4proto tcp ip6 saddr . ip6 daddr . tcp dport @reset6 reject with tcp reset
		meta l4proto tcp ip6 saddr . ip6 daddr . tcp sport @reset6 reject with tcp reset
		ip saddr . ip daddr vmap @loss4
		ip6 saddr . ip6 daddr vmap @loss6
	}
}
`

// Monotonic reads CLOCK_MONOTONIC: the time since the boot, the same in all processes and
// namespaces.
func Monotonic() time.Duration { return testkit.Monotonic() }

// Moment is a point in time, on both clocks.
type Moment struct {
	Mono time.Duration // CLOCK_MONOTONIC
	Time time.Time
}

// Now returns the current moment.
func Now() Moment { return Moment{Mono: Monotonic(), Time: time.Now()} }

// Window holds the moments between which something took effect.
type Window struct{ Before, After Moment }

func measure(fn func() error) (Window, error) {
	w := Window{Before: Now()}
	err := fn()
	w.After = Now()
	return w, err
}

// Fault is a fault in force.
type Fault struct {
	Applied Window

	net    *Net
	heal   func() error
	once   sync.Once
	healed Window
}

// Heal ends the fault, unless another fault causes the same. Further calls do nothing, and return
// when the first took effect.
func (f *Fault) Heal() Window {
	f.net.t.Helper()
	var err error
	f.once.Do(func() { f.healed, err = measure(f.heal) })
	if err != nil {
		f.net.t.Fatalf("heal a fault: %v", err)
	}
	return f.healed
}

// Cut silences two hosts for each other: packets disappear, in both directions.
func (n *Net) Cut(a, b *Host) *Fault {
	n.t.Helper()
	return n.apply(append(pairs("cut", a, b, ""), pairs("cut", b, a, "")...))
}

// CutOneWay makes packets from one host to another disappear; those in the other direction arrive.
func (n *Net) CutOneWay(from, to *Host) *Fault {
	n.t.Helper()
	return n.apply(pairs("cut", from, to, ""))
}

// Isolate silences a host for all others, those added later included. It still has its link.
func (n *Net) Isolate(h *Host) *Fault {
	n.t.Helper()
	return n.apply([]element{{"isolated", h.port}})
}

// CutPort makes the packets between two hosts disappear that come from, or go to, a TCP or UDP port
// on either of them.
func (n *Net) CutPort(a, b *Host, port uint16) *Fault {
	n.t.Helper()
	p := fmt.Sprintf(" . %d", port)
	return n.apply(append(pairs("cutport", a, b, p), pairs("cutport", b, a, p)...))
}

// Reset answers each TCP packet between two hosts from or to a port with a RST, and drops it. So
// each end of a connection is reset when it next sends something; ForgeRST resets one that is
// silent.
func (n *Net) Reset(a, b *Host, port uint16) *Fault {
	n.t.Helper()
	p := fmt.Sprintf(" . %d", port)
	return n.apply(append(pairs("reset", a, b, p), pairs("reset", b, a, p)...))
}

// Loss makes each packet between two hosts disappear with a probability of percent/100. One pair of
// hosts has one such fault at a time.
func (n *Net) Loss(a, b *Host, percent float64) *Fault {
	n.t.Helper()
	if percent < 0 || percent > 100 {
		n.t.Fatalf("loss of %v percent: want 0 to 100", percent)
	}
	chain := fmt.Sprintf("loss_%d_%d", min(a.index, b.index), max(a.index, b.index))
	verdict := " : jump " + chain
	dice := ""
	if percent < 100 {
		dice = fmt.Sprintf("numgen random mod 1000000 < %d ", int(percent*10000))
	}
	add := fmt.Sprintf("add chain inet fault %[1]s\nadd rule inet fault %[1]s %[2]sdrop\n", chain, dice)
	remove := ""
	for _, e := range append(pairs("loss", a, b, ""), pairs("loss", b, a, "")...) {
		add += fmt.Sprintf("add element inet fault %s { %s%s }\n", e.set, e.value, verdict)
		remove += fmt.Sprintf("delete element inet fault %s { %s }\n", e.set, e.value)
	}
	remove += "delete chain inet fault " + chain + "\n"

	n.rules.mu.Lock()
	defer n.rules.mu.Unlock()
	if n.rules.lossy[chain] {
		n.t.Fatalf("packets between %s and %s are being lost already", a.Name, b.Name)
	}
	w, err := measure(func() error { return n.sw.nft(add) })
	if err != nil {
		n.t.Fatalf("%v", err)
	}
	if n.rules.lossy == nil {
		n.rules.lossy = map[string]bool{}
	}
	n.rules.lossy[chain] = true
	return &Fault{Applied: w, net: n, heal: func() error {
		n.rules.mu.Lock()
		defer n.rules.mu.Unlock()
		delete(n.rules.lossy, chain)
		return n.sw.nft(remove)
	}}
}

// element is a member of a set of the ruleset.
type element struct{ set, value string }

// rules counts the faults that hold each element, so that overlapping faults heal one by one.
type rules struct {
	mu    sync.Mutex
	held  map[element]int
	lossy map[string]bool
}

// pairs returns the elements, one a family, for packets from one host to another.
func pairs(set string, from, to *Host, rest string) []element {
	pair := func(a, b netip.Addr) string { return a.String() + " . " + b.String() + rest }
	return []element{{set + "4", pair(from.Addr4, to.Addr4)}, {set + "6", pair(from.Addr6, to.Addr6)}}
}

func (n *Net) apply(elements []element) *Fault {
	n.t.Helper()
	w, err := measure(func() error { return n.hold(elements, 1) })
	if err != nil {
		n.t.Fatalf("%v", err)
	}
	return &Fault{Applied: w, net: n, heal: func() error { return n.hold(elements, -1) }}
}

// hold adds to the count of holders of each element, and makes one transaction of the elements that
// come or go by it.
func (n *Net) hold(elements []element, by int) error {
	r := &n.rules
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = map[element]int{}
	}
	var b strings.Builder
	for _, e := range elements {
		before := r.held[e]
		r.held[e] += by
		switch after := r.held[e]; {
		case before == 0 && after > 0:
			fmt.Fprintf(&b, "add element inet fault %s { %s }\n", e.set, e.value)
		case before > 0 && after == 0:
			fmt.Fprintf(&b, "delete element inet fault %s { %s }\n", e.set, e.value)
			delete(r.held, e)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return n.sw.nft(b.String())
}
