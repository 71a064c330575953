package event

// Tests of the hub, and of the log's subscriber.

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// All subscribers see one order, which is that of each emitter, and have an event when Emit
// returns.
func TestOneOrder(t *testing.T) {
	var h Hub
	var seen [3][]string // each appended to without a lock of its own
	for i := range seen {
		h.Subscribe(func(e Event) {
			before := seen[i]
			runtime.Gosched() // whoever does not wait for his turn comes between
			seen[i] = append(before, e.Text())
		})
	}
	var emitters sync.WaitGroup
	for n := range 8 {
		emitters.Add(1)
		go func() {
			defer emitters.Done()
			for i := range 500 {
				h.Emit(Conflict{What: fmt.Sprintf("%d %04d", n, i)})
			}
		}()
	}
	emitters.Wait()
	for i := range seen {
		if len(seen[i]) != 8*500 || !slices.Equal(seen[i], seen[0]) {
			t.Fatalf("subscriber %d saw %d events, or another order", i, len(seen[i]))
		}
	}
	last := map[byte]string{}
	for _, text := range seen[0] {
		if text <= last[text[0]] {
			t.Fatalf("%s after %s", text, last[text[0]])
		}
		last[text[0]] = text
	}
	var order []string
	var in Hub
	for _, name := range []string{"log", "status"} {
		in.Subscribe(func(e Event) { order = append(order, name+" "+e.Text()) })
	}
	in.Emit(Conflict{What: "1"})
	in.Emit(Conflict{What: "2"})
	if got := strings.Join(order, ", "); got != "log 1, status 1, log 2, status 2" {
		t.Error(got)
	}
	(*Hub)(nil).Emit(ShutDown{})
}

// A panic of a subscriber is its emitter's, and holds nobody else up.
func TestHubAfterAPanic(t *testing.T) {
	var h Hub
	h.Subscribe(func(Event) { panic("fault") })
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			h.Emit(ShutDown{})
		}()
	}
}

// sink keeps the log.
type sink struct {
	mu    sync.Mutex
	lines []string
}

func (s *sink) Write(m *cmlog.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, strings.Join(m.Lines(), " / "))
}

// rig is a log that hangs on a hub, and a clock that stands still.
type rig struct {
	Hub
	sink
	log *cmlog.Logger
	at  clock.Mono
}

func newRig(t *testing.T, min cmlog.Level) *rig {
	r := &rig{at: clock.Mono(time.Hour)}
	g, stop := &group.Group{OnPanic: func(name string, v any, _ []byte) { t.Errorf("%s: %v", name, v) }}, make(chan struct{})
	r.log = cmlog.New(min, g, stop, &r.sink)
	t.Cleanup(func() {
		close(stop)
		if !g.Wait(10 * time.Second) {
			t.Error("the log writer did not end")
		}
	})
	r.Subscribe(Log(r.log, cmlog.NewLimiter(r.log), func() clock.Mono { return r.at }))
	return r
}

// said returns what was logged since the last call.
func (r *rig) said() string {
	r.log.Flush(10 * time.Second)
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	text := strings.Join(r.lines, "\n")
	r.lines = nil
	return text
}

var db0 = Instance{Number: 0, Host: "db0", Port: 5432}

// everything is one of each event.
func everything() []Event {
	failed := fmt.Errorf("out of luck")
	peer := Client{Peer: netip.MustParseAddrPort("127.0.0.1:40000")}
	relayed := Client{Peer: peer.Peer, Relay: true}
	why := func() string { return "instance 1 (host \"db1\"): it is lost" }
	addr := netip.MustParseAddr("10.0.0.1")
	return []Event{
		Started{Instances: 2, Port: 27546}, NotStarted{Err: failed},
		Connecting{Instance: db0, To: netip.AddrPortFrom(addr, 27545)},
		ConnectFailed{Instance: db0, Why: "10.0.0.1:27545: no route"},
		ConnectFailed{Instance: db0, Failure: RefusedByWatchdog, Why: "too many"},
		ConnectFailed{Instance: db0, Failure: NoAnswer, Why: "10.0.0.1:27545: no answer"},
		KeyReplaced{Instance: db0, KeyID: "client1"}, KeyUnusable{Instance: db0, Err: failed},
		LookupFailed{Instance: db0, Err: failed}, Established{Instance: db0, Addr: addr},
		AttributesChanged{Instance: db0, Before: "unknown", Now: "primary,read-write"},
		Duplicate{Instance: db0, Of: 1}, OtherPort{Instance: db0, What: "another port"},
		Closed{Instance: db0, Why: "reset"}, Stopping{Instance: db0}, Stopped{Instance: db0}, TimedOut{Instance: db0},
		Lost{Instance: db0, Loss: heartbeat.Loss{Reason: heartbeat.LossSilence, Silence: 3 * time.Second}},
		PresenceChanged{Presence: Presence{Primary: -1, Instances: 2}},
		Superseded{Instance: db0, By: "instance 1, timeline 2"}, ApplicationsTold{Instance: db0, N: 3},
		RelaysReset{Instance: db0, N: 4}, RelaysNotResumed{Instance: db0, N: 2, Why: "the server was restarted"},
		SocketsDestroyed{Instance: db0, N: 5, To: []netip.AddrPort{netip.AddrPortFrom(addr, 5432)}, Took: time.Millisecond},
		SocketsNotDestroyed{Instance: db0, Err: failed}, Conflict{What: "two primaries"},
		KnownBefore{Known: addr}, KnownChanged{Known: addr}, Forgotten{Was: addr, Now: addr},
		StateUnreadable{Err: failed, Hint: "It was renamed."}, StateUnwritten{Why: "no room"},
		IdentityUnreadable{Err: failed, Hint: "It was renamed."}, IdentityUnwritten{Why: "no room"}, IdentityTaken{Instance: db0},
		Accepted{Client: peer}, Accepted{Client: relayed}, Ended{Client: peer}, Ended{Client: relayed},
		Bound{Client: peer, Application: "test", Want: "standby", Found: true, To: db0, Addr: addr, Why: why},
		Bound{Client: relayed, Want: "any", Except: []int{0, 1}, Why: why},
		Rejected{Client: peer}, Overfull{Client: peer, Max: 10, Limit: "max_connections"},
		OverShare{Client: peer, What: "too many"}, Foreign{Client: peer}, AcceptFailed{Why: "no memory"},
		NoUnixSocket{Err: failed}, RelayFailed{Why: db0.String() + ": no answer"},
		RelayDeclined{Client: relayed, Why: failed}, CancelGivenUp{Client: relayed, Instance: db0},
		CancelFailed{Instance: db0, Why: "no answer"},
		ShutdownRequested{Mode: "fast"}, ShutdownRequested{Mode: Restart}, ApplicationsClosed{}, PidFileUnwritten{Err: failed}, CutShort{}, ShutDown{},
		Restarting{Program: "/usr/bin/conmgr"}, NotRestarted{Err: failed},
	}
}

var update = flag.Bool("update", false, "write testdata/log.txt")

// What the log says of each event; it is documented, and people search for it.
func TestLogLines(t *testing.T) {
	r := newRig(t, cmlog.DEBUG)
	for _, e := range everything() {
		r.Emit(e)
	}
	got := strings.Replace(r.said()+"\n", "Manager "+cm.Version, "Manager VERSION", 1)
	if *update {
		if err := os.WriteFile("testdata/log.txt", []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/log.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the log differs from testdata/log.txt:\n%s", got)
	}
}

// Without DEBUG, why others were not chosen is found out only for who got nobody.
func TestLevels(t *testing.T) {
	r := newRig(t, cmlog.INFO)
	for _, e := range everything() {
		r.Emit(e)
	}
	got := r.said()
	if strings.Contains(got, "DEBUG") || strings.Count(got, "INFO") != 3 || strings.Count(got, "DETAIL:  instance 1") != 1 {
		t.Error(got)
	}
	quiet := newRig(t, cmlog.WARNING)
	quiet.Emit(Bound{Client: Client{Peer: unasked{t}}, Why: func() string { t.Error("asked why"); return "" }})
	if got := quiet.said(); got != "" {
		t.Error(got)
	}
}

// unasked is a peer whose name costs too much.
type unasked struct{ t *testing.T }

func (u unasked) String() string { u.t.Error("asked for the peer"); return "" }

// What lasts is told once a minute, and anew after a connection.
func TestWhatLasts(t *testing.T) {
	r := newRig(t, cmlog.WARNING)
	db1 := Instance{Number: 1, Host: "db1", Port: 5432}
	fails := func(in Instance, why string) int {
		r.Emit(ConnectFailed{Instance: in, Why: why})
		return strings.Count(r.said(), "could not establish")
	}
	for _, x := range []struct {
		after time.Duration
		in    Instance
		why   string
		want  int
	}{{0, db0, "a", 1}, {0, db0, "a", 0}, {0, db0, "b", 1}, {0, db1, "a", 1}, {59 * time.Second, db0, "a", 0},
		{time.Second, db0, "a", 1}, {time.Second, db0, "a", 0}} {
		r.at = r.at.Add(x.after)
		if got := fails(x.in, x.why); got != x.want {
			t.Errorf("%+v: %d lines", x, got)
		}
	}
	r.Emit(Established{Instance: db1})
	if got := fails(db0, "a"); got != 0 {
		t.Error("another instance's connection counts")
	}
	r.Emit(Established{Instance: db0}) // not logged at this level, and counts
	if got := fails(db0, "a"); got != 1 {
		t.Error("after a connection it is not told")
	}
}

// What a peer can cause without end is told a few times, of each instance.
func TestPeersAreLimited(t *testing.T) {
	r := newRig(t, cmlog.LOG)
	db1 := Instance{Number: 1, Host: "db1", Port: 5432}
	for range 100 {
		r.Emit(Established{Instance: db0})
		r.Emit(Established{Instance: db1})
		r.Emit(Rejected{Client: Client{Peer: netip.AddrPort{}}})
	}
	got := r.said()
	for _, what := range []string{"instance 0", "instance 1", "rejected"} {
		if n := strings.Count(got, what); n != cmlog.LimitBurst {
			t.Errorf("%s: %d lines", what, n)
		}
	}
	for range 2 * cmlog.LimitBurst {
		r.Emit(ApplicationsTold{Instance: db0, N: 1}) // nobody can cause it: each is told
	}
	if n := strings.Count(r.said(), "told 1"); n != 2*cmlog.LimitBurst {
		t.Errorf("%d lines of losses", n)
	}
}
