package worker

// The reactor: one goroutine and one epoll instance for all heartbeat connections. It blocks in
// epoll_wait only. Each turn first takes in everything that the kernel holds, and only then tells
// the watchdog's end what time it is. What follows from anything is decided there.

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

const (
	listenRetry   = 1 * time.Second
	resolveLimit  = 5 * time.Second
	repeatLog     = 1 * time.Minute // the same complaint
	acceptPause   = 100 * time.Millisecond
	tidyMany      = 256 // connections, after which memory is given back
	tidyPause     = 500 * time.Millisecond
	maxEvents     = 512
	scratchSize   = 16 << 10
	drainPerVisit = 16 // reads on one socket before others get their turn
)

// Reactor runs the heartbeat port.
type Reactor struct {
	host  Host
	clock Clock
	core  *watchdog.Table
	store watchdog.Store

	settings watchdog.Settings // as the core knows them
	access   access
	spawn    func(func())       // starts a guarded goroutine
	caughtUp bool               // in this turn: nothing is left to read
	behind   bool               // the core wants it to be
	blocked  []watchdog.Conn    // of which the core has to be told
	asked    *watchdog.Sessions // of the kernel
	witness  *witness           // nil: the kernel does not answer

	waiter     *waiter
	conns      []*conn // by index; epoll events carry index and serial
	serials    []int32
	unused     []int32
	list       string // watchdog.listen_addresses, and watchdog.port
	port       int
	listSerial uint32 // of the Access that they are of
	listeners  map[int]netip.AddrPort
	resolved   chan resolution
	resolving  bool
	listenAt   heartbeat.Mono // next attempt for what is missing; Never: nothing to do
	acceptAt   heartbeat.Mono // accepting pauses until then; 0: it does not
	acceptTold heartbeat.Mono // when the log was told of it
	accepted   int            // since memory was given back
	tidyAt     heartbeat.Mono // when it is again, unless more come; 0: not
	complaint  string
	complainT  heartbeat.Mono
	events     [maxEvents]unix.EpollEvent
	scratch    [scratchSize]byte
}

type resolution struct {
	list  string
	addrs []netip.Addr
	errs  []error
}

// epoll data of the descriptors that are not conns.
const (
	wakeIndex   = -1
	listenIndex = -2
	timerIndex  = -3
)

// NewReactor takes over the store; Run does the rest.
func NewReactor(cfg Config, host Host, store watchdog.Store, clock Clock) (*Reactor, error) {
	now := clock()
	r := &Reactor{host: host, clock: clock, store: store, listenAt: now.Mono, listeners: make(map[int]netip.AddrPort),
		list: cfg.ListenAddresses, port: cfg.Port,
		resolved: make(chan resolution, 1), settings: settingsOf(host)}
	r.access.loaded = make(chan loadedAccess, 1)
	r.settings.Access = r.firstAccess(now)
	var lines []watchdog.Action
	r.core, lines = watchdog.NewTable(watchdog.Server{SystemIdentifier: cfg.SystemIdentifier,
		PostmasterStart: cfg.PostmasterStart, PostmasterPort: cfg.PostmasterPort, Nonce: nonce}, r.settings, store, now)
	r.perform(now, lines)
	var err error
	if r.witness, err = newWitness(); err != nil && r.settings.KernelEvidence {
		host.Log(watchdog.Line{Level: watchdog.Log, Message: fmt.Sprintf("the kernel does not tell of sockets: %v", err),
			Detail: "A silence of heartbeats is judged by heartbeats alone, as if watchdog.kernel_evidence were off."})
	}
	if r.waiter, err = newWaiter(); err != nil {
		return nil, err
	}
	if err = r.watch(host.WakeFD(), wakeIndex, 0); err != nil {
		r.waiter.close()
		return nil, err
	}
	return r, nil
}

func settingsOf(host Host) watchdog.Settings {
	return watchdog.Settings{Attributes: host.Attributes(), Succeeds: host.Succeeds(), Lag: host.Lag(),
		TerminateOnClose: host.TerminateOnClose(), MaxTimeout: host.MaxTimeout(), MaxGrace: host.MaxGrace(),
		KernelEvidence: host.KernelEvidence()}
}

func (r *Reactor) watch(fd int, index, serial int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: index, Pad: serial}
	if index == listenIndex {
		ev.Pad = int32(fd)
	}
	return r.waiter.add(fd, ev)
}

// Run serves until the host wants it to stop. spawn starts a guarded goroutine.
func (r *Reactor) Run(spawn func(func())) error {
	defer r.close()
	r.spawn = spawn
	for {
		if stop := r.host.Stop(); stop != Run {
			r.perform(r.clock(), r.core.LastLines())
			r.goodbye(stop)
			return nil
		}
		planned := r.nextWake()
		n, err := r.waiter.wait(r.clock, planned, r.events[:])
		if err != nil {
			return fmt.Errorf("could not wait for events: %w", err)
		}
		now := r.clock()
		if !r.access.missing { // as good as none, for whoever has a key
			r.store.SetAlive(now.Mono)
		}
		if late := now.Mono.Sub(planned); late > heartbeat.MinInterval/2 {
			r.step(now, watchdog.Event{Kind: watchdog.Held, Late: late})
		}
		r.caughtUp = false
		r.handle(now, max(n, 0))
		if r.host.Stop() != Run {
			continue
		}
		r.listen(now, spawn)
		r.refresh(now)
		r.fire(now)
		fault(r)
	}
}

// nextWake is when the reactor has something to do without being told.
func (r *Reactor) nextWake() heartbeat.Mono {
	t := min(r.listenAt, r.access.retryAt, r.core.Wake())
	if r.acceptAt != 0 {
		t = min(t, r.acceptAt)
	}
	if r.tidyAt != 0 {
		t = min(t, r.tidyAt)
	}
	return t
}

// step tells the core of an event, and does what follows.
func (r *Reactor) step(now watchdog.Now, e watchdog.Event) {
	r.perform(now, r.core.Step(now, e))
	for _, c := range r.blocked { // nothing follows
		r.core.Step(now, watchdog.Event{Kind: watchdog.Blocked, Conn: c})
	}
	r.blocked = r.blocked[:0]
}

// perform does what the core asks for, in that order. It tells the core nothing meanwhile, to which
// the actions belong.
func (r *Reactor) perform(now watchdog.Now, actions []watchdog.Action) {
	for i := range actions {
		a := &actions[i]
		switch a.Kind {
		case watchdog.Send:
			r.send(r.conns[a.Conn], a.Data)
		case watchdog.Write:
			r.host.Log(*a.Line)
		case watchdog.CatchUp:
			r.behind = true
		case watchdog.AskKernel:
			r.asked = a.Sessions
		case watchdog.WakeTerminator:
			r.host.WakeTerminator()
		case watchdog.Admitted:
			faultRequest(a.Flags)
			_ = unix.SetsockoptInt(r.conns[a.Conn].fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT,
				int(min(heartbeat.UserTimeout(a.Timeout).Milliseconds(), 1<<31-1)))
		case watchdog.Finish:
			r.finish(r.conns[a.Conn])
		case watchdog.CloseNow:
			r.drop(r.conns[a.Conn])
		}
	}
}

// refresh tells the core when the host says or is set to something else.
func (r *Reactor) refresh(now watchdog.Now) {
	s := settingsOf(r.host)
	if s.Access = r.reloadAccess(now); s != r.settings {
		r.settings = s
		r.step(now, watchdog.Event{Kind: watchdog.Changed, Settings: &r.settings})
	}
}

// catchUp takes in whatever else the kernel holds, once in a turn: nobody is judged before. It
// tells whether to go on.
func (r *Reactor) catchUp(now watchdog.Now) bool {
	for n := maxEvents; n == maxEvents && r.host.Stop() == Run; {
		n, _ = rawsys.EpollWait(r.waiter.epfd, r.events[:], 0)
		r.handle(now, max(n, 0))
	}
	r.caughtUp = true
	return r.host.Stop() == Run
}

// handle takes in n events.
func (r *Reactor) handle(now watchdog.Now, n int) {
	for i := range r.events[:n] {
		ev := &r.events[i]
		switch ev.Fd {
		case wakeIndex:
			var buf [8]byte
			_, _ = rawsys.Read(r.host.WakeFD(), buf[:])
			r.host.Alive()
			r.refresh(now)
		case timerIndex:
			r.waiter.fired()
		case listenIndex:
			r.accept(now, int(ev.Pad))
		default:
			c := r.conns[ev.Fd]
			if c == nil || r.serials[ev.Fd] != ev.Pad {
				continue // closed earlier in this turn
			}
			if ev.Events&unix.EPOLLOUT != 0 {
				r.flush(now, c)
			}
			if c.fd >= 0 && ev.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
				r.read(now, c)
			}
		}
	}
}

// fire tells the core what time it is, until nothing is due.
func (r *Reactor) fire(now watchdog.Now) {
	for r.core.Wake() <= now.Mono {
		r.step(now, watchdog.Event{Kind: watchdog.Due, CaughtUp: r.caughtUp})
		if q := r.asked; q != nil {
			r.asked = nil
			r.step(now, watchdog.Event{Kind: watchdog.KernelHeard, Heard: r.witness.heard(now.Mono, r.host, q)})
		}
		if r.behind {
			r.behind = false
			if !r.catchUp(now) {
				return
			}
		}
	}
	r.tidy(now)
	if r.acceptAt != 0 && r.acceptAt <= now.Mono {
		r.acceptAt = 0
		for fd := range r.listeners {
			_ = r.watch(fd, listenIndex, 0)
		}
	}
}

// goodbye ends the worker's connections. Only the end of the server is announced: a restarted
// worker's conmgrs resume.
func (r *Reactor) goodbye(stop Stop) {
	if stop != StopServer {
		return
	}
	for _, a := range r.core.Step(r.clock(), watchdog.Event{Kind: watchdog.StopServer}) {
		c := r.conns[a.Conn]
		if a.Kind == watchdog.Send {
			r.drain(c)
			_, _ = unix.SendmsgN(c.fd, a.Data, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		} else {
			_ = unix.Shutdown(c.fd, unix.SHUT_WR)
		}
	}
}

func (r *Reactor) close() {
	for _, c := range r.conns {
		if c != nil {
			unix.Close(c.fd)
		}
	}
	for fd := range r.listeners {
		unix.Close(fd)
	}
	r.witness.close()
	r.waiter.close()
}
