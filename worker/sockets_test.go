package worker

// Single steps of the reactor on a pair of sockets, without its loop: what a full socket, unread
// input and a beat cost.

import (
	"bytes"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// pair is a reactor that does not run, one conmgr of it, and the other end of that connection.
type pair struct {
	r     *Reactor
	c     *conn
	peer  int
	host  *fakeHost
	store *fakeStore
	now   watchdog.Now
}

func newPair(t testing.TB) *pair { t.Helper(); return newPairOf(t, unix.SOCK_STREAM, 1) }

func newPairOf(t testing.TB, kind, slots int) *pair {
	t.Helper()
	leak.Check(t)
	x := &pair{host: newFakeHost(), store: newFakeStore(slots), now: at(0)}
	var err error
	if x.host.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	if x.r, err = NewReactor(Config{}, x.host, x.store, func() watchdog.Now { return x.now }); err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	x.peer = fds[1]
	_ = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
	x.c = x.open(t, fds[0], 1)
	x.input(x.c, helloOf(1, 0, testInterval, testTimeout).Append(nil))
	if x.host.count("is established: conmgr host=192.0.2.1 port=1|") != 1 {
		t.Fatalf("the HELLO was refused: %s", x.host.log())
	}
	t.Cleanup(func() {
		x.r.close()
		unix.Close(x.peer)
		unix.Close(x.host.wakeFD)
	})
	return x
}

// open makes the reactor accept a socket from a port of addrA.
func (x *pair) open(t testing.TB, fd int, port uint16) *conn {
	t.Helper()
	c := &conn{fd: fd}
	x.r.insert(c)
	if err := x.r.watch(c.fd, c.index, x.r.serials[c.index]); err != nil {
		t.Fatal(err)
	}
	x.r.step(x.now, watchdog.Event{Kind: watchdog.Opened, Conn: watchdog.Conn(c.index),
		From: netip.AddrPortFrom(addrA, port)})
	return c
}

// input is what a read would bring.
func (x *pair) input(c *conn, b []byte) {
	x.r.step(x.now, watchdog.Event{Kind: watchdog.Bytes, Conn: watchdog.Conn(c.index), Data: b})
}

// turn is what the reactor does when it is a time, and nothing has come in.
func (x *pair) turn(ms int64) {
	x.now = at(ms)
	x.r.caughtUp = false
	x.r.fire(x.now)
}

// beat is a BEAT before its time.
func (x *pair) beat() {
	x.host.setAttributes(heartbeat.Attributes{Timeline: x.host.Attributes().Timeline + 1})
	x.r.refresh(x.now)
	x.r.fire(x.now)
}

// drain reads all that the peer has been sent.
func (x *pair) drain() (all []byte) {
	var buf [64 << 10]byte
	for {
		n, err := unix.Read(x.peer, buf[:])
		if n <= 0 || err != nil {
			return all
		}
		all = append(all, buf[:n]...)
	}
}

// fill sends until the socket takes no more.
func (x *pair) fill(t *testing.T) {
	t.Helper()
	for range 100000 {
		if len(x.c.out) > 0 {
			return
		}
		x.beat()
	}
	t.Fatal("the socket takes everything")
}

// types splits a stream into frames; rest are the bytes of an incomplete one.
func types(t *testing.T, b []byte) (all []heartbeat.Type, rest []byte) {
	t.Helper()
	for {
		f, n, err := heartbeat.Next(b)
		if err != nil {
			t.Fatalf("after %d frames: %v", len(all), err)
		}
		if n == 0 {
			return all, b
		}
		all, b = append(all, f.Type), b[n:]
	}
}

// TestPeerThatDoesNotRead costs one frame of memory, and gets a stream that is whole when it reads
// again.
func TestPeerThatDoesNotRead(t *testing.T) {
	x := newPair(t)
	x.fill(t)
	for i := range 100000 {
		x.beat()
		if len(x.c.out) > heartbeat.MaxFrame || cap(x.c.out) > heartbeat.MaxFrame {
			t.Fatalf("after %d BEATs %d bytes wait to be sent", i, len(x.c.out))
		}
	}
	sent := x.drain()
	x.r.flush(x.now, x.c)
	if len(x.c.out) != 0 {
		t.Error("something is left though the socket takes it")
	}
	x.beat()
	frames, rest := types(t, append(sent, x.drain()...))
	if len(rest) != 0 || frames[0] != heartbeat.TypeWelcome || frames[len(frames)-1] != heartbeat.TypeBeat {
		t.Errorf("%d frames, %d bytes left over", len(frames), len(rest))
	}
}

// TestNothingIsSentIntoTheMiddleOfAFrame, whatever the reason for the next one.
func TestNothingIsSentIntoTheMiddleOfAFrame(t *testing.T) {
	// A socket that has taken a part of a frame. Unix sockets take all of a small frame or nothing,
	// so that it is made here.
	half := func(t *testing.T, x *pair) {
		t.Helper()
		x.drain()
		frame := heartbeat.WatchdogBeat{Sequence: 9}.Append(nil, 1)
		if n, err := unix.Write(x.c.fd, frame[:5]); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		x.c.out = append(x.c.out, frame[5:]...)
		x.r.step(x.now, watchdog.Event{Kind: watchdog.Blocked, Conn: watchdog.Conn(x.c.index)})
	}
	for name, next := range map[string]func(x *pair){
		"REFUSED":             func(x *pair) { x.input(x.c, []byte{0, 4, 77, 0}) },
		"GOODBYE 16":          func(x *pair) { x.r.goodbye(StopServer) },
		"GOODBYE 17":          func(x *pair) { x.turn(3000) },
		"WELCOME, then flush": func(x *pair) { x.r.send(x.c, heartbeat.Welcome{Version: 1}.Append(nil)); x.r.flush(x.now, x.c) },
	} {
		t.Run(name, func(t *testing.T) {
			x := newPair(t)
			half(t, x)
			next(x)
			got := x.drain()
			want := heartbeat.WatchdogBeat{Sequence: 9}.Append(nil, 1)
			if n := min(len(got), len(want)); !bytes.Equal(got[:n], want[:n]) {
				t.Errorf("the peer gets %x, which does not begin with the BEAT %x", got, want)
			}
		})
	}
}

// TestReadsBeforeItJudges: the kernel holds a frame when the deadline comes.
func TestReadsBeforeItJudges(t *testing.T) {
	x := newPair(t)
	if _, err := unix.Write(x.peer, beatFrame(1)); err != nil {
		t.Fatal(err)
	}
	x.turn(3000)
	if s := x.store.Slot(0); s.State != watchdog.Connected || s.LastReceived != at(3000) {
		t.Errorf("slot %+v: %s", s, x.host.log())
	}
	if _, err := unix.Write(x.peer, heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	x.turn(6000)
	if x.host.count("remote node shuts down") != 1 || x.host.count("timed out") != 0 {
		t.Errorf("the log:\n%s", x.host.log())
	}
}

// TestFloodDoesNotHoldUpTheGoodbye: what is read before the end is bounded. A packet socket gives
// one BEAT a read.
func TestFloodDoesNotHoldUpTheGoodbye(t *testing.T) {
	x := newPairOf(t, unix.SOCK_SEQPACKET, 1)
	x.drain()
	const sent = 2 * drainPerVisit
	for i := range uint32(sent) {
		if _, err := unix.Write(x.peer, beatFrame(i)); err != nil {
			t.Fatal(err)
		}
	}
	x.r.goodbye(StopServer)
	left := 0
	for {
		if n, err := unix.Read(x.c.fd, make([]byte, 64)); n <= 0 || err != nil {
			break
		}
		left++
	}
	if left != sent-drainPerVisit {
		t.Errorf("%d of %d were left unread", left, sent)
	}
	if frames, _ := types(t, x.drain()); len(frames) != 1 || frames[0] != heartbeat.TypeGoodbye {
		t.Errorf("the peer gets %v", frames)
	}
}

// TestRefusedSeesTheEndAtOnce, while our side still takes in what it sends: neither has to wait for
// the other.
func TestRefusedSeesTheEndAtOnce(t *testing.T) {
	x := newPair(t)
	x.drain()
	x.input(x.c, []byte{0, 4, 77, 0})
	if frames, rest := types(t, x.drain()); len(frames) != 1 || frames[0] != heartbeat.TypeRefused || len(rest) != 0 {
		t.Errorf("the peer gets %v", frames)
	}
	if n, err := unix.Read(x.peer, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("the peer does not see the end: %d, %v", n, err)
	}
	if _, err := unix.Write(x.peer, []byte("more")); err != nil || x.c.fd < 0 || !x.c.finished {
		t.Errorf("it is cut off before it could read: %v", err)
	}
}

// TestStaleEvent: a connection ended earlier in the same turn, and another one has its place.
func TestStaleEvent(t *testing.T) {
	x := newPair(t)
	stale := unix.EpollEvent{Events: unix.EPOLLIN, Fd: x.c.index, Pad: x.r.serials[x.c.index]}
	x.r.ended(x.now, x.c, watchdog.Finished, "the connection was closed")
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	next := x.open(t, fds[0], 2)
	if next.index != stale.Fd {
		t.Fatalf("it has place %d, not %d", next.index, stale.Fd)
	}
	if _, err := unix.Write(fds[1], []byte("GET ")); err != nil {
		t.Fatal(err)
	}
	x.r.events[0] = stale
	x.r.handle(x.now, 1)
	if next.finished || next.fd < 0 {
		t.Error("it was served by the event of the one before it")
	}
	stale.Pad = x.r.serials[next.index]
	x.r.events[0] = stale
	x.r.handle(x.now, 1)
	if !next.finished {
		t.Error("its own event did nothing")
	}
}

// roundTrip is what a connection costs each interval: a BEAT in, a BEAT out, both timers.
func (x *pair) roundTrip(frame []byte, scratch []byte) {
	_, _ = unix.Write(x.peer, frame)
	x.now.Mono = x.now.Mono.Add(testInterval)
	x.now.Wall = x.now.Wall.Add(testInterval)
	x.r.read(x.now, x.c)
	x.r.fire(x.now)
	_, _ = unix.Read(x.peer, scratch)
}

func TestBeatsDoNotAllocate(t *testing.T) {
	x := newPair(t)
	x.drain()
	frame, scratch := beatFrame(1), make([]byte, 4096)
	if n := testing.AllocsPerRun(1000, func() { x.roundTrip(frame, scratch) }); n != 0 {
		t.Errorf("a BEAT each way allocates %v times", n)
	}
	if s := x.store.Slot(0); s.State != watchdog.Connected || s.Slot.Received < 1000 || s.Slot.Sent < 1000 {
		t.Errorf("that was no exchange: %s", x.host.log())
	}
}

func BenchmarkBeat(b *testing.B) {
	x := newPair(b)
	x.drain()
	frame, scratch := beatFrame(1), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		x.roundTrip(frame, scratch)
	}
}

func TestWaitRoundsUp(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want int
	}{
		{-5, 0}, {0, 0}, {1, 1}, {time.Millisecond, 1}, {time.Millisecond + 1, 2},
	} {
		if got := milliseconds(c.d); got != c.want {
			t.Errorf("%v: %d ms, want %d", c.d, got, c.want)
		}
	}
	const now = heartbeat.Mono(10_300_000)
	for _, c := range []struct {
		until heartbeat.Mono
		want  time.Duration
	}{
		{watchdog.Never, 0}, {now - 1, 700_000}, {0, 1}, {now, 700_000}, {now + 1, 700_000}, {11_000_000, 700_000}, {11_000_001, 1_700_000},
	} {
		if got := delay(now, c.until); got != c.want {
			t.Errorf("until %d: %v, want %v", c.until, got, c.want)
		}
	}
}

// TestMemoryIsGivenBack: once many connections have come, and no more do.
func TestMemoryIsGivenBack(t *testing.T) {
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	l := start(t, 4).listening()
	before := collections()
	for range tidyMany {
		l.dial().conn.Close()
	}
	testkit.Eventually(t, patience, "a collection", func() (bool, string) {
		l.pass(tidyPause)
		return collections() > before, l.host.log()
	})
}
