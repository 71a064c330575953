package bind

// What is told of each connection; read with log_min_messages = INFO (who asked for what and was sent
// where, who was relayed) and DEBUG (every connection). Nothing here blocks.

import (
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/event"
)

// Trace tells of connections, direct or relayed.
type Trace struct{ Events *event.Hub }

// Client is the connection in this place, for events.
func (s *Seat) Client() event.Client { return event.Client{Peer: s, Relay: s.Relay} }

// Bound tells that a client has asked for an attribute, by a statement or a relay port, and got
// instance i of t, or none (-1); how it was chosen is for those who look at every step.
func (tr *Trace) Bound(of *Seat, r Request, t *Table, i int, how Choice) {
	b := event.Bound{Client: of.Client(), Application: of.Application, Want: r.Want, Except: r.Except, Found: i >= 0,
		Why: func() string {
			if chosen := t.Explain(how); chosen != "" {
				return chosen + "; " + t.Describe(r)
			}
			return t.Describe(r)
		}}
	if r.Lag != nil {
		b.Lag = r.Lag.Text
	}
	if b.Found {
		e := &t.Entries[i]
		b.To, b.Addr = event.Of(e.Config), e.Address()
	}
	tr.Events.Emit(b)
}

// Waits tells that a client waits for an attribute.
func (tr *Trace) Waits(of *Seat, want cm.Attribute, most time.Duration) {
	tr.Events.Emit(event.Waits{Client: of.Client(), Application: of.Application, Want: want, Most: most})
}

// NoPlace tells that one that would wait, or has waited, is refused.
func (tr *Trace) NoPlace(of *Seat, what string) {
	tr.Events.Emit(event.NoPlace{Client: of.Client(), What: what})
}

// NotResumed tells that a client was bound to an instance of that number before, and is told of a
// loss.
func (tr *Trace) NotResumed(of *Seat, instance int) {
	tr.Events.Emit(event.NotResumed{Client: of.Client(), Number: instance})
}

// Accepted tells that a connection has come.
func (tr *Trace) Accepted(of *Seat) { tr.Events.Emit(event.Accepted{Client: of.Client()}) }

// Ended tells that it has gone.
func (tr *Trace) Ended(of *Seat) { tr.Events.Emit(event.Ended{Client: of.Client()}) }

// Rejected tells that it gets no instance because of a shutdown.
func (tr *Trace) Rejected(of *Seat) { tr.Events.Emit(event.Rejected{Client: of.Client()}) }
