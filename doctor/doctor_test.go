package doctor

// Each check, on facts that differ from those of a healthy set in one thing.

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/cells"
)

var (
	here   = netip.MustParseAddr("192.0.2.1")
	second = netip.MustParseAddr("192.0.2.99")
)

// healthy is a host with a conmgr, a primary and a standby.
func healthy() *Facts {
	f := &Facts{Directory: "/cm", Version: "1.1", Settings: &Settings{Interval: time.Second, Timeout: 3 * time.Second, Needed: 13, Places: 1000},
		Conmgr: Conmgr{Running: true, Pid: 7, Version: "1.1"}, Host: Host{Descriptors: 1024},
		Front: Front{Path: "/front/libpq.so.5", Libpq: "/lib/libpq.so.5"}}
	for n := range 2 {
		address := netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
		told := &Told{Tell: heartbeat.Tell{Version: 2, SystemIdentifier: 7, PostmasterStart: int64(n), PostmasterPort: 5432,
			Attributes: heartbeat.Attributes{Timeline: 1}, MinInterval: 10 * time.Millisecond, MaxTimeout: time.Hour, Conmgrs: 1, Slots: 100,
			Neighbours: 1, Peer: netip.AddrPortFrom(here, 40000)}}
		role := "primary"
		if n == 1 {
			told.Attributes.Flags, role = heartbeat.InRecovery, "standby"
		}
		f.Servers = append(f.Servers, Server{Number: n, Name: fmt.Sprintf("db%d", n), Port: 5432, WatchdogPort: 27545,
			Paths: []Path{{Address: address, SQL: Reach{Local: here, Speaks: Postgres}, Watchdog: Reach{Local: here, Speaks: Watchdog},
				UserTimeout: 6 * time.Second, Told: told}},
			Session: &Session{Client: here, Server: "17.2", Extension: "1.2", Preloaded: true, Rows: []Row{{"preload", "ok", "it is", ""}}}})
		f.Conmgr.States = append(f.Conmgr.States, State{Number: n, State: "established", Role: role, Address: address})
	}
	return f
}

// bad are the findings that are not ok.
func bad(f *Facts) []Finding {
	return slices.DeleteFunc(Check(f), func(x Finding) bool { return x.Level == OK })
}

func TestHealthy(t *testing.T) {
	f := healthy()
	if got := bad(f); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	for i := range f.Servers {
		f.Servers[i].Session = nil
	}
	f.Front = Front{}
	if got := bad(f); len(got) > 0 {
		t.Errorf("without SQL, without a front: %+v", got)
	}
	checks := map[string]bool{}
	for _, x := range Check(healthy()) {
		checks[x.Check] = true
		if x.Advice != "" {
			t.Errorf("%+v: advice where all is well", x)
		}
	}
	if len(checks) < 17 {
		t.Errorf("only these checks say something: %v", checks)
	}
}

func TestChecks(t *testing.T) {
	path := func(f *Facts, n int) *Path { return &f.Servers[n].Paths[0] }
	nothing := func(p *Path, r Reach) { p.Watchdog, p.Told, p.UserTimeout = r, nil, -1 }
	for _, c := range []struct {
		name   string
		change func(f *Facts)
		want   []string // "level check: text" and "advice", as regular expressions with " -> " between them
	}{
		{"errors in conmgr.conf", func(f *Facts) {
			f.Settings, f.Diagnostics = nil, []Diagnostic{{false, "conmgr.conf:1: unknown parameter \"prot\"", "Is it port?"}}
		}, []string{`error configuration: unknown parameter "prot" -> Is it port`}},
		{"a warning about it", func(f *Facts) { f.Diagnostics = []Diagnostic{{true, "it is set twice", ""}} }, []string{"warning configuration: set twice -> "}},
		{"nobody runs", func(f *Facts) {
			f.Conmgr = Conmgr{}
			for n := range f.Servers {
				path(f, n).Told.Neighbours = 0
			}
		}, []string{"warning conmgr: no conmgr process runs in /cm -> cm_ctl start"}},
		{"it does not answer", func(f *Facts) { f.Conmgr.Problem = "timeout" }, []string{"error conmgr: could not be asked: timeout -> log"}},
		{"conmgr.conf was changed", func(f *Facts) { f.Conmgr.Differ = []string{"port", "target_wait"} },
			[]string{"warning conmgr: does not use what conmgr.conf has now: port, target_wait -> cm_ctl reload"}},
		{"another version", func(f *Facts) { f.Conmgr.Version = "1.0" }, []string{"warning conmgr: of version 1.0, and cm_ctl of version 1.1 -> cm_ctl restart"}},
		{"too few descriptors", func(f *Facts) { f.Host.Descriptors, f.Settings.Needed, f.Settings.Places = 64, 1011, 0 },
			[]string{"error descriptors: limit of 64 .* needs more than 1011 -> LimitNOFILE"}},
		{"few descriptors", func(f *Facts) { f.Settings.Places = 50 }, []string{"warning descriptors: places for 50 applications -> LimitNOFILE"}},
		{"most places are taken", func(f *Facts) { f.Conmgr.Bound = 900 }, []string{"warning descriptors: 900 of 1000 places -> LimitNOFILE"}},
		{"no capability", func(f *Facts) { f.Settings.DestroySockets = true }, []string{"error capability: the conmgr process has not .*CAP_NET_ADMIN -> AmbientCapabilities"}},
		{"no capability here", func(f *Facts) { f.Settings.DestroySockets, f.Host.Own = true, true }, []string{"error capability: conmgr does not start so -> AmbientCapabilities"}},
		{"an old front", func(f *Facts) { f.Front.Missing = []string{"PQchangePassword", "PQclosePrepared"} },
			[]string{`warning front: lacks 2 functions, .* PQchangePassword\(\), PQclosePrepared\(\) -> Install`}},
		{"a front of 1.0", func(f *Facts) { f.Front.Lacks = []string{"PQcmDraining"} }, []string{`warning front: older version: it lacks PQcmDraining\(\) -> Install`}},
		{"a front that is none", func(f *Facts) { f.Front.Problem = "bad magic number" }, []string{"warning|error front: cannot be read -> Install"}},
		{"no libpq", func(f *Facts) { f.Front.Libpq = "" }, []string{"warning front: no libpq to stand before -> libpq5"}},
		{"no name", func(f *Facts) {
			f.Servers[0].LookupError, f.Servers[0].Paths, f.Servers[0].Session = "no such host", nil, nil
		},
			[]string{`error name: "db0" cannot be resolved: no such host -> backend_host0`, "warning primary: no primary -> "}},
		{"a slow name", func(f *Facts) { f.Servers[0].LookupTime = 5 * time.Second }, []string{"warning name: after 5000 ms -> resolv.conf"}},
		{"nobody at watchdog.port", func(f *Facts) { nothing(path(f, 1), Reach{Outcome: Refused, Cause: "connection refused"}) },
			[]string{"error watchdog port: nobody listens at 198.51.100.1:27545: connection refused -> watchdog_port1 has to be its watchdog.port"}},
		{"PostgreSQL at watchdog.port", func(f *Facts) { nothing(path(f, 1), Reach{Speaks: Postgres}) },
			[]string{"error watchdog port: is a PostgreSQL server, and no watchdog -> Set watchdog_port1"}},
		{"something else there", func(f *Facts) { nothing(path(f, 1), Reach{Cause: "it closes"}) },
			[]string{"error watchdog port: does not answer as a watchdog: it closes -> watchdog.allowed_addresses"}},
		{"DROP", func(f *Facts) { nothing(path(f, 1), Reach{Outcome: Silent}) },
			[]string{`error watchdog port: the host is there: a firewall drops -> Open TCP port 27545 \(watchdog.port\) of db1`}},
		{"REJECT", func(f *Facts) { nothing(path(f, 1), Reach{Outcome: Rejected, By: second, Cause: "no route to host"}) },
			[]string{"error watchdog port: rejected by 192.0.2.99: no route to host: a firewall -> Open TCP port 27545"}},
		{"all dropped", func(f *Facts) {
			nothing(path(f, 1), Reach{Outcome: Silent})
			path(f, 1).SQL = Reach{Outcome: Silent}
			f.Servers[1].Session = nil
		}, []string{"error watchdog port: or the host is down -> Open TCP port 27545", "error SQL port: or the host is down -> Open TCP port 5432"}},
		{"no route", func(f *Facts) { nothing(path(f, 1), Reach{Outcome: Unreachable, Cause: "network is unreachable"}) },
			[]string{"error watchdog port: no way to .*: network is unreachable -> ip route get 198.51.100.1"}},
		{"backend_port", func(f *Facts) { f.Servers[1].Port, path(f, 1).SQL = 27500, Reach{Outcome: Refused} },
			[]string{"error SQL port: backend_port1 is 27500, and the server takes SQL connections on port 5432 -> Set backend_port1 to 5432"}},
		{"backend_port is the watchdog's", func(f *Facts) { path(f, 1).Told.PostmasterPort, path(f, 1).SQL.Speaks = 0, Watchdog },
			[]string{"error SQL port: is a watchdog, and no PostgreSQL server -> Set backend_port1"}},
		{"PostgreSQL does not listen", func(f *Facts) { path(f, 1).SQL = Reach{Outcome: Refused, Cause: "connection refused"} },
			[]string{"error SQL port: nobody listens at 198.51.100.1:5432 -> listen_addresses"}},
		{"a pooler", func(f *Facts) { path(f, 1).Told.PostmasterPort = 6432 }, []string{"warning SQL port: carry no label -> Set|set backend_port1 to 6432"}},
		{"another key", func(f *Facts) {
			f.Settings.KeyFile = "/key"
			path(f, 1).Told, path(f, 1).Refused = nil, &heartbeat.Refused{Code: heartbeat.RefusedUnproved, Text: "this server needs a proof"}
		}, []string{`error key: does not know the key of "/key" -> watchdog.key_file`}},
		{"no key", func(f *Facts) {
			path(f, 1).Told, path(f, 1).Refused = nil, &heartbeat.Refused{Code: heartbeat.RefusedUnproved, Text: "this server needs a proof"}
		}, []string{"error key: the server needs a key -> cm_ctl genkey"}},
		{"it proves nothing", func(f *Facts) {
			f.Settings.KeyFile = "/key"
			path(f, 1).Told, path(f, 1).Refused = nil, &heartbeat.Refused{Code: heartbeat.RefusedUnproved, Text: "watchdog.authentication is off"}
		}, []string{"error key: watchdog.authentication is off -> prefer or require"}},
		{"an old watchdog", func(f *Facts) {
			path(f, 1).Told, path(f, 1).Refused = nil, &heartbeat.Refused{Code: heartbeat.RefusedMalformed, Text: "unexpected"}
		}, nil},
		{"min_heartbeat_interval", func(f *Facts) { path(f, 1).Told.MinInterval = 2 * time.Second },
			[]string{"error settings: heartbeat_interval is 1000 ms, and the server allows no less than 2000 ms -> watchdog.min_heartbeat_interval"}},
		{"max_heartbeat_timeout", func(f *Facts) { path(f, 1).Told.MaxTimeout = 2 * time.Second },
			[]string{"error settings: heartbeat_timeout is 3000 ms, and the server allows no more than 2000 ms -> watchdog.max_heartbeat_timeout"}},
		{"many conmgrs", func(f *Facts) { path(f, 1).Told.Conmgrs = 95 }, []string{"warning settings: 95 of 100 places -> watchdog.max_heartbeat_connections"}},
		{"too many conmgrs", func(f *Facts) {
			path(f, 1).Told.Conmgrs, path(f, 1).Told.Neighbours, f.Conmgr.States[1].State = 100, 0, "connecting"
		}, []string{"error settings: all 100 places -> watchdog.max_heartbeat_connections", "error heartbeat: no heartbeats go: connecting -> logs"}},
		{"no TCP_USER_TIMEOUT", func(f *Facts) { path(f, 1).UserTimeout = -1 }, []string{"warning TCP_USER_TIMEOUT: has not taken -> kernel"}},
		{"another TCP_USER_TIMEOUT", func(f *Facts) { path(f, 1).UserTimeout = time.Second }, []string{"warning TCP_USER_TIMEOUT: is 1000 ms, and should be 6000 ms -> preloaded"}},
		{"NAT", func(f *Facts) {
			path(f, 1).Told.Peer, f.Servers[1].Session.Client = netip.AddrPortFrom(second, 1), second
		}, []string{"warning address: NAT: this host connects from 192.0.2.1, and the server sees it at 192.0.2.99 -> heartbeat_key_file"}},
		{"sessions from a second address", func(f *Facts) { f.Servers[1].Session.Client = second },
			[]string{"warning address: sessions come from 192.0.2.99, and heartbeats come from 192.0.2.1: a second address -> backend_hostaddr1"}},
		{"connections from a second address", func(f *Facts) { f.Servers[1].Elsewhere = []Elsewhere{{here, 5}, {second, 2}} },
			[]string{"warning address: 2 connections of this host come to it from 192.0.2.99 -> backend_hostaddr1"}},
		{"dual stack", func(f *Facts) {
			six := netip.MustParseAddr("2001:db8::1")
			p := *path(f, 1)
			p.Address, p.SQL.Local, p.Watchdog.Local = netip.MustParseAddr("2001:db8::2"), six, six
			f.Servers[1].Paths = append(f.Servers[1].Paths, p)
		}, []string{"warning address: sessions to 2001:db8::2 come from 2001:db8::1, and heartbeats come from 192.0.2.1 -> backend_hostaddr1"}},
		{"one of two addresses", func(f *Facts) {
			p := *path(f, 1)
			p.Address, p.SQL, p.Watchdog, p.Told = netip.MustParseAddr("2001:db8::2"), Reach{Outcome: Refused}, Reach{Outcome: Unreachable}, nil
			f.Servers[1].Paths = append([]Path{p}, f.Servers[1].Paths...)
		}, nil},
		{"one of two addresses hangs", func(f *Facts) {
			p := *path(f, 1)
			p.Address, p.SQL, p.Watchdog, p.Told = netip.MustParseAddr("2001:db8::2"), Reach{Outcome: Silent}, Reach{Outcome: Silent}, nil
			f.Servers[1].Paths = append([]Path{p}, f.Servers[1].Paths...)
		}, []string{"error watchdog port: no answer from .2001:db8::2.:27545 -> Open", "error SQL port: no answer from .2001:db8::2.:5432 -> Open"}},
		{"NAT, with a key", func(f *Facts) {
			t := path(f, 1).Told
			t.Peer, t.Flags, t.Neighbours, f.Servers[1].Session.Client = netip.AddrPortFrom(second, 1), heartbeat.TellProved, 5, second
		}, nil},
		{"stopped", func(f *Facts) { f.Conmgr.States[1].State, path(f, 1).Told.Neighbours = "stopped", 0 }, []string{"warning heartbeat: shut down: stopped -> Start"}},
		{"it is known elsewhere", func(f *Facts) { path(f, 1).Told.Neighbours = 0 },
			[]string{"warning address: what connects now comes from 192.0.2.1, and heartbeats come from another one -> backend_hostaddr1"}},
		{"another conmgr", func(f *Facts) { path(f, 1).Told.Neighbours = 3 }, []string{"warning other conmgr: knows 2 other conmgrs at this host's address 192.0.2.1 -> heartbeat_key_file"}},
		{"lost", func(f *Facts) {
			f.Conmgr.States[1] = State{Number: 1, State: "lost", Detail: "no heartbeat for 3 s"}
			path(f, 1).Told.Neighbours = 0
		}, []string{"error heartbeat: no heartbeats go: lost: no heartbeat for 3 s -> logs"}},
		{"not used", func(f *Facts) { f.Conmgr.States[1].NotUsed = "it is draining" }, []string{"warning heartbeat: no application is sent there: it is draining -> cm_ctl status"}},
		{"duplicate", func(f *Facts) { f.Conmgr.States[1].State, path(f, 1).Told.Neighbours = "duplicate", 0 }, []string{"warning heartbeat: another entry leads to -> backend_host1"}},
		{"no SQL", func(f *Facts) { f.Servers[1].Session = &Session{Problem: "password authentication failed"} },
			[]string{"warning SQL: could not connect by SQL: password authentication failed -> psql"}},
		{"not preloaded", func(f *Facts) { f.Servers[1].Session.Preloaded = false }, []string{"error SQL: not in shared_preload_libraries -> restart the server"}},
		{"the server's own", func(f *Facts) { f.Servers[1].Session.Rows = []Row{{"slots", "WARNING", "are taken", "Raise it."}} },
			[]string{`warning SQL: watchdog_doctor\(\): slots: are taken -> Raise it`}},
		{"this clock", func(f *Facts) {
			for n := range f.Servers {
				f.Servers[n].Session.Offset = -time.Hour
			}
		}, []string{"warning clock: of this host is 1h0m0s ahead of that of instance 0, 1h0m0s ahead of that of instance 1 -> Set the clock of this host"}},
		{"that clock, as its watchdog tells", func(f *Facts) { f.Servers[1].Session, path(f, 1).Told.Offset = nil, time.Hour },
			[]string{"warning clock: 1h0m0s behind that of instance 1 -> Set the clock of that server"}},
		{"other cluster", func(f *Facts) { path(f, 1).Told.SystemIdentifier = 8 }, []string{`error cluster: instance 1 \(db1\) is of another cluster: .* 8, .* 7 -> watchdog_succeeds`}},
		{"the same server", func(f *Facts) { path(f, 1).Told.PostmasterStart = 0 }, []string{"warning cluster: are the same server -> Take one"}},
		{"no primary", func(f *Facts) { path(f, 0).Told.Attributes.Flags = heartbeat.InRecovery }, []string{"warning primary: no primary -> Promote"}},
		{"unfenced primary", func(f *Facts) { path(f, 1).Told.Attributes = heartbeat.Attributes{Timeline: 2} },
			[]string{`error primary: not fenced: instance 0 \(db0\) at timeline 1; the primary is instance 1 \(db1\), at timeline 2 -> pg_rewind`}},
		{"two primaries", func(f *Facts) { path(f, 1).Told.Attributes = heartbeat.Attributes{Timeline: 1} },
			[]string{"error primary: several primaries of timeline 1 -> Find out which one is right"}},
	} {
		f := healthy()
		c.change(f)
		got := bad(f)
		for _, w := range c.want {
			head, advice, _ := strings.Cut(w, " -> ")
			level, rest, _ := strings.Cut(head, " ")
			check, text, _ := strings.Cut(rest, ": ")
			n := slices.IndexFunc(got, func(x Finding) bool {
				return strings.Contains(level, string(x.Level)) && x.Check == check && regexp.MustCompile(text).MatchString(x.Text) &&
					regexp.MustCompile(advice).MatchString(x.Advice)
			})
			if n < 0 {
				t.Errorf("%s: %q is not found", c.name, w)
				continue
			}
			got = slices.Delete(got, n, n+1)
		}
		if len(got) > 0 {
			t.Errorf("%s: found as well: %+v", c.name, got)
		}
	}
}

func TestReport(t *testing.T) {
	f := healthy()
	f.Servers[1].Paths[0].Told.SystemIdentifier = 8
	all := Check(f)
	for _, width := range []int{40, 80} {
		text := Text(all, width, func(l Level, word string) string { return "<" + word + ">" })
		for _, line := range strings.Split(text, "\n") {
			if n := len([]rune(line)); n > width+2 { // what stands for colours
				t.Errorf("width %d: %d: %q", width, n, line)
			}
		}
		if !strings.Contains(text, "<error>   cluster: instance 1") || !strings.Contains(text, "\n1 error, 0 warnings, ") {
			t.Errorf("%s", text)
		}
	}
	// What servers and names bring along: wide, long, and meant for the terminal.
	all = []Finding{{Level: Warning, Check: "x", Text: strings.Repeat("東", 50) + " \x1b[31m", Advice: strings.Repeat("y", 100)}}
	text := Text(all, 40, func(_ Level, word string) string { return word })
	for _, line := range strings.Split(text, "\n") {
		if n := cells.Width(line); n > 40 || strings.Contains(line, "\x1b") {
			t.Errorf("%d: %q", n, line)
		}
	}
}
