package simulate

// A client host: its conmgrs, which do what heartbeat/instance says as conmgr/watch does, and
// applications that have sessions where their conmgr sends them.

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	end "github.com/pgwatchdog/watchdog/heartbeat/instance"
)

// settings are those of a conmgr.
type settings struct{ interval, timeout, connectInterval, connectTimeout time.Duration }

// client is a client host.
type client struct {
	w       *world
	h       *host
	conmgrs []*conmgr
	died    Mono // 0: it lives
}

// conmgr is one process with an instance for each database.
type conmgr struct {
	c         *client
	set       settings
	id        heartbeat.ID
	p         *process
	running   bool
	instances []*instance
	again     []*database  // to which a second entry leads
	without   map[int]bool // entries that conmgr.conf does not have any more
	reloaded
	servers map[end.Server]end.Holder

	grace       time.Duration // 0: each process has an id of its own
	boot        heartbeat.ID  // of the machine when the id was made
	generations map[int]uint64
	began       Mono                  // this process
	stood       map[heartbeat.ID]Mono // when it left a connection of an entry that stood
	away        Mono                  // since when its kernel has closed its connections; 0: it runs, or was never there
	waiting     []*session
}

// instance is conmgr's end for one database.
type instance struct {
	m       *conmgr
	d       *database
	index   int
	end     *end.Instance
	mon     end.View
	lines   []*line     // that are dialled, or stand, in that order
	serves  bool        // heartbeats go both ways
	queue   []end.Event // that actions have led to
	answers []end.Event // of the SQL port
	since   uint64      // by which the server knows it
	known   bool        // the last WELCOME has said the same as the one before it
	told    Mono        // when its loss was last told
	up      Mono        // since when it is established, breaks that were resumed aside; 0: it is not

	quiet     bool // a loss is only reported
	renamed   bool // another process has the id that it began with
	duplicate bool // another entry serves its server
	freed     bool // and has let it go
}

// line is one connection of it.
type line struct {
	conn   end.Conn
	e      *endpoint
	stands bool
}

func (w *world) newClient(name string, addr netip.Addr) *client {
	c := &client{w: w, h: w.newHost(name, addr)}
	w.clients = append(w.clients, c)
	return c
}

func (c *client) add(set settings) *conmgr {
	m := &conmgr{c: c, set: set}
	c.conmgrs = append(c.conmgrs, m)
	m.start()
	return m
}

// start starts the process: a new id, and nothing known, or what its predecessor has left.
func (m *conmgr) start() {
	w := m.c.w
	if m.running || !m.c.h.up {
		return
	}
	m.running, m.began = true, w.now
	w.ids++
	if m.grace == 0 || m.boot != m.c.h.boot {
		m.id = heartbeat.ID{byte(w.ids), byte(w.ids >> 8), 0xc0}
		m.boot, m.generations, m.stood = m.c.h.boot, map[int]uint64{}, map[heartbeat.ID]Mono{}
		m.reloaded = newReloaded(m.reloaded)
	}
	m.p = &process{h: m.c.h, run: m.turn, planned: never}
	random := rand.New(rand.NewPCG(uint64(w.ids), 79)) // of its own: the schedule is another's
	m.instances, m.servers = nil, map[end.Server]end.Holder{}
	for i, d := range m.entries() {
		if m.without[i] {
			continue
		}
		in := &instance{m: m, d: d, index: i, quiet: m.quietly(), end: end.New(end.Config{Index: i, HostAddr: d.h.addr, WatchdogPort: watchdogPort,
			ID: heartbeat.InstanceID(m.id, i), Boot: m.c.h.boot, Interval: m.set.interval, Timeout: m.set.timeout,
			ConnectInterval: m.set.connectInterval, ConnectTimeout: m.set.connectTimeout,
			DuplicateCheck: 10 * time.Second, Random: random.Float64, Key: w.key(m.c.h.name), Nonce: w.nonce,
			Spare: heartbeat.InstanceID(m.spare(), i), Incarnation: m.incarnation(), Generation: m.generations[i], Grace: m.grace,
			OnlyReport: m.quietly()})}
		in.mon = in.end.View()
		m.instances = append(m.instances, in)
		delete(m.removed, in.id())
	}
	w.note("%s: conmgr %x starts, interval %v, timeout %v", m.c.h.name, m.id[:2], m.set.interval, m.set.timeout)
	m.started()
	m.p.wake()
}

// kill ends the process, with a goodbye or without a word; its kernel closes the connections.
func (m *conmgr) kill(goodbye bool) {
	how := killed
	if goodbye {
		how = stops
	}
	m.ends(how)
}

// ending is how a conmgr ends.
type ending uint8

const (
	killed ending = iota
	stops
	returns // it says that it will be back
)

var endings = [...]string{"ends, goodbye false", "ends, goodbye true", "ends, and will be back"}

func (m *conmgr) ends(how ending) {
	if !m.running {
		return
	}
	m.c.w.note("%s: conmgr %x %s", m.c.h.name, m.id[:2], endings[how])
	m.running, m.p.dead = false, true
	for _, in := range m.instances {
		if how != killed {
			left := how == returns && in.isLeft()
			in.step(end.Event{Kind: end.Stop, Goodbye: how == stops, Returns: how == returns && !left, Unneeded: left})
		} else {
			for _, l := range in.lines {
				l.e.close()
			}
			in.lines = nil
		}
	}
	m.left(how)
}

// powerOff is the death of the host.
func (c *client) powerOff() {
	c.w.note("%s: dies", c.h.name)
	c.w.died(c)
	for _, m := range c.conmgrs {
		if m.running {
			m.running, m.p.dead, m.away, m.waiting = false, true, 0, nil
			for _, in := range m.instances {
				in.lines = nil
			}
		}
	}
	c.h.powerOff()
	c.died = c.w.now
}

// powerOn starts the machine again.
func (c *client) powerOn() {
	if c.h.up {
		return
	}
	c.h.reboot()
	c.died = 0
	c.w.note("%s: machine starts", c.h.name)
	for _, m := range c.conmgrs {
		m.start()
	}
}

// turn runs all instances; each is a goroutine in the real one.
func (m *conmgr) turn(time.Duration, bool) {
	wake := never
	for _, in := range m.instances {
		in.run()
		wake = min(wake, in.end.Wake())
	}
	m.p.wakeAt(wake)
}

// run takes in what the kernel holds, and then what is due.
func (in *instance) run() {
	in.read()
	for _, e := range in.answers {
		e.At = in.m.c.w.now
		in.step(e)
	}
	in.answers = in.answers[:0]
	if in.freed {
		in.freed = false
		in.step(end.Event{Kind: end.Freed})
	}
	for in.end.Wake() <= in.m.c.w.now {
		in.step(end.Event{Kind: end.Due})
	}
}

// read takes in what has come.
func (in *instance) read() {
	for _, l := range slices.Clone(in.lines) {
		in.readLine(l)
	}
}

func (in *instance) has(l *line) bool { return slices.Contains(in.lines, l) }

func (in *instance) readLine(l *line) {
	e := l.e
	if !l.stands && e.established && in.has(l) {
		l.stands = true
		e.userTimeout = in.m.set.timeout
		in.step(end.Event{Kind: end.Dialled, Conn: l.conn, Local: e.local.Addr()})
	}
	for in.has(l) {
		f, n, err := heartbeat.Next(e.rx)
		if err != nil && in.m.c.w.attacker != nil {
			in.step(end.Event{Kind: end.Broken, Conn: l.conn, Cause: err.Error()})
			return
		}
		if err != nil {
			in.m.c.w.fail("protocol", "conmgr gets what it does not take: %v", err)
			return
		}
		if n == 0 {
			break
		}
		e.rx = e.rx[n:]
		if w, err := heartbeat.ParseWelcome(f.Payload); f.Type == heartbeat.TypeWelcome && err == nil {
			in.known, in.since = in.since == w.KnownSince, w.KnownSince
		}
		in.step(end.Event{Kind: end.Frame, Conn: l.conn, Frame: f})
	}
	switch {
	case !in.has(l):
	case !l.stands && e.broken:
		in.lines = slices.DeleteFunc(in.lines, func(o *line) bool { return o == l })
		in.step(end.Event{Kind: end.DialFailed, Conn: l.conn, Cause: "connection refused"})
	case e.broken:
		in.step(end.Event{Kind: end.Broken, Conn: l.conn, Cause: "connection reset by peer"})
	case e.ended:
		in.step(end.Event{Kind: end.Ended, Conn: l.conn})
	}
}

// step takes in an event, and does what is to be done then.
func (in *instance) step(e end.Event) {
	in.queue = append(in.queue[:0], e)
	for i := 0; i < len(in.queue); i++ {
		actions := in.end.Step(in.m.c.w.now, in.queue[i])
		for j := range actions {
			in.act(&actions[j])
		}
	}
}

func (in *instance) act(a *end.Action) {
	w, h := in.m.c.w, in.m.c.h
	switch a.Kind {
	case end.Dial:
		if a.Beside {
			w.extra++
		}
		in.lines = append(in.lines, &line{conn: a.Conn, e: h.connect(a.To, in.m.p)})
	case end.HangUp:
		in.hangUp(in.line(a.Conn), a.Reset)
	case end.Send:
		if !in.line(a.Conn).e.write(a.Data) {
			in.queue = append(in.queue, end.Event{Kind: end.Unsent, Conn: a.Conn, Cause: "broken pipe"})
		}
	case end.Probe:
		w.extra++
		in.queue = append(in.queue, end.Event{Kind: end.Probed, Conn: a.Conn, Unacked: len(in.line(a.Conn).e.out) > 0})
	case end.Claim:
		in.queue = append(in.queue, end.Event{Kind: end.Claimed, Holder: in.claim(a)})
	case end.Release:
		in.release()
	case end.Ask:
		in.ask(a.Question)
	case end.Established:
		in.established(a.Loss)
	case end.Lost:
		in.lost(a.Loss)
	case end.Renamed:
		w.note("%s: conmgr %x: another process has its id", h.name, in.m.id[:2])
		in.renamed = true
	case end.Closed, end.Failed:
		if a.Kind == end.Closed {
			w.closed++
		}
		var broken *heartbeat.ProtocolError
		if errors.As(a.Err, &broken) && w.attacker == nil {
			w.fail("protocol", "conmgr gets what it does not take: %v", broken)
		}
	}
}

// established: the watchdog has welcomed the conmgr.
func (in *instance) established(loss *heartbeat.Loss) {
	w := in.m.c.w
	in.serves = !in.duplicate
	in.m.agreed[in.index] = in.m.set
	w.note("%s: conmgr %x: connection to %s stands", in.m.c.h.name, in.m.id[:2], in.d.h.name)
	if loss != nil {
		in.lost(loss)
	}
	if in.serves {
		in.m.resume(in, in.index)
	}
	if in.up == 0 && in.serves {
		in.up = w.now
		if in.known { // else the server has judged by itself; sessions that began after that are not covered
			w.back(in)
		}
	}
}

func (in *instance) lost(loss *heartbeat.Loss) {
	in.m.c.w.note("%s: conmgr %x: %s is lost: %s", in.m.c.h.name, in.m.id[:2], in.d.h.name, loss)
	in.m.generations[in.index] = in.mon.Generation() // which is written before it is told
	in.m.counts(in, loss)
	if in.up != 0 || !in.duplicate { // else no application was sent there
		in.m.c.w.told(in, loss)
	}
	in.up = 0
}

// line is the connection of that name.
func (in *instance) line(c end.Conn) *line {
	return in.lines[slices.IndexFunc(in.lines, func(l *line) bool { return l.conn == c })]
}

// endpoint is the kernel's end of the latest connection, nil if there is none.
func (in *instance) endpoint() *endpoint {
	if in == nil || len(in.lines) == 0 {
		return nil
	}
	return in.lines[len(in.lines)-1].e
}

func (in *instance) hangUp(l *line, reset bool) {
	in.lines = slices.DeleteFunc(in.lines, func(o *line) bool { return o == l })
	if in.serves && in.mon.State() != heartbeat.Established {
		in.m.c.w.note("%s: conmgr %x: connection to %s is over", in.m.c.h.name, in.m.id[:2], in.d.h.name)
		in.serves = false
	}
	if reset {
		l.e.reset()
		return
	}
	l.e.rx = nil
	l.e.close()
}

// ask asks the SQL port of a stopping server for its life.
func (in *instance) ask(q end.Question) {
	w, h := in.m.c.w, in.m.c.h
	boots, answered := h.boots, false
	answer := func(a heartbeat.StopAnswer) {
		if answered || in.m.p.dead || h.boots != boots || h.frozen > w.now {
			return
		}
		answered = true
		in.answers = append(in.answers, end.Event{Kind: end.Answered, Question: q, Answer: a})
		in.m.p.wake()
	}
	h.later(q.Until.Sub(w.now), func() { answer(heartbeat.StopSilent) })
	there, ok := w.passes(h.addr, in.d.h.addr)
	if !ok {
		return
	}
	w.in(there, func() {
		s := w.owners[in.d.h.addr]
		if s == nil || !s.up || s.frozen > w.now || s.sql == nil {
			return
		}
		says := s.sql()
		if q.Quiet && says == heartbeat.StopSilent { // a server that runs answers that, too
			says = heartbeat.StopGoesOn
		}
		if back, ok := w.passes(in.d.h.addr, h.addr); ok {
			w.in(back, func() { answer(says) })
		}
	})
}
