package watch

// What an instance's goroutine tells of its instance: events, and its status to the board, which
// routes by it and tells the applications. Nothing here blocks.

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/instance"
)

// tell tells what has become of the instance.
func (in *Instance) tell(a *instance.Action) {
	in.state = a.State
	switch a.Kind {
	case instance.FellBack:
		in.fellBack(a.Err)
	case instance.Failed:
		in.failed(a.Err)
	case instance.Established:
		in.established(a.Loss)
	case instance.Duplicate:
		in.duplicate()
	case instance.Changed:
		in.attributesChanged()
		in.publish(nil)
	case instance.Measured:
		in.publish(nil)
	case instance.Closed:
		in.closed(a.Err.Error())
	case instance.Stopping:
		in.stopping()
	case instance.Stopped:
		in.stopped()
	case instance.Lost:
		in.sameServer() // which may be why
		in.lost(a.Loss)
	case instance.Renamed:
		in.renamed()
	case instance.RoundTrip:
		if in.measured != nil {
			in.measured(in.cfg, a.Took)
		}
	}
}

// established: the watchdog has welcomed us.
func (in *Instance) established(loss *heartbeat.Loss) {
	in.sameServer()
	if loss != nil { // another server than the one that the applications know, or one that does not know them any more
		in.declare(loss)
	}
	in.lossText, in.detail = "", in.portMismatch()
	in.rtt = in.sockets[len(in.sockets)-1].link.roundTrip()
	addr, _ := in.end.Peer()
	in.events.Emit(event.Established{Instance: in.id, Addr: addr})
	in.attributesChanged()
	in.publish(nil)
}

func (in *Instance) attributesChanged() {
	a, _ := in.mon.Attributes()
	now := a.String()
	if a.Has(heartbeat.ShuttingDown) {
		now += ",shutting-down"
	}
	if a.Has(heartbeat.Draining) {
		now += ",draining"
	}
	if now != in.before {
		in.events.Emit(event.AttributesChanged{Instance: in.id, Before: in.before, Now: now})
		in.before = now
	}
}

func (in *Instance) received() {
	if t, ok := in.mon.LastReceived(); ok {
		in.board.Received(in.index, t)
	}
}

// closed: the connection broke. That is no verdict.
func (in *Instance) closed(why string) {
	in.events.Emit(event.Closed{Instance: in.id, Why: why})
	in.say(why)
}

// stopping: the server has announced its end. Nobody is sent there any more, and nothing is cut.
func (in *Instance) stopping() {
	in.events.Emit(event.Stopping{Instance: in.id})
	in.say("the server is shutting down")
}

// stopped: that server has ended.
func (in *Instance) stopped() {
	in.events.Emit(event.Stopped{Instance: in.id})
	in.say("the server has shut down")
}

func (in *Instance) lost(loss *heartbeat.Loss) {
	if loss.TimedOut() {
		in.events.Emit(event.TimedOut{Instance: in.id})
	}
	in.detail, in.lossText = loss.String(), loss.String()
	in.declare(loss)
}

// renamed: another process has the id of this entry, and lives.
func (in *Instance) renamed() {
	in.who.taken()
	in.label = heartbeat.LabelID(in.who.id).String()
	in.events.Emit(event.IdentityTaken{Instance: in.id})
}

// declare makes a verdict known.
func (in *Instance) declare(loss *heartbeat.Loss) {
	in.who.raised(in.mon.Generation())
	in.events.Emit(event.Lost{Instance: in.id, Loss: *loss})
	in.publish(loss)
}

// failed: an attempt to connect came to nothing. At the end of conmgr that is its own doing.
func (in *Instance) failed(err error) {
	if in.ctx.Err() != nil {
		return
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	failed := event.ConnectFailed{Instance: in.id, Why: text}
	var refused *instance.RefusedError
	switch {
	case errors.As(err, &refused):
		failed.Failure, failed.Why = event.RefusedByWatchdog, refused.Text
		text = "heartbeat connect is refused: " + refused.Text
	case errors.Is(err, instance.ErrTimeout):
		failed.Failure = event.NoAnswer
		text = "heartbeat connect is timed out: " + text
	}
	in.events.Emit(failed)
	if s := in.state; s != heartbeat.Stopping && s != heartbeat.Stopped { // whose watchdog is gone, of course
		in.say(text)
	}
}

// fellBack: a look-up has failed. That is told not more than once a minute.
func (in *Instance) fellBack(err error) {
	now := in.now()
	if in.fellBackAt != 0 && now.Sub(in.fellBackAt) < repeatAfter {
		return
	}
	in.fellBackAt = now
	in.events.Emit(event.LookupFailed{Instance: in.id, Err: err})
}

// duplicate: another entry's heartbeats serve for this one.
func (in *Instance) duplicate() {
	in.sameServer()
	in.lossText = ""
	in.say("")
}

// sameServer tells of that, the first time: it is looked at again and again.
func (in *Instance) sameServer() {
	switch by := in.end.ServedBy(); {
	case by == in.index:
		in.told = -1
	case by != in.told:
		in.told = by
		in.events.Emit(event.Duplicate{Instance: in.id, Of: in.conf.Instances[by].Number})
	}
}

// say makes a text the instance's detail: the last error. Of a lost instance it says as well why
// that was lost.
func (in *Instance) say(text string) {
	if in.state == heartbeat.Lost && in.lossText != "" && text != in.lossText {
		text += " (lost: " + in.lossText + ")"
	}
	in.detail = text
	in.publish(nil)
}

// portMismatch tells that applications are sent to another port than the server's own, "" if they
// are not.
func (in *Instance) portMismatch() string {
	port := in.mon.PostmasterPort()
	if port == 0 || int(port) == in.cfg.Port {
		in.otherPort = 0
		return ""
	}
	text := fmt.Sprintf("backend_port%d is %d, but the server's own port is %d", in.cfg.Number, in.cfg.Port, port)
	if port != in.otherPort {
		in.otherPort = port
		in.events.Emit(event.OtherPort{Instance: in.id, What: text})
	}
	return text
}

// client is the label of this host's sessions with the instance: that of the conmgr that the server
// knows by this entry. Empty where the server takes none, and where not the server may answer at
// the configured port, but a pooler, which refuses what it does not know.
func (in *Instance) client() string {
	if !in.mon.KnowsLabels() || int(in.mon.PostmasterPort()) != in.cfg.Port {
		return ""
	}
	return in.label
}

// publish tells the board what the instance is.
func (in *Instance) publish(loss *heartbeat.Loss) {
	s := bind.Status{State: in.state, Generation: in.mon.Generation(), Detail: in.detail}
	s.HostAddr, s.Addrs = in.end.Peer()
	s.SystemIdentifier, s.PostmasterStart, s.Succeeds = in.mon.SystemIdentifier(), in.mon.PostmasterStart(),
		in.mon.Succeeds()
	s.Attributes, s.Known = in.mon.Attributes()
	s.Client, s.Lag, s.RTT = in.client(), in.mon.Lag(), in.rtt
	s.KnownSince = in.mon.KnownSince()
	by := in.end.ServedBy()
	if by != in.index && s.State == heartbeat.Established { // its heartbeats are for the other end's sake
		s.State = heartbeat.Duplicate
	}
	if s.State == heartbeat.Duplicate {
		s.Detail = fmt.Sprintf("same server as instance %d", in.conf.Instances[by].Number)
	}
	in.board.Post(in.index, s, loss)
}
