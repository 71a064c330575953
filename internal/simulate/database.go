package simulate

// A database host: the watchdog worker around heartbeat/watchdog as worker/ is, and the terminator
// as extension/terminator.c is.

import (
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

const (
	watchdogPort = 27545
	fewSlots     = 8
	epoch        = watchdog.Wall(1_800_000_000_000_000)
)

// database is a server and its host.
type database struct {
	w       *world
	h       *host
	mem     *watchdog.Memory
	onClose bool
	toggled Mono
	reporting
	step time.Duration // by which somebody has set the wall clock

	asked    *watchdog.Sessions // of the kernel
	words    []word             // that it has answered by
	running  bool               // the postmaster
	stopping bool
	start    int64
	started  Mono
	table    *watchdog.Table
	worker   *process
	serving  Mono // since when there is a worker
	away     Mono // no worker since; 0: there is one
	conns    []*endpoint
	unused   []watchdog.Conn
	backlog  []*endpoint
	sessions []*session
	waiting  []*session // in the backlog of the postmaster
	opened   int        // sessions
	still    Mono       // it stands still until then
	keyless  Mono       // its worker cannot read its keys until then
	changed  Mono       // when the server last started, stopped or ended
}

func (w *world) newDatabase(name string, addr netip.Addr) *database {
	d := &database{w: w, h: w.newHost(name, addr), onClose: true}
	w.databases = append(w.databases, d)
	d.startServer()
	return d
}

func (d *database) wall() watchdog.Wall { return epoch.Add(time.Duration(d.w.now) + d.step) }

func (d *database) clock() watchdog.Now { return watchdog.Now{Mono: d.w.now, Wall: d.wall()} }

// startServer starts a postmaster, with new shared memory.
func (d *database) startServer() {
	if d.running || !d.h.up {
		return
	}
	d.running, d.stopping, d.still = true, false, 0
	d.start++
	d.changed = d.w.now
	d.started = d.w.now
	d.mem = watchdog.NewMemory(d.w.slots)
	d.newReporting()
	d.w.note("%s: server starts, number %d", d.h.name, d.start)
	d.h.sql = func() heartbeat.StopAnswer {
		switch {
		case d.still > d.w.now:
		case d.running && d.stopping:
			return heartbeat.StopGoesOn
		case !d.running:
			return heartbeat.StopRefused
		}
		return heartbeat.StopSilent
	}
	d.startWorker()
}

func (d *database) startWorker() {
	if !d.running || d.stopping || d.worker != nil || !d.h.up {
		return
	}
	if d.still > d.w.now { // the postmaster starts it
		d.w.disturb(mark{from: d.w.now, to: d.still, away: true, what: "no worker at " + d.h.name, d: d})
		d.h.later(d.still.Sub(d.w.now), d.startWorker)
		return
	}
	d.away, d.serving = 0, d.w.now
	var acts []watchdog.Action
	d.table, acts = watchdog.NewTable(
		watchdog.Server{SystemIdentifier: uint64(d.h.addr.As4()[3]), PostmasterStart: d.start, Nonce: d.w.nonce},
		d.settings(), d.mem, d.clock())
	d.worker = &process{h: d.h, run: d.turn, planned: never}
	d.perform(acts)
	d.h.listen = func(e *endpoint) {
		e.owner = d.worker
		d.backlog = append(d.backlog, e)
		d.worker.wake()
	}
	d.terminate()
	d.worker.wakeAt(d.table.Wake())
}

// endWorker closes what the process has.
func (d *database) endWorker() {
	if d.worker == nil {
		return
	}
	d.worker.dead = true
	if d.worker.stopped < d.w.now && d.keyless < d.w.now { // it is pinged every second
		d.mem.SetAlive(max(d.mem.Alive(), d.w.now-d.w.now%Mono(time.Second)))
	}
	d.worker, d.h.listen = nil, nil
	d.away = d.w.now
	for _, e := range d.conns {
		if e != nil {
			e.close()
		}
	}
	for _, e := range d.backlog {
		e.emit(&packet{kind: rst})
		e.forget()
	}
	d.conns, d.unused, d.backlog = nil, nil, nil
}

// restartWorker is a crash of the worker.
func (d *database) restartWorker(after time.Duration) {
	if d.worker == nil {
		return
	}
	d.w.note("%s: worker restarts", d.h.name)
	d.endWorker()
	d.h.later(after, d.startWorker)
}

// stopServer is a fast shutdown: goodbye, then some time until the last session has ended.
func (d *database) stopServer(takes time.Duration) {
	if !d.running || d.stopping {
		return
	}
	if d.still > d.w.now { // it is told by a signal
		d.h.later(d.still.Sub(d.w.now), func() { d.stopServer(takes) })
		return
	}
	d.w.note("%s: server stops", d.h.name)
	d.stopping = true
	d.changed = d.w.now
	if d.worker != nil {
		for _, a := range d.table.Step(d.clock(), watchdog.Event{Kind: watchdog.StopServer}) {
			d.act(&a)
		}
		d.endWorker()
	}
	d.h.later(takes, d.crash)
}

// crash ends the server, and all its sessions, at once.
func (d *database) crash() {
	if !d.running {
		return
	}
	d.w.note("%s: server has ended", d.h.name)
	d.w.gone(d)
	d.running = false
	d.changed = d.w.now
	d.endWorker()
	d.forgetSessions()
}

// powerOff is the death of the host.
func (d *database) powerOff() {
	d.w.note("%s: dies", d.h.name)
	d.w.gone(d)
	d.h.powerOff()
	d.running = false
	d.changed = d.w.now
	if d.worker != nil {
		d.worker.dead = true
		d.worker, d.conns, d.unused, d.backlog = nil, nil, nil, nil
	}
	d.forgetSessions()
}

// turn is a turn of the reactor. What has come in is read first, or, as if there was more than one
// turn takes, not before the table asks.
func (d *database) turn(late time.Duration, timer bool) {
	now := d.clock()
	if d.keyless <= now.Mono { // else as none, for whoever has a key
		d.mem.SetAlive(now.Mono)
	}
	if late > heartbeat.MinInterval/2 {
		d.step1(now, watchdog.Event{Kind: watchdog.Held, Late: late})
	}
	d.refresh(now)
	if d.w.chance(0.9) {
		d.read(now)
	}
	for caughtUp := false; d.worker != nil && d.table.Wake() <= now.Mono; {
		behind := d.step1(now, watchdog.Event{Kind: watchdog.Due, CaughtUp: caughtUp})
		if behind {
			d.read(now)
			caughtUp = true
		}
		if q := d.asked; q != nil {
			d.asked = nil
			d.step1(now, watchdog.Event{Kind: watchdog.KernelHeard, Heard: d.heardOf(q)})
		}
	}
	if d.worker == nil {
		return
	}
	d.worker.wakeAt(d.table.Wake())
	if d.unread() {
		d.worker.wake()
	}
}

func (d *database) unread() bool {
	for _, e := range d.conns {
		if e != nil && (len(e.rx) > 0 || e.broken || e.ended) {
			return true
		}
	}
	return len(d.backlog) > 0
}

func (d *database) refresh(now watchdog.Now) {
	s := d.settings()
	d.step1(now, watchdog.Event{Kind: watchdog.Changed, Settings: &s})
}

func (d *database) settings() watchdog.Settings {
	return watchdog.Settings{TerminateOnClose: d.onClose, MaxTimeout: time.Hour, MaxGrace: time.Minute, KernelEvidence: true, Access: d.w.access(d)}
}

func (d *database) step1(now watchdog.Now, e watchdog.Event) (behind bool) {
	return d.perform(d.table.Step(now, e))
}

func (d *database) perform(actions []watchdog.Action) (behind bool) {
	for i := range actions {
		behind = d.act(&actions[i]) || behind
	}
	return behind
}

func (d *database) act(a *watchdog.Action) (behind bool) {
	switch a.Kind {
	case watchdog.Send:
		d.conns[a.Conn].write(a.Data)
	case watchdog.Write:
		if d.w.keep {
			d.w.note("%s: %s | %s", d.h.name, a.Line.Message, a.Line.Detail)
		}
	case watchdog.CatchUp:
		return true
	case watchdog.AskKernel:
		d.asked = a.Sessions
	case watchdog.WakeTerminator:
		d.h.later(time.Millisecond, d.terminate)
	case watchdog.Admitted:
		d.conns[a.Conn].userTimeout = a.Timeout
	case watchdog.Finish:
		d.conns[a.Conn].finish()
	case watchdog.CloseNow:
		d.conns[a.Conn].close()
		d.drop(a.Conn)
	}
	return false
}

func (d *database) drop(c watchdog.Conn) {
	d.conns[c] = nil
	d.unused = append(d.unused, c)
}

// read takes in all that the kernel holds.
func (d *database) read(now watchdog.Now) {
	for _, e := range d.backlog {
		c := watchdog.Conn(len(d.conns))
		if n := len(d.unused); n > 0 {
			c = d.unused[n-1]
			d.unused = d.unused[:n-1]
			d.conns[c] = e
		} else {
			d.conns = append(d.conns, e)
		}
		d.step1(now, watchdog.Event{Kind: watchdog.Opened, Conn: c, From: e.remote})
	}
	d.backlog = d.backlog[:0]
	for i := range d.conns {
		e := d.conns[i]
		if e == nil {
			continue
		}
		if rx := e.rx; len(rx) > 0 {
			e.rx = nil
			d.step1(now, watchdog.Event{Kind: watchdog.Bytes, Conn: watchdog.Conn(i), Data: rx})
		}
		if d.conns[i] != e || !e.broken && !e.ended {
			continue
		}
		how := e.how
		if !e.broken {
			how = watchdog.Finished
			e.close()
		}
		d.drop(watchdog.Conn(i))
		d.step1(now, watchdog.Event{Kind: watchdog.Ended, Conn: watchdog.Conn(i), How: how, Cause: "the end"})
	}
}

// terminate does what extension/terminator.c does: the sessions of each request, then the slot.
func (d *database) terminate() {
	if !d.running {
		return
	}
	for i := range d.mem.Len() {
		r := d.mem.Slot(i)
		if r.State != watchdog.Ending && !r.Pending() {
			continue
		}
		d.w.note("%s: terminator: label of %s until %.3f, cause %d", d.h.name, r.Addr(),
			time.Duration(r.CutOff).Seconds(), r.Cause)
		for _, a := range r.Proved.All() {
			if a.Ended {
				d.w.note("%s: terminator: sessions of %s until %.3f", d.h.name, a.Addr, time.Duration(a.At).Seconds())
			}
		}
		for _, s := range d.sessions {
			if cutOff := d.means(&r, s); cutOff != 0 {
				d.carryOut(s, i, &r, cutOff, d.only, false)
			}
		}
		if d.only {
			d.verdicts[i] = r.Verdicts
		}
		d.mem.Terminate(i)
	}
	d.sweep()
}
