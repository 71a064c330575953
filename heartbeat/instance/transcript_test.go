package instance

// Step by scripts: testdata/, in the form of internal/transcript. Events:
//
//	config [host=] [timeout=2.5s] [grace=] [gen=]   first, for one that has a name; else it is at 10.0.0.1;
//	                                         grace: with an id that is kept
//	until                                    what comes due till then is done, when it comes
//	due                                      late
//	resolved <addresses> | <cause> [missing=4|6]
//	dialled [from=]; failed <cause>; ended; broken <cause>; unsent <cause>; probed [unacked]
//	                                         all of these, and frames: [on=2], of that connection; else of the
//	                                         latest that stands, or of the attempt
//	welcome sys= start= [attrs=standby|stopping|primary] [tl=] [resumed] [since=] [version=1] [grace=]
//	                                         [lag=], bytes
//	beat [attrs=] [tl=] [lag=] [echo=]        else of all that was sent
//	goodbye <code> <text>; refused <text>; frame <type>
//	holder <entry> [from=] [since=]          who serves what is claimed from now on: at first, this
//	                                         entry, number 0
//	freed; answered goes-on | refused | silent [quiet] [round=1] [until=] [at=]; stop [goodbye|returns]
//
// What comes of them: the actions (with what the instance was then, if it has changed since), and
// then what the instance is, and when something is due again.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/transcript"
)

func TestTranscripts(t *testing.T) {
	transcript.Run(t, "testdata", 24, func(*testing.T) transcript.Step { return new(script).line })
}

// script is one of them.
type script struct {
	in       *Instance
	now      hb.Mono
	attrs    hb.Attributes
	lag      hb.Lag // as it was shown last
	holder   *Holder
	versions map[Conn]uint16
	secret   string              // of the key that both ends have
	ends     map[Conn]*provedEnd // of connections with a key
	out      []string
}

// words are the arguments of a line.
type words []string

// value is that of key=value, "" if there is none.
func (w words) value(key string) string {
	for _, x := range w {
		if v, ok := strings.CutPrefix(x, key+"="); ok {
			return v
		}
	}
	return ""
}

func (w words) has(flag string) bool {
	for _, x := range w {
		if x == flag {
			return true
		}
	}
	return false
}

func (w words) number(key string) uint64 {
	n, _ := strconv.ParseUint(w.value(key), 10, 64)
	return n
}

func (w words) time(key string, otherwise hb.Mono) hb.Mono {
	if d, err := time.ParseDuration(w.value(key)); err == nil {
		return hb.Mono(d)
	}
	return otherwise
}

func (w words) addr(key string) netip.Addr {
	a, _ := netip.ParseAddr(w.value(key))
	return a
}

// plain are the words that are no key=value.
func (w words) plain() string {
	var out []string
	for _, x := range w {
		if !strings.Contains(x, "=") {
			out = append(out, x)
		}
	}
	return strings.Join(out, " ")
}

func (s *script) config(w words) {
	c := Config{HostAddr: w.addr("hostaddr"), Host: "db0", WatchdogPort: 27545, SQLPort: 5432, ID: hb.ID{1}, Boot: hb.ID{2},
		Interval: time.Second, Timeout: 2500 * time.Millisecond, ConnectInterval: time.Second,
		ConnectTimeout: 10 * time.Second, DuplicateCheck: 10 * time.Second, Random: rand.New(rand.NewPCG(1, 1)).Float64}
	c.Timeout = time.Duration(w.time("timeout", hb.Mono(c.Timeout)))
	if w.value("host") == "" && !c.HostAddr.IsValid() {
		c.HostAddr = netip.MustParseAddr("10.0.0.1")
	}
	if s.secret = w.value("key"); s.secret != "" {
		c.Key, c.Nonce = testKey(s.secret), counted()
	}
	if g := w.time("grace", 0); g != 0 {
		c.Grace, c.Incarnation, c.Spare, c.Generation = time.Duration(g), hb.ID{3}, hb.ID{4}, w.number("gen")
	}
	s.in, s.versions, s.ends = New(c), map[Conn]uint16{}, map[Conn]*provedEnd{}
}

// line does what a line of the script says.
func (s *script) line(at time.Duration, w []string) ([]string, error) {
	kind, args := w[0], words(w[1:])
	if s.in == nil {
		s.config(args)
	}
	s.out = nil
	switch kind {
	case "config":
	case "until":
		for s.in.Wake() <= hb.Mono(at) {
			s.now = max(s.now, s.in.Wake())
			s.step(fmt.Sprintf("%v: ", time.Duration(s.now)), Event{Kind: Due})
		}
	case "holder":
		i, err := strconv.Atoi(args[0])
		s.holder = &Holder{Index: i, Number: i, Local: args.addr("from"), Since: args.time("since", hb.Mono(at))}
		return nil, err
	default:
		s.now = hb.Mono(at)
		e, err := s.event(kind, args)
		if err != nil {
			return nil, err
		}
		s.step("", e)
	}
	s.now = hb.Mono(at)
	return s.out, nil
}

// event is what a line means.
func (s *script) event(kind string, w words) (e Event, err error) {
	simple := map[string]EventKind{"due": Due, "resolved": Resolved, "dialled": Dialled, "failed": DialFailed,
		"ended": Ended, "broken": Broken, "unsent": Unsent, "freed": Freed, "answered": Answered, "stop": Stop,
		"probed": Probed}
	e.Kind, e.Cause, e.Local, e.Conn, e.Unacked = simple[kind], w.plain(), w.addr("from"), s.conn(w), w.has("unacked")
	switch kind {
	case "resolved":
		e.Missing = map[string]Family{"4": IPv4, "6": IPv6}[w.value("missing")]
		for len(w) > 0 {
			a, err := netip.ParseAddr(w[0])
			if err != nil {
				break
			}
			e.Addrs, w = append(e.Addrs, a), w[1:]
		}
		e.Cause = w.plain()
	case "answered":
		e.Answer = map[string]hb.StopAnswer{"goes-on": hb.StopGoesOn, "refused": hb.StopRefused, "silent": hb.StopSilent}[w[0]]
		e.Question = Question{Round: max(1, int(w.number("round"))), Quiet: w.has("quiet"), Until: w.time("until", never)}
		e.At = w.time("at", s.now)
	case "stop":
		e.Goodbye, e.Returns = w.has("goodbye"), w.has("returns")
	case "key":
		e = Event{Kind: KeyRead}
		if w[0] != "none" {
			e.Key = testKey(w[0])
		}
	case "welcome", "beat", "goodbye", "refused", "frame", "challenge":
		e.Kind = Frame
		e.Frame, err = s.frame(kind, w)
	default:
		if _, known := simple[kind]; !known {
			err = fmt.Errorf("unknown event %q", kind)
		}
	}
	return e, err
}

func (s *script) frame(kind string, w words) (f hb.Frame, err error) {
	if v := w.value("attrs"); v != "" {
		s.attrs.Flags = map[string]hb.AttributeFlags{"standby": hb.InRecovery, "stopping": hb.ShuttingDown}[v]
	}
	if w.value("tl") != "" {
		s.attrs.Timeline = uint32(w.number("tl"))
	}
	code := 0
	if kind == "goodbye" || kind == "frame" {
		if code, err = strconv.Atoi(w[0]); err != nil {
			return f, err
		}
	}
	var b []byte
	switch kind {
	case "welcome":
		x := hb.Welcome{Version: 2, SystemIdentifier: w.number("sys"), PostmasterStart: int64(w.number("start")),
			Attributes: s.attrs, KnownSince: w.number("since"), Lag: lagOf(w),
			Grace: time.Duration(w.time("grace", 0))}
		if w.value("version") == "1" {
			x.Version = 1
		}
		s.versions[s.conn(w)] = x.Version
		if w.has("resumed") {
			x.Flags = hb.Resumed
		}
		b = x.Append(nil)
	case "beat":
		b = hb.WatchdogBeat{Sequence: 1, Attributes: s.attrs, Echo: s.echo(w), Lag: lagOf(w),
			Held: time.Duration(w.time("held", 0))}.Append(nil, s.versions[s.conn(w)])
	case "goodbye":
		b = hb.Goodbye{Code: hb.GoodbyeCode(code), Text: w[1:].plain()}.Append(nil)
	case "refused":
		code := hb.RefusedFull
		if w.value("code") != "" {
			code = hb.RefusedCode(w.number("code"))
		}
		b = hb.Refused{Code: code, Text: w.plain()}.Append(nil)
	case "challenge":
		b = s.challenge(w)
	case "frame":
		return hb.Frame{Type: hb.Type(code)}, nil
	}
	f, _, err = hb.Next(s.prove(kind, w, b))
	return f, err
}

// lagOf is what a line says of it: bytes.
func lagOf(w words) hb.Lag {
	return hb.Lag{Known: w.value("lag") != "", Bytes: w.number("lag")}
}

// conn is the connection that a line is about.
func (s *script) conn(w words) Conn {
	switch l := s.in.latest(); {
	case w.value("on") != "":
		return Conn(w.number("on"))
	case l != nil:
		return l.conn
	case s.in.attempt.line != nil:
		return s.in.attempt.line.conn
	}
	return 0
}

// echo is what a BEAT says to have received.
func (s *script) echo(w words) uint32 {
	if w.value("echo") == "" {
		if l := find(s.in.lines, s.conn(w)); l != nil {
			return l.ch.Sent()
		}
	}
	return uint32(w.number("echo"))
}

// step writes down what comes of an event.
func (s *script) step(prefix string, e Event) {
	var claims bool
	for _, a := range s.in.Step(s.now, e) {
		text := prefix + s.said(a)
		if a.Kind >= FellBack && a.State != s.in.View().State() {
			text += fmt.Sprintf(" (%s then)", a.State)
		}
		s.out = append(s.out, text)
		claims = claims || a.Kind == Claim
	}
	if claims {
		h := Holder{Local: s.in.local, Since: s.now}
		if s.holder != nil {
			h = *s.holder
		}
		s.step(prefix, Event{Kind: Claimed, Holder: h})
		return
	}
	if l := s.in.View().Lag(); l != s.lag {
		s.lag = l
		s.out = append(s.out, prefix+l.String())
	}
	due := "never"
	if s.in.Wake() != never {
		due = fmt.Sprint(time.Duration(s.in.Wake()))
	}
	s.out = append(s.out, fmt.Sprintf("%s= %s, generation %d, due %s", prefix, s.in.View().State(),
		s.in.View().Generation(), due))
}

var actionNames = [...]string{"resolve", "dial", "hang up", "send", "claim", "release", "ask", "read key", "ask no more", "probe", "fell back",
	"failed", "established", "duplicate", "changed", "measured", "closed", "stopping", "stopped", "lost", "renamed", "round trip"}

// said is an action in words.
func (s *script) said(a Action) string {
	text := actionNames[a.Kind]
	switch a.Kind {
	case Dial:
		text += fmt.Sprintf(" #%d %s", a.Conn, a.To)
		if a.Beside {
			text += ", beside,"
		}
		if a.From.IsValid() {
			text += " from " + a.From.String()
		}
	case Send:
		text += fmt.Sprintf(" #%d %s", a.Conn, s.sent(a))
	case HangUp, Probe:
		text += fmt.Sprintf(" #%d", a.Conn)
		if a.Reset {
			text += ", reset"
		}
	case Claim:
		text += fmt.Sprintf(" sys=%d start=%d", a.Server.System, a.Server.Start)
	case Ask:
		text += fmt.Sprintf(" %s, round %d, until %v", a.To, a.Question.Round, time.Duration(a.Question.Until))
		if a.Question.Quiet {
			text += ", quietly"
		}
	}
	if a.Kind == RoundTrip {
		text += fmt.Sprintf(" %v", a.Took)
	}
	if a.Loss != nil {
		text += ": " + a.Loss.String()
	}
	if a.Err != nil {
		text += ": " + strings.ReplaceAll(a.Err.Error(), "\n", "; ")
	}
	return text
}

// sent is a frame in words.
func (s *script) sent(a Action) string {
	version := s.versions[a.Conn]
	b, how := s.heard(a.Conn, a.Data)
	f, _, err := hb.Next(b)
	switch f.Type {
	case hb.TypeResponse:
		return "RESPONSE" + how
	case hb.TypeHello:
		if h, err := hb.ParseHello(f.Payload); err == nil && h.Boot == (hb.ID{2}) && h.ID[0] != 0 {
			more := ""
			if h.Incarnation != (hb.ID{}) {
				more = fmt.Sprintf(", id %d, process %d, grace %v", h.ID[0], h.Incarnation[0], h.Grace)
			} else if h.ID != (hb.ID{1}) {
				break
			}
			return fmt.Sprintf("HELLO %d, generation %d%s%s", h.Attempt, h.Generation, more, how)
		}
	case hb.TypeBeat:
		if x, err := hb.ParseConmgrBeat(f.Payload, version); err == nil && len(f.Payload) == 4*int(version) {
			return strings.TrimSuffix(fmt.Sprintf("BEAT %d, echo %d", x.Sequence, x.Echo), ", echo 0") + how
		}
	case hb.TypeGoodbye:
		if g, err := hb.ParseConmgrGoodbye(f.Payload, version); err == nil {
			return fmt.Sprintf("GOODBYE %d: %s, generation %d, attempt %d%s", g.Code, g.Text, g.Generation, g.Attempt, how)
		}
	}
	return fmt.Sprintf("%q, %v", b, err)
}
