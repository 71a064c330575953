package doctor

// Checks of this host.

import (
	"fmt"
	"strings"
)

func (facts *Facts) configuration(f *findings) {
	for _, d := range facts.Diagnostics {
		if d.Warning {
			f.warn(d.Hint, "%s", d.Text)
		} else {
			f.fail(d.Hint, "%s", d.Text)
		}
	}
	if len(f.all) == 0 {
		f.ok("conmgr.conf has no errors")
	}
}

func (facts *Facts) conmgr(f *findings) {
	c := &facts.Conmgr
	switch {
	case !c.Running:
		f.warn("Start it: cm_ctl start, or systemctl start of its service. Until then nothing protects the sessions of this host.",
			"no conmgr process runs in %s", facts.Directory)
	case c.Problem != "":
		f.fail("Look at its log, and at ps: it may be stopped, or be that of another machine or container.",
			"conmgr process (PID %d) runs, and could not be asked: %s", c.Pid, c.Problem)
	case c.Version != facts.Version:
		f.warn("Restart conmgr, which costs no session: cm_ctl restart.",
			"conmgr process (PID %d) is of version %s, and cm_ctl of version %s", c.Pid, c.Version, facts.Version)
	case len(c.Differ) > 0:
		f.warn("Run cm_ctl reload; it names what needs cm_ctl restart. Neither ends a session.",
			"conmgr process (PID %d) does not use what conmgr.conf has now: %s", c.Pid, strings.Join(c.Differ, ", "))
	default:
		f.ok("conmgr process (PID %d, version %s) runs, and answers", c.Pid, c.Version)
	}
}

// fewPlaces is less than what an application server's pools take.
const fewPlaces = 100

func (facts *Facts) descriptors(f *findings) {
	h, s := &facts.Host, facts.Settings
	whose := "the conmgr process"
	if h.Own {
		whose = "processes that are started from here"
	}
	const advice = `Raise it: LimitNOFILE of the service, or "ulimit -n" before cm_ctl start; or lower max_connections.`
	switch {
	case h.Descriptors == 0:
		f.ok("the limit of open file descriptors is not known")
	case h.Descriptors <= s.Needed:
		f.fail(advice, "the limit of %d open file descriptors of %s is too low: conmgr.conf needs more than %d", h.Descriptors, whose, s.Needed)
	case s.Places < fewPlaces:
		f.warn(advice, "the limit of %d open file descriptors of %s leaves places for %d applications", h.Descriptors, whose, s.Places)
	case facts.Conmgr.Bound*10 >= s.Places*9:
		f.warn(advice, "%d of %d places for applications are taken", facts.Conmgr.Bound, s.Places)
	default:
		f.ok("the limit of %d open file descriptors of %s leaves places for %d applications", h.Descriptors, whose, s.Places)
	}
}

func (facts *Facts) capability(f *findings) {
	h := &facts.Host
	const advice = "Give it to the service: CapabilityBoundingSet=CAP_NET_ADMIN and AmbientCapabilities=CAP_NET_ADMIN in its systemd unit; " +
		"or set destroy_sockets to off."
	switch {
	case !facts.Settings.DestroySockets:
		f.ok("destroy_sockets is off: no capability is needed")
	case h.NetAdmin && h.Own:
		f.ok("destroy_sockets is on, and this process has the capability CAP_NET_ADMIN")
	case h.NetAdmin:
		f.ok("destroy_sockets is on, and conmgr has the capability CAP_NET_ADMIN")
	case h.Own:
		f.fail(advice, "destroy_sockets is on, and what is started from here has not the capability CAP_NET_ADMIN: conmgr does not start so")
	default:
		f.fail(advice, "destroy_sockets is on, and the conmgr process has not the capability CAP_NET_ADMIN")
	}
}

func (facts *Facts) front(f *findings) {
	r := &facts.Front
	const advice = "Install the libpq front of this version, and start the programs again that use it."
	switch {
	case r.Path == "":
		f.ok("no libpq front is installed here")
	case r.Problem != "":
		f.fail(advice, "the libpq front \"%s\" cannot be read: %s", r.Path, r.Problem)
	case len(r.Missing) > 0:
		some := strings.Join(r.Missing[:min(3, len(r.Missing))], "(), ") + "()"
		f.warn(advice, "the libpq front \"%s\" is older than \"%s\": it lacks %s, and programs that call %s do not start with it",
			r.Path, r.Libpq, count(len(r.Missing), "function", "functions"), some)
	case len(r.Lacks) > 0:
		f.warn(advice, "the libpq front \"%s\" is of an older version: it lacks %s()", r.Path, strings.Join(r.Lacks, "(), "))
	case r.Libpq == "":
		f.warn("Install libpq (libpq5): the front calls it.", "the libpq front \"%s\" has no libpq to stand before", r.Path)
	default:
		f.ok("the libpq front \"%s\" has all functions of \"%s\"", r.Path, r.Libpq)
	}
}

// count is a number with its noun.
func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
