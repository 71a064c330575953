package heartbeat

// What conmgr knows of one instance: is it there, what is it, and has it been lost.

import (
	"errors"
	"fmt"
	"time"
)

// ErrStaleWelcome tells that the instance was declared lost while the answer to an older HELLO was
// under way.
// Close the connection, and connect again: the watchdog has to learn the new generation.
var ErrStaleWelcome = errors.New("the instance was declared lost before its WELCOME came")

// ErrOldWelcome tells that the answer is of a server that was there before the one to which a
// connection stands: it was long under way.
var ErrOldWelcome = errors.New("a later server has answered before")

// State of an instance as conmgr sees it.
type State uint8

const (
	Connecting  State = iota // not connected (any more, or yet), and not lost
	Established              // heartbeats go both ways
	Lost                     // declared lost; conmgr goes on connecting
	Stopping                 // said that its server shuts down, and that one may still run; not lost
	Stopped                  // its server has ended, and its kernel lives; not lost yet
	Duplicate                // its server is monitored by way of another entry
)

var stateNames = [...]string{"connecting", "established", "lost", "stopping", "stopped", "duplicate"}

func (s State) String() string { return stateNames[s] }

// LossReason says by which rule an instance was declared lost (docs/protocol.md 1.5).
type LossReason uint8

const (
	LossSilence     LossReason = iota + 1 // nothing received for heartbeat_timeout
	LossShutdown                          // the server announced its end, and has ended
	LossRestarted                         // another postmaster answers at that address
	LossOtherSystem                       // another database cluster answers at that address
	LossForgotten                         // the watchdog does not know us any more, and so has ended our sessions
	// the server announced its end, and then nothing was heard for heartbeat_timeout
	LossStopping
	LossMoved // a server that is monitored by way of another entry answers at that address
)

var lossReasons = [...]string{LossSilence: "silence", LossShutdown: "shutdown", LossRestarted: "restarted",
	LossOtherSystem: "other_system", LossForgotten: "forgotten", LossStopping: "stopping", LossMoved: "moved"}

// LossReasons are the names of all reasons.
var LossReasons = lossReasons[LossSilence:]

// String is its name, for programs.
func (r LossReason) String() string { return lossReasons[r] }

// Loss is a verdict.
type Loss struct {
	Reason  LossReason
	Silence time.Duration // since the last reception
}

// String tells the verdict to people: "no heartbeat for 2003 ms".
func (l Loss) String() string {
	switch l.Reason {
	case LossSilence:
		return fmt.Sprintf("no heartbeat for %d ms", l.Silence.Milliseconds())
	case LossShutdown:
		return "the server has shut down"
	case LossRestarted:
		return "the server was restarted"
	case LossOtherSystem:
		return "another database cluster answers at its address"
	case LossForgotten:
		return "the server has forgotten this Connection Manager and has ended its sessions"
	case LossStopping:
		return fmt.Sprintf("the server was shutting down and was not heard of for %d ms", l.Silence.Milliseconds())
	case LossMoved:
		return "its address leads to another server now"
	}
	return "unknown reason"
}

// TimedOut tells whether the deadline has brought the verdict: the server may still be running.
func (l Loss) TimedOut() bool {
	return l.Reason == LossSilence || l.Reason == LossShutdown || l.Reason == LossStopping
}

// StopAnswer is what the SQL port of a server that has announced its end said when it was asked.
type StopAnswer uint8

const (
	StopSilent StopAnswer = iota // nothing, or nothing that tells
	StopGoesOn                   // still shutting down
	// connection refused: a living kernel, which has closed the server's connections itself
	StopRefused
)

// Monitor is the state of one instance. It is owned by one goroutine.
type Monitor struct {
	id, boot          ID
	interval, timeout time.Duration
	incarnation       ID
	grace             time.Duration // that is asked for
	quiet             bool          // applications are told of no loss

	state      State
	generation uint64
	attempt    uint32 // of the last HELLO
	pulse      Pulse  // valid while armed
	armed      bool   // a deadline runs: the instance was established and has not been lost since (see Armed)

	known            bool // the following are from a WELCOME
	systemIdentifier uint64
	postmasterStart  int64
	postmasterPort   uint16
	knowsLabels      bool
	attributes       Attributes
	succeeds         Succession
	lag              Lag
	knownSince       uint64
	granted          time.Duration
	renamed          bool // since the last WELCOME, and nothing has ended by that
}

// NewMonitor returns the monitor of an instance that has not been reached yet.
func NewMonitor(id ID, interval, timeout time.Duration) *Monitor {
	return &Monitor{id: id, interval: interval, timeout: timeout}
}

// SetBoot tells the boot id of this machine, for HELLO.
func (m *Monitor) SetBoot(boot ID) { m.boot = boot }

// SetProcess tells which process this is of a conmgr, what its predecessors have told, and for how
// long it is to be waited for if it ends.
func (m *Monitor) SetProcess(incarnation ID, generation uint64, grace time.Duration) {
	m.incarnation, m.generation, m.grace = incarnation, generation, grace
}

// OnlyReport has losses told to nobody: the server, too, must not end sessions by them.
func (m *Monitor) OnlyReport() { m.quiet = true }

// Rename gives it another id: the one that it had is another process's. kept: whose sessions go on,
// and so do ours, which carry its label.
func (m *Monitor) Rename(id ID, kept bool) { m.id, m.renamed = id, kept }

// State is the instance's state.
func (m *Monitor) State() State { return m.state }

// Generation counts the times that the applications of a server that may still be running were told
// that it is lost. (A restarted server has no session of theirs to end, and one that has forgotten
// us has ended them: these do not count.)
func (m *Monitor) Generation() uint64 { return m.generation }

// Attributes are what the instance last said of itself. known is false until its first WELCOME.
func (m *Monitor) Attributes() (a Attributes, known bool) { return m.attributes, m.known }

// SystemIdentifier of the instance, 0 until its first WELCOME.
func (m *Monitor) SystemIdentifier() uint64 { return m.systemIdentifier }

// Succeeds is the succession that the instance declares.
func (m *Monitor) Succeeds() Succession { return m.succeeds }

// Lag is how far the instance was behind when it last said so.
func (m *Monitor) Lag() Lag { return m.lag }

// LastReceived is when the instance was last heard of; ok is false while no deadline runs.
func (m *Monitor) LastReceived() (t Mono, ok bool) { return m.pulse.LastReceived(), m.armed }

// Armed tells whether a deadline runs, at which the instance would be lost: t.
func (m *Monitor) Armed() (t Mono, ok bool) { return m.pulse.Deadline(), m.armed }

// PostmasterStart of the instance, 0 until its first WELCOME.
func (m *Monitor) PostmasterStart() int64 { return m.postmasterStart }

// PostmasterPort is the server's own port, 0 if its watchdog does not tell it.
func (m *Monitor) PostmasterPort() uint16 { return m.postmasterPort }

// KnowsLabels tells whether a session with this server may say by a label whose it is.
func (m *Monitor) KnowsLabels() bool { return m.knowsLabels }

// KnownSince names the watchdog's memory of this conmgr, 0: not told.
func (m *Monitor) KnownSince() uint64 { return m.knownSince }

// Granted is for how long the watchdog waits for a conmgr that has ended, 0: as for one that is
// silent.
func (m *Monitor) Granted() time.Duration { return m.granted }

// Hello is the message to open a connection with.
func (m *Monitor) Hello() Hello {
	m.attempt++
	return Hello{MinVersion: MinVersion, MaxVersion: MaxVersion, ID: m.id, Boot: m.boot, Generation: m.generation,
		Interval: m.interval, Timeout: m.timeout, Attempt: m.attempt, Grace: m.grace, Incarnation: m.incarnation}
}

// Welcome establishes the connection whose HELLO has offered that generation, or another one beside
// those that stand. A loss is returned when this is not the server that the applications were
// connected to: the instance is then both lost and established again. The error is ErrStaleWelcome
// or ErrOldWelcome.
func (m *Monitor) Welcome(now Mono, w Welcome, offered uint64) (*Loss, error) {
	beside := m.state == Established
	switch {
	case offered != m.generation:
		return nil, ErrStaleWelcome
	case beside && w.SystemIdentifier == m.systemIdentifier && w.PostmasterStart < m.postmasterStart:
		return nil, ErrOldWelcome
	}
	var loss *Loss
	switch {
	case !m.armed: // never reached, or already lost
	case w.SystemIdentifier != m.systemIdentifier:
		loss = m.lose(now, LossOtherSystem)
	case w.PostmasterStart != m.postmasterStart:
		loss = m.lose(now, LossRestarted)
	case m.renamed:
	case w.Flags&Resumed == 0, // a watchdog that knew us would say so, as the generation is the one that it was told
		w.KnownSince != m.knownSince && w.KnownSince != 0 && m.knownSince != 0: // its WELCOME to a new one was lost
		loss = m.lose(now, LossForgotten)
	}
	m.knownSince, m.granted, m.renamed = w.KnownSince, w.Grace, false
	m.known = true
	m.systemIdentifier, m.postmasterStart, m.attributes = w.SystemIdentifier, w.PostmasterStart, w.Attributes
	m.postmasterPort = w.PostmasterPort
	m.knowsLabels = w.Flags&KnowsLabels != 0
	m.succeeds, m.lag = w.Succeeds, w.Lag
	m.state = Established
	m.armed = true
	if beside && loss == nil {
		m.pulse.Received(now) // and the BEATs keep their time
		return nil, nil
	}
	m.pulse = NewPulse(m.interval, m.timeout, now)
	m.pulse.Align(now.Add(-m.lead()))
	return loss, nil
}

// Frame takes in a frame that has come on c after WELCOME. What it says of the instance counts if c
// is the latest connection. changed: the attributes are others than before. An error is a
// *ProtocolError: close the connection, and call Closed. A server that shuts down is not lost: it
// still delivers to whoever is connected, and its kernel will close those connections. See
// StopAnswer.
func (m *Monitor) Frame(now Mono, c *Channel, latest bool, f Frame) (changed bool, err error) {
	switch f.Type {
	case TypeBeat:
		b, fresh, err := c.FromWatchdog(f.Payload, now)
		if err != nil || !fresh {
			return false, err
		}
		m.pulse.Received(now)
		if !latest {
			return false, nil
		}
		changed = b.Attributes != m.attributes || b.Succeeds != m.succeeds
		m.attributes, m.succeeds, m.lag = b.Attributes, b.Succeeds, b.Lag
		if !changed { // else it may have been sent at once
			m.pulse.Align(now.Add(-m.lead()))
		}
		return changed, nil
	case TypeGoodbye:
		g, err := ParseGoodbye(f.Payload)
		if err != nil {
			return false, err
		}
		m.pulse.Received(now)
		if g.Code == GoodbyeServerEnds && m.state == Established {
			m.state = Stopping
		}
		return false, nil
	}
	return false, malformed("watchdog sent an unexpected %s", f.Type)
}

// StopAnswer takes in what the SQL port said at a time, while the instance is stopping. As long as
// it says that the server is still shutting down, the deadline is re-armed. What refuses is not
// asked for its life any more: the deadline stands, and then whoever is still bound there is told.
// changed: there is a new state.
func (m *Monitor) StopAnswer(at Mono, a StopAnswer) (changed bool) {
	if m.state != Stopping {
		return false
	}
	switch a {
	case StopGoesOn:
		m.pulse.Received(max(at, m.pulse.LastReceived()))
	case StopRefused:
		m.state = Stopped
		return true
	}
	return false
}

// Duplicate records that the server is monitored by way of another entry: there is nothing to judge
// by this one.
func (m *Monitor) Duplicate() {
	m.state = Duplicate
	m.armed = false
}

// Closed records that the connection has ended, or could not be established. The deadline goes on:
// a connection that is resumed in time is no loss.
func (m *Monitor) Closed() {
	if m.state == Established || m.state == Duplicate {
		m.state = Connecting
	}
}

// BeatDue tells whether a BEAT is due, on each connection.
func (m *Monitor) BeatDue(now Mono) bool { return m.state == Established && m.pulse.SendDue(now) }

// lead is for how long before the watchdog's BEATs ours are sent: so theirs tell that they have
// come, and nobody else has to be asked.
func (m *Monitor) lead() time.Duration {
	return min((Doubt(m.interval, m.timeout)+ackAllowance)/2, m.interval/4)
}

// Judge returns a loss when the silence has lasted too long. Read what the kernel holds before
// asking.
func (m *Monitor) Judge(now Mono) *Loss {
	if !m.armed || !m.pulse.Dead(now) {
		return nil
	}
	switch m.state {
	case Stopping:
		return m.lose(now, LossStopping)
	case Stopped:
		return m.lose(now, LossShutdown)
	}
	return m.lose(now, LossSilence)
}

// Doubtful is when the silence is long enough for another connection to be opened, while one
// stands.
func (m *Monitor) Doubtful() Mono {
	return m.pulse.LastReceived().Add(m.interval + Doubt(m.interval, m.timeout))
}

// Late tells that a timer of this process fired late by the given delay; see Pulse.Late.
func (m *Monitor) Late(by time.Duration) {
	if m.armed {
		m.pulse.Late(by)
	}
}

// Wake is when Beat or Judge may have something to do; ok is false when never.
func (m *Monitor) Wake() (t Mono, ok bool) {
	if m.state == Established {
		return m.pulse.Wake(), true
	}
	return m.pulse.Deadline(), m.armed
}

func (m *Monitor) lose(now Mono, reason LossReason) *Loss {
	m.state = Lost
	m.armed = false
	loss := &Loss{Reason: reason, Silence: now.Sub(m.pulse.LastReceived())}
	if loss.TimedOut() && !m.quiet {
		m.generation++
	}
	return loss
}
