// Package testnet builds networks out of network namespaces for tests, benchmarks and the like:
// hosts, each in its own namespace, around a switch namespace that routes between them and injects
// faults. It needs root, ip (iproute2) and nft (nftables).
//
//	client1 (10.77.1.2, fd77:1::2) ──veth── switch ──veth── (10.77.2.2, fd77:2::2) db1
//
// The switch is an IP router, so that nft's inet family applies. Neighbour entries are permanent
// and duplicate address detection is off: nothing but the traffic under test crosses a link. A host
// does not see the faults: no route goes away, no ICMP error arrives.
//
// Runs in test processes only, on the caller's goroutine; the commands that it runs take some
// milliseconds each.
package testnet

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const (
	namePrefix = "wd-"
	netnsDir   = "/run/netns"
	maxHosts   = 250
)

var netCount atomic.Int32

// Net is a switch and its hosts. Its methods may be called from any goroutine; they end the test
// when a command fails.
type Net struct {
	t    testkit.TB
	name string // first part of the names of its namespaces
	sw   *space

	mu    sync.Mutex
	hosts []*Host
	rules rules

	cmdMu   sync.Mutex
	cancels []context.CancelFunc
	closed  bool
}

// New creates the switch. The namespaces, and all processes in them, are removed at the end of the
// test; those of runs that were killed are removed now.
func New(t testkit.TB) *Net {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatalf("network namespaces need root")
	}
	for _, tool := range []string{"ip", "nft", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v; \"make deps\" installs what is missing", err)
		}
	}
	removeStale()
	n := &Net{t: t, name: fmt.Sprintf("%s%d-%d", namePrefix, os.Getpid(), netCount.Add(1))}
	t.Cleanup(n.close)
	n.sw = n.must(newSpace(n.name + "-switch"))
	err := n.sw.sysctl(map[string]string{
		"ipv4/ip_forward":                  "1",
		"ipv6/conf/all/forwarding":         "1",
		"ipv6/conf/all/keep_addr_on_down":  "1",
		"ipv6/conf/default/addr_gen_mode":  "1",
		"ipv6/conf/default/accept_dad":     "0",
		"ipv4/conf/default/rp_filter":      "0",
		"ipv4/conf/default/send_redirects": "0",
		"ipv4/conf/all/send_redirects":     "0",
	})
	if err == nil {
		err = n.sw.nft(baseRules)
	}
	if err != nil {
		t.Fatalf("switch: %v", err)
	}
	return n
}

func (n *Net) must(s *space, err error) *space {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("%v", err)
	}
	return s
}

// Host adds a host. Its name becomes a part of its namespace's name: letters, digits and
// underscores.
func (n *Net) Host(name string) *Host {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	i := len(n.hosts) + 1
	if i > maxHosts {
		n.t.Fatalf("more than %d hosts", maxHosts)
	}
	for _, h := range n.hosts {
		if h.Name == name {
			n.t.Fatalf("host %q is already there", name)
		}
	}
	h := &Host{
		Name:  name,
		Addr4: netip.AddrFrom4([4]byte{10, 77, byte(i), 2}),
		Addr6: netip.MustParseAddr(fmt.Sprintf("fd77:%x::2", i)),
		net:   n,
		index: i,
		port:  fmt.Sprintf("v%d", i),
		mac:   fmt.Sprintf("02:77:00:00:%02x:02", i),
		gwMAC: fmt.Sprintf("02:77:00:00:%02x:01", i),
		gw4:   fmt.Sprintf("10.77.%d.1", i),
		gw6:   fmt.Sprintf("fd77:%x::1", i),
	}
	h.space = n.must(newSpace(n.name + "-" + name))
	n.hosts = append(n.hosts, h) // before what can fail: close removes it
	if err := h.connect(); err != nil {
		n.t.Fatalf("host %s: %v", name, err)
	}
	return h
}

// hostOf returns the host that has an address.
func (n *Net) hostOf(a netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.hosts {
		if a == h.Addr4 || a == h.Addr6 {
			return h
		}
	}
	return nil
}

// command derives the context of a command, which ends at the latest with the net.
func (n *Net) command(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	n.cmdMu.Lock()
	defer n.cmdMu.Unlock()
	if n.closed {
		cancel()
	}
	n.cancels = append(n.cancels, cancel)
	return ctx
}

// close ends the commands, kills whatever else still runs in the hosts' namespaces, and removes
// these.
func (n *Net) close() {
	n.cmdMu.Lock()
	n.closed = true
	for _, cancel := range n.cancels {
		cancel()
	}
	n.cmdMu.Unlock()

	n.mu.Lock()
	defer n.mu.Unlock()
	spaces := make([]*space, 0, len(n.hosts)+1)
	for _, h := range n.hosts {
		spaces = append(spaces, h.space)
	}
	if n.sw != nil {
		spaces = append(spaces, n.sw)
	}
	err := testkit.Poll(10*time.Second, func() (bool, string) {
		pids := inhabitants(spaces)
		for _, pid := range pids {
			killHard(pid)
		}
		return len(pids) == 0, fmt.Sprintf("processes %v", pids)
	})
	if err != nil {
		n.t.Errorf("processes in the test's network namespaces do not end: %v", err)
	}
	for _, s := range spaces {
		if err := s.remove(); err != nil {
			n.t.Errorf("%v", err)
		}
	}
}

// removeStale removes the namespaces of processes that are no more.
func removeStale() {
	found, _ := filepath.Glob(netnsDir + "/" + namePrefix + "*-*-*")
	for _, path := range found {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), namePrefix), "-")
		if testkit.OwnerIsDead(pid) {
			_ = ip("netns del " + filepath.Base(path)) // another process may be doing the same
		}
	}
}

// ip runs lines of ip commands in one process; the first that fails ends it.
func ip(lines ...string) error {
	return run("ip", []string{"-batch", "-"}, strings.Join(lines, "\n")+"\n")
}

func run(name string, args []string, stdin string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s, given:\n%s", name, err, strings.TrimSpace(out.String()), stdin)
	}
	return nil
}
