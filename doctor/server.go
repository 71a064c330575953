package doctor

// Checks of one instance: its name, its ports, and what SQL shows of it.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// slowLookup is what a heartbeat connection should not wait for.
const slowLookup = 2 * time.Second

func (s *Server) name(f *findings) {
	var all []string
	for _, p := range s.Paths {
		all = append(all, p.Address.String())
	}
	const advice = "Look at the name server in /etc/resolv.conf, or set backend_hostaddr%d: conmgr needs no name then."
	switch {
	case s.LookupError != "":
		f.fail(fmt.Sprintf("Correct backend_host%d. "+advice, s.Number, s.Number), "\"%s\" cannot be resolved: %s", s.Name, s.LookupError)
	case s.LookupTime > slowLookup:
		f.warn(fmt.Sprintf(advice, s.Number), "\"%s\" was resolved after %d ms: %s", s.Name, s.LookupTime.Milliseconds(), strings.Join(all, ", "))
	default:
		f.ok("\"%s\" is %s", s.Name, strings.Join(all, ", "))
	}
}

// works tells whether a port answers as it should at one address at least: who connects by the name
// tries all. What refuses at once does no harm then.
func (s *Server) works(speaks Speaks, reach func(p *Path) *Reach) bool {
	return slices.ContainsFunc(s.Paths, func(p Path) bool {
		r := reach(&p)
		return r.Outcome == Connected && r.Speaks == speaks
	})
}

// tolerable is an address at which nobody answers, and another one does.
func (r *Reach) tolerable() bool { return r.Outcome == Refused || r.Outcome == Unreachable }

func (s *Server) watchdogPort(f *findings) {
	works := s.works(Watchdog, func(p *Path) *Reach { return &p.Watchdog })
	for i := range s.Paths {
		p := &s.Paths[i]
		at := netip.AddrPortFrom(p.Address, uint16(s.WatchdogPort))
		setting := fmt.Sprintf("watchdog_port%d", s.Number)
		switch {
		case works && p.Watchdog.tolerable():
			f.ok("nobody answers at %s: %s; another address of this name is used", at, p.Watchdog.Cause)
		case p.Watchdog.Outcome == Refused && p.Told == nil:
			f.fail(fmt.Sprintf("Is watchdog in shared_preload_libraries, and does the server run? %s has to be its watchdog.port "+
				"(SHOW watchdog.port), and watchdog.listen_addresses has to let this host in. A firewall that rejects with a reset looks the same.",
				setting), "nobody listens at %s: %s", at, p.Watchdog.Cause)
		case p.Watchdog.Outcome != Connected:
			s.unreached(f, at, &p.Watchdog, p.SQL.Outcome == Connected || p.SQL.Outcome == Refused, "watchdog.port")
		case p.Watchdog.Speaks == Postgres:
			f.fail(fmt.Sprintf("Set %s to the server's watchdog.port (SHOW watchdog.port; 27545 by default).", setting),
				"what listens at %s is a PostgreSQL server, and no watchdog", at)
		case p.Watchdog.Speaks == Nothing:
			f.fail(fmt.Sprintf("Set %s to the server's watchdog.port. Where it is right, watchdog.allowed_addresses may not have this "+
				"host's address.", setting), "what listens at %s does not answer as a watchdog: %s", at, p.Watchdog.Cause)
		case p.Refused != nil && p.Told == nil:
			f.ok("a watchdog answers at %s", at)
		default:
			f.ok("a watchdog answers at %s, and speaks version %d of the heartbeat protocol", at, p.Told.Version)
		}
	}
}

// unreached is of a port that a firewall may keep from this host. there: the host answers otherwise.
func (s *Server) unreached(f *findings, at netip.AddrPort, r *Reach, there bool, port string) {
	open := fmt.Sprintf("Open TCP port %d (%s) of %s to this host in the firewalls between.", at.Port(), port, s.Name)
	switch {
	case r.Outcome == Rejected:
		by := ""
		if r.By.IsValid() {
			by = " by " + r.By.String()
		}
		f.fail(open, "connections to %s are rejected%s: %s: a firewall does that", at, by, r.Cause)
	case r.Outcome == Silent && there:
		f.fail(open, "no answer from %s, though the host is there: a firewall drops what is sent to that port", at)
	case r.Outcome == Silent:
		f.fail(open+" If it should be open, the host is down, or has another address.",
			"no answer from %s: a firewall drops what is sent there, or the host is down", at)
	default:
		f.fail("Look at the routes of this host (ip route get "+at.Addr().String()+"), and at the address.",
			"there is no way to %s: %s", at, r.Cause)
	}
}

func (s *Server) sqlPort(f *findings) {
	setting := fmt.Sprintf("backend_port%d", s.Number)
	works := s.works(Postgres, func(p *Path) *Reach { return &p.SQL })
	for i := range s.Paths {
		p := &s.Paths[i]
		at := netip.AddrPortFrom(p.Address, uint16(s.Port))
		own := 0
		if p.Told != nil {
			own = int(p.Told.PostmasterPort)
		}
		switch {
		case works && p.SQL.tolerable():
			f.ok("nobody answers at %s: %s; another address of this name is used", at, p.SQL.Cause)
		case own != 0 && own != s.Port && (p.SQL.Outcome == Refused || p.SQL.Outcome == Connected && p.SQL.Speaks != Postgres):
			f.fail(fmt.Sprintf("Set %s to %d.", setting, own), "%s is %d, and the server takes SQL connections on port %d", setting, s.Port, own)
		case p.SQL.Outcome == Refused:
			f.fail(fmt.Sprintf("Does the server run, and does its listen_addresses let this host in? %s has to be its port (SHOW port). "+
				"A firewall that rejects with a reset looks the same.", setting), "nobody listens at %s: %s", at, p.SQL.Cause)
		case p.SQL.Outcome != Connected:
			s.unreached(f, at, &p.SQL, p.Watchdog.Outcome == Connected || p.Watchdog.Outcome == Refused, "its port")
		case p.SQL.Speaks == Watchdog:
			f.fail(fmt.Sprintf("Set %s to the server's port (SHOW port), and not to its watchdog.port.", setting),
				"what listens at %s is a watchdog, and no PostgreSQL server", at)
		case p.SQL.Speaks == Nothing:
			f.fail(fmt.Sprintf("Set %s to the server's port (SHOW port).", setting),
				"what listens at %s does not answer as a PostgreSQL server: %s", at, p.SQL.Cause)
		case own != 0 && own != s.Port:
			f.warn(fmt.Sprintf("If that is a pooler on purpose, give each client host a key, or an address of its own; else set %s to %d.",
				setting, own), "at %s is no port of the server itself, whose is %d: sessions carry no label by which it knows whose they are",
				at, own)
		default:
			f.ok("PostgreSQL answers at %s", at)
		}
	}
}

// session is what SQL has shown.
func (s *Server) session(f *findings) {
	q := s.Session
	switch {
	case q == nil:
		return
	case q.Problem != "":
		f.warn("Check the connection information: the same as psql has it.", "could not connect by SQL: %s", q.Problem)
		return
	case !q.Preloaded:
		f.fail("Add it there, and restart the server.", "watchdog is not in shared_preload_libraries of this server (PostgreSQL %s)", q.Server)
		return
	case q.Extension == "":
		f.ok("PostgreSQL %s has loaded watchdog; the extension is not created in this database", q.Server)
	default:
		f.ok("PostgreSQL %s has loaded watchdog; the extension is of version %s", q.Server, q.Extension)
	}
	for _, r := range q.Rows {
		level := Level(strings.ToLower(r.Level))
		if level != Warning && level != Error {
			level = OK
		}
		f.add(level, "watchdog_doctor(): "+r.Check+": "+r.Text, r.Advice)
	}
}
