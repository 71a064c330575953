package watchdog

// Step by scripts: testdata/, in the form of internal/transcript. Nothing but Step is used, and the
// slots. Events, on a connection n:
//
//	server [slots=4] [attributes=standby] [lag=] [for=] [keep] [max=10s] [grace=1m]   a new server; keep:
//	                                         terminate_on_close is off; grace: the longest that is granted
//	worker [away=50ms]                       another worker with the same slots; away: for so long there was
//	                                         none, which the slots can tell
//	set [keep] [attributes=standby] [lag=] [for=] [max=] [grace=]   settings are others now
//	hello n <address> id=1 [boot=1] [gen=0] [interval=1s] [timeout=3s] [attempt=] [grace=] [process=]   opens
//	                                         the connection as well; attempt: in version 2
//	ask n ...                                as hello: an ASK
//	answer n                                 a BEAT that echoes all that has come on n
//	open n <address> [count=1]; beat n; goodbye n <code> [gen=0]; bytes n <text>
//	fin n; rst n; broken n                   it has ended
//	blocked n; writable n                    the network does not take what is sent, or does again
//	held <time>                              a timer of this process was late by that
//	due                                      the worker looks at what is due
//	until                                    time passes till then, and what comes due is done
//	heard <time>                             if the kernel is asked, it has heard of the sessions then: settings
//	                                         kernel
//	terminated <slot>                        the terminator is done with it
//	stop                                     the server shuts down
//
// What comes of them: the actions, and then the slots that have changed, but for counts and times
// of reception.

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/internal/transcript"
	"github.com/pgwatchdog/watchdog/terminator"
)

func TestTranscripts(t *testing.T) {
	transcript.Run(t, "testdata", 15, func(t *testing.T) transcript.Step {
		s := &script{settings: Settings{TerminateOnClose: true, MaxTimeout: time.Hour}}
		t.Cleanup(func() {
			if s.store != nil && len(s.store.Faults()) > 0 {
				t.Error(s.store.Faults())
			}
		})
		return s.step
	})
}

// script is a table, driven by Step alone, as worker/ drives it.
type script struct {
	store    *Memory
	table    *Table
	settings Settings
	now      time.Duration
	open     map[Conn]bool
	channels map[Conn]*heartbeat.Channel // of the conmgrs
	ends     map[Conn]*provedEnd         // of those with a key
	beats    map[Conn]uint32             // sequence of the last one that was sent on it
	slots    []string                    // as they were shown last
	out      []string
	words    words
	heard    time.Duration // the kernel's answer
}

// words are those of an event: first the plain ones, then key=value.
type words struct {
	plain []string
	args  map[string]string
	errs  []error
}

func (w *words) word(i int) string {
	if i < len(w.plain) {
		return w.plain[i]
	}
	w.errs = append(w.errs, fmt.Errorf("word %d is missing", i+1))
	return ""
}

func (w *words) number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		w.errs = append(w.errs, err)
	}
	return n
}

func (w *words) arg(key, otherwise string) string {
	if v, ok := w.args[key]; ok {
		return v
	}
	return otherwise
}

func (w *words) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		w.errs = append(w.errs, err)
	}
	return d
}

func (s *script) step(at time.Duration, event []string) ([]string, error) {
	s.out, s.words = nil, words{args: map[string]string{}}
	for _, w := range event {
		if k, v, is := strings.Cut(w, "="); is {
			s.words.args[k] = v
		} else {
			s.words.plain = append(s.words.plain, w)
		}
	}
	if s.table == nil && event[0] != "server" {
		return nil, errors.New("there is no server")
	}
	if event[0] == "until" {
		s.until(at)
	} else {
		s.now = at
		s.event(event[0])
	}
	s.changes()
	return s.out, errors.Join(s.words.errs...)
}

func (s *script) event(kind string) {
	w := &s.words
	conn := func() Conn { return Conn(w.number(w.word(1))) }
	switch kind {
	case "server":
		s.store = NewMemory(int(w.number(w.arg("slots", "4"))))
		s.slots = slices.Repeat([]string{"free"}, s.store.Len())
		s.set()
		s.worker()
	case "worker":
		if away, ok := w.args["away"]; ok {
			s.store.SetAlive(heartbeat.Mono(s.now - w.duration(away)))
		}
		s.worker()
	case "set":
		s.set()
		s.do(Event{Kind: Changed, Settings: &s.settings})
	case "open":
		for i := range w.number(w.arg("count", "1")) {
			s.accept(conn() + Conn(i))
		}
	case "hello":
		s.hello(conn(), heartbeat.Hello.Append)
	case "ask":
		s.hello(conn(), heartbeat.AskOf)
	case "beat":
		c := conn()
		s.send(c, s.channel(c).ConmgrBeat(nil, heartbeat.Mono(s.now)))
	case "answer":
		c := conn()
		b := heartbeat.WatchdogBeat{Sequence: s.beats[c]}.Append(nil, s.channel(c).Version)
		_, _, err := s.channel(c).FromWatchdog(b[heartbeat.HeaderSize:], heartbeat.Mono(s.now))
		w.errs = append(w.errs, err)
		s.send(c, s.channel(c).ConmgrBeat(nil, heartbeat.Mono(s.now)))
	case "goodbye":
		g := heartbeat.Goodbye{Code: heartbeat.GoodbyeCode(w.number(w.word(2))), Text: "bye"}
		c := conn()
		s.send(c, s.channel(c).ConmgrGoodbye(nil, g, w.number(w.arg("gen", "0"))))
	case "bytes":
		s.do(Event{Kind: Bytes, Conn: conn(), Data: []byte(w.word(2))})
	case "fin":
		s.ended(conn(), Finished, "the connection was closed")
	case "rst":
		s.ended(conn(), Reset, "connection reset by peer")
	case "broken":
		s.ended(conn(), Broken, "connection timed out")
	case "blocked":
		s.do(Event{Kind: Blocked, Conn: conn()})
	case "writable":
		s.do(Event{Kind: Writable, Conn: conn()})
	case "held":
		s.do(Event{Kind: Held, Late: w.duration(w.word(1))})
	case "due":
		s.due("")
	case "heard":
		s.heard = w.duration(w.word(1))
	case "terminated":
		s.store.Terminate(int(w.number(w.word(1))))
	case "stop":
		s.do(Event{Kind: StopServer})
	default:
		if !s.proveEvent(kind, conn()) {
			w.errs = append(w.errs, errors.New("unknown event"))
		}
	}
}

func (s *script) clock() Now {
	return Now{Mono: heartbeat.Mono(s.now), Wall: wallAtZero.Add(s.now)}
}

func (s *script) set() {
	w := &s.words
	s.settings.TerminateOnClose = !slices.Contains(w.plain, "keep")
	s.settings.KernelEvidence = slices.Contains(w.plain, "kernel")
	s.settings.MaxTimeout = w.duration(w.arg("max", "1h"))
	s.settings.MaxGrace = w.duration(w.arg("grace", "1m"))
	s.settings.Access = w.access()
	flags := map[string]heartbeat.AttributeFlags{"primary": 0, "standby": heartbeat.InRecovery}
	s.settings.Attributes = heartbeat.Attributes{Flags: flags[w.arg("attributes", "primary")], Timeline: 1}
	s.settings.Lag = heartbeat.Lag{}
	if lag, ok := w.args["lag"]; ok {
		s.settings.Lag = heartbeat.Lag{Known: true, Bytes: w.number(lag), Time: w.duration(w.arg("for", "0s"))}
	}
}

// worker is a new process: no connection is left.
func (s *script) worker() {
	s.open, s.channels, s.ends = map[Conn]bool{}, map[Conn]*heartbeat.Channel{}, map[Conn]*provedEnd{}
	s.beats = map[Conn]uint32{}
	var actions []Action
	s.table, actions = NewTable(Server{SystemIdentifier: 7, PostmasterStart: 5, Nonce: nonces()}, s.settings, s.store, s.clock())
	s.show("", actions)
}

func (s *script) accept(c Conn) {
	from, err := netip.ParseAddrPort(s.words.word(2))
	if err != nil {
		s.words.errs = append(s.words.errs, err)
	}
	s.open[c] = true
	s.do(Event{Kind: Opened, Conn: c, From: from})
}

// channel is the conmgr's end of a connection.
func (s *script) channel(c Conn) *heartbeat.Channel {
	if s.channels[c] == nil {
		s.channels[c] = &heartbeat.Channel{Version: 1}
	}
	return s.channels[c]
}

func (s *script) hello(c Conn, encode func(heartbeat.Hello, []byte) []byte) {
	w := &s.words
	ch := &heartbeat.Channel{Version: 1, Attempt: uint32(w.number(w.arg("attempt", "0")))}
	if ch.Attempt != 0 {
		ch.Version = 2
	}
	s.channels[c] = ch
	if !s.open[c] {
		s.accept(c)
	}
	h := heartbeat.Hello{ID: heartbeat.ID{byte(w.number(w.arg("id", "")))},
		Boot: heartbeat.ID{byte(w.number(w.arg("boot", "1")))}, Generation: w.number(w.arg("gen", "0")),
		MinVersion: heartbeat.MinVersion, MaxVersion: ch.Version, Attempt: ch.Attempt, Interval: w.duration(w.arg("interval", "1s")),
		Timeout: w.duration(w.arg("timeout", "3s")), Grace: w.duration(w.arg("grace", "0s")),
		Incarnation: heartbeat.ID{byte(w.number(w.arg("process", "0")))}}
	delete(s.ends, c)
	s.withKey(c, &h)
	if e := s.ends[c]; e != nil {
		e.hello = encode(h, nil)
	}
	s.send(c, encode(h, nil))
}

func (s *script) ended(c Conn, how Close, cause string) {
	delete(s.open, c)
	s.do(Event{Kind: Ended, Conn: c, How: how, Cause: cause})
}

func (s *script) do(e Event) bool { return s.show("", s.table.Step(s.clock(), e)) }

// due does all that is due, as the reactor does.
func (s *script) due(prefix string) {
	for caughtUp := false; s.table.Wake() <= heartbeat.Mono(s.now); {
		caughtUp = s.show(prefix, s.table.Step(s.clock(), Event{Kind: Due, CaughtUp: caughtUp})) || caughtUp
		if s.table.asking != nil {
			s.show(prefix, s.table.Step(s.clock(), Event{Kind: KernelHeard, Heard: heartbeat.Mono(s.heard)}))
		}
	}
}

func (s *script) until(at time.Duration) {
	for w := s.table.Wake(); w <= heartbeat.Mono(at); w = s.table.Wake() {
		s.now = max(s.now, time.Duration(w))
		s.due(fmt.Sprintf("%dms ", s.now.Milliseconds()))
	}
	s.now = at
}

// show writes actions down. It tells whether the table wants all to be read first.
func (s *script) show(prefix string, actions []Action) (catchUp bool) {
	for _, a := range actions {
		line := ""
		switch a.Kind {
		case Send:
			b, how := s.unproved(a.Conn, a.Data)
			if f, _, _ := heartbeat.Next(b); f.Type == heartbeat.TypeBeat {
				beat, _ := heartbeat.ParseWatchdogBeat(f.Payload, s.channel(a.Conn).Version)
				s.beats[a.Conn] = beat.Sequence
			}
			line = fmt.Sprintf("send %d %s%s", a.Conn, frame(b, s.channel(a.Conn).Version), how)
		case Finish:
			line = fmt.Sprintf("finish %d", a.Conn)
		case CloseNow:
			line = fmt.Sprintf("close %d", a.Conn)
			delete(s.open, a.Conn)
		case Admitted:
			line = fmt.Sprintf("admitted %d, timeout %v", a.Conn, a.Timeout)
		case CatchUp:
			line, catchUp = "catch up", true
		case AskKernel:
			who := "with its label"
			for _, p := range a.Sessions.Places {
				who += fmt.Sprintf(", or without one of %s at %s", p.Addr, ms(int64(p.CutOff)/1000))
			}
			line = fmt.Sprintf("ask the kernel of the sessions %s, that were there at %s", who, ms(int64(a.Sessions.CutOff)/1000))
		case WakeTerminator:
			line = "wake the terminator"
		case Write:
			line = strings.TrimRight(a.Line.String(), "|")
		}
		s.out = append(s.out, prefix+line)
	}
	return catchUp
}

// frame is what a frame of the watchdog says.
func frame(b []byte, version uint16) string {
	f, n, err := heartbeat.Next(b)
	if err != nil || n != len(b) {
		return fmt.Sprintf("%d bytes that are no frame, %v", len(b), err)
	}
	switch f.Type {
	case heartbeat.TypeWelcome:
		w, err := heartbeat.ParseWelcome(f.Payload)
		what := "new"
		if w.Flags&heartbeat.Resumed != 0 {
			what = "resumed"
		}
		if w.Grace != 0 {
			what += ", grace " + w.Grace.String()
		}
		return fmt.Sprintf("WELCOME %s, known since %s, %s%s%s", what, ms(int64(w.KnownSince)-int64(wallAtZero)),
			w.Attributes, behind(w.Lag), failed(err))
	case heartbeat.TypeTell:
		w, err := heartbeat.ParseTell(f.Payload)
		return fmt.Sprintf("TELL %d, %s, authentication %s, flags %d, %d of %d conmgrs, %d here, at %s, up to %s, you are %s%s", w.Version,
			w.Attributes, w.Authentication, w.Flags, w.Conmgrs, w.Slots, w.Neighbours, ms(w.Wall-int64(wallAtZero)), w.MaxTimeout, w.Peer,
			failed(err))
	case heartbeat.TypeBeat:
		w, err := heartbeat.ParseWatchdogBeat(f.Payload, version)
		echo := ""
		if version > 1 {
			echo = fmt.Sprintf(", echo %d", w.Echo)
			if w.Held != 0 {
				echo += fmt.Sprintf(" held for %v", w.Held)
			}
		}
		return fmt.Sprintf("BEAT %d, %s%s%s%s", w.Sequence, w.Attributes, behind(w.Lag), echo, failed(err))
	case heartbeat.TypeGoodbye:
		g, err := heartbeat.ParseGoodbye(f.Payload)
		return fmt.Sprintf("GOODBYE %d, %s%s", g.Code, g.Text, failed(err))
	case heartbeat.TypeRefused:
		r, err := heartbeat.ParseRefused(f.Payload)
		return fmt.Sprintf("REFUSED %d, %s%s", r.Code, r.Text, failed(err))
	}
	return f.Type.String()
}

func behind(l heartbeat.Lag) string {
	if !l.Known {
		return ""
	}
	return ", " + l.String()
}

func failed(err error) string {
	if err == nil {
		return ""
	}
	return ", " + err.Error()
}

func ms(us int64) string { return fmt.Sprintf("%dms", us/1000) }

// changes writes down the slots that are others now.
func (s *script) changes() {
	for i := range s.store.Len() {
		if text := describe(s.store.Slot(i)); text != s.slots[i] {
			s.slots[i] = text
			s.out = append(s.out, fmt.Sprintf("slot %d: %s", i, text))
		}
	}
}

var causes = [...]string{"none", "silence", "goodbye", "given up", "closed"}

func describe(m MemorySlot) string {
	if m.State == Free {
		return "free"
	}
	text := [...]string{"free", "connected", "waiting", "ending"}[m.State]
	if m.State == Waiting && m.Deferred == 0 {
		text += map[Close]string{Broken: " broken", Finished: " closed", Reset: " reset", terminator.Returns: " back soon"}[m.Closed] +
			" at " + ms(int64(m.WaitingSince)/1000)
		if m.Until != 0 {
			text += ", until " + ms(int64(m.Until)/1000)
		}
	}
	if m.KeyID != (proof.KeyID{}) {
		text += ", key " + m.KeyID.String()
	}
	text += fmt.Sprintf(", id %d of %s, boot %d, generation %d", m.ID[0], m.Addr(), m.Boot[0], m.Generation)
	if m.State == Waiting && m.Deferred != 0 {
		text += fmt.Sprintf(", put off: until %s by %s", ms(int64(m.Deferred)/1000), causes[m.DeferredCause])
	}
	if m.Incarnation != 0 {
		text += fmt.Sprintf(", process %d", m.Incarnation>>56)
	}
	if m.Suspended > 0 {
		text += fmt.Sprintf(", suspended %d times", m.Suspended)
	}
	if m.Pending() {
		text += fmt.Sprintf(", sessions until %s end by %s", ms(int64(m.CutOff)/1000), causes[m.Cause])
	}
	return text
}
