package libpqtest

// What conmgr tells a connection without ending it.

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// notice is a value of conmgr.notice, as it is sent.
func notice(value string) []byte { return backend.ParameterStatus(cm.NoticeParameter, value) }

// lossOf is what conmgr says of the loss of an instance.
func lossOf(number int) []byte {
	return backend.Fatal(cm.AdminShutdown, fmt.Sprintf("instance %d (host \"localhost\") is lost: the test says so", number), "", "")
}

// say gives a program of c/told.c commands, and returns its answers.
func (c *conversation) say(commands ...string) (answers []string) {
	c.t.Helper()
	for _, command := range commands {
		fmt.Fprintln(c.in, command)
		line, err := c.lines.ReadString('\n')
		if err != nil {
			rest, _ := c.end()
			c.t.Fatalf("%s: %v\n%s%s", command, err, line, rest)
		}
		answers = append(answers, strings.TrimSpace(line))
	}
	return answers
}

// want compares the answers to commands.
func (c *conversation) want(commandsAndAnswers ...string) {
	c.t.Helper()
	for i := 0; i+1 < len(commandsAndAnswers); i += 2 {
		command, want := commandsAndAnswers[i], commandsAndAnswers[i+1]
		if got := c.say(command)[0]; !strings.HasPrefix(got, want) {
			c.t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

// sendsInVain sends on a connection that is lost: libpq before 15 says so at once.
func (c *conversation) sendsInVain() {
	c.t.Helper()
	if looksFirst(c.t) {
		c.want("sends", "sends 0")
		return
	}
	c.want("sends", "sends 1", "result", "result PGRES_FATAL_ERROR")
}

// eventually repeats a command until the answer is what is wanted.
func (c *conversation) eventually(command, want string) {
	c.t.Helper()
	testkit.Eventually(c.t, 20*time.Second, command, func() (bool, string) {
		got := c.say(command)[0]
		return strings.HasPrefix(got, want), got
	})
}

// finish ends such a program.
func (c *conversation) finish() {
	c.t.Helper()
	c.want("finish", "finished")
	c.rest()
}

// teller is a conmgr that can tell, and a program that is connected by way of it.
func teller(t *testing.T, env []string, command ...string) (*pretender, *conversation) {
	t.Helper()
	m := hostileWith(t, hostile.Script{Announced: announced(cm.FeatureNotify), Rows: []hostile.Row{row("0", primary.port)}})
	c := converse(t, env, command[0], append(command[1:], dsn(m.Port(), ""))...)
	c.until("ready")
	wantAsked(t, "notified", m.Asked(), "SHOW TARGET any NOTIFY")
	return m, c
}

func TestNotices(t *testing.T) {
	m, c := teller(t, byPath(), "told")
	c.want("draining", "draining 0", "begin", "begun", "polls", "polls 0")
	m.Say(notice("draining"))
	c.want("until", "until 1", "pid", "pid ", "works", "works", "polls", "polls 1", // queries have nothing to do with it
		"draining", "draining 1", "polls", "polls 0", "draining", "draining 1", "consume", "consume 1", "pid", "pid ")
	// taken back, and again; what is not known ends nothing
	m.Say(notice("serving"), notice("feast"), notice("drain"), notice("away"), notice("away x"), backend.ParameterStatus("conmgr.more", "draining"))
	c.eventually("draining", "draining 0")
	c.want("polls", "polls 0")
	m.Say(notice("draining at once"))
	c.want("until", "until 1", "draining", "draining 1")
	m.Say(notice("serving"), notice("role standby,read-only"))
	c.want("draining", "draining 1", "pid", "pid ")
	// two that nobody has looked at: nothing is left to tell
	m.Say(notice("serving"))
	// the loss is told as ever, also behind a notice, and in parts
	loss := append(notice("serving"), lossOf(0)...)
	m.Say(loss[:9])
	c.want("polls", "polls 0", "pid", "pid ")
	m.Say(loss[9:])
	c.want("until", "until 1", "draining", "draining 1", "polls", "polls 1", "consume", "consume 0", "pid", "failed no connection")
	c.finish()
}

// Who never asks for PQcmSocket() notices nothing, and can ask for the state.
func TestNoticesWithoutASocket(t *testing.T) {
	m, c := teller(t, byPath(), "told")
	m.Say(notice("draining"))
	c.eventually("draining", "draining 1")
	c.want("begin", "begun", "polls", "polls 0")
	m.Say(notice("serving"))
	c.eventually("draining", "draining 0")
	c.finish()
	// told before it has the socket, which tells at once
	m, c = teller(t, byPath(), "told")
	m.Say(notice("draining"))
	c.want("pid", "pid ", "begin", "begun", "until", "until 1", "draining", "draining 1", "polls", "polls 0")
	m.Say(lossOf(0))
	c.want("until", "until 1", "consume", "consume 0")
	c.finish()
}

// A program that was made for 1.0 takes a readable PQcmSocket() for a loss, and looks: it finds none,
// and is not woken for ever.
func TestNoticesToAProgramOfBefore(t *testing.T) {
	m, c := teller(t, byPath(), "told")
	c.want("begin", "begun")
	m.Say(notice("draining"))
	c.want("until", "until 1", "spins", "spins 2 ok", "polls", "polls 0", "pid", "pid ", "draining", "draining 1")
	m.Say(notice("serving"))
	c.eventually("draining", "draining 0")
	m.Say(notice("draining"))
	c.want("until", "until 1", "asks", "spins 2 ok", "polls", "polls 0", "pid", "pid ")
	m.Say(lossOf(0))
	c.want("until", "until 1", "spins", "spins 1 lost")
	c.finish()
}

// conmgr says nothing new to 1.0's front, and nobody is asked for what it does not have.
func TestNoticesAreNotAskedOf10(t *testing.T) {
	m := hostileWith(t, hostile.Script{Rows: []hostile.Row{row("0", primary.port)}})
	c := converse(t, byPath(), "told", dsn(m.Port(), ""))
	c.until("ready")
	c.want("begin", "begun", "draining", "draining 0", "polls", "polls 0")
	wantAsked(t, "1.0", m.Asked(), "SHOW TARGET any")
	m.Drop(false)
	c.want("until", "until 1", "pid", "failed server closed the connection unexpectedly")
	c.finish()
	// nor is there anything to tell without conmgr
	c = converse(t, byPath(), "told", dsn(primary.port, ""))
	c.until("ready")
	c.want("draining", "draining 0")
	c.finish()
}

// The notice comes with the answer.
func TestNoticeWhileConnecting(t *testing.T) {
	m := hostileWith(t, hostile.Script{})
	m.Set(hostile.Script{Announced: announced(cm.FeatureNotify), Rows: []hostile.Row{row("0", primary.port)},
		Answer: func(string, <-chan struct{}) []byte {
			s := hostile.Script{Rows: []hostile.Row{row("0", primary.port)}}
			return append(s.Named(0), notice("draining")...)
		}})
	c := converse(t, byPath(), "told", dsn(m.Port(), ""))
	c.until("ready")
	c.want("draining", "draining 1", "pid", "pid ")
	c.finish()
}
