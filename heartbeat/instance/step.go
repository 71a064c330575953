package instance

// Step: one event in, its actions out. Owned by one goroutine; pure.

import (
	"errors"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// EventKind says what has happened.
type EventKind uint8

const (
	Due        EventKind = iota // the time of Wake has come, and all that had come in before was told
	Resolved                    // a look-up has ended: Addrs, Missing, Cause
	Dialled                     // the connection stands, from Local
	DialFailed                  // it does not: Cause
	Frame                       // the connection has brought Frame
	Ended                       // the peer has ended it
	Broken                      // it is of no use any more: Cause
	Unsent                      // nor does it take what was to be sent: Cause
	Claimed                     // Holder serves the server that was claimed
	Freed                       // a server may have nobody that serves it
	Answered                    // Question has got Answer, At a time
	KeyRead                     // the file has Key, or none that is of use: nil
	Probed                      // what Probe has asked: Unacked
	Stop                        // conmgr ends; with a goodbye if Goodbye, Returns or Unneeded says so
)

// Event is one thing that has happened.
type Event struct {
	Kind     EventKind
	Conn     Conn         // Dialled, DialFailed, Frame, Ended, Broken, Unsent, Probed
	Addrs    []netip.Addr // Resolved
	Missing  Family       // Resolved
	Cause    string       // Resolved (empty: it has succeeded), DialFailed, Broken, Unsent
	Local    netip.Addr   // Dialled: invalid if it is not known
	Frame    heartbeat.Frame
	Holder   Holder // Claimed
	Question Question
	Answer   heartbeat.StopAnswer
	At       heartbeat.Mono // Answered
	Goodbye  bool           // Stop
	Returns  bool           // Stop: conmgr will be back
	Unneeded bool           // Stop: but not for this instance
	Key      *proof.Key     // KeyRead
	Unacked  bool           // Probed: not all that was sent has been acknowledged
}

// ActionKind says what is to be done, or what is to be told.
type ActionKind uint8

const (
	Resolve   ActionKind = iota // look the name up; it ends with Resolved
	Dial                        // connect to To, from From if that is valid; it ends with Dialled or DialFailed
	HangUp                      // give up what is dialled, or close the connection, and tell no more of it
	Send                        // Data, without waiting
	Claim                       // serve Server, to which a connection leads from Local: Claimed
	Release                     // serve no server any more
	Ask                         // Question to the SQL port of To: Answered
	ReadKey                     // read the key anew: KeyRead
	AskNoMore                   // give up the questions that are under way
	Probe                       // has the peer's kernel acknowledged all that was sent? Probed follows at once
	// What follows is for the log, and for whoever routes by it. What the instance was then, State
	// tells.
	FellBack    // a look-up has failed: addresses that were known are used. Err
	Failed      // an attempt has come to nothing: Err
	Established // the watchdog has welcomed us; Loss, if this is not what the applications knew
	Duplicate   // the server is monitored by way of another entry
	Changed     // the attributes or the succession are others
	Measured    // the lag is another
	Closed      // the connection is over, which is no verdict: Err
	Stopping    // the server has announced its end
	Stopped     // it has ended
	Lost        // Loss
	Renamed     // another process has the id: Spare is used from now on
	RoundTrip   // a BEAT of ours to the watchdog and its echo: Took, without the time between
)

// Action is one thing that is to be done. Actions are done in their order.
type Action struct {
	Kind     ActionKind
	Conn     Conn // Dial, which names it, HangUp, Send, Probe
	Beside   bool // Dial: another one is under way, or stands
	Reset    bool // HangUp: what was sent and has not arrived must not arrive any more
	From     netip.Addr
	To       netip.AddrPort
	Data     []byte
	Server   Server
	Local    netip.Addr
	Question Question
	Loss     *heartbeat.Loss
	Took     time.Duration
	Err      error
	State    heartbeat.State // of the instance, when this came about: there may be more in one Step
}

// Config is what does not change.
type Config struct {
	Index           int        // of the entry
	Host            string     // to look up, unless there is
	HostAddr        netip.Addr // its address
	WatchdogPort    uint16
	SQLPort         uint16
	ID, Boot        heartbeat.ID
	Interval        time.Duration // heartbeat_interval
	Timeout         time.Duration // heartbeat_timeout
	ConnectInterval time.Duration // heartbeat_connect_interval
	ConnectTimeout  time.Duration // heartbeat_connect_timeout
	DuplicateCheck  time.Duration // least time after which a duplicate looks where its address leads
	// Random is from 0 to 1, another one each time: see heartbeat.Spacing.
	Random func() float64
	Key    *proof.Key         // nil: without
	Nonce  func() proof.Nonce // random; with a Key

	// ID is that of the processes before this one, if Incarnation is not zero: Generation is what
	// they have told. Spare is for when it is found that another process has the ID, and lives.
	Spare       heartbeat.ID
	Incarnation heartbeat.ID
	Generation  uint64
	Grace       time.Duration // application_grace
	OnlyReport  bool          // not notify_loss
}

// View is what can be asked of an instance.
type View interface {
	State() heartbeat.State
	Generation() uint64
	Attributes() (a heartbeat.Attributes, known bool)
	SystemIdentifier() uint64
	PostmasterStart() int64
	PostmasterPort() uint16
	KnowsLabels() bool
	Succeeds() heartbeat.Succession
	Lag() heartbeat.Lag
	LastReceived() (t heartbeat.Mono, ok bool)
	KnownSince() uint64
	Granted() time.Duration
}

var _ View = (*heartbeat.Monitor)(nil)

// ErrTimeout is an attempt, or a look-up, that has taken too long.
var ErrTimeout = errors.New("no answer")

// RefusedError is a REFUSED of the watchdog.
type RefusedError struct{ heartbeat.Refused }

func (e *RefusedError) Error() string { return e.Text }

// phase is what an instance waits for.
type phase uint8

const (
	resting   phase = iota // the pause before the next attempt
	resolving              // the addresses of the name
	dialling               // a connection
	greeting               // WELCOME
	claiming               // who serves the server
	serving                // frames
	over                   // nothing: conmgr has ended
)

// never is a time that does not come.
const never = heartbeat.Mono(1<<63 - 1)

// Instance is conmgr's end for one entry of conmgr.conf.
type Instance struct {
	cfg      Config
	key      *proof.Key // the one that was read last
	mon      *heartbeat.Monitor
	attempts heartbeat.Attempts
	phase    phase
	until    heartbeat.Mono // of the phase; there is no such time while claiming, or serving
	actions  []Action
	bytes    []byte  // of the actions
	lines    []*line // that stand, welcomed, by attempt
	dials    Conn    // so many

	names   names
	attempt attempt
	beside  beside
	acks    acks
	// of the connection that was welcomed last.
	welcomedAttempt uint32

	asking asking
	peer   netip.Addr   // to which the connection is or was last established
	local  netip.Addr   // from which
	addrs  []netip.Addr // all addresses of the name, at that time

	loss     *heartbeat.Loss // while claiming: that WELCOME has brought with it
	servedBy int             // index of the entry that serves the server: this one, unless it is a duplicate
	freed    bool            // since the attempt began
}

// New returns an instance that has not been reached yet.
func New(c Config) *Instance {
	in := &Instance{cfg: c, key: c.Key, servedBy: c.Index, mon: heartbeat.NewMonitor(c.ID, c.Interval, c.Timeout),
		attempts: heartbeat.Attempts{Interval: c.ConnectInterval, Timeout: c.ConnectTimeout,
			DuplicateCheck: c.DuplicateCheck}}
	in.mon.SetBoot(c.Boot)
	in.mon.SetProcess(c.Incarnation, c.Generation, c.Grace)
	if c.OnlyReport {
		in.mon.OnlyReport()
	}
	in.acks.at = never
	return in
}

// Step takes in an event. The actions, and their bytes, are valid until the next Step.
func (in *Instance) Step(now heartbeat.Mono, e Event) []Action {
	in.actions, in.bytes = in.actions[:0], in.bytes[:0]
	in.mon.Late(now.Sub(in.timer())) // whatever comes first after a process was held up: that moves the timer
	switch e.Kind {
	case Due:
		in.due(now)
	case Resolved:
		in.resolved(now, e)
	case Dialled, DialFailed, Frame, Ended, Broken, Unsent:
		in.connection(now, e)
	case KeyRead:
		in.keyRead(e)
	case Probed:
		in.probed(e)
	case Claimed:
		in.claimed(now, e.Holder)
	case Freed:
		in.letGo(now)
	case Answered:
		in.answered(now, e)
	case Stop:
		in.stop(e)
	}
	if in.phase == serving {
		in.serve(now)
	}
	if in.phase != over {
		in.tend(now)
	}
	return in.actions
}

// connection takes in what has become of one. Of one that is over, nothing follows.
func (in *Instance) connection(now heartbeat.Mono, e Event) {
	if l := find(in.beside.pending, e.Conn); l != nil {
		in.besides(now, l, e)
	} else if l := find(in.lines, e.Conn); l != nil {
		if e.Kind == Frame {
			in.received(now, l, e.Frame)
		} else {
			in.severed(now, l, e)
		}
	} else if l := in.attempt.line; l != nil && l.conn == e.Conn {
		in.attempted(now, l, e)
	}
}

// Wake is when Due has something to do; the first time at once.
func (in *Instance) Wake() heartbeat.Mono {
	if in.asking.on {
		return min(in.timer(), in.asking.next)
	}
	return in.timer()
}

// timer is the end of a phase, or the monitor's time.
func (in *Instance) timer() heartbeat.Mono {
	wake, armed := in.mon.Wake()
	if in.phase == over {
		return never
	}
	other := in.besideWake()
	switch {
	case in.phase == serving:
		return min(wake, other)
	case armed:
		return min(wake, in.until, other)
	}
	return min(in.until, other)
}

// View is what the instance is now.
func (in *Instance) View() View { return in.mon }

// Peer is the address to which a connection was last established, and all those that the name had.
func (in *Instance) Peer() (a netip.Addr, all []netip.Addr) { return in.peer, in.addrs }

// ServedBy is the index of the entry whose heartbeats serve for this one's server.
func (in *Instance) ServedBy() int { return in.servedBy }

func (in *Instance) act(a Action) {
	a.State = in.mon.State()
	in.actions = append(in.actions, a)
}

// due does what is due.
func (in *Instance) due(now heartbeat.Mono) {
	if in.phase == over {
		return
	}
	if in.judge(now); in.phase != serving && now >= in.until {
		in.expired(now)
	}
	in.ask(now)
}

// expired: the time of a phase is over.
func (in *Instance) expired(now heartbeat.Mono) {
	switch in.phase {
	case resting:
		in.try(now)
	case resolving:
		in.notResolved(now)
	default:
		in.giveUp(now, ErrTimeout)
	}
}

// stop ends it all. A watchdog that grants no grace would take a goodbye for an end: for it, the
// connection breaks.
func (in *Instance) stop(e Event) {
	switch {
	case in.phase != serving:
	case e.Unneeded:
		in.sayGoodbye(heartbeat.GoodbyeDuplicate, "this server is not monitored any more")
	case e.Returns && in.mon.Granted() > 0:
		in.sayGoodbye(heartbeat.GoodbyeReturns, "conmgr is started again")
	case e.Goodbye && !e.Returns:
		in.sayGoodbye(heartbeat.GoodbyeConmgrEnds, "conmgr is shutting down")
	}
	in.hangUpAll()
	in.askNoMore()
	in.phase = over
}

// hangUpAll ends all connections, also those that are under way.
func (in *Instance) hangUpAll() {
	in.hangUp(in.lines...)
	in.lines = in.lines[:0]
	in.dropBeside()
	if l := in.attempt.line; l != nil {
		in.hangUp(l)
		in.attempt.line = nil
	}
}
