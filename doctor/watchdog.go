package doctor

// Checks of what a watchdog tells of its server, and of the addresses that it sees.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// used is the path that heartbeats take, or would: nil if there is none.
func (facts *Facts) used(s *Server) *Path {
	if st := facts.Conmgr.stateOf(s.Number); st != nil {
		for i := range s.Paths {
			if p := &s.Paths[i]; p.Address == st.Address && (p.Told != nil || p.Refused != nil) {
				return p
			}
		}
	}
	for i := range s.Paths {
		if s.Paths[i].Told != nil {
			return &s.Paths[i]
		}
	}
	for i := range s.Paths {
		if s.Paths[i].Refused != nil {
			return &s.Paths[i]
		}
	}
	return nil
}

func (facts *Facts) key(s *Server, f *findings) {
	p := facts.used(s)
	if p == nil {
		return
	}
	file := facts.Settings.KeyFile
	switch {
	case p.Told != nil && p.Told.Flags&heartbeat.TellProved != 0:
		f.ok("server and conmgr have proved to each other that they have the key of \"%s\"", file)
	case p.Told != nil:
		f.ok("no key is needed: watchdog.authentication is %s", p.Told.Authentication)
	case p.Refused.Code == heartbeat.RefusedUnproved && file == "":
		f.fail("Make a key (cm_ctl genkey NAME), put the line into the server's watchdog.key_file, and into a file that heartbeat_key_file names.",
			"the server needs a key, and conmgr.conf has none: watchdog.authentication is require")
	case p.Refused.Code == heartbeat.RefusedUnproved && strings.Contains(p.Refused.Text, "is off"):
		f.fail("Set watchdog.authentication to prefer or require on the server, with this key in its watchdog.key_file; or take heartbeat_key_file "+
			"out of conmgr.conf.", "conmgr has a key, and the server proves nothing: watchdog.authentication is off")
	case p.Refused.Code == heartbeat.RefusedUnproved:
		f.fail("The same line has to be in the server's watchdog.key_file; if that has networks, this host's address has to be in one of them.",
			"the server does not know the key of \"%s\"", file)
	case p.Refused.Code == heartbeat.RefusedMalformed:
		f.ok("the watchdog is of a version that does not tell more")
	default:
		f.fail("Look at docs/operations.md.", "the watchdog refuses: %s", p.Refused.Text)
	}
}

func (facts *Facts) settings(s *Server, f *findings) {
	p := facts.used(s)
	if p == nil || p.Told == nil {
		return
	}
	t, c, good := p.Told, facts.Settings, true
	if c.Interval < t.MinInterval {
		good = false
		f.fail("Raise heartbeat_interval, or lower watchdog.min_heartbeat_interval on the server.",
			"heartbeat_interval is %d ms, and the server allows no less than %d ms", c.Interval.Milliseconds(), t.MinInterval.Milliseconds())
	}
	if t.MaxTimeout > 0 && max(c.Timeout, c.Interval) > t.MaxTimeout {
		good = false
		f.fail("Lower heartbeat_timeout, or raise watchdog.max_heartbeat_timeout on the server.",
			"heartbeat_timeout is %d ms, and the server allows no more than %d ms", c.Timeout.Milliseconds(), t.MaxTimeout.Milliseconds())
	}
	const slots = "Raise watchdog.max_heartbeat_connections on the server; it needs a restart."
	switch {
	case t.Conmgrs >= t.Slots && !facts.connected(s):
		f.fail(slots, "all %d places for conmgrs of the server are taken", t.Slots)
	case t.Conmgrs*10 >= t.Slots*9:
		f.warn(slots, "%d of %d places for conmgrs of the server are taken", t.Conmgrs, t.Slots)
	case good:
		f.ok("the server takes heartbeat_interval %d ms and heartbeat_timeout %d ms; %s; %d of %d places for conmgrs are taken",
			c.Interval.Milliseconds(), c.Timeout.Milliseconds(), t.Attributes, t.Conmgrs, t.Slots)
	}
}

// connected tells whether conmgr has a heartbeat connection to an instance.
func (facts *Facts) connected(s *Server) bool {
	st := facts.Conmgr.stateOf(s.Number)
	return st != nil && st.State == "established"
}

func (facts *Facts) userTimeout(s *Server, f *findings) {
	p := facts.used(s)
	if p == nil {
		return
	}
	want := 2 * facts.Settings.Timeout
	switch {
	case p.UserTimeout < 0:
		f.warn("The kernel gives up an unacknowledged connection late: heartbeats notice, other sockets may hang. Use a kernel that has it.",
			"the kernel has not taken TCP_USER_TIMEOUT")
	case p.UserTimeout != want:
		f.warn("Is there something that changes socket options, a preloaded library for example?",
			"TCP_USER_TIMEOUT is %d ms, and should be %d ms", p.UserTimeout.Milliseconds(), want.Milliseconds())
	default:
		f.ok("TCP_USER_TIMEOUT is %d ms, as set", want.Milliseconds())
	}
}

// address compares where heartbeats come from with where sessions come from.
func (facts *Facts) address(s *Server, f *findings) {
	p := facts.used(s)
	if p == nil {
		return
	}
	heart := p.Watchdog.Local // as the server sees it
	const labels = "Sessions of the libpq front and of the Go client carry a label, and are safe; others need "
	if p.Told != nil {
		heart = p.Told.Peer.Addr()
		switch proved := p.Told.Flags&heartbeat.TellProved != 0; {
		case heart == p.Watchdog.Local:
		case proved:
			f.ok("NAT: the server sees this host at %s, and knows it by its key", heart)
		default:
			f.warn("Give each client host a key (heartbeat_key_file): it is known by that and not by its address. "+labels+
				"an address of their own: docs/environments.md, NAT.",
				"NAT: this host connects from %s, and the server sees it at %s, as all hosts behind that address", p.Watchdog.Local, heart)
		}
	}
	others := facts.otherSources(s, p, heart)
	if p.Told != nil && facts.connected(s) && p.Told.Neighbours == 0 {
		others = append(others, "what connects now comes from "+heart.String())
		heart = netip.Addr{}
	}
	for _, o := range others {
		f.warn(fmt.Sprintf("Set backend_hostaddr%d to the address that applications connect to, or let a name have one address, and this host "+
			"use one for both. "+labels+"the address of the heartbeats.", s.Number), "%s, and heartbeats come from %s: a second address, which the server does not know "+
			"to be this host's", o, orAnother(heart))
	}
	if p.Told != nil && heart == p.Watchdog.Local && len(others) == 0 {
		f.ok("the server sees this host at its own address %s", heart)
	}
}

func orAnother(a netip.Addr) string {
	if !a.IsValid() {
		return "another one"
	}
	return a.String()
}

// otherSources are the ways by which sessions may come from elsewhere than heartbeats do.
func (facts *Facts) otherSources(s *Server, p *Path, heart netip.Addr) (all []string) {
	known := []netip.Addr{heart, p.Watchdog.Local}
	add := func(a netip.Addr, format string, args ...any) {
		if a.IsValid() && !slices.Contains(known, a) {
			known = append(known, a)
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	if q := s.Session; q != nil {
		add(q.Client, "sessions come from %s", q.Client)
	}
	for _, e := range s.Elsewhere {
		add(e.From, "%s to it from %s", count(e.N, "connection of this host comes", "connections of this host come"), e.From)
	}
	for i := range s.Paths {
		if o := &s.Paths[i]; o.SQL.Outcome == Connected && !p.Address.IsLoopback() {
			add(o.SQL.Local, "sessions to %s come from %s", o.Address, o.SQL.Local)
		}
	}
	return all
}

func (facts *Facts) neighbours(s *Server, f *findings) {
	p := facts.used(s)
	if p == nil || p.Told == nil {
		return
	}
	own := 0
	if facts.connected(s) {
		own = 1
	}
	switch others := int(p.Told.Neighbours) - own; {
	case others > 0 && p.Told.Flags&heartbeat.TellProved != 0:
		f.ok("the server knows %s at this host's address, and this host by its key", count(others, "other conmgr", "other conmgrs"))
	case others > 0:
		f.warn("Is another conmgr running on this host, in a container for example, or behind the same NAT? One conmgr for a host is enough. "+
			"Where there are several on purpose, give each its key (heartbeat_key_file), and use labels.",
			"the server knows %s at this host's address %s: when one of them ends or dies, it cannot tell whose sessions without a label are",
			count(others, "other conmgr", "other conmgrs"), p.Told.Peer.Addr())
	default:
		f.ok("there is no other conmgr at this host's address")
	}
}

func (facts *Facts) heartbeat(s *Server, f *findings) {
	st := facts.Conmgr.stateOf(s.Number)
	switch {
	case st == nil:
	case st.State == "established" && st.NotUsed != "":
		f.warn("Look at \"The rule of choice\" in docs/protocol.md, or cm_ctl status.", "heartbeats go, and no application is sent there: %s", st.NotUsed)
	case st.State == "established":
		f.ok("heartbeats go, with %s (%s)", st.Address, st.Role)
	case st.State == "stopping", st.State == "stopped":
		f.warn("Start the server, if it was not stopped on purpose.", "its server was shut down: %s%s", st.State, detail(st.Detail))
	case st.State == "duplicate":
		f.warn(fmt.Sprintf("Take one of the two out of conmgr.conf: set backend_host%d to another server.", s.Number), "it is a server that another entry leads to")
	default:
		f.fail("The findings above may say why; else look at the logs of conmgr and of the server.", "no heartbeats go: %s%s", st.State, detail(st.Detail))
	}
}

func detail(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// clockTolerance is what logs of two hosts may be apart.
const clockTolerance = 10 * time.Second

// offset of the clock of an instance to this host's: what SQL says goes before what its watchdog does.
func (facts *Facts) offset(s *Server) (d time.Duration, told bool) {
	if q := s.Session; q != nil && q.Problem == "" {
		return q.Offset, true
	}
	if p := facts.used(s); p != nil && p.Told != nil {
		return p.Told.Offset, true
	}
	return 0, false
}

func (facts *Facts) clock(f *findings) {
	var off []string
	compared := 0
	for i := range facts.Servers {
		s := &facts.Servers[i]
		d, told := facts.offset(s)
		if !told {
			continue
		}
		compared++
		if d.Abs() > clockTolerance {
			than := "ahead of"
			if d > 0 {
				than = "behind"
			}
			off = append(off, fmt.Sprintf("%s %s that of instance %d", d.Abs().Round(time.Second), than, s.Number))
		}
	}
	switch {
	case compared == 0:
		f.ok("no server has told its time")
	case len(off) == compared:
		f.warn("Set the clock of this host (chrony, systemd-timesyncd). Heartbeats do not depend on it; certificates do, and who compares logs.",
			"the clock of this host is %s", strings.Join(off, ", "))
	case len(off) > 0:
		f.warn("Set the clock of that server (chrony, systemd-timesyncd). Heartbeats do not depend on it; certificates do, and who compares logs.",
			"the clock of this host is %s", strings.Join(off, ", "))
	default:
		f.ok("the clocks of this host and of the servers agree")
	}
}
