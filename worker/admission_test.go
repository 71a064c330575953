package worker

// Strangers at the port: what they may take, and what conmgrs get all the same. docs/protocol.md
// 1.6.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// TestNoHello: each gets its REFUSED and an orderly end, however much it has sent that nobody
// reads.
func TestNoHello(t *testing.T) {
	l := start(t, 4).listening()
	hello := helloOf(1, 0, time.Hour, time.Hour)
	with := func(change func(*heartbeat.Hello)) []byte {
		h := hello
		change(&h)
		return h.Append(nil)
	}
	rest := bytes.Repeat([]byte{0}, 60000)
	for _, c := range []struct {
		name  string
		bytes []byte
		code  heartbeat.RefusedCode
		text  string
	}{
		{"HTTP", append([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), rest...), heartbeat.RefusedMalformed, "the heartbeat port of watchdog"},
		{"two letters", []byte("GE"), heartbeat.RefusedMalformed, "not a HELLO"},
		{"TLS", append([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), rest...), heartbeat.RefusedMalformed, "not a HELLO"},
		{"PostgreSQL", append([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"), rest...), heartbeat.RefusedMalformed, "not a HELLO"},
		{"zeros", rest, heartbeat.RefusedMalformed, "not a HELLO"},
		{"BEAT first", append(beatFrame(1), rest...), heartbeat.RefusedMalformed, "not a HELLO"},
		{"a version of the future", append(with(func(h *heartbeat.Hello) { h.MinVersion, h.MaxVersion = 7, 9 }), rest...), heartbeat.RefusedVersion, "watchdog 1 to 2"},
		{"interval", with(func(h *heartbeat.Hello) { h.Interval = time.Millisecond }), heartbeat.RefusedSetting, "heartbeat_interval is 1 ms"},
		{"timeout", with(func(h *heartbeat.Hello) { h.Timeout = 0 }), heartbeat.RefusedSetting, "heartbeat_timeout is 0 ms"},
	} {
		r := l.dial()
		r.write(c.bytes)
		r.refused(c.code, c.text)
		r.conn.Close()
	}
	if strings.Contains(l.store.Slot(0).Addr().String(), "127") {
		t.Error("a slot was taken")
	}
	l.conmgr(2) // by now all is logged
	if n := l.host.count(" is refused: "); n != 9 {
		t.Errorf("%d refusals in the log", n)
	}
}

func TestTooSlow(t *testing.T) {
	l := start(t, 4).listening()
	silent, half := l.dial(), l.dial()
	half.write(helloOf(1, 0, time.Hour, time.Hour).Append(nil)[:50])
	good := l.conmgr(2) // by now both have been accepted
	l.pass(watchdog.HelloTime - time.Second)
	l.conmgr(3) // takes a turn of the reactor
	if l.host.count("refused") != 0 {
		t.Error("they were refused too early")
	}
	l.pass(time.Second)
	silent.refused(heartbeat.RefusedTooSlow, "no HELLO within 5s")
	half.refused(heartbeat.RefusedTooSlow, "no HELLO within 5s")
	good.write(beatFrame(1))
	l.slotOf(2, "still served", func(s fakeSlot) bool { return s.Slot.Received == 2 })
}

// TestRefusedButDoesNotLeave: lingering is bounded too.
func TestRefusedButDoesNotLeave(t *testing.T) {
	l := start(t, 4).listening()
	r := l.dial()
	r.write([]byte("hello"))
	r.expect(heartbeat.TypeRefused)
	l.pass(watchdog.LingerTime)
	testkit.Eventually(t, patience, "reset of a connection that stays", func() (bool, string) {
		_ = r.conn.SetWriteDeadline(time.Now().Add(patience))
		_, err := r.conn.Write(make([]byte, 1000))
		return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE), fmt.Sprint(err)
	})
}

// TestCrowdOfOneHost: a host that says nothing crowds out itself, and of its connections those that
// have said nothing for longest. A conmgr of the same host that says HELLO, slowly even, is served
// all the same, and so is one of another host.
func TestCrowdOfOneHost(t *testing.T) {
	l := start(t, 4).listening()
	var crowd []*remote
	for range watchdog.MaxPending {
		crowd = append(crowd, l.dialFrom("127.0.0.9"))
	}
	hello := helloOf(1, 0, time.Hour, time.Hour).Append(nil)
	slow := l.dialFrom("127.0.0.9")
	crowd[0].gone()
	l.logged("LOG|heartbeat connection from host=127.0.0.9 port=")
	l.logged("it has not said HELLO, and there are too many of these")
	slow.write(hello[:20])
	for i := 1; i < 40; i++ {
		crowd = append(crowd, l.dialFrom("127.0.0.9"))
		crowd[i].gone()
	}
	other := l.dialFrom("127.0.0.10")
	slow.write(hello[20:])
	slow.expect(heartbeat.TypeWelcome)
	other.greet(helloOf(2, 0, time.Hour, time.Hour))
	crowd[60].write([]byte("GET ")) // it is still there
	crowd[60].refused(heartbeat.RefusedMalformed, "")
}

// isOpen looks whether the end of the connection has come; no deadline does, as it may be over before
// the read.
func (r *remote) isOpen() (open bool) {
	r.t.Helper()
	raw, err := r.conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			open = err == unix.EAGAIN
		})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return open
}

// TestCrowdOfManyHosts: 300 connections of many hosts say nothing, eight each; one that has one of
// them does not lose it.
func TestCrowdOfManyHosts(t *testing.T) {
	l := start(t, 4).listening()
	lone := l.dialFrom("127.0.2.1")
	var crowd []*remote
	for i := range 300 {
		crowd = append(crowd, l.dialFrom(fmt.Sprintf("127.0.1.%d", 1+i/8)))
	}
	c := l.conmgr(1)
	lone.greet(helloOf(2, 0, time.Hour, time.Hour))
	left := 0
	for _, r := range crowd {
		if r.isOpen() {
			left++
		}
	}
	// The conmgr has taken a place for the moment of its connect, unless its HELLO was there at
	// once.
	if left != watchdog.MaxPending-1 && left != watchdog.MaxPending-2 {
		t.Errorf("%d of the crowd are left, want %d", left, watchdog.MaxPending-1)
	}
	c.write(beatFrame(1))
	l.slotOf(1, "served", func(s fakeSlot) bool { return s.State == watchdog.Connected && s.Slot.Received == 2 })
}

// TestManyAtOnce: a group of conmgrs behind one address connects at once, beside mute connections
// of the same address; no HELLO is there before the last of them has connected. Nobody is turned
// away.
func TestManyAtOnce(t *testing.T) {
	l := start(t, 60).listening()
	var mute, group []*remote
	for range 40 {
		mute = append(mute, l.dialFrom("127.0.0.9"))
	}
	for range 40 {
		group = append(group, l.dialFrom("127.0.0.9"))
	}
	l.dialFrom("127.0.0.10").greet(helloOf(99, 0, time.Hour, time.Hour)) // by now all have been accepted
	for i, r := range group {
		r.greet(helloOf(byte(i), 0, time.Hour, time.Hour))
	}
	_ = mute
}

const emfileVar = "WATCHDOG_TEST_EMFILE"

// TestOutOfDescriptors: in a process of its own, as it takes all descriptors.
func TestOutOfDescriptors(t *testing.T) {
	if os.Getenv(emfileVar) != "" {
		outOfDescriptors(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestOutOfDescriptors$", "-test.v")
	cmd.Env = append(os.Environ(), emfileVar+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(3*patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	defer func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process with few descriptors: %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	await := func(prefix string) string {
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				return rest
			}
			t.Log(lines.Text())
		}
		t.Fatalf("the process ended before %q", prefix)
		return ""
	}
	l := &live{t: t}
	if _, err := fmt.Sscan(await("port "), &l.port); err != nil {
		t.Fatal(err)
	}
	var crowd []*remote
	for i := range 8 { // the kernel accepts them all, the reactor has descriptors for four
		crowd = append(crowd, l.dialFrom(fmt.Sprintf("127.0.1.%d", 1+i)))
	}
	await("exhausted")
	for _, r := range crowd {
		r.conn.Close()
	}
	l.conmgr(1)
	fmt.Fprintln(in, "done")
	if got := await("complaints "); got != "1" {
		t.Errorf("%s complaints in the log, want 1", got)
	}
	for lines.Scan() {
		t.Log(lines.Text())
	}
}

func outOfDescriptors(t *testing.T) {
	l := start(t, 4).listening()
	probe, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(probe)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(probe + 4), Max: uint64(probe + 4)}); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("port %d\n", l.port)
	const complaint = "WARNING|could not accept heartbeat connection: too many open files||Raise the limit of open files"
	l.logged(complaint)
	// Some pauses later it has not been said again, and the reactor does not spin.
	begin := l.clock()
	testkit.Eventually(t, patience, "three pauses", func() (bool, string) { return l.clock().Mono.Sub(begin.Mono) > 3*acceptPause, "" })
	fmt.Println("exhausted")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil && err != io.EOF {
		t.Error(err)
	}
	fmt.Printf("complaints %d\n", l.host.count(complaint))
}

// TestAllowedBlank: a list of nothing but blanks is empty here as it is to the server that has
// checked it.
func TestAllowedBlank(t *testing.T) {
	r := &Reactor{host: newFakeHost()}
	if a := r.inForce(loadedAccess{Access: Access{AllowedAddresses: " \t"}}); a.Allowed != nil {
		t.Error(a.Allowed)
	}
	if a := r.inForce(loadedAccess{Access: Access{AllowedAddresses: "192.0.2.0/24"}}); len(a.Allowed) != 1 {
		t.Error(a.Allowed)
	}
}
