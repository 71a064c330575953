package sockdestroy

// Tests of what destroy_sockets aims at. That sockets are destroyed is tested in network namespaces
// (test/destroy_test.go).

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// All addresses of the lost instance, and none at which another one is alive.
func TestDestroyTargets(t *testing.T) {
	entries := func() []bind.Entry {
		return []bind.Entry{
			{Config: &conf.Instance{Number: 0, Host: "db", Port: 5432},
				Status: bind.Status{State: hb.Lost, HostAddr: addr("192.0.2.1"),
					Addrs: []netip.Addr{addr("2001:db8::1"), addr("192.0.2.1"), addr("192.0.2.2"), addr("fe80::1%eth0")}}},
			{Config: &conf.Instance{Number: 1, Host: "db1", Port: 5432},
				Status: bind.Status{State: hb.Established, HostAddr: addr("192.0.2.2")}},
			{Config: &conf.Instance{Number: 2, HostAddr: addr("192.0.2.3"), Port: 5433}, Status: bind.Status{State: hb.Lost}},
		}
	}
	e := entries()
	if got := fmt.Sprint(destroyTargets(e, 0)); got != "[192.0.2.1:5432 [2001:db8::1]:5432 [fe80::1]:5432]" {
		t.Errorf("got %s", got)
	}
	e[1].State = hb.Lost
	if got := fmt.Sprint(destroyTargets(e, 0)); got != "[192.0.2.1:5432 [2001:db8::1]:5432 192.0.2.2:5432 [fe80::1]:5432]" {
		t.Errorf("that one is lost as well: got %s", got)
	}
	e = entries()
	e[1].Config.Port = 5433
	if got := fmt.Sprint(destroyTargets(e, 0)); !strings.Contains(got, "192.0.2.2:5432") {
		t.Errorf("that one has another port: got %s", got)
	}
	if got := fmt.Sprint(destroyTargets(e, 2)); got != "[192.0.2.3:5433]" {
		t.Errorf("got %s", got)
	}
	if got := destroyTargets([]bind.Entry{{Config: &conf.Instance{Host: "never seen", Port: 1}}}, 0); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func diagMessage(family, state byte, local, remote netip.AddrPort, inode uint32) []byte {
	m := make([]byte, diagMsgSize)
	m[0], m[1] = family, state
	binary.BigEndian.PutUint16(m[4:], local.Port())
	binary.BigEndian.PutUint16(m[6:], remote.Port())
	put := func(at int, a netip.Addr) {
		if family == unix.AF_INET {
			b := a.As4()
			copy(m[at:], b[:])
		} else {
			b := a.As16()
			copy(m[at:], b[:])
		}
	}
	put(8, local.Addr())
	put(24, remote.Addr())
	binary.NativeEndian.PutUint32(m[diagInode:], inode)
	return m
}

func TestDiagMatches(t *testing.T) {
	to := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:5432"), netip.MustParseAddrPort("[2001:db8::1]:5432")}
	const es, in4, in6 = unix.BPF_TCP_ESTABLISHED, unix.AF_INET, unix.AF_INET6
	for _, x := range []struct {
		family, state byte
		local, remote string
		inode         uint32
		want          bool
	}{
		{in4, es, "192.0.2.9:40000", "192.0.2.1:5432", 7, true},
		{in6, es, "[2001:db8::9]:40000", "[2001:db8::1]:5432", 7, true},
		{in6, es, "[::ffff:192.0.2.9]:40000", "[::ffff:192.0.2.1]:5432", 7, true},
		{in4, unix.BPF_TCP_SYN_SENT, "192.0.2.9:40000", "192.0.2.1:5432", 7, true},
		{in4, unix.BPF_TCP_CLOSE_WAIT, "192.0.2.9:40000", "192.0.2.1:5432", 7, true},
		{in4, unix.BPF_TCP_FIN_WAIT2, "192.0.2.9:40000", "192.0.2.1:5432", 7, true},
		{in4, unix.BPF_TCP_FIN_WAIT2, "192.0.2.9:40000", "192.0.2.1:5432", 0, false}, // nobody's
		{in4, unix.BPF_TCP_LISTEN, "192.0.2.9:40000", "192.0.2.1:5432", 7, false},
		{in4, unix.BPF_TCP_TIME_WAIT, "192.0.2.9:40000", "192.0.2.1:5432", 7, false},
		{in4, es, "192.0.2.9:40000", "192.0.2.1:5433", 7, false},
		{in4, es, "192.0.2.9:40000", "192.0.2.2:5432", 7, false},
		{in4, es, "192.0.2.1:5432", "192.0.2.9:40000", 7, false}, // the instance's own end
		{in6, es, "[2001:db8::9]:40000", "[2001:db8::2]:5432", 7, false},
	} {
		m := diagMessage(x.family, x.state, netip.MustParseAddrPort(x.local), netip.MustParseAddrPort(x.remote),
			x.inode)
		if diagMatches(m, to) != x.want {
			t.Errorf("%+v", x)
		}
		if diagMatches(m[:diagMsgSize-1], to) {
			t.Errorf("%+v: a message that is cut off", x)
		}
	}
}

func TestDestroyVerdict(t *testing.T) {
	if err := destroyVerdict(1, nil, "hint"); err != nil {
		t.Error(err)
	}
	for _, x := range []struct {
		n    int
		err  error
		want string
	}{
		{0, fmt.Errorf("SOCK_DESTROY: %w", unix.EPERM), "CAP_NET_ADMIN does not hold for this network namespace"},
		{0, fmt.Errorf("SOCK_DESTROY: %w", unix.EOPNOTSUPP), "the kernel does not support it"},
		{0, fmt.Errorf("list of connections: %w", unix.ENOENT), "the kernel has no socket diagnostics for TCP"},
		{0, fmt.Errorf("socket(AF_NETLINK): %w", unix.EAFNOSUPPORT), "address family not supported by protocol"},
		{0, errors.New("something else"), "something else"},
		{0, nil, "the kernel does not show a connection of conmgr's own"},
	} {
		var se *conf.StartError
		if err := destroyVerdict(x.n, x.err, "hint"); !errors.As(err, &se) || !strings.Contains(se.Text, x.want) ||
			se.Hint == "" {
			t.Errorf("%v: %v", x.err, err)
		}
	}
}
