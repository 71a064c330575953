package instance

// An established connection, and the verdict on an instance, with a connection or without one.

import (
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// established: heartbeats go both ways from now on.
func (in *Instance) established(now heartbeat.Mono) {
	in.phase = serving
	in.attempts.Established(now)
	in.act(Action{Kind: Established, Loss: in.loss})
}

// serve is what an established connection needs at any time.
func (in *Instance) serve(now heartbeat.Mono) {
	switch {
	case in.moved(now):
		in.closed(now, causeError("its name has other addresses now"), heartbeat.AtOnce)
	case in.freed && in.isDuplicate():
		in.closed(now, causeError("the entry that served for it does not any more"), heartbeat.AtOnce)
	default:
		if b, due := in.mon.Beat(now, &in.ch, in.beat[:0]); due {
			in.act(Action{Kind: Send, Data: b})
		}
	}
}

// received takes in a frame that has come after WELCOME.
func (in *Instance) received(now heartbeat.Mono, f heartbeat.Frame) {
	if f.Type == heartbeat.TypeRefused {
		if r, err := heartbeat.ParseRefused(f.Payload); err == nil {
			in.closed(now, causeError("watchdog ends the heartbeat connection: "+r.Text), heartbeat.Severed)
			return
		}
	}
	changed, err := in.mon.Frame(now, &in.ch, f)
	switch {
	case err != nil:
		in.closed(now, err, heartbeat.Severed)
	case f.Type == heartbeat.TypeGoodbye && in.mon.State() == heartbeat.Stopping:
		in.act(Action{Kind: Stopping})
		in.act(Action{Kind: HangUp})
		in.startAsking(now)
		in.rest(now, heartbeat.Severed)
	case f.Type == heartbeat.TypeGoodbye:
		g, _ := heartbeat.ParseGoodbye(f.Payload) // the monitor has parsed it
		in.closed(now, causeError("remote node ends heartbeat connection: "+g.Text), heartbeat.Severed)
	case changed:
		in.act(Action{Kind: Changed})
	}
}

// severed: the connection has ended, by the peer or by the network.
func (in *Instance) severed(now heartbeat.Mono, e Event) {
	why := e.Cause
	switch in.phase {
	case greeting:
		if e.Kind == Ended {
			why = "the connection was closed before the watchdog's answer"
		}
		in.giveUp(now, causeError(why))
	case serving:
		switch e.Kind {
		case Ended:
			why = "remote node closes heartbeat connection"
		case Unsent:
			why = "could not send a heartbeat: " + why
		}
		in.closed(now, causeError(why), heartbeat.Severed)
	}
}

// causeError is a cause that others have put into words.
type causeError string

func (e causeError) Error() string { return string(e) }

// closed: the connection is over. That is no verdict.
func (in *Instance) closed(now heartbeat.Mono, why error, o heartbeat.Outcome) {
	in.mon.Closed()
	in.act(Action{Kind: Closed, Err: why})
	in.act(Action{Kind: HangUp})
	in.rest(now, o)
}

// sayGoodbye announces the end of the connection.
func (in *Instance) sayGoodbye(code heartbeat.GoodbyeCode, text string) {
	in.act(Action{Kind: Send,
		Data: in.ch.ConmgrGoodbye(nil, heartbeat.Goodbye{Code: code, Text: text}, in.mon.Generation())})
}

// judge asks whether the silence has lasted too long.
func (in *Instance) judge(now heartbeat.Mono) {
	loss := in.mon.Judge(now)
	if loss == nil {
		return
	}
	in.lost(loss)
	if in.phase == serving {
		in.sayGoodbye(heartbeat.GoodbyeGivenUp, "no heartbeat")
		in.act(Action{Kind: HangUp})
		in.rest(now, heartbeat.AtOnce)
	}
}

// lost: the applications have to be told.
func (in *Instance) lost(loss *heartbeat.Loss) {
	in.askNoMore()
	in.act(Action{Kind: Release})
	in.act(Action{Kind: Lost, Loss: loss})
}
