package instance

// Random events, also such as cannot come: what Step wants is what can be done, and what it tells
// is in order.

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// witness does what an instance says, and looks whether that can be done.
type witness struct {
	*Instance
	t   *testing.T
	rng *rand.Rand
	now hb.Mono

	conns                    map[Conn]bool // that are dialled, or stand
	looking, asking          bool
	known, established, over bool
	generation               uint64
	done                     *[Lost + 1]int // of each action
}

func TestRandomEvents(t *testing.T) {
	var done [Lost + 1]int
	for seed := range uint64(600) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := Config{Host: "db0", WatchdogPort: 1, SQLPort: 2, Interval: time.Second, Timeout: 2500 * time.Millisecond,
			ConnectInterval: time.Second, ConnectTimeout: 3 * time.Second, DuplicateCheck: 10 * time.Second,
			Random: rng.Float64}
		if seed%2 == 0 {
			c.HostAddr = netip.MustParseAddr("10.0.0.1")
		}
		w := &witness{Instance: New(c), t: t, rng: rng, done: &done, conns: map[Conn]bool{}}
		for range 1000 {
			w.one()
		}
		w.do(Event{Kind: Stop, Goodbye: seed%3 == 0})
		w.over = true
		for range 20 {
			w.one()
		}
		if len(w.conns) > 0 || w.asking || w.Wake() != never {
			t.Errorf("seed %d: something is left when it has stopped: %+v", seed, w)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for kind, n := range done {
		if n < 100 && ActionKind(kind) != ReadKey {
			t.Errorf("%s was done %d times only", actionNames[kind], n)
		}
	}
}

// one lets some time pass, and something happen.
func (w *witness) one() {
	late := time.Duration(0)
	if w.rng.IntN(20) == 0 {
		late = time.Duration(w.rng.Int64N(int64(4 * time.Second)))
	}
	if next := w.now.Add(time.Duration(w.rng.Int64N(int64(time.Second)))); next < w.Wake() {
		w.now = next
	} else {
		w.now = max(w.now, w.Wake()).Add(late)
		if w.do(Event{Kind: Due}); w.Wake() <= w.now {
			w.t.Errorf("at %v there is something due at %v still", time.Duration(w.now), time.Duration(w.Wake()))
		}
	}
	e := Event{Kind: EventKind(w.rng.IntN(int(Stop)-1) + 1), Cause: "so it is"}
	if w.asking && w.rng.IntN(3) == 0 {
		e.Kind = Answered
	}
	switch e.Kind {
	case Resolved:
		if !w.looking {
			return
		}
		w.looking = false
		for range w.rng.IntN(3) {
			e.Cause = ""
			e.Addrs = append(e.Addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(w.rng.IntN(4))}))
		}
		e.Missing = []Family{Neither, Neither, IPv4, IPv6}[w.rng.IntN(4)]
	case Dialled, DialFailed:
		e.Conn = w.pick(func(stands bool) bool { return !stands })
		stands, ok := w.conns[e.Conn]
		switch {
		case stands:
			return
		case ok && e.Kind == Dialled:
			w.conns[e.Conn] = true
		case ok:
			delete(w.conns, e.Conn)
		}
		e.Local = netip.AddrFrom4([4]byte{10, 0, 1, byte(w.rng.IntN(2))})
	case Frame:
		e.Conn = w.pick(func(stands bool) bool { return stands })
		e.Frame = w.frame(e.Conn)
	case Probed:
		e.Conn, e.Unacked = w.pick(func(stands bool) bool { return stands }), w.rng.IntN(2) == 0
	case Ended, Broken, Unsent:
		e.Conn = w.pick(func(stands bool) bool { return stands })
		if w.rng.IntN(8) > 0 {
			return
		}
	case Answered:
		e.Question = Question{Round: w.Instance.asking.round - w.rng.IntN(2), Quiet: w.rng.IntN(2) == 0, Until: w.now + 1}
		e.Answer, e.At = hb.StopAnswer(w.rng.IntN(3)), w.now
	}
	w.do(e)
}

// pick is one of the connections, mostly the one that was dialled last, or one that is over.
func (w *witness) pick(which func(stands bool) bool) Conn {
	for c := w.dials; c > 0 && c+12 > w.dials; c-- {
		if stands, ok := w.conns[c]; ok && which(stands) && w.rng.IntN(3) > 0 {
			return c
		}
	}
	return Conn(w.rng.IntN(int(w.dials) + 2))
}

// frame is one that may come, or may not.
func (w *witness) frame(on Conn) hb.Frame {
	var b []byte
	version, welcomed := uint16(0), false
	if l := find(w.lines, on); l != nil {
		version, welcomed = l.ch.Version, true
	}
	switch k := w.rng.IntN(12); {
	case !welcomed && k < 9:
		welcome := hb.Welcome{Version: uint16(1 + w.rng.IntN(2)), SystemIdentifier: 7, PostmasterStart: int64(w.rng.IntN(8) / 7),
			Attributes: hb.Attributes{Flags: hb.InRecovery}}
		if w.rng.IntN(4) > 0 {
			welcome.Flags = hb.Resumed
		}
		b = welcome.Append(nil)
	case k < 8:
		b = hb.WatchdogBeat{Sequence: 1, Attributes: hb.Attributes{Timeline: uint32(w.rng.IntN(5) / 4),
			Flags: hb.InRecovery}, Lag: hb.Lag{Known: true, Bytes: w.rng.Uint64N(1 << 20)}}.Append(nil, version)
	case k < 11:
		b = hb.Goodbye{Code: hb.GoodbyeServerEnds}.Append(nil)
	default:
		b = hb.Refused{Code: hb.RefusedFull, Text: "full"}.Append(nil)
	}
	f, _, _ := hb.Next(b)
	return f
}

// do takes in an event, and what comes of it.
func (w *witness) do(e Event) {
	var claims []Holder
	for _, a := range w.Step(w.now, e) {
		if w.over {
			w.t.Errorf("%s, when it has stopped", actionNames[a.Kind])
		}
		w.act(a)
		if a.Kind == Claim {
			claims = append(claims, Holder{Index: w.rng.IntN(4) / 3, Local: netip.AddrFrom4([4]byte{10, 0, 1, 0}),
				Since: w.now.Add(-time.Duration(w.rng.Int64N(int64(time.Hour))))})
		}
	}
	for _, h := range claims {
		w.do(Event{Kind: Claimed, Holder: h})
	}
	if is := w.View().State() == hb.Established; is != w.established && !w.over && e.Kind != Stop && len(claims) == 0 &&
		w.phase != claiming {
		w.t.Errorf("it is %s after %d, and has told something else", w.View().State(), e.Kind)
	}
	if w.established && !w.stands() && e.Kind != Stop {
		w.t.Errorf("it is established without a connection")
	}
	w.generation = w.View().Generation()
}

// stands tells whether any connection does.
func (w *witness) stands() bool {
	for _, stands := range w.conns {
		if stands {
			return true
		}
	}
	return false
}

func (w *witness) act(a Action) {
	ok := true
	w.done[a.Kind]++
	switch a.Kind {
	case Resolve:
		ok, w.looking = !w.looking, true
	case Dial:
		_, used := w.conns[a.Conn]
		ok, w.conns[a.Conn] = !used && a.To.IsValid() && len(w.conns) < hb.MostBeside+4, false
	case HangUp:
		_, ok = w.conns[a.Conn]
		delete(w.conns, a.Conn)
		w.established = w.established && len(w.lines) > 0
	case Send, Probe:
		ok = w.conns[a.Conn]
	case Claim:
		ok = w.stands()
	case Ask:
		w.asking = true
	case AskNoMore:
		ok, w.asking = w.asking, false
	case Established:
		ok, w.known, w.established = w.stands() && !w.established && (a.Loss == nil || w.known), true, true
	case Changed, Stopping:
		ok = w.established
	case Closed:
		ok, w.established = w.established, false
	case Stopped:
		ok = w.asking || w.known
	case Lost:
		ok, w.known = w.known && (a.Loss.TimedOut() == (w.View().Generation() > w.generation)), false
	case Failed:
		ok = a.Err != nil && !w.established
	case Duplicate:
		ok, w.known = !w.stands(), false
	}
	if !ok {
		w.t.Errorf("%s at %v, which cannot be: %+v", actionNames[a.Kind], time.Duration(w.now), w)
	}
}
