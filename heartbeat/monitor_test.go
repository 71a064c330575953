package heartbeat

// What conmgr makes of an instance, by scripts: testdata/monitor, in the form of
// internal/transcript. Events:
//
//	hello; welcome sys= start= attrs= tl= resumed=yes since=
//	beat attrs= tl=               attributes stay as they were when left out
//	goodbye <code>; frame <type>; closed; duplicate
//	asked <answer of a stopping server's SQL port> [at=]
//	judge; late <time>; send      is a BEAT due?
//	wake                          when Judge or Beat may have something to do
//
// What comes of them, and then what the instance is, if that has changed.

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/transcript"
)

func TestMonitorScenarios(t *testing.T) {
	transcript.Run(t, "testdata/monitor", 20, func(*testing.T) transcript.Step {
		s := &scenario{m: NewMonitor(ID{1}, time.Second, 2500*time.Millisecond)}
		s.m.SetBoot(ID{2})
		return s.step
	})
}

type scenario struct {
	m       *Monitor
	c       Channel
	offered uint64
	now     Mono
	attrs   Attributes
	was     string // as it was shown last
}

// step does one event and returns what comes of it.
func (s *scenario) step(at time.Duration, words []string) (said []string, err error) {
	s.now = Mono(at)
	args := map[string]string{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		args[k] = v
	}
	number := func(key string) uint64 {
		n, e := strconv.ParseUint(args[key], 10, 64)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", key, e))
		}
		return n
	}
	attributes := func() {
		if v, ok := args["attrs"]; ok {
			flags, known := map[string]AttributeFlags{"primary": 0, "standby": InRecovery, "read-only": ReadOnly,
				"stopping": ShuttingDown}[v]
			if !known {
				err = errors.Join(err, fmt.Errorf("attrs %q", v))
			}
			s.attrs.Flags = flags
		}
		if _, ok := args["tl"]; ok {
			s.attrs.Timeline = uint32(number("tl"))
		}
	}
	var loss *Loss
	var failure error
	changed := false
	switch words[0] {
	case "hello":
		h := s.m.Hello()
		if h.ID != (ID{1}) || h.Boot != (ID{2}) || h.Interval != time.Second || h.Timeout != 2500*time.Millisecond ||
			h.MinVersion != 1 || h.MaxVersion != 2 {
			return nil, fmt.Errorf("HELLO is %+v", h)
		}
		s.offered = h.Generation
		said = append(said, fmt.Sprintf("offers %d", h.Generation))
	case "welcome":
		attributes()
		flags := WelcomeFlags(0)
		if args["resumed"] == "yes" {
			flags = Resumed
		}
		since := uint64(0)
		if args["since"] != "" {
			since = number("since")
		}
		s.c = Channel{Version: 1}
		loss, failure = s.m.Welcome(s.now, Welcome{Version: 1, Flags: flags, SystemIdentifier: number("sys"),
			PostmasterStart: int64(number("start")), Attributes: s.attrs, KnownSince: since}, s.offered)
	case "beat":
		attributes()
		f, _, _ := Next(WatchdogBeat{Sequence: 1, Attributes: s.attrs}.Append(nil, 1))
		changed, failure = s.m.Frame(s.now, &s.c, true, f)
	case "goodbye":
		code, e := strconv.Atoi(words[1])
		if e != nil {
			return nil, e
		}
		f, _, _ := Next(Goodbye{Code: GoodbyeCode(code)}.Append(nil))
		changed, failure = s.m.Frame(s.now, &s.c, true, f)
	case "frame":
		typ, e := strconv.Atoi(words[1])
		if e != nil {
			return nil, e
		}
		changed, failure = s.m.Frame(s.now, &s.c, true, Frame{Type: Type(typ), Payload: nil})
		var pe *ProtocolError
		if failure != nil && !errors.As(failure, &pe) {
			return nil, failure
		}
	case "closed":
		s.m.Closed()
	case "duplicate":
		s.m.Duplicate()
	case "asked":
		answer, ok := map[string]StopAnswer{"silent": StopSilent, "goes-on": StopGoesOn,
			"refused": StopRefused}[words[1]]
		if !ok {
			return nil, fmt.Errorf("answer %q", words[1])
		}
		asked := s.now
		if v, ok := args["at"]; ok {
			d, e := time.ParseDuration(v)
			asked, err = Mono(d), errors.Join(err, e)
		}
		changed = s.m.StopAnswer(asked, answer)
	case "judge":
		loss = s.m.Judge(s.now)
	case "late":
		by, e := time.ParseDuration(words[1])
		if e != nil {
			return nil, e
		}
		s.m.Late(by)
	case "send":
		if !s.m.BeatDue(s.now) {
			said = append(said, "nothing to send")
			break
		}
		f, _, _ := Next(s.c.ConmgrBeat(nil, s.now))
		x, e := ParseConmgrBeat(f.Payload, 1)
		said = append(said, fmt.Sprintf("beat %d", x.Sequence))
		failure = e
	case "wake":
		if at, ok := s.m.Wake(); ok {
			said = append(said, fmt.Sprintf("at %v", time.Duration(at)))
		} else {
			said = append(said, "at no time")
		}
	default:
		return nil, fmt.Errorf("unknown event %q", words[0])
	}
	switch {
	case loss != nil:
		said = append(said, "lost: "+loss.String())
	case errors.Is(failure, ErrStaleWelcome):
		said = append(said, "stale")
	case failure != nil:
		said = append(said, "error: "+failure.Error())
	case changed:
		said = append(said, "changed")
	}
	if is := s.is(); is != s.was {
		said, s.was = append(said, is), is
	}
	return said, err
}

// is what the instance is.
func (s *scenario) is() string {
	heard := "no deadline"
	if at, ok := s.m.LastReceived(); ok {
		heard = fmt.Sprintf("heard at %v", time.Duration(at))
	}
	text := fmt.Sprintf("= %s, generation %d, %s", s.m.State(), s.m.Generation(), heard)
	if a, known := s.m.Attributes(); known {
		text += fmt.Sprintf(", %s, timeline %d, system %d", a, a.Timeline, s.m.SystemIdentifier())
	}
	return text
}
