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
	// The watchdog's deadline runs since HELLO: with a WELCOME that was long under way, the first BEAT
	// in its turn might be too late.
	if l := in.latest(); now.Sub(l.greeted) > heartbeat.Doubt(in.cfg.Interval, in.cfg.Timeout) {
		in.beat(now, l)
	}
}

// serve is what an established connection needs at any time.
func (in *Instance) serve(now heartbeat.Mono) {
	switch {
	case in.moved(now):
		in.closed(now, causeError("its name has other addresses now"), heartbeat.AtOnce)
	case in.freed && in.isDuplicate():
		in.closed(now, causeError("the entry that served for it does not any more"), heartbeat.AtOnce)
	case in.mon.BeatDue(now):
		for _, l := range in.lines {
			in.beat(now, l)
		}
	}
}

// received takes in a frame that has come after WELCOME.
func (in *Instance) received(now heartbeat.Mono, l *line, f heartbeat.Frame) {
	f, proved := l.ch.Open(f) // all are counted
	if in.phase != serving {
		return
	}
	if !proved {
		in.parted(now, l, causeError("a message is not what watchdog has sent"))
		return
	}
	if f.Type == heartbeat.TypeRefused {
		if r, err := heartbeat.ParseRefused(f.Payload); err == nil {
			if in.taken(r, true) || l.ch.Link != nil && in.readKeyFor(f) && len(in.lines) == 1 {
				in.closed(now, causeError("watchdog ends the heartbeat connection: "+r.Text), heartbeat.AtOnce)
				return
			}
			in.parted(now, l, causeError("watchdog ends the heartbeat connection: "+r.Text))
			return
		}
	}
	latest, before := l == in.latest(), in.word()
	_, err := in.mon.Frame(now, &l.ch, latest, f)
	switch {
	case err != nil:
		in.parted(now, l, err)
	case f.Type == heartbeat.TypeGoodbye && in.mon.State() == heartbeat.Stopping:
		in.act(Action{Kind: Stopping})
		in.hangUpAll()
		in.startAsking(now)
		in.rest(now, heartbeat.Severed)
	case f.Type == heartbeat.TypeGoodbye:
		g, _ := heartbeat.ParseGoodbye(f.Payload) // the monitor has parsed it
		in.parted(now, l, causeError("remote node ends heartbeat connection: "+g.Text))
	case latest:
		in.roundTrip(now, l)
		in.echoed(l)
		in.tellNews(before)
	}
}

// word is what the instance says of itself.
type word struct {
	attributes heartbeat.Attributes
	succeeds   heartbeat.Succession
	lag        heartbeat.Lag
}

func (in *Instance) word() word {
	a, _ := in.mon.Attributes()
	return word{a, in.mon.Succeeds(), in.mon.Lag()}
}

// tellNews tells what it says otherwise than before.
func (in *Instance) tellNews(before word) {
	now := in.word()
	measured := now.lag != before.lag
	now.lag = before.lag
	switch {
	case now != before:
		in.act(Action{Kind: Changed})
	case measured:
		in.act(Action{Kind: Measured})
	}
}

// severed: a connection has ended, by the peer or by the network.
func (in *Instance) severed(now heartbeat.Mono, l *line, e Event) {
	if in.phase != serving {
		return
	}
	why := e.Cause
	switch e.Kind {
	case Ended:
		why = "remote node closes heartbeat connection"
	case Unsent:
		why = "could not send a heartbeat: " + why
	}
	in.parted(now, l, causeError(why))
}

// causeError is a cause that others have put into words.
type causeError string

func (e causeError) Error() string { return string(e) }

// parted: a connection is over. As long as another one stands, that is nothing.
func (in *Instance) parted(now heartbeat.Mono, l *line, why error) {
	if len(in.lines) == 1 {
		in.closed(now, why, heartbeat.Severed)
		return
	}
	in.lines = without(in.lines, l)
	in.hangUp(l)
	in.acks = acks{at: never, confirmed: in.acks.confirmed}
}

// closed: no connection stands any more. That is no verdict.
func (in *Instance) closed(now heartbeat.Mono, why error, o heartbeat.Outcome) {
	in.mon.Closed()
	in.act(Action{Kind: Closed, Err: why})
	in.hangUpAll()
	in.acks = acks{at: never, confirmed: in.acks.confirmed}
	in.pace(now)
	in.rest(now, o)
}

// sayGoodbye announces the end of all connections.
func (in *Instance) sayGoodbye(code heartbeat.GoodbyeCode, text string) {
	for _, l := range in.lines {
		in.send(l, l.ch.ConmgrGoodbye(nil, heartbeat.Goodbye{Code: code, Text: text}, in.mon.Generation()))
	}
}

// judge asks whether the silence has lasted too long.
func (in *Instance) judge(now heartbeat.Mono) {
	loss := in.mon.Judge(now)
	if loss == nil {
		return
	}
	in.lost(loss)
	in.dropBeside()
	if in.phase == serving {
		if !in.cfg.OnlyReport {
			in.sayGoodbye(heartbeat.GoodbyeGivenUp, "no heartbeat")
		}
		in.hangUpAll()
		in.rest(now, heartbeat.AtOnce)
	}
}

// lost: the applications have to be told.
func (in *Instance) lost(loss *heartbeat.Loss) {
	in.askNoMore()
	in.act(Action{Kind: Release})
	in.act(Action{Kind: Lost, Loss: loss})
}
