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
	"strings"
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
	Signals <-chan os.Signal // SIGTERM fast, SIGINT smart, SIGQUIT immediate
	Stderr  io.Writer

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
}

type daemon struct {
	deps
	conf     *conf.Config
	events   *event.Hub
	registry *bind.Registry
	board    *bind.Board
	keeper   *bind.Keeper
	door     *listen.Door
	service  *console.Service
	relays   *relay.Relays

	systemd status.Systemd
	status  status.PidFile
	news    chan struct{} // systemd, or status, has something to tell
	failed  chan error    // the first failure of a goroutine
	goodbye atomic.Bool
}

// newDaemon wires a daemon, for Run and for every test. start lets it work.
func newDaemon(c *conf.Config, o deps) *daemon {
	d := &daemon{deps: o, conf: c, events: &event.Hub{}, news: make(chan struct{}, 1), failed: make(chan error, 1)}
	d.events.Subscribe(event.Log(o.log, o.limit, o.now))
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
	d.board = bind.NewBoard(c, d.events, d.registry, d.keeper, known)
	if c.DestroySockets {
		d.board.OnLost = (&sockdestroy.Destroyer{Events: d.events, Group: o.group}).Lost
	}
	trace := &bind.Trace{Events: d.events}
	d.door = listen.New(c, d.events, o.group, d.registry)
	d.service = console.New(c, d.board, d.door, trace, o.now, o.console)
	d.relays = relay.New(d.board, d.door, trace)
	return d
}

// start opens the ports, and begins to serve and to monitor, until ctx ends. process and boot are
// the heartbeat ids of this process and this run of the machine.
func (d *daemon) start(ctx context.Context, process, boot heartbeat.ID) error {
	stop := ctx.Done()
	if err := d.door.Listen(ctx, d.service.Admit, d.relays.Admit); err != nil {
		return err
	}
	if err := d.relays.Start(); err != nil {
		d.door.Close()
		return err
	}
	d.events.Emit(event.Started{Instances: len(d.conf.Instances), Port: d.conf.Port})
	d.group.Go("routing table", func() { d.board.Run(stop) })
	if d.keeper != nil {
		d.group.Go("kept knowledge", func() { d.keeper.Run(stop) })
	}
	d.door.Serve(stop)
	for _, in := range watch.New(d.conf, watch.Surroundings{Board: d.board, Events: d.events, Group: d.group, Net: d.net,
		Now: d.now, Goodbye: &d.goodbye, Process: process, Boot: boot, Recheck: d.recheck}) {
		d.group.Go(in.String(), func() { in.Run(ctx) })
	}
	return nil
}

// close shuts the ports, and ends what is relayed.
func (d *daemon) close() {
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
	config, diags := conf.Load(dir)
	if config == nil {
		conf.Report(diags, o.Stderr)
		return ErrReported
	}
	limit, err := descriptorLimit()
	if err != nil {
		return err
	}
	most, err := connectionLimit(limit, len(config.Instances), config.MaxConnections, len(config.RelayPorts) > 0,
		countListeners(config))
	if err != nil {
		return err
	}
	if config.DestroySockets {
		if err := sockdestroy.Check(); err != nil {
			return err
		}
	}
	pidFile, err := control.CreatePidFile(dir, control.Info{Dir: dir, Port: config.Port,
		ListenAddresses: strings.Join(config.ListenAddresses, ",")})
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
	allowed, err := connectionLimit(limit, len(config.Instances), 0, len(config.RelayPorts) > 0,
		countListeners(config))
	if err != nil {
		return err
	}
	allowed = max(1, allowed-bind.ReservedPlaces)
	if config.MaxConnections == 0 {
		most = allowed
	}
	d := newDaemon(config, deps{dir: dir, log: log, limit: limited, group: &group.Group{OnPanic: failed.panicked},
		net: netio.System, now: clock.Monotonic, most: most, descriptors: allowed, pidFile: pidFile})
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
	var process heartbeat.ID
	rand.Read(process[:])
	if err := d.start(ctx, process, bootID()); err != nil {
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
	fast
	immediate
)

func (m shutdownMode) String() string { return [...]string{"running", "smart", "fast", "immediate"}[m] }

func modeOf(sig os.Signal) shutdownMode {
	switch sig {
	case syscall.SIGINT:
		return smart
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
		case sig := <-signals:
			m := modeOf(sig)
			if m <= mode {
				continue
			}
			mode = m
			d.events.Emit(event.ShutdownRequested{Mode: mode.String()})
			d.tell()
			switch mode {
			case smart:
				d.registry.Refuse()
				idle = d.registry.Idle
			case fast:
				d.events.Emit(event.ApplicationsClosed{})
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
	d.registry.EndEverything(backend.Fatal(cm.AdminShutdown, text, "", ""))
	d.goodbye.Store(true)
	cancel()
	if !d.group.Wait(shutdownTime) {
		d.events.Emit(event.CutShort{})
	}
	d.limit.End()
	d.events.Emit(event.ShutDown{})
}

// tell tells systemd and cm_ctl what is due.
func (d *daemon) tell() {
	d.systemd.Tell()
	if err := d.status.Tell(); err != nil {
		d.events.Emit(event.PidFileUnwritten{Err: err})
	}
}
