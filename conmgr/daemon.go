package conmgr

// The daemon's main goroutine: the order of start and shutdown. It waits for signals and for the
// other goroutines, never for a peer.

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/console"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/conmgr/relay"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/conmgr/sockdestroy"
	"github.com/pgwatchdog/watchdog/conmgr/status"
	"github.com/pgwatchdog/watchdog/conmgr/watch"
	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// ErrReported tells that the reason has been written already.
var ErrReported = errors.New("the reason was reported")

// errPanic: a goroutine has panicked.
var errPanic = errors.New("a goroutine of conmgr has panicked")

// shutdownTime bounds a fast shutdown.
const shutdownTime = time.Second

// Options of a run.
type Options struct {
	Dir     string
	Signals <-chan os.Signal // SIGHUP reload, SIGTERM fast, SIGINT smart, SIGQUIT immediate, SIGUSR1 and 2 restart
	Stderr  io.Writer
	Program string // what this process becomes at SIGUSR2; "": it does not

	syslogSocket string // of tests; "": /dev/log
}

// deps are what the daemon needs of the outside; tests have their own.
type deps struct {
	dir   string // of conmgr.state; "": nothing is kept
	log   *cmlog.Logger
	limit *cmlog.Limiter // of lines that a peer can cause
	group *group.Group
	net   netio.Network
	now   clock.Clock
	known route.Known // what is known from before, where nothing is kept
	most  int         // connections at a time
	// with those that wait for a target, as file descriptors allow
	descriptors int
	pidFile     *control.PidFile // nil: none
	console     console.Options
	recheck     time.Duration // of duplicates; 0: as ever
	program     string
	before      *handover.Record // what the process before has left, nil: nothing
}

type daemon struct {
	deps
	conf     *conf.Config // as it was at the start
	current  *conf.Current
	events   *event.Hub
	registry *bind.Registry
	board    *bind.Board
	keeper   *bind.Keeper
	door     *listen.Door
	service  *console.Service
	relays   *relay.Relays
	watching watching

	systemd status.Systemd
	status  status.PidFile
	news    chan struct{}               // systemd, or status, has something to tell
	failed  chan error                  // the first failure of a goroutine
	ending  atomic.Int32                // a watch.Ending
	next    atomic.Pointer[conf.Config] // of the process that comes back
	reloads chan reloadRequest
	endless chan struct{} // closed when no reload is served any more
	keeps   conf.Kept     // of the reload for which the process goes on in place
	letIn   func()        // lets those in who wait after a restart in place; the ports are the door's then
}

// newDaemon wires a daemon, for Run and for every test. start lets it work.
func newDaemon(c *conf.Config, o deps) *daemon {
	d := &daemon{deps: o, conf: c, current: conf.NewCurrent(c), reloads: make(chan reloadRequest), endless: make(chan struct{}), events: &event.Hub{}, news: make(chan struct{}, 1), failed: make(chan error, 1),
		letIn: func() {}}
	d.events.Subscribe(event.Log(o.log, o.limit, o.now))
	d.watching.subscribe(d)
	d.systemd.Wake, d.status.Wake = d.news, d.news
	d.events.Subscribe(d.systemd.Take)
	if o.pidFile != nil {
		d.status.File = o.pidFile
		d.events.Subscribe(d.status.Take)
	}
	d.registry = bind.NewRegistry(len(c.Instances), o.most)
	places(d.registry, c, o.most, max(o.most, o.descriptors))
	d.registry.Group = o.group
	known := o.known
	if o.dir != "" {
		d.keeper, known = bind.NewKeeper(o.dir, d.events, time.Now())
	}
	d.board = bind.NewBoard(d.current, d.events, d.registry, d.keeper, known)
	if c.DestroySockets {
		d.board.OnLost = (&sockdestroy.Destroyer{Events: d.events, Group: o.group}).Lost
	}
	trace := &bind.Trace{Events: d.events}
	d.watching.serve(d)
	d.door = listen.New(d.current, d.events, o.group, d.registry)
	o.console.Stats = d.watching.stats
	o.console.History = d.watching.history
	o.console.Reload = d.askReload
	d.service = console.New(d.current, d.board, d.door, trace, o.now, o.console)
	d.relays = relay.New(d.board, d.door, trace)
	if o.before != nil {
		d.door.Inherit(o.before.Listeners)
	}
	return d
}

// start opens the ports, and begins to serve and to monitor, until ctx ends. who and boot are the
// heartbeat ids of this conmgr and this run of the machine.
func (d *daemon) start(ctx context.Context, who *watch.Identity, boot heartbeat.ID) error {
	stop := ctx.Done()
	if err := d.door.Listen(ctx, d.service.Admit, d.relays.Admit); err != nil {
		return err
	}
	err := d.relays.Start()
	if err == nil {
		err = d.watching.start(ctx, d)
	}
	if err != nil {
		d.close()
		return err
	}
	d.events.Emit(event.Started{Instances: len(d.conf.Instances), Port: d.conf.Port})
	if d.before != nil {
		d.relays.Adopt(d.before)
	}
	d.group.Go("routing table", func() { d.board.Run(stop) })
	if d.keeper != nil {
		d.group.Go("kept knowledge", func() { d.keeper.Run(stop) })
	}
	if every := status.WatchdogInterval(); every > 0 {
		d.group.Go("systemd's watchdog", func() { d.alive(every, stop) })
	}
	d.serve(stop)
	for _, in := range watch.New(d.conf, watch.Surroundings{Board: d.board, Events: d.events, Group: d.group, Net: d.net,
		Now: d.now, Ending: &d.ending, Next: &d.next, Who: who, Boot: boot, Recheck: d.recheck, Measured: d.watching.metrics.Meter.Measured}) {
		d.group.Go(in.String(), func() { in.Run(ctx) })
	}
	return nil
}

// serve lets people in. After a restart in place they wait until the instances of before are there
// again.
func (d *daemon) serve(stop <-chan struct{}) {
	if d.before == nil {
		d.watching.web.Serve()
		d.door.Serve(stop)
		return
	}
	epochs := slices.Clone(d.before.Epochs)
	served, enough := make(chan struct{}), make(chan struct{})
	d.letIn = sync.OnceFunc(func() {
		close(enough)
		<-served
	})
	d.group.Go("first connections", func() {
		defer close(served)
		d.relays.Ready(epochs, settleTime, enough)
		d.watching.web.Serve()
		d.service.Adopt(d.before)
		d.door.Serve(stop)
	})
}

// close shuts the ports, and ends what is relayed.
func (d *daemon) close() {
	d.letIn()
	d.watching.web.Close()
	d.door.Close()
	d.relays.Stop()
}

// CheckUser refuses root, as a PostgreSQL server does.
func CheckUser() error {
	if os.Geteuid() == 0 {
		return &conf.StartError{Text: "conmgr cannot be run as root",
			Hint: "Run it as an unprivileged user that owns its directory."}
	}
	return nil
}

// Run is the daemon. It returns nil after an ordered stop.
func Run(o Options) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	before, err := handover.Take()
	if err != nil {
		return err
	}
	config, diags := loadAfter(dir, before)
	if config == nil {
		conf.Report(diags, o.Stderr)
		return ErrReported
	}
	limit, err := descriptorLimit()
	if err != nil {
		return err
	}
	most, err := conf.ConnectionLimit(limit, len(config.Instances), config.MaxConnections, len(config.RelayPorts) > 0,
		conf.CountListeners(config))
	if err != nil {
		return err
	}
	if config.DestroySockets {
		if err := sockdestroy.Check(); err != nil {
			return err
		}
	}
	info := control.Info{Dir: dir, Port: config.Port, ListenAddresses: strings.Join(config.ListenAddresses, ","),
		Again: again(config, o.Program)}
	pidFile, err := takePidFile(dir, info, before)
	if err != nil {
		return err
	}
	defer pidFile.Remove()

	failed := &failure{first: make(chan error, 1)}
	stopLog := make(chan struct{})
	logGroup := &group.Group{}
	var sinks []cmlog.Sink
	var syslog *cmlog.Syslog
	if config.LogStderr {
		sinks = append(sinks, cmlog.NewStderr(o.Stderr))
	}
	if config.LogSyslog {
		socket := o.syslogSocket
		if socket == "" {
			socket = cmlog.SyslogSocket
		}
		syslog = cmlog.OpenSyslog(socket, config.SyslogFacility, config.SyslogIdent, o.Stderr)
		sinks = append(sinks, syslog)
	}
	logGroup.OnPanic = failed.panicked
	log := cmlog.New(config.LogMinMessages, logGroup, stopLog, sinks...)
	failed.log = log
	limited := cmlog.NewLimiter(log)
	defer func() {
		limited.End()
		close(stopLog)
		if logGroup.Wait(shutdownTime) && syslog != nil {
			syslog.Close()
		}
	}()
	for _, w := range diags {
		log.Message(cmlog.Message{Level: w.Level(), Text: w.String(), Hint: w.Hint})
	}
	allowed, err := conf.ConnectionLimit(limit, len(config.Instances), 0, len(config.RelayPorts) > 0,
		conf.CountListeners(config))
	if err != nil {
		return err
	}
	allowed = max(1, allowed-bind.ReservedPlaces)
	if config.MaxConnections == 0 {
		most = allowed
	}
	d := newDaemon(config, deps{dir: dir, log: log, limit: limited, group: &group.Group{OnPanic: failed.panicked},
		net: netio.System, now: clock.Monotonic, most: most, descriptors: allowed, pidFile: pidFile,
		program: o.Program, before: before})
	d.failed = failed.first
	return d.run(o.Signals)
}

// failure takes the first panic of a goroutine.
type failure struct {
	log   *cmlog.Logger
	first chan error
}

func (f *failure) panicked(name string, value any, stack []byte) {
	f.log.Message(cmlog.Message{Level: cmlog.PANIC, Text: fmt.Sprintf("%s: %v", name, value),
		Detail: strings.TrimSpace(string(stack))})
	select {
	case f.first <- errPanic:
	default: // the first cause wins
	}
}

func (d *daemon) run(signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := d.start(ctx, d.identity(), bootID()); err != nil {
		d.events.Emit(event.NotStarted{Err: err})
		if d.conf.LogStderr {
			return ErrReported
		}
		return err
	}
	defer d.close()
	d.tell()
	err := d.wait(signals, cancel)
	d.log.Flush(shutdownTime)
	return err
}

// identity is that of the process before, or a new one. It is kept if this conmgr may be away
// without its end being a loss, or the one before might.
func (d *daemon) identity() *watch.Identity {
	if d.conf.ApplicationGrace > 0 || control.HasIdentity(d.dir) {
		return watch.LoadIdentity(d.dir, d.events, d.group)
	}
	var process heartbeat.ID
	rand.Read(process[:])
	return watch.NewIdentity(process)
}

// bootID of this machine; zero if it is not known.
func bootID() (id heartbeat.ID) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return heartbeat.ID{}
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(b)), "-", ""))
	if err != nil || len(raw) != len(id) {
		return heartbeat.ID{}
	}
	copy(id[:], raw)
	return id
}

// shutdown modes, the stronger the greater.
type shutdownMode int

const (
	running shutdownMode = iota
	smart
	restart // it will be back
	fast
	immediate
)

func (m shutdownMode) String() string {
	return [...]string{"running", "smart", event.Restart, "fast", "immediate"}[m]
}

func modeOf(sig os.Signal) shutdownMode {
	switch sig {
	case syscall.SIGINT:
		return smart
	case syscall.SIGUSR1:
		return restart
	case syscall.SIGTERM:
		return fast
	case syscall.SIGQUIT:
		return immediate
	}
	return running
}

// wait runs until a shutdown is complete. A stronger request overrides the one that is under way.
func (d *daemon) wait(signals <-chan os.Signal, cancel func()) error {
	mode := running
	var idle <-chan struct{}
	stopReloads := sync.OnceFunc(func() { close(d.endless) })
	defer stopReloads()
	for {
		select {
		case <-d.news:
			d.tell()
		case err := <-d.failed:
			d.stop(cancel, "the Connection Manager is shutting down because of an internal error")
			return err
		case <-idle: // smart: the last application has gone
			d.stop(cancel, bind.ShutdownText)
			return nil
		case r := <-d.reloads:
			if err := d.reloaded(&r, cancel); err != nil {
				return err
			}
		case sig := <-signals:
			if mode == running && (sig == syscall.SIGUSR2 || sig == syscall.SIGHUP) {
				if err := d.again(sig, cancel); err != nil {
					return err
				}
				continue
			}
			m := modeOf(sig)
			if m <= mode {
				continue
			}
			mode = m
			stopReloads()
			d.events.Emit(event.ShutdownRequested{Mode: mode.String()})
			d.tell()
			switch mode {
			case smart:
				d.registry.Refuse()
				idle = d.registry.Idle
			case fast, restart:
				d.events.Emit(event.ApplicationsClosed{})
				if mode == restart && d.conf.ApplicationGrace > 0 {
					d.returns()
				}
				d.stop(cancel, bind.ShutdownText)
				return nil
			case immediate:
				return nil
			}
		}
	}
}

// stop is the orderly end: applications are told, watchdogs get their GOODBYE. It takes
// shutdownTime at most.
func (d *daemon) stop(cancel func(), text string) {
	d.close()
	d.registry.Refuse()
	d.registry.EndForNow(backend.Fatal(cm.AdminShutdown, text, "", ""), d.away(), true)
	d.ending.CompareAndSwap(int32(watch.Silently), int32(watch.Goodbye))
	cancel()
	d.waitFor(d.group.Wait, d.relays.Wait)
	d.limit.End()
	d.events.Emit(event.ShutDown{})
}

// waitFor waits until all is over, a shutdownTime each at most.
func (d *daemon) waitFor(waits ...func(time.Duration) bool) {
	for _, wait := range waits {
		if !wait(shutdownTime) {
			d.events.Emit(event.CutShort{})
			return
		}
	}
}

// away is what applications are told that wait for the next process, nil: none does.
func (d *daemon) away() []byte {
	if watch.Ending(d.ending.Load()) != watch.Returns {
		return nil
	}
	return backend.ParameterStatus(cm.NoticeParameter, fmt.Sprintf("%s %d", cm.NoticeAway, d.conf.ApplicationGrace.Milliseconds()))
}

// alive has systemd be told that the routing table, which answers, and the main goroutine, which
// tells, do their work.
func (d *daemon) alive(every time.Duration, stop <-chan struct{}) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.board.Ping()
			d.systemd.Alive()
		case <-stop:
			return
		}
	}
}

// tell tells systemd and cm_ctl what is due.
func (d *daemon) tell() {
	d.systemd.Tell()
	if err := d.status.Tell(); err != nil {
		d.events.Emit(event.PidFileUnwritten{Err: err})
	}
}
