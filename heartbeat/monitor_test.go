package heartbeat

// What conmgr makes of an instance: scenarios under testdata/monitor, one a file. A line is
//
//	<time>ms <event> [arguments] -> <what has to come of it>
//
// Events: hello; welcome sys= start= attrs= tl= resumed=yes since=; beat attrs= tl= (attributes stay as
// they were when left out); goodbye <code>; frame <type>; closed; duplicate; asked <answer of a
// stopping server's SQL port>; judge; late <ms>ms; send (is a BEAT due?); wake. After each one the
// state and the generation are checked when the line names them: established, connecting, lost,
// gen=<n>. `lost <reason>` alone means that the event returned a loss, `no loss` that it did not.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestMonitorScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/monitor/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{m: NewMonitor(ID{1}, time.Second, 2500*time.Millisecond)}
			s.m.SetBoot(ID{2})
			steps := 0
			for i, line := range strings.Split(string(text), "\n") {
				line, _, _ = strings.Cut(line, "#")
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				steps++
				event, want, ok := strings.Cut(line, "->")
				if !ok {
					t.Fatalf("%s:%d: no -> in %q", name, i+1, line)
				}
				got, err := s.step(strings.Fields(event))
				if err != nil {
					t.Fatalf("%s:%d: %s: %v", name, i+1, line, err)
				}
				for _, w := range strings.Split(want, ",") {
					if w = strings.TrimSpace(w); w != "" && !slices.Contains(got, w) {
						t.Fatalf("%s:%d: %s\ngot: %s", name, i+1, line, strings.Join(got, ", "))
					}
				}
			}
			if steps < 3 {
				t.Fatalf("%s has only %d steps", name, steps)
			}
		})
	}
}

type scenario struct {
	m     *Monitor
	now   Mono
	attrs Attributes
}

// step does one event and returns all that can be said of it.
func (s *scenario) step(words []string) (said []string, err error) {
	if len(words) < 2 {
		return nil, errors.New("no event")
	}
	at, err := time.ParseDuration(words[0])
	if err != nil || Mono(at) < s.now {
		return nil, fmt.Errorf("time %s: %v", words[0], err)
	}
	s.now = Mono(at)
	args := map[string]string{}
	for _, w := range words[2:] {
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
	switch words[1] {
	case "hello":
		h := s.m.Hello()
		if h.ID != (ID{1}) || h.Boot != (ID{2}) || h.Interval != time.Second || h.Timeout != 2500*time.Millisecond ||
			h.MinVersion != 1 || h.MaxVersion != 1 {
			return nil, fmt.Errorf("HELLO is %+v", h)
		}
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
		loss, failure = s.m.Welcome(s.now, Welcome{Version: 1, Flags: flags, SystemIdentifier: number("sys"),
			PostmasterStart: int64(number("start")), Attributes: s.attrs, KnownSince: since})
		if errors.Is(failure, ErrStaleWelcome) {
			said = append(said, "stale")
		}
	case "beat":
		attributes()
		f, _, _ := Next(WatchdogBeat{Sequence: 1, Attributes: s.attrs}.Append(nil))
		changed, failure = s.m.Frame(s.now, f)
	case "goodbye":
		code, e := strconv.Atoi(words[2])
		if e != nil {
			return nil, e
		}
		f, _, _ := Next(Goodbye{Code: GoodbyeCode(code)}.Append(nil))
		changed, failure = s.m.Frame(s.now, f)
	case "frame":
		typ, e := strconv.Atoi(words[2])
		if e != nil {
			return nil, e
		}
		changed, failure = s.m.Frame(s.now, Frame{Type: Type(typ), Payload: nil})
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
			"refused": StopRefused}[words[2]]
		if !ok {
			return nil, fmt.Errorf("answer %q", words[2])
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
		by, e := time.ParseDuration(words[2])
		if e != nil {
			return nil, e
		}
		s.m.Late(by)
	case "send":
		b, due := s.m.Beat(s.now, nil)
		if !due {
			said = append(said, "nothing to send")
			break
		}
		f, _, _ := Next(b)
		seq, e := ParseConmgrBeat(f.Payload)
		said = append(said, fmt.Sprintf("beat %d", seq))
		failure = e
	case "wake":
		if at, ok := s.m.Wake(); ok {
			said = append(said, fmt.Sprintf("at %dms", at/ms))
		} else {
			said = append(said, "never")
		}
	default:
		return nil, fmt.Errorf("unknown event %q", words[1])
	}
	if loss != nil {
		reason := map[LossReason]string{LossSilence: "silence", LossShutdown: "shutdown", LossRestarted: "restarted",
			LossOtherSystem: "other-system",
			LossForgotten:   "forgotten", LossStopping: "stopping"}[loss.Reason]
		said = append(said, "lost "+reason, fmt.Sprintf("silence=%dms", loss.Silence.Milliseconds()),
			"says "+loss.String())
	} else {
		said = append(said, "no loss")
	}
	if failure != nil {
		said = append(said, "error")
	} else {
		said = append(said, "no error")
	}
	if changed {
		said = append(said, "changed")
	} else {
		said = append(said, "unchanged")
	}
	a, known := s.m.Attributes()
	said = append(said, s.m.State().String(), fmt.Sprintf("gen=%d", s.m.Generation()),
		fmt.Sprintf("is=%s/%d", a.Role(), a.Timeline),
		fmt.Sprintf("known=%v", known), fmt.Sprintf("sys=%d", s.m.SystemIdentifier()))
	if at, ok := s.m.LastReceived(); ok {
		said = append(said, fmt.Sprintf("heard=%dms", at/ms))
	} else {
		said = append(said, "no deadline")
	}
	return said, err
}
