package instance

// A server that has said goodbye still delivers to whoever is connected, for as long as that takes.
// Its watchdog has ended, so that its SQL port is asked for its life, once a heartbeat_interval.

import (
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// quietFor is how long a server that has said that it shuts down is believed by its answers to
// quiet questions, which leave no line in its log; then it is asked again. (One that was started
// again answers those, too.)
const quietFor = 10 * time.Second

// maxQuestions is how many may wait for their answers at a time.
const maxQuestions = 8

// Question is one to the SQL port of a server that stops.
type Question struct {
	Round int  // which of its ends the server was asked about
	Quiet bool // whether there is a postmaster; else, whether it still shuts down
	Until heartbeat.Mono
}

// asking is what was asked.
type asking struct {
	on      bool
	next    heartbeat.Mono // when the next question is due
	round   int
	pending int
	said    heartbeat.Mono // when the server last said in words that it shuts down; 0: never
}

// startAsking begins to ask.
func (in *Instance) startAsking(now heartbeat.Mono) {
	in.asking = asking{on: true, next: now, round: in.asking.round + 1}
	in.ask(now)
}

// ask asks if that is due.
func (in *Instance) ask(now heartbeat.Mono) {
	a := &in.asking
	if !a.on || now < a.next {
		return
	}
	if a.next = a.next.Add(in.cfg.Interval); a.next <= now {
		a.next = now.Add(in.cfg.Interval)
	}
	if a.pending == maxQuestions {
		return
	}
	a.pending++
	in.question(Question{Round: a.round, Quiet: a.said != 0 && now.Sub(a.said) < quietFor,
		Until: now.Add(in.cfg.Timeout)})
}

func (in *Instance) question(q Question) {
	in.act(Action{Kind: Ask, Question: q, To: netip.AddrPortFrom(in.peer, in.cfg.SQLPort)})
}

// answered takes in an answer. A quiet question that tells nothing is asked in words.
func (in *Instance) answered(now heartbeat.Mono, e Event) {
	a, q := &in.asking, e.Question
	if !a.on || q.Round != a.round {
		return
	}
	if q.Quiet && e.Answer == heartbeat.StopSilent && now < q.Until {
		q.Quiet = false
		in.question(q)
		return
	}
	a.pending--
	if !q.Quiet && e.Answer == heartbeat.StopGoesOn {
		a.said = e.At
	}
	if in.mon.StopAnswer(e.At, e.Answer) {
		in.askNoMore()
		in.act(Action{Kind: Stopped})
	}
}

// askNoMore: what the server's SQL port says is of no interest any more.
func (in *Instance) askNoMore() {
	if in.asking.on {
		in.asking.on = false
		in.act(Action{Kind: AskNoMore})
	}
}
