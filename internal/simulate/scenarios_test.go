package simulate

// Faults one by one, against the rules as they are to be: with no regard to what one connection, an
// address and a wall clock bear. What breaks a rule today is an expected failure, with the rule's
// name; whoever mends it finds out here, and makes it a pass.

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
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
	s.d.open(c, c.conmgrs[0], false)
}

func (s *stage) cutFor(d time.Duration) {
	end := s.now.Add(d)
	s.path(s.c.h.addr, s.d.h.addr).cut, s.path(s.d.h.addr, s.c.h.addr).cut = end, end
	s.disturb(mark{from: s.now, to: end, hard: true, what: "cut", c: s.c, d: s.d})
}

// closePort: heartbeats do not pass, and all else does.
func (s *stage) closePort(d time.Duration) {
	end := s.now.Add(d)
	s.path(s.c.h.addr, s.d.h.addr).port, s.path(s.d.h.addr, s.c.h.addr).port = end, end
	s.disturb(mark{from: s.now, to: end, hard: true, what: "the heartbeat port of " + s.d.h.name + " is closed", c: s.c, d: s.d})
}

// neighbour is a second client host, with a conmgr, behind one address with the first.
func (s *stage) neighbour(set settings) *client {
	b := s.newClient("client2", clientAddr(1))
	b.add(set)
	s.hide(netip.AddrFrom4([4]byte{10, 0, 9, 1}), s.c, b)
	return b
}

func (s *stage) stallWorkerFor(d time.Duration) {
	s.d.worker.stopped = s.now.Add(d)
	s.disturb(mark{from: s.now, to: s.d.worker.stopped, what: "the worker of " + s.d.h.name + " is stopped", d: s.d})
}

// returning makes the conmgr one that has so much time to come back, and an application that waits
// for it.
func (s *stage) returning(grace time.Duration) {
	s.m.running, s.m.p.dead, s.m.grace = false, true, grace
	s.m.start()
	s.after(15*time.Second, func() { s.d.open(s.c, s.m, true) })
}

// reload changes the conmgr's file, and has it read.
func (s *stage) reload(edit func(c *change)) {
	next := s.m.unchanged()
	edit(&next)
	s.m.reload(next, 300*ms)
}

// leaves makes it one that ends so at 20 s.
func (s *stage) leaves(grace time.Duration, how ending) {
	s.returning(grace)
	s.after(20*time.Second, func() { s.m.ends(how) })
}

// copied is another conmgr with the directory of the first one, on the same kernel: a container.
func (s *stage) copied() *conmgr {
	b := s.newClient("client2", clientAddr(1))
	b.h.boot = s.c.h.boot
	m := &conmgr{c: b, set: s.m.set, grace: s.m.grace, id: s.m.id, boot: s.m.boot, generations: map[int]uint64{},
		stood: map[heartbeat.ID]Mono{}, reloaded: newReloaded(reloaded{})}
	b.conmgrs = append(b.conmgrs, m)
	m.start()
	return m
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
	{"forgotten WELCOME that is lost", "", timings[2], func(s *stage) { // the next one has resumed
		s.path(s.c.h.addr, s.d.h.addr).delay, s.path(s.d.h.addr, s.c.h.addr).delay = 10*ms, 10*ms
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, func() { s.c.freeze(30 * time.Second) })
		s.after(50045*ms, func() { s.holes[s.m.instances[0].endpoint().local] = true })
	}},
	{"two entries of one server", "", timings[2], func(s *stage) { // one heartbeat serves, and nothing is lost
		s.m.twice(s.d)
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(40*time.Second, s.c.powerOff)
	}},
	{"two entries of one server and a loss", "", timings[2], func(s *stage) { // the other entry takes over
		s.m.twice(s.d)
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(30*time.Second, func() { s.cutFor(10 * time.Second) })
		s.after(50*time.Second, func() { s.session(s.c) })
		s.after(70*time.Second, s.c.powerOff)
	}},
	{"two boots of a machine", "", timings[7], func(s *stage) { // and a verdict on each that is put off
		s.after(time.Second, func() { s.c.add(timings[2]) })
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20500*ms, s.c.powerOff)
		s.after(23*time.Second, s.c.powerOn)
		s.after(23500*ms, func() {
			s.holes[s.c.conmgrs[1].instances[0].endpoint().local] = true
			s.disturb(mark{from: s.now, to: s.now.Add(4 * time.Second), hard: true, what: "a connection is forgotten", c: s.c, d: s.d})
		})
	}},
	{"a worker that stands still", "", timings[7], func(s *stage) { // and a connection that waits for it in the backlog
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, func() {
			s.stallWorkerFor(8 * time.Second)
			s.world.reset(s.c, s.m, s.d)
		})
	}},
	{"a postmaster that stands still for a moment", "", timings[2], func(s *stage) {
		s.after(20900*ms, func() { s.d.standStill(400 * ms) })
		s.after(20920*ms, func() { s.session(s.c) })
		s.after(20950*ms, s.c.powerOff)
	}},
	{"one address for two hosts and the other one", "", timings[2], func(s *stage) { // the other one's sessions stay
		b := s.neighbour(timings[2])
		s.after(15*time.Second, func() { s.session(b) })
		s.after(20*time.Second, s.c.powerOff)
	}},

	{"the heartbeat port is closed", "", timings[2], func(s *stage) { // while sessions work; then the host dies
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(16*time.Second, func() {
			s.session(s.c)
			for _, x := range s.d.sessions {
				x.plain = true
			}
			s.d.sessions[1].work(5 * time.Minute)
		})
		s.after(20*time.Second, func() { s.closePort(5 * time.Minute) })
		s.after(80*time.Second, s.c.powerOff)
	}},

	// Issue 11: evidence by more than one connection, identity by more than an address and a clock.
	{"one address for two hosts", "", timings[2], func(s *stage) { // what lives protects what has died
		s.neighbour(timings[2])
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, s.c.powerOff)
	}},
	{"one address for two hosts and a loss that was told", "", timings[6], func(s *stage) {
		s.neighbour(timings[7])
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20500*ms, func() { s.cutFor(30 * time.Second) })
	}},
	{"one address for two hosts and a new conmgr", "", timings[7], func(s *stage) { // which is not the dead one's next boot
		b := s.neighbour(timings[2])
		s.after(15*time.Second, func() { s.session(b) })
		s.after(21*time.Second, s.c.powerOff)
		s.after(22*time.Second, func() { b.conmgrs[0].kill(false) })
		s.after(23*time.Second, b.conmgrs[0].start)
	}},
	{"a session in the backlog", "", timings[2], func(s *stage) { // that begins after its host's death, and the cut-off
		s.after(20500*ms, func() { s.d.standStill(4 * time.Second) })
		s.after(20600*ms, func() { s.session(s.c) })
		s.after(20700*ms, s.c.powerOff)
	}},
	{"stuck retransmission", "", timings[7], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(29950*ms, func() { s.cutFor(8500 * ms) })
	}},
	{"a connection that is forgotten between", "", timings[2], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, func() { s.holes[s.m.instances[0].endpoint().local] = true })
	}},
	{"takeover of an address", "", timings[7], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(21*time.Second, s.c.powerOff)
		s.after(25*time.Second, func() {
			b := s.newClient("client2", s.c.h.addr)
			b.h.boot[0] = 99
			b.add(timings[7])
		})
		s.after(26*time.Second, func() { s.session(s.clients[1]) })
	}},
	{"power cycle", "", timings[7], func(s *stage) { // back before the cut-off of the last silence
		s.after(21*time.Second, s.c.powerOff)
		s.after(25*time.Second, s.c.powerOn)
		s.after(26*time.Second, func() { s.session(s.c) })
	}},
	{"death after a verdict by one connection", "", timings[7], func(s *stage) {
		s.after(15*time.Second, func() { s.holes[s.m.instances[0].endpoint().local] = true })
		s.after(28*time.Second, func() { s.session(s.c) })
		s.after(29*time.Second, s.c.powerOff)
	}},
	{"the clock is set back", "", timings[4], func(s *stage) {
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(16*time.Second, func() { s.d.step = -6 * time.Second })
		s.after(17*time.Second, s.c.powerOff)
	}},
	{"a restart", "", timings[2], func(s *stage) { // for longer than heartbeat_timeout; then the host dies
		s.leaves(10*time.Second, returns)
		s.after(28*time.Second, s.m.start)
		s.after(60*time.Second, s.c.powerOff)
	}},
	{"a crash of conmgr", "", timings[2], func(s *stage) {
		s.leaves(10*time.Second, killed)
		s.after(28*time.Second, s.m.start)
	}},
	{"a restart with another heartbeat_timeout", "", timings[2], func(s *stage) {
		s.leaves(10*time.Second, returns)
		s.after(21*time.Second, func() { s.m.set = timings[4]; s.m.start() })
		s.after(60*time.Second, s.c.powerOff)
	}},
	{"a restart that takes too long", "", timings[2], func(s *stage) {
		s.leaves(5*time.Second, returns)
		s.after(30*time.Second, s.m.start)
	}},
	{"a host dies while its conmgr is away", "", timings[2], func(s *stage) {
		s.leaves(10*time.Second, killed)
		s.after(21*time.Second, s.c.powerOff)
	}},
	{"a server is restarted while conmgr is away", "", timings[2], func(s *stage) {
		s.leaves(10*time.Second, returns)
		s.after(21*time.Second, s.d.crash)
		s.after(22*time.Second, s.d.startServer)
		s.after(24*time.Second, s.m.start)
	}},
	{"a server dies while conmgr is away", "", timings[2], func(s *stage) {
		s.leaves(10*time.Second, returns)
		s.after(21*time.Second, s.d.powerOff)
		s.after(24*time.Second, s.m.start)
	}},
	{"a directory that was copied", "", timings[2], func(s *stage) { // both live, and nothing is lost; then one of them dies
		s.returning(10 * time.Second)
		s.after(20*time.Second, func() {
			m := s.copied()
			s.after(25*time.Second, func() { s.d.open(m.c, m, true) })
		})
		s.after(60*time.Second, s.c.powerOff)
	}},
	{"a directory that is older", "", timings[2], func(s *stage) { // and knows less than was told
		s.returning(10 * time.Second)
		s.after(20*time.Second, func() { s.cutFor(10 * time.Second) })
		s.after(40*time.Second, func() { s.d.open(s.c, s.m, true) })
		s.after(50*time.Second, func() { s.m.ends(returns) })
		s.after(52*time.Second, func() {
			s.disturb(mark{from: s.now, to: s.now, always: true, what: "the directory of client1 is an older one", c: s.c})
			s.m.generations = map[int]uint64{}
			s.m.start()
		})
	}},
	{"a reload that removes an instance", "", timings[2], func(s *stage) { // its server ends nothing, and its host may die
		s.returning(10 * time.Second)
		s.after(16*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, func() { s.reload(func(c *change) { c.without = map[int]bool{0: true} }) })
		s.after(60*time.Second, s.c.powerOff)
	}},
	{"a reload that removes an instance of one of two conmgrs", "", timings[2], func(s *stage) { // what it leaves is the other's
		s.returning(10 * time.Second)
		s.c.add(timings[4])
		s.after(16*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, func() { s.reload(func(c *change) { c.without = map[int]bool{0: true} }) })
		s.after(40*time.Second, s.c.powerOff)
	}},
	{"a reload that adds an instance again", "", timings[2], func(s *stage) {
		s.returning(10 * time.Second)
		s.after(20*time.Second, func() { s.reload(func(c *change) { c.without = map[int]bool{0: true} }) })
		s.after(30*time.Second, func() { s.reload(func(c *change) { c.without, c.set = nil, timings[4] }) })
		s.after(40*time.Second, func() { s.session(s.c) })
		s.after(60*time.Second, s.c.powerOff)
	}},
	{"an entry that looks while the worker stands still", "", timings[3], func(s *stage) { // and has sessions of before
		s.m.twice(s.d)
		s.returning(10 * time.Second)
		s.after(16*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, func() { s.reload(func(c *change) { c.without = map[int]bool{0: true} }) })
		s.after(30*time.Second, func() { s.session(s.c) }) // by the entry that is left, which is the duplicate again then
		s.after(35*time.Second, func() { s.reload(func(c *change) { c.without = nil }) })
		s.after(55250*ms, func() { s.stallWorkerFor(1800 * ms) })
	}},
	{"watchdog.terminate is off", "", timings[2], func(s *stage) { // while the host is cut off; and not when it dies
		s.after(10*time.Second, func() { s.d.setTerminate(false) })
		s.after(15*time.Second, func() { s.session(s.c) })
		s.after(20*time.Second, func() { s.cutFor(10 * time.Second) })
		s.after(40*time.Second, func() { s.session(s.c) })
		s.after(50*time.Second, func() { s.d.setTerminate(true) })
		s.after(60*time.Second, s.c.powerOff)
	}},
	{"notify_loss is off", "", timings[2], func(s *stage) { // and the server hears nothing of the loss
		s.returning(10 * time.Second)
		s.after(16*time.Second, func() { s.reload(func(c *change) { c.quiet = true }) })
		s.after(20*time.Second, func() {
			end := s.now.Add(8 * time.Second)
			s.path(s.d.h.addr, s.c.h.addr).cut = end
			s.disturb(mark{from: s.now, to: end, hard: true, what: "nothing passes from the server", c: s.c, d: s.d})
		})
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

// TestNothingMoreWhileAllIsWell: another connection, and a question to the kernel about BEATs of
// ours, are for times of doubt.
func TestNothingMoreWhileAllIsWell(t *testing.T) {
	for _, set := range timings {
		for _, delay := range []time.Duration{100 * time.Microsecond, 4 * ms, 10 * ms} {
			s := newStage(set)
			s.path(s.c.h.addr, s.d.h.addr).delay, s.path(s.d.h.addr, s.c.h.addr).delay = delay, delay
			s.run(1, time.Hour)
			if s.extra != 0 {
				t.Errorf("interval %v, timeout %v, delay %v: %d times in an hour", set.interval, set.timeout, delay, s.extra)
			}
		}
	}
}

// TestNoneTakesItsPlace: packets are lost at random for hours, and conmgr opens many a connection
// beside the one that stands, of which it never hears. None takes that one's place.
func TestNoneTakesItsPlace(t *testing.T) {
	s := newStage(timings[2])
	s.endless = true
	end := s.now.Add(4 * time.Hour)
	for _, p := range []*path{s.path(s.c.h.addr, s.d.h.addr), s.path(s.d.h.addr, s.c.h.addr)} {
		p.delay, p.loss, p.lossy = 4*ms, 0.2, end
	}
	s.disturb(mark{from: s.now, to: end, hard: true, what: "packets are lost", c: s.c, d: s.d})
	s.run(1, 4*time.Hour)
	if s.closed != 0 {
		t.Errorf("no connection stood %d times, of %d that were dialled beside", s.closed, s.extra)
	}
}

// TestSameSeedSameRun: what a seed has found can be found again.
func TestSameSeedSameRun(t *testing.T) {
	a, b := Run(7, 10*time.Minute, true), Run(7, 10*time.Minute, true)
	if a != b {
		t.Errorf("two runs of one seed differ:\n%s\n\n%s", a.Transcript, b.Transcript)
	}
}
