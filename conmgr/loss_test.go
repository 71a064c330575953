package conmgr

// Tests of what applications are told: losses, limits and shutdowns, with clients that read, do not
// read, and come at the wrong moment.

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// A bound connection is told why; one bound elsewhere is not; and the next question gets the next
// answer.
func TestLoss(t *testing.T) {
	r := static(t, "", primary, standby)
	a, b, idle := r.connect(), r.connect(), r.connect()
	a.query("show target primary")
	b.query("show target standby")
	r.lose(0)
	want := "E(FATAL 57P01 instance 0 (host \"127.0.0.1\", address 127.0.0.1, port 27500) is lost: no heartbeat for 2003 ms) EOF"
	if got := a.until(""); got != want {
		t.Errorf("got %s", got)
	}
	if got := b.query("show applications"); !strings.Contains(got, ",test,standby,1,") ||
		strings.Count(got, "D(") != 1 {
		t.Errorf("got %s", got)
	}
	if got := idle.query("show target primary"); got != "E(ERROR 08001 no target server address from Connection Manager) Z" {
		t.Errorf("got %s", got)
	}
	if got := idle.query("show target any"); !strings.HasPrefix(got, "T D(1,") {
		t.Errorf("got %s", got)
	}
	idle.query("show target primary") // no match: unbound
	r.lose(1)
	if got := b.until(""); !strings.HasPrefix(got, "E(FATAL 57P01 instance 1") {
		t.Errorf("got %s", got)
	}
	if got := idle.query("show version"); !strings.HasSuffix(got, "Z") {
		t.Errorf("got %s", got)
	}
}

// The instance is lost in the moment between the binding and the answer that tells of it: the answer
// comes first, so that the client knows what it has lost, and asks again.
func TestLossBetweenBindingAndAnswer(t *testing.T) {
	for _, wait := range []string{"", " wait 30s"} {
		r := static(t, "", primary)
		a := r.connect()
		r.d.events.Subscribe(func(e event.Event) {
			if _, is := e.(event.Bound); is { // told by the session's goroutine
				r.d.registry.EndEverything(backend.Fatal(cm.AdminShutdown, "lost", "", ""))
			}
		})
		a.send(&pgproto3.Query{String: "show target primary" + wait})
		if got := a.until(""); !strings.HasPrefix(got, "T D(0,") || !strings.HasSuffix(got, " C(SHOW) Z E(FATAL 57P01 lost) EOF") {
			t.Errorf("got %s", got)
		}
	}
}

// What a client has sent and nobody has read must not turn the FATAL into a reset.
func TestLossReachesClientWithUnreadBytes(t *testing.T) {
	r := static(t, "", primary)
	c := r.connect()
	c.query("show target primary")
	r.lose(0)
	junk := bytes.Repeat([]byte("Q\x00\x00\x00\x05\x00"), 1000)
	c.c.Write(junk)
	if got := c.until(""); !strings.Contains(got, "E(FATAL 57P01 ") || !strings.HasSuffix(got, "ms) EOF") {
		t.Errorf("got %s", got)
	}
}

// A client that reads nothing has conmgr's answers stuck; the others are told in time all the same.
func TestLossWithClientThatDoesNotRead(t *testing.T) {
	r := static(t, "", primary)
	stuck := r.connect()
	stuck.c.(*net.TCPConn).SetReadBuffer(4096)
	stuck.query("show target primary")
	var many []byte
	m, err := (&pgproto3.Query{String: strings.Repeat("show help;", 800)}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 50; i++ {
		many = append(many, m...)
	}
	stuck.c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	stuck.c.Write(many) // until conmgr does not read any more, being stuck in a write
	good := r.connect()
	good.query("show target primary")
	start := time.Now()
	r.lose(0)
	if got := good.until(""); !strings.HasPrefix(got, "E(FATAL 57P01 ") {
		t.Errorf("got %s", got)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("told after %v", d)
	}
	eventually(t, "the stuck session ends", func() bool {
		return len(r.d.registry.Members()) == 0
	})
}

// Applications bind while the instance is lost and comes back, again and again: no binding survives
// the last loss.
func TestBindingRacesLoss(t *testing.T) {
	r := static(t, "", primary)
	const clients = 20
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := 0; i < clients; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				c, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				q, _ := (&pgproto3.Query{String: "show target primary"}).Encode(pgwire.StartupPacket(3<<16, "user", "x"))
				c.Write(q)
				data, err := io.ReadAll(c) // to the end: a row or an error, and FATAL
				c.Close()
				if err != nil || !bytes.Contains(data, []byte("57P0")) {
					t.Errorf("%v: %q", err, data)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		r.d.board.Post(0, up(primary), nil)
		r.d.board.Post(0, up(primary), &hb.Loss{Reason: hb.LossRestarted})
		time.Sleep(time.Millisecond) // the rate of losses, not a wait
	}
	close(stop)
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	eventually(t, "all clients have been told of a loss after their binding", func() bool {
		r.d.board.Post(0, up(primary), &hb.Loss{Reason: hb.LossRestarted})
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
}

func TestMaxConnections(t *testing.T) {
	r := static(t, "max_connections = 2\n", primary)
	a, _ := r.connect(), r.connect()
	if got := r.dial().until(""); got != "EOF" {
		t.Errorf("got %s", got)
	}
	eventually(t, "it is logged", func() bool { return r.log.count("LOG:  closed a connection from application: 127.0.0.1:") == 1 })
	a.c.Close()
	eventually(t, "there is room again", func() bool {
		return len(r.d.registry.Members()) == 1
	})
	r.connect()
}

func TestSmartShutdown(t *testing.T) {
	r := static(t, "", primary)
	bound, idle := r.connect(), r.connect()
	bound.query("show target any")
	r.d.registry.Refuse()
	late := r.connect() // who holds up the shutdown?
	if got := late.query("show applications"); strings.Count(got, "D(") != 1 || !strings.HasSuffix(got, "Z") {
		t.Errorf("got %s", got)
	}
	for _, c := range []*client{idle, late} {
		if got := c.query("show target any"); got != "E(ERROR 57P03 the Connection Manager is shutting down) Z" {
			t.Errorf("got %s", got)
		}
	}
	select {
	case <-r.d.registry.Idle:
		t.Error("idle with a bound connection")
	default:
	}
	bound.c.Close()
	select {
	case <-r.d.registry.Idle:
	case <-time.After(patience):
		t.Error("not idle without a bound connection")
	}
	if n := r.logged("rejected a connection from application due to going shutdown"); n != 2 {
		t.Errorf("logged %d times", n)
	}
	r.stop()
	if got := idle.until(""); got != "E(FATAL 57P01 the Connection Manager is shutting down) EOF" {
		t.Errorf("got %s", got)
	}
}

// A connection that is accepted at the very end of a shutdown, after all others have been told, is
// told too.
func TestConnectionAfterTheEnd(t *testing.T) {
	r := static(t, "", primary)
	r.d.registry.Refuse()
	r.d.registry.EndEverything(backend.Fatal("57P01", bind.ShutdownText, "", ""))
	c := r.dial()
	c.c.Write(pgwire.StartupPacket(3<<16, "user", "x"))
	if got := c.until(""); got != "E(FATAL 57P03 the Connection Manager is shutting down) EOF" {
		t.Errorf("got %s", got)
	}
	if n := r.logged("rejected a connection from application due to going shutdown"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	r.stop()
}

func TestSlowStartup(t *testing.T) {
	r := staticWith(t, "", func(r *rig) { r.console.StartupTime = 100 * time.Millisecond }, primary)
	c := r.dial()
	c.c.Write(pgwire.StartupPacket(3<<16, "user", "x")[:6])
	if got := c.until(""); got != "EOF" && !strings.HasSuffix(got, ": connection reset by peer EOF") { // by what was not read
		t.Errorf("got %s", got)
	}
	r.stop()
}
