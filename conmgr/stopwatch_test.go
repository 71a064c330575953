package conmgr

// Tests of an instance whose server says goodbye: a fake SQL port that refuses, answers, or is
// silent.

import (
	"context"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/netio"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// sqlPort is a server's port that does what a test says.
type sqlPort struct {
	mu      sync.Mutex
	does    string // shutting down, refuses, drops, logs in
	words   int    // times that it was asked in words, which costs a line in a server's log
	quietly int    // times that it was asked by SSLRequest
}

func (p *sqlPort) is(does string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.does = does
}

func (p *sqlPort) asked() (words, quietly int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.words, p.quietly
}

// dial takes the connections to the SQL port, and passes on those to the watchdog's.
func (p *sqlPort) dial(t *testing.T) func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				p.answer(c)
			}()
		}
	}()
	return func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
		if to.Port() != 27500 {
			return netio.Dial(ctx, from, to)
		}
		p.mu.Lock()
		does := p.does
		p.mu.Unlock()
		switch does {
		case "refuses":
			return nil, unix.ECONNREFUSED
		case "drops":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return netio.Dial(ctx, from, netip.MustParseAddrPort(l.Addr().String()))
	}
}

func (p *sqlPort) answer(c net.Conn) {
	buf := make([]byte, 1000)
	n, err := c.Read(buf)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n == 8 {
		p.quietly++
		c.Write([]byte("N"))
		return
	}
	p.words++
	var m pgproto3.BackendMessage = &pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03",
		Message: "the database system is shutting down"}
	if p.does == "logs in" {
		m = &pgproto3.AuthenticationOk{}
	}
	b, _ := m.Encode(nil)
	c.Write(b)
}

// goodbyeRig is a conmgr whose instance has just said goodbye, with an application that is bound
// there.
func goodbyeRig(t *testing.T, does string) (*rig, *watchdog, *sqlPort, *client) {
	t.Helper()
	w, p := newWatchdog(t, "127.0.0.1:0"), &sqlPort{does: does}
	r := newRig(t, quick+instanceConf(0, w.port()), func(r *rig) { r.net.Dial = p.dial(t) })
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	app := r.connect()
	app.query("show target primary")
	c.send(hb.Goodbye{Code: hb.GoodbyeServerEnds, Text: "stop"}.Append(nil))
	if code := c.goodbye(); code != 0 { // a stopping server is told nothing that would end sessions
		t.Errorf("GOODBYE %d", code)
	}
	w.l.Close()
	return r, w, p, app
}

var lastHeartbeat = regexp.MustCompile(`\(last heartbeat (\d+) ms ago\)`)

// told waits until an application is told of a loss, and checks that the server had not been heard
// of for heartbeat_timeout. It may be longer, by what this process is late.
func (c *client) told(text string) {
	c.t.Helper()
	got := c.until("")
	m := lastHeartbeat.FindStringSubmatch(got)
	if !strings.Contains(got, "E(FATAL 57P01 instance 0") || !strings.Contains(got, text) || m == nil {
		c.t.Fatalf("told %s", got)
	}
	if ms, err := strconv.Atoi(m[1]); err != nil || ms < 400 {
		c.t.Errorf("told too early: %s", got)
	}
}

// As long as the server says that it shuts down, nobody new is sent there and nobody is told;
// heartbeat_timeout after the last answer, those that are left are.
func TestStoppingServer(t *testing.T) {
	r, _, p, app := goodbyeRig(t, "shutting down")
	r.waitState(0, hb.Stopping)
	if got := r.connect().query("show target any"); got != "E(ERROR 08001 no target server address from Connection Manager) Z" {
		t.Errorf("a new application got %s", got)
	}
	eventually(t, "15 answers, more than three timeouts", func() bool {
		words, quietly := p.asked()
		return words+quietly >= 15
	})
	if e := r.entry(0); e.State != hb.Stopping || e.Losses != 0 || e.Generation != 0 ||
		e.Detail != "the server is shutting down" {
		t.Errorf("got %+v", e.Status)
	}
	if words, quietly := p.asked(); words != 1 || quietly < 14 {
		t.Errorf("asked %d times in words, %d times quietly", words, quietly)
	}
	p.is("refuses")
	r.waitState(0, hb.Stopped)
	if e := r.entry(0); e.Losses != 0 || e.Detail != "the server has shut down" {
		t.Errorf("got %+v", e.Status)
	}
	app.told("is lost: the server has shut down")
	if e := r.entry(0); e.State != hb.Lost || e.Losses != 1 {
		t.Errorf("got %+v", e.Status)
	}
}

// A host that loses its power right after the stop; and a port at which another server answers:
// both are no answer.
func TestStoppingServerIsSilent(t *testing.T) {
	for _, does := range []string{"drops", "logs in"} {
		r, _, _, app := goodbyeRig(t, does)
		app.told("is lost: the server was shutting down and was not heard of for ")
		if e := r.entry(0); e.Losses != 1 || e.Generation != 1 {
			t.Errorf("%s: %+v", does, e.Status)
		}
	}
}

// The server is started again: a loss at once, as its sessions have ended.
func TestStoppingServerComesBack(t *testing.T) {
	w, p := newWatchdog(t, "127.0.0.1:0"), &sqlPort{does: "shutting down"}
	r := newRig(t, calm+instanceConf(0, w.port()), func(r *rig) { r.net.Dial = p.dial(t) })
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	app := r.connect()
	app.query("show target primary")
	c.send(hb.Goodbye{Code: hb.GoodbyeServerEnds, Text: "stop"}.Append(nil))
	c = w.next()
	c.welcome(2, 7, primary)
	if got := app.until(""); !strings.Contains(got, "is lost: the server was restarted") {
		t.Errorf("told %s", got)
	}
	stop := c.beating(50*time.Millisecond, primary)
	r.waitState(0, hb.Established)
	words, quietly := p.asked()
	for range 5 {
		c.frame()
	}
	if w, q := p.asked(); w+q > words+quietly+2 { // those that were under way
		t.Errorf("asked %d times after it was back", w+q-words-quietly)
	}
	stop()
}

// The watchdog's port answers nothing (a firewall), and its SQL port goes on saying that it shuts
// down: the attempts to reach the one must not hold up the questions to the other.
func TestStoppingServerBehindFirewall(t *testing.T) {
	w, p := newWatchdog(t, "127.0.0.1:0"), &sqlPort{does: "shutting down"}
	sql := p.dial(t)
	var mu sync.Mutex
	blocked := false
	r := newRig(t, quick+instanceConf(0, w.port()), func(r *rig) {
		r.net.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
			mu.Lock()
			drop := blocked && to.Port() != 27500
			mu.Unlock()
			if drop {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return sql(ctx, from, to)
		}
	})
	c := w.next()
	c.welcome(1, 7, primary)
	r.waitState(0, hb.Established)
	mu.Lock()
	blocked = true
	mu.Unlock()
	c.send(hb.Goodbye{Code: hb.GoodbyeServerEnds, Text: "stop"}.Append(nil))
	r.waitState(0, hb.Stopping)
	eventually(t, "15 answers", func() bool { words, quietly := p.asked(); return words+quietly >= 15 })
	if e := r.entry(0); e.Losses != 0 {
		t.Errorf("got %+v", e.Status)
	}
}
