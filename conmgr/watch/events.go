package watch

// What an instance's goroutine tells of its instance: to the log, and to the board, which routes by
// it and tells the applications. Nothing here blocks.

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// established: the watchdog has welcomed us.
func (in *Instance) established(loss *heartbeat.Loss) {
	clear(in.repeats)
	in.attempts.Established(in.now())
	if loss != nil { // another server than the one that the applications know, or one that does not know them any more
		in.note("lost", cmlog.WARNING, "%s is lost: %s", in, loss)
		in.publish(loss)
	}
	in.lossText, in.detail = "", in.portMismatch()
	in.received()
	in.note("established", cmlog.LOG, "heartbeat connection is established: %s, address %s", in, in.hostAddr)
	in.attributesChanged()
	in.publish(nil)
}

func (in *Instance) attributesChanged() {
	a, _ := in.mon.Attributes()
	now := a.String()
	if a.Has(heartbeat.ShuttingDown) {
		now += ",shutting-down"
	}
	if now != in.before {
		in.note("attribute", cmlog.LOG, "attribute of the instance(host='%s', port=%d) is changed from '%s' to '%s'",
			in.cfg.Name(), in.cfg.Port, in.before, now)
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
	in.mon.Closed()
	in.note("closed", cmlog.LOG, "heartbeat connection is closed: %s: %s", in, why)
	in.say(why)
}

// stopping: the server has announced its end. Nobody is sent there any more, and nothing is cut.
func (in *Instance) stopping() {
	in.note("goodbye", cmlog.LOG, "remote node shuts down heartbeat connection: %s; its connections are left to the server",
		in)
	in.watchStop(in.ctx)
	in.say("the server is shutting down")
}

// stopAnswered takes in what the SQL port of a stopping server has said.
func (in *Instance) stopAnswered(r stopReply) {
	changed := in.mon.StopAnswer(r.at, r.answer)
	in.received()
	if changed {
		in.unwatchStop()
		in.note("stopped", cmlog.LOG, "the server has shut down: %s", in)
		in.say("the server has shut down")
	}
}

func (in *Instance) lost(loss *heartbeat.Loss) {
	in.unwatchStop()
	in.servers.release(in.index)
	in.detail, in.lossText = loss.String(), loss.String()
	in.note("lost", cmlog.WARNING, "%s is lost: %s", in, loss)
	in.publish(loss)
}

// failed: an attempt to connect came to nothing.
func (in *Instance) failed(ctx context.Context, err error) {
	if ctx.Err() != nil || err == nil {
		return
	}
	in.mon.Closed()
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	event := "could not establish heartbeat connection: " + in.String() + ": " + text
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		text = "heartbeat connect is refused: " + refused.Text
		event = "heartbeat connect is refused: " + in.String() + ": " + refused.Text
	case errors.Is(err, errConnectTimeout):
		event = "heartbeat connect is timed out: " + in.String() + ": " + text
		text = "heartbeat connect is timed out: " + text
	}
	in.complain(cmlog.WARNING, event)
	if s := in.mon.State(); s != heartbeat.Stopping && s != heartbeat.Stopped { // whose watchdog is gone, of course
		in.say(text)
	}
}

// complain logs what may go on for long, once a minute.
func (in *Instance) complain(level cmlog.Level, text string) {
	now := in.now()
	if last, again := in.repeats[text]; again && now.Sub(last) < repeatAfter {
		return
	}
	if len(in.repeats) >= 16 {
		clear(in.repeats)
	}
	in.repeats[text] = now
	in.note("attempt", level, "%s", text)
}

// note logs a line that a peer can cause again and again.
func (in *Instance) note(kind string, level cmlog.Level, format string, args ...any) {
	in.limit.Log(fmt.Sprintf("%s %d", kind, in.cfg.Number), level, format, args...)
}

// say makes a text the instance's detail: the last error. Of a lost instance it says as well why
// that was lost.
func (in *Instance) say(text string) {
	if in.mon.State() == heartbeat.Lost && in.lossText != "" && text != in.lossText {
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
		in.note("port", cmlog.WARNING, "%s: %s (a mistake, unless a pooler or a forwarded port is meant)", in, text)
	}
	return text
}

// publish tells the board what the instance is now.
func (in *Instance) publish(loss *heartbeat.Loss) {
	s := bind.Status{State: in.mon.State(), Generation: in.mon.Generation(), HostAddr: in.hostAddr, Addrs: in.addrs,
		Detail: in.detail}
	s.SystemIdentifier, s.PostmasterStart, s.Succeeds = in.mon.SystemIdentifier(), in.mon.PostmasterStart(),
		in.mon.Succeeds()
	s.Attributes, s.Known = in.mon.Attributes()
	if in.isDuplicate() && s.State == heartbeat.Established { // its heartbeats are for the other end's sake
		s.State = heartbeat.Duplicate
	}
	if s.State == heartbeat.Duplicate {
		s.Detail = fmt.Sprintf("same server as instance %d", in.serving())
	}
	in.board.Post(in.index, s, loss)
}
