package simulate

// A client host: its conmgrs, as conmgr/watch drives heartbeat.Monitor and heartbeat.Attempts, and
// applications that have sessions where their conmgr sends them.

import (
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
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
}

type phase uint8

const (
	resting phase = iota
	dialling
	greeting
	serving
)

// instance is conmgr's end for one database.
type instance struct {
	m        *conmgr
	d        *database
	mon      *heartbeat.Monitor
	attempts heartbeat.Attempts
	phase    phase
	until    Mono // of the pause, or of the attempt
	e        *endpoint
	asked    Mono   // when the SQL port is asked next; 0: it is not
	since    uint64 // by which the server knows it
	told     Mono   // when its loss was last told
	up       Mono   // since when it is established, breaks that were resumed aside; 0: it is not
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

// start starts the process: a new id, nothing known.
func (m *conmgr) start() {
	w := m.c.w
	if m.running || !m.c.h.up {
		return
	}
	m.running = true
	w.ids++
	m.id = heartbeat.ID{byte(w.ids), byte(w.ids >> 8), 0xc0}
	m.p = &process{h: m.c.h, run: m.turn, planned: never}
	m.instances = nil
	for i, d := range w.databases {
		in := &instance{m: m, d: d, mon: heartbeat.NewMonitor(heartbeat.InstanceID(m.id, i), m.set.interval,
			m.set.timeout), attempts: heartbeat.Attempts{Interval: m.set.connectInterval,
			Timeout: m.set.connectTimeout, DuplicateCheck: 10 * time.Second}, until: w.now}
		in.mon.SetBoot(m.c.h.boot)
		m.instances = append(m.instances, in)
	}
	w.note("%s: conmgr %x starts, interval %v, timeout %v", m.c.h.name, m.id[:2], m.set.interval, m.set.timeout)
	m.p.wake()
}

// kill ends the process without a word; its kernel closes the connections.
func (m *conmgr) kill(goodbye bool) {
	if !m.running {
		return
	}
	m.c.w.note("%s: conmgr %x ends, goodbye %v", m.c.h.name, m.id[:2], goodbye)
	m.running, m.p.dead = false, true
	for _, in := range m.instances {
		if in.e != nil {
			if goodbye && in.phase == serving {
				in.e.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds}.Append(nil))
				in.e.rx = nil
			}
			in.e.close()
			in.e = nil
		}
	}
	m.c.w.conmgrEnded(m)
}

// powerOff is the death of the host.
func (c *client) powerOff() {
	c.w.note("%s: dies", c.h.name)
	c.w.died(c)
	for _, m := range c.conmgrs {
		if m.running {
			m.running, m.p.dead = false, true
			for _, in := range m.instances {
				in.e = nil
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
func (m *conmgr) turn(late time.Duration, timer bool) {
	wake := never
	for _, in := range m.instances {
		in.run(late)
		wake = min(wake, in.wake())
	}
	m.p.wakeAt(wake)
}

func (in *instance) wake() Mono {
	t := never
	if w, armed := in.mon.Wake(); armed {
		t = w
	}
	if in.phase != serving {
		t = min(t, in.until)
	}
	if in.asked != 0 {
		t = min(t, in.asked)
	}
	return t
}

// run takes in what the kernel holds, judges, and goes on connecting.
func (in *instance) run(late time.Duration) {
	w := in.m.c.w
	for again := true; again; {
		again = false
		heard := in.read()
		if w2, armed := in.mon.Wake(); !heard && armed && w2 <= w.now {
			in.tick(late)
		}
		if in.phase == serving {
			var scratch [heartbeat.HeaderSize + 16]byte
			if b, due := in.mon.Beat(w.now, scratch[:0]); due && !in.e.write(b) {
				in.closed(heartbeat.Severed)
			}
		}
		if in.phase != serving && w.now >= in.until {
			if in.phase == resting {
				in.attempt()
			} else {
				in.failed()
			}
			again = in.until <= w.now
		}
	}
	if in.asked != 0 && w.now >= in.asked {
		in.ask()
	}
}

// tick is when a timer has come, and nothing was heard.
func (in *instance) tick(late time.Duration) {
	w := in.m.c.w
	in.mon.Late(late)
	loss := in.mon.Judge(w.now)
	if loss == nil {
		return
	}
	in.lost(loss)
	if in.phase == serving {
		in.e.write(heartbeat.Goodbye{Code: heartbeat.GoodbyeGivenUp, Text: "no heartbeat"}.Append(nil))
		in.closed(heartbeat.AtOnce)
	}
}

func (in *instance) lost(loss *heartbeat.Loss) {
	in.asked = 0
	defer func() { in.up = 0 }()
	in.m.c.w.note("%s: conmgr %x: %s is lost: %s", in.m.c.h.name, in.m.id[:2], in.d.h.name, loss)
	in.m.c.w.told(in, loss)
}

// attempt begins a connection.
func (in *instance) attempt() {
	w := in.m.c.w
	in.phase, in.until = dialling, in.attempts.Limit(w.now, in.mon)
	in.e = in.m.c.h.connect(netip.AddrPortFrom(in.d.h.addr, watchdogPort), in.m.p)
}

// failed: an attempt has come to nothing.
func (in *instance) failed() {
	in.drop()
	in.mon.Closed()
	in.rest(heartbeat.Unreached)
}

// closed: an established connection is over.
func (in *instance) closed(o heartbeat.Outcome) {
	in.m.c.w.note("%s: conmgr %x: connection to %s is over", in.m.c.h.name, in.m.id[:2], in.d.h.name)
	in.drop()
	in.mon.Closed()
	in.rest(o)
}

func (in *instance) drop() {
	if in.e != nil {
		in.e.rx = nil
		in.e.close()
		in.e = nil
	}
}

func (in *instance) rest(o heartbeat.Outcome) {
	now := in.m.c.w.now
	in.phase, in.until = resting, now.Add(max(0, in.attempts.Pause(now, in.mon, o)))
}

// read takes in what has come. It tells whether a frame was among it.
func (in *instance) read() (heard bool) {
	e := in.e
	if e == nil {
		return false
	}
	if in.phase == dialling && e.established {
		in.phase = greeting
		e.userTimeout = in.m.set.timeout
		e.write(in.mon.Hello().Append(nil))
	}
	for in.e == e {
		f, n, err := heartbeat.Next(e.rx)
		if err != nil {
			in.fail()
			return heard
		}
		if n == 0 {
			break
		}
		e.rx = e.rx[n:]
		heard = true
		in.frame(f)
	}
	if in.e == e && (e.broken || e.ended) {
		in.fail()
	}
	return heard
}

// fail: the connection is of no use any more.
func (in *instance) fail() {
	if in.phase == serving {
		in.closed(heartbeat.Severed)
	} else {
		in.failed()
	}
}

func (in *instance) frame(f heartbeat.Frame) {
	w := in.m.c.w
	switch {
	case in.phase == greeting && f.Type == heartbeat.TypeWelcome:
		in.welcome(f)
	case in.phase == greeting:
		in.failed()
	case f.Type == heartbeat.TypeRefused:
		in.closed(heartbeat.Severed)
	default:
		if _, err := in.mon.Frame(w.now, f); err != nil {
			w.fail("protocol", "conmgr gets what it does not take: %v", err)
		}
		if f.Type == heartbeat.TypeGoodbye {
			if in.mon.State() == heartbeat.Stopping {
				in.asked = w.now
			}
			in.closed(heartbeat.Severed)
		}
	}
}

func (in *instance) welcome(f heartbeat.Frame) {
	w := in.m.c.w
	welcome, err := heartbeat.ParseWelcome(f.Payload)
	if err != nil {
		w.fail("protocol", "WELCOME: %v", err)
		return
	}
	known := in.since == welcome.KnownSince
	in.since = welcome.KnownSince
	loss, err := in.mon.Welcome(w.now, welcome)
	if err != nil { // stale
		in.drop()
		in.mon.Closed()
		in.rest(heartbeat.AtOnce)
		return
	}
	in.phase, in.asked = serving, 0
	in.attempts.Established(w.now)
	w.note("%s: conmgr %x: connection to %s stands", in.m.c.h.name, in.m.id[:2], in.d.h.name)
	if loss != nil {
		in.lost(loss)
	}
	if in.up == 0 {
		in.up = w.now
		if known { // else the server has judged by itself; sessions that began after that are not covered
			w.back(in)
		}
	}
}

// ask asks the SQL port of a stopping server for its life.
func (in *instance) ask() {
	w, h := in.m.c.w, in.m.c.h
	in.asked = w.now.Add(in.m.set.interval)
	m, boots := in.m.p, h.boots
	there, ok := w.passes(h.addr, in.d.h.addr)
	if !ok {
		return
	}
	w.in(there, func() {
		s := w.owners[in.d.h.addr]
		if s == nil || !s.up || s.frozen > w.now || s.sql == nil {
			return
		}
		answer := s.sql()
		back, ok := w.passes(in.d.h.addr, h.addr)
		if !ok {
			return
		}
		at := w.now.Add(back)
		w.in(back, func() {
			if m.dead || h.boots != boots || h.frozen > w.now || in.asked == 0 {
				return
			}
			if in.mon.StopAnswer(at, answer) {
				in.asked = 0
			}
			m.wake()
		})
	})
}
