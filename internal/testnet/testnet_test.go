package testnet

// The faults, seen by their effect on TCP connections between two hosts.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// silence is how long nothing must arrive for a test to call it silence: a packet takes some 0.1
// ms.
const silence = 150 * time.Millisecond

// pair is one TCP connection between two hosts.
type pair struct {
	net            *Net
	client, server *Host
	c, s           net.Conn // client's and server's end
}

func newPair(t *testing.T, v6 bool) *pair {
	leak.Check(t)
	p := &pair{net: New(t)}
	p.client, p.server = p.net.Host("client1"), p.net.Host("db1")
	p.c, p.s = connect(t, p.client, p.server, v6, "7")
	return p
}

// connect makes a connection, and returns both ends.
func connect(t *testing.T, from, to *Host, v6 bool, port string) (c, s net.Conn) {
	t.Helper()
	addr := to.Addr4
	if v6 {
		addr = to.Addr6
	}
	l, err := to.Listen("tcp", net.JoinHostPort(addr.String(), port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if c, err = from.Dialer().DialTimeout("tcp", l.Addr().String(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if s, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c, s
}

// passes checks that bytes get from one end to the other.
func passes(t *testing.T, from, to net.Conn) {
	t.Helper()
	if _, err := from.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	arrives(t, to, 5)
}

func arrives(t *testing.T, at net.Conn, n int) {
	t.Helper()
	at.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(at, make([]byte, n)); err != nil {
		t.Fatalf("read: %v", err)
	}
}

// vanishes checks that what is written gets lost without a trace: no byte, FIN or RST reaches
// either end.
func vanishes(t *testing.T, from, to net.Conn) {
	t.Helper()
	if _, err := from.Write([]byte("lost.")); err != nil {
		t.Fatalf("write into silence: %v", err)
	}
	var group sync.WaitGroup
	for _, end := range []net.Conn{from, to} {
		group.Add(1)
		go func() {
			defer group.Done()
			quiet(t, end)
		}()
	}
	group.Wait()
}

func quiet(t *testing.T, at net.Conn) {
	t.Helper()
	at.SetReadDeadline(time.Now().Add(silence))
	if n, err := at.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes and error %v, want silence", n, err)
	}
}

func ends(t *testing.T, at net.Conn, want error) {
	t.Helper()
	// A kernel that has waited a second for its first SYN's answer sends again after three.
	at.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := at.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		t.Fatalf("got %d bytes and error %v, want %v", n, err, want)
	}
}

func bothFamilies(t *testing.T, test func(t *testing.T, p *pair)) {
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) { test(t, newPair(t, v6)) })
	}
}

func TestCut(t *testing.T) {
	bothFamilies(t, func(t *testing.T, p *pair) {
		passes(t, p.c, p.s)
		before := Now()
		f := p.net.Cut(p.client, p.server)
		if w := f.Applied; w.Before.Mono < before.Mono || w.After.Mono < w.Before.Mono || w.After.Mono > Monotonic() {
			t.Errorf("applied in %+v, which is not between %v and now", w, before)
		}
		vanishes(t, p.c, p.s)
		vanishes(t, p.s, p.c)
		f.Heal()
		arrives(t, p.s, 5) // TCP sends it again
		arrives(t, p.c, 5)
	})
}

// TCP itself sees a silence only by a timeout.
func TestCutEndsByUserTimeout(t *testing.T) {
	p := newPair(t, false)
	raw, err := p.c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500)
	})
	if err != nil {
		t.Fatal(err)
	}
	p.net.Cut(p.client, p.server)
	if _, err := p.c.Write([]byte("lost.")); err != nil {
		t.Fatal(err)
	}
	ends(t, p.c, syscall.ETIMEDOUT)
}

func TestOverlappingCuts(t *testing.T) {
	p := newPair(t, false)
	first, second := p.net.Cut(p.client, p.server), p.net.CutOneWay(p.client, p.server)
	w := first.Heal()
	vanishes(t, p.c, p.s)
	if again := first.Heal(); again != w {
		t.Errorf("a second Heal says %v, the first %v", again, w)
	}
	second.Heal()
	arrives(t, p.s, 5)
}

func TestCutOneWay(t *testing.T) {
	bothFamilies(t, func(t *testing.T, p *pair) {
		f := p.net.CutOneWay(p.client, p.server)
		passes(t, p.s, p.c)
		vanishes(t, p.c, p.s)
		f.Heal()
		arrives(t, p.s, 5)
	})
}

func TestIsolate(t *testing.T) {
	bothFamilies(t, func(t *testing.T, p *pair) {
		f := p.net.Isolate(p.server)
		other := p.net.Host("client2")
		vanishes(t, p.c, p.s)
		l, err := p.server.Listen("tcp", ":8")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = other.Dialer().DialTimeout("tcp", netip.AddrPortFrom(p.server.Addr4, 8).String(), silence)
		if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("dial to an isolated host: got %v, want a timeout", err)
		}
		c, s := connect(t, other, p.client, false, "9") // the others are not cut from each other
		passes(t, c, s)
		f.Heal()
		arrives(t, p.s, 5)
	})
}

func TestCutPort(t *testing.T) {
	bothFamilies(t, func(t *testing.T, p *pair) {
		other := AddrPort(p.s.LocalAddr()).Addr().Is6()
		c, s := connect(t, p.client, p.server, other, "70")
		f := p.net.CutPort(p.client, p.server, 7)
		vanishes(t, p.c, p.s)
		vanishes(t, p.s, p.c)
		passes(t, c, s)
		f.Heal()
		arrives(t, p.s, 5)
	})
}

func TestReset(t *testing.T) {
	bothFamilies(t, func(t *testing.T, p *pair) {
		c, s := connect(t, p.client, p.server, false, "70")
		p.net.Reset(p.client, p.server, 7)
		quiet(t, p.c) // it takes a packet
		if _, err := p.c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		ends(t, p.c, syscall.ECONNRESET)
		if _, err := p.s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		ends(t, p.s, syscall.ECONNRESET)
		passes(t, c, s)
		_, err := p.client.Dialer().DialTimeout("tcp", AddrPort(p.s.LocalAddr()).String(), 5*time.Second)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connect while connections are being reset: got %v, want ECONNREFUSED", err)
		}
	})
}

func TestLinkDownAndUpKeepsConnections(t *testing.T) {
	bothFamilies(t, func(t *testing.T, p *pair) {
		for _, h := range []*Host{p.client, p.server} {
			f := h.LinkDown()
			vanishes(t, p.c, p.s)
			vanishes(t, p.s, p.c)
			f.Heal()
			arrives(t, p.s, 5)
			arrives(t, p.c, 5)
		}
		p.client.LinkDown()
		p.client.LinkUp()
		passes(t, p.c, p.s)
	})
}

func TestLoss(t *testing.T) {
	p := newPair(t, false)
	const packets = 200 // what a socket's buffer holds
	in, out := udpPair(t, p, p.server.Addr4)
	count := func() (n int) {
		for range packets {
			if _, err := out.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		for over := 0; over < 2; { // one deadline may be over before the read begins
			in.SetReadDeadline(time.Now().Add(silence))
			if _, err := in.Read(make([]byte, 8)); err != nil {
				over++
			} else {
				n, over = n+1, 0
			}
		}
		return n
	}
	f := p.net.Loss(p.client, p.server, 50)
	// The odds of a binomial count outside of this range are below 1 to 10^9.
	if n := count(); n < packets/2-45 || n > packets/2+45 {
		t.Errorf("%d of %d packets arrived, want about half", n, packets)
	}
	f.Heal()
	if n := count(); n != packets {
		t.Errorf("%d of %d packets arrived after the end of the loss", n, packets)
	}
	f = p.net.Loss(p.server, p.client, 100)
	vanishes(t, p.c, p.s)
	f.Heal()
	arrives(t, p.s, 5)
}

func TestCommand(t *testing.T) {
	leak.Check(t)
	n := New(t)
	h := n.Host("db1")
	ctx := context.Background()
	out, err := h.Command(ctx, "ip", "-o", "addr").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(h.Addr4.String())) || !bytes.Contains(out, []byte(h.Addr6.String())) {
		t.Errorf("addresses inside the host: %v: %s", err, out)
	}
	if bytes.Contains(out, []byte("fe80:")) {
		t.Errorf("the host has a link-local address: %s", out)
	}
	cmd := h.CommandWith(ctx, Options{UID: 65534, GID: 65534, DeathSignal: syscall.SIGQUIT}, "id", "-u")
	if out, err = cmd.CombinedOutput(); err != nil || string(out) != "65534\n" {
		t.Errorf("id of the unprivileged user: %v: %q", err, out)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cmd = h.Command(cancelled, "sh", "-c", "sleep 1000 & sleep 1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, "both processes of the group", func() (bool, string) {
		return len(inhabitants([]*space{h.space})) == 3, ""
	})
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a cancelled command ended well")
	}
	testkit.Eventually(t, 5*time.Second, "end of the process group", func() (bool, string) {
		return len(inhabitants([]*space{h.space})) == 0, ""
	})
}

// The end of a net ends what runs in it, daemons included, and removes the namespaces.
func TestClose(t *testing.T) {
	leak.Check(t)
	var pidFile = filepath.Join(t.TempDir(), "pid")
	var name string
	t.Run("net", func(t *testing.T) {
		n := New(t)
		name = n.name
		h := n.Host("db1")
		if err := h.Command(context.Background(), "setsid", "-f", "sh", "-c",
			"echo $$ >"+pidFile+"; exec sleep 1000 >&- 2>&-").Run(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 5*time.Second, "the daemon's start", func() (bool, string) {
			b, _ := os.ReadFile(pidFile)
			return bytes.HasSuffix(b, []byte("\n")), ""
		})
	})
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, "the daemon's end", func() (bool, string) {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(b)) + "/stat")
		return err != nil || bytes.Contains(stat, []byte(") Z ")), string(stat) // its new parent may be slow to reap it
	})
	if left, _ := filepath.Glob(netnsDir + "/" + name + "-*"); len(left) != 0 {
		t.Errorf("namespaces %v are still there", left)
	}
}

func TestRemoveStale(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	name := namePrefix + strconv.Itoa(cmd.Process.Pid) + "-1-switch"
	if err := ip("netns add " + name); err != nil {
		t.Fatal(err)
	}
	New(t)
	if _, err := os.Stat(filepath.Join(netnsDir, name)); !os.IsNotExist(err) {
		t.Errorf("the namespace of a dead process is still there: %v", err)
	}
}

func TestDialerRefusesNames(t *testing.T) {
	n := New(t)
	if _, err := n.Host("client1").Dialer().Dial("tcp", "localhost:1"); err == nil ||
		!strings.Contains(err.Error(), "want an IP address") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// TestJitter: packets arrive late, in their order, and none is lost; afterwards in no time.
func TestJitter(t *testing.T) {
	p := newPair(t, false)
	const most = 100 * time.Millisecond
	for _, to := range []netip.Addr{p.server.Addr4, p.server.Addr6} {
		in, out := udpPair(t, p, to)
		slowest := func(packets int) (slowest time.Duration) {
			for i := range packets {
				begin := time.Now()
				if _, err := out.Write([]byte{byte(i)}); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 8)
				in.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := in.Read(b); err != nil || b[0] != byte(i) {
					t.Fatalf("packet %d: %v %v", i, b[0], err)
				}
				slowest = max(slowest, time.Since(begin))
			}
			return slowest
		}
		f := p.net.Jitter(p.client, p.server, most)
		if d := slowest(30); d < most/2 { // the odds are 1 to 10^9
			t.Errorf("%v: no packet was delayed by more than %v", to, d)
		}
		for i := range 20 { // at once: they wait for each other
			if _, err := out.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 20 {
			b := make([]byte, 8)
			in.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := in.Read(b); err != nil || b[0] != byte(i) {
				t.Fatalf("%v: got packet %d in place of %d: %v", to, b[0], i, err)
			}
		}
		f.Heal()
		stalls := testkit.WatchStalls()
		d, stall := slowest(30), stalls.Longest()
		if d > most/2 && stall < most/10 {
			t.Errorf("%v: a packet was delayed by %v after the end", to, d)
		}
	}
}

// udpPair is a socket of the server, and one of the client that is connected to it.
func udpPair(t *testing.T, p *pair, to netip.Addr) (in *net.UDPConn, out net.Conn) {
	t.Helper()
	err := p.server.Do(func() error {
		pc, err := net.ListenPacket("udp", netip.AddrPortFrom(to, 7).String())
		if err == nil {
			in = pc.(*net.UDPConn)
			out, err = p.client.Dialer().Dial("udp", pc.LocalAddr().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close() })
	return in, out
}
