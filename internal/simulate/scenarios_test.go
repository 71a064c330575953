package simulate

// Faults one by one, against the rules as they are to be: with no regard to what one connection, an
// address and a wall clock bear. What breaks a rule today is an expected failure, with the rule's
// name; whoever mends it finds out here, and makes it a pass.

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/transcript"
)

// stage is a server and a client host with one conmgr, without random faults, an hour after noon.
type stage struct {
	*world
	d *database
	c *client
	m *conmgr
}

func newStage(set settings) *stage {
	w := newWorld(1, true)
	w.strict = true
	d := w.newDatabase("server1", databaseAddr(0))
	c := w.newClient("client1", clientAddr(0))
	return &stage{world: w, d: d, c: c, m: c.add(set)}
}

// after plans something, from the beginning of the run.
func (s *stage) after(d time.Duration, do func()) { s.at(Mono(time.Hour).Add(d), do) }

// session opens one from a client host.
func (s *stage) session(c *client) {
	s.d.sessions = append(s.d.sessions, &session{d: s.d, c: c, m: c.conmgrs[0], addr: c.h.addr, boots: c.h.boots,
		began: s.now, wall: s.d.wall()})
}

func (s *stage) cutFor(d time.Duration) {
	end := s.now.Add(d)
	s.path(s.c.h.addr, s.d.h.addr).cut, s.path(s.d.h.addr, s.c.h.addr).cut = end, end
	s.disturb(mark{from: s.now, to: end, hard: true, what: "cut", c: s.c, d: s.d})
}

var scenarios = []struct {
	name, breaks string // breaks: the rule that it breaks today, "": it holds
	set          settings
	script       func(s *stage)
}{
	{"a short outage", "", timings[7], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(29*time.Second, func() { s.cutFor(5 * time.Second) })
	}},
	{"a host dies", "", timings[2], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, s.c.powerOff)
	}},
	{"one id for two entries", "", timings[2], func(s *stage) { // each entry has an id of its own
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(16*time.Second, func() { s.c.add(timings[2]) })
	}},
	{"protection by a closed peer", "", timings[2], func(s *stage) {
		other := s.c.add(timings[7])
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(19*time.Second, func() { other.kill(false) })
		s.after(20*time.Second, s.c.powerOff)
	}},
	{"power cycle with a firewall", "", timings[7], func(s *stage) { // that answers for who is not there
		s.firewall = func(p *packet) bool { return true }
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(21*time.Second, s.c.powerOff)
		s.after(39*time.Second, s.c.powerOn)
	}},
	{"forgotten WELCOME", "", timings[2], func(s *stage) { // the paused machine's applications are told
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, func() { s.c.freeze(30 * time.Second) })
	}},

	// Issue 11: evidence by more than one connection, identity by more than an address and a clock.
	{"stuck retransmission", "R1", timings[7], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(29950*ms, func() { s.cutFor(8500 * ms) })
	}},
	{"a connection that is forgotten between", "R1", timings[2], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, func() { s.holes[s.m.instances[0].e.local] = true })
	}},
	{"takeover of an address", "R1", timings[7], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(21*time.Second, s.c.powerOff)
		s.after(25*time.Second, func() {
			b := s.newClient("client2", s.c.h.addr)
			b.h.boot[0] = 99
			b.add(timings[7])
		})
		s.after(26*time.Second, func() { s.session(s.clients[1]) })
	}},
	{"power cycle", "R1", timings[7], func(s *stage) { // back before the cut-off of the last silence
		s.after(21*time.Second, s.c.powerOff)
		s.after(25*time.Second, s.c.powerOn)
		s.after(26*time.Second, func() { s.session(s.c) })
	}},
	{"death after a verdict by one connection", "R2", timings[7], func(s *stage) {
		s.after(15*time.Second, func() { s.holes[s.m.instances[0].e.local] = true })
		s.after(28*time.Second, func() { s.session(s.c) })
		s.after(29*time.Second, s.c.powerOff)
	}},
	{"the clock is set back", "R2", timings[4], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(16*time.Second, func() { s.d.step, s.d.stepped = -6*time.Second, s.now })
		s.after(17*time.Second, s.c.powerOff)
	}},
}

// TestScenarios holds the verdict on each, and what both ends do and say, line by line: testdata/.
func TestScenarios(t *testing.T) {
	for _, x := range scenarios {
		t.Run(x.name, func(t *testing.T) {
			s := newStage(x.set)
			x.script(s)
			r := s.run(1, 5*time.Minute)
			switch r.Rule {
			case x.breaks:
			case "":
				t.Errorf("it breaks %s no more: make it a pass\n%s", x.breaks, r.Transcript)
			default:
				t.Errorf("it breaks %s %s, expected %q\n%s", r.Rule, r.Text, x.breaks, r.Transcript)
			}
			name := filepath.Join("testdata", strings.ReplaceAll(x.name, " ", "_")+".txt")
			transcript.Hold(t, name, r.Transcript+"\n")
		})
	}
}

// TestSameSeedSameRun: what a seed has found can be found again.
func TestSameSeedSameRun(t *testing.T) {
	a, b := Run(7, 10*time.Minute, true), Run(7, 10*time.Minute, true)
	if a != b {
		t.Errorf("two runs of one seed differ:\n%s\n\n%s", a.Transcript, b.Transcript)
	}
}
