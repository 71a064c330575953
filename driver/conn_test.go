package driver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// instance is a server that accepts, answers "ping" with "pong", and is silent otherwise.
type instance struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newInstance(t *testing.T) *instance {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &instance{Listener: l}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, nc)
			s.mu.Unlock()
			s.wg.Add(1)
			go func() {
				defer s.wg.Done()
				defer nc.Close() // also one that was accepted while the others were closed
				b := make([]byte, 4)
				for {
					if _, err := io.ReadFull(nc, b); err != nil {
						return
					}
					if string(b) == "ping" {
						nc.Write([]byte("pong"))
					}
				}
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, nc := range s.conns {
			nc.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *instance) row(number int, attributes heartbeat.Attributes) scripted.Instance {
	a := s.Addr().(*net.TCPAddr)
	return scripted.Instance{Number: number, Host: fmt.Sprintf("db%d", number), HostAddr: a.IP.String(), Port: a.Port,
		Attributes: attributes}
}

func dialer(t *testing.T, connString string) *driver.Dialer {
	t.Helper()
	c, err := driver.ParseConfig(connString)
	if err != nil {
		t.Fatal(err)
	}
	return &driver.Dialer{Config: c}
}

func dial(t *testing.T, connString string) *driver.Conn {
	t.Helper()
	c, err := dialer(t, connString).Dial(within(t))
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience)) // what should end by the loss ends by this otherwise
	t.Cleanup(func() { c.Close() })
	return c
}

func waitLost(t *testing.T, w *driver.Watch) {
	t.Helper()
	select {
	case <-w.Lost():
	case <-time.After(patience):
		t.Fatal("the loss was not told")
	}
}

func TestLossWakesReaders(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(3, scripted.Primary))
	const readers = 200
	type result struct {
		err error
		at  time.Time
	}
	results := make(chan result, readers)
	for range readers {
		c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
		if _, err := c.Write([]byte("wait")); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := c.Read(make([]byte, 1))
			results <- result{err, time.Now()}
		}()
	}
	verdict := time.Now()
	s.Lose(3)
	var last time.Duration
	for range readers {
		r := <-results
		last = max(last, r.at.Sub(verdict))
		var lost *driver.LostError
		var op *net.OpError
		if !errors.As(r.err, &lost) || !errors.As(r.err, &op) || lost.SafeToRetry() {
			t.Fatalf("got %v", r.err)
		}
		if lost.Instance != 3 || lost.Host != "db3" || lost.HostAddr != "127.0.0.1" || lost.SQLState != "57P01" ||
			lost.Since.Before(verdict) {
			t.Fatalf("got %+v", lost)
		}
	}
	t.Logf("%d blocked reads have returned within %v of the verdict", readers, last)
}

// The verdict comes while the instance is being connected to, and does not answer: a full backlog
// drops the SYN.
func TestLossEndsDial(t *testing.T) {
	leak.Check(t)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*syscall.SockaddrInet4).Port
	for full := false; !full; {
		nc, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if full = err != nil; !full {
			defer nc.Close()
		}
	}
	s := newConmgr(t, scripted.Instance{Number: 0, Host: "db0", HostAddr: "127.0.0.1", Port: port,
		Attributes: scripted.Primary})
	failed := make(chan error, 1)
	go func() {
		_, err := dialer(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port())).Dial(within(t))
		failed <- err
	}()
	testkit.Eventually(t, patience, "a SYN that nobody answers", func() (bool, string) {
		sockets, err := os.ReadFile("/proc/net/tcp") // st 02 is SYN_SENT
		return strings.Contains(string(sockets), fmt.Sprintf(":%04X 02 ", port)), fmt.Sprint(err)
	})
	s.Lose(0)
	var lost *driver.LostError
	select {
	case err := <-failed:
		if !errors.As(err, &lost) || !lost.SafeToRetry() || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience / 2):
		t.Error("it waits for an instance that is known to be lost")
	}
}

// A writer is blocked when the peer does not read.
func TestLossWakesWriters(t *testing.T) {
	leak.Check(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // its backlog accepts, nobody reads
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newConmgr(t, (&instance{Listener: l}).row(0, scripted.Primary))
	c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	failed := make(chan error, 1)
	filled := make(chan struct{})
	go func() {
		chunk := make([]byte, 1<<20)
		for { // until nothing more is taken for a while: the buffers are full
			c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			if n, err := c.Write(chunk); n == 0 && err != nil {
				break
			}
		}
		c.SetWriteDeadline(time.Now().Add(patience))
		close(filled)
		var err error
		for err == nil { // that nothing was taken may have been a stall of this machine
			_, err = c.Write(chunk)
		}
		failed <- err
	}()
	<-filled
	s.Lose(0)
	var lost *driver.LostError
	if err := <-failed; !errors.As(err, &lost) || lost.SafeToRetry() {
		t.Errorf("got %v", err)
	}
}

// What the kernel has received before the verdict is an answer; what is said afterwards was not
// sent.
func TestSafeToRetry(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(0, scripted.Primary))
	answered := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	waiting := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	answered.Write([]byte("ping"))
	b := make([]byte, 1)
	if n, err := answered.Read(b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	waiting.Write([]byte("wait"))
	if answered.Watch().Err() != nil {
		t.Error("lost before the verdict")
	}
	s.Lose(0)
	waitLost(t, answered.Watch())
	waitLost(t, waiting.Watch())
	rest, err := io.ReadAll(answered)
	if string(rest) != "ong" {
		t.Errorf("got %q after the verdict, want what had come before it", rest)
	}
	var lost *driver.LostError
	if !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
	for c, want := range map[*driver.Conn]bool{answered: true, waiting: false} {
		n, err := c.Write([]byte("ping"))
		if !errors.As(err, &lost) || n != 0 || lost.SafeToRetry() != want {
			t.Errorf("got %d, %v, safe to retry %v, want %v", n, err, lost.SafeToRetry(), want)
		}
	}
	if err := answered.Close(); err != nil {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(0, scripted.Primary))
	c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	again, err := c.Again(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.RemoteAddr().String() != db.Addr().String() {
		t.Errorf("again went to %s", again.RemoteAddr())
	}
	again.Close()
	if c.Watch().Err() != nil || s.Bound(0) != 1 {
		t.Error("the watch ended with a connection that does not own it")
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-c.Watch().Lost():
		t.Error("a close is no loss")
	default:
	}
	testkit.Eventually(t, patience, "conmgr's end of the connection",
		func() (bool, string) { return s.Connections() == 0, "" })
	if _, err := c.Again(within(t)); err == nil {
		t.Error("again after Close succeeded")
	}
}

// A cancel request that waits for a lost host is ended, too, and later ones are not begun.
func TestAgainEndsWithTheInstance(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(0, scripted.Primary))
	c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
	again, err := c.Again(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	again.SetDeadline(time.Now().Add(patience))
	failed := make(chan error, 1)
	go func() {
		_, err := again.Read(make([]byte, 1))
		failed <- err
	}()
	s.Lose(0)
	var lost *driver.LostError
	if err := <-failed; !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Again(within(t)); !errors.As(err, &lost) || !lost.SafeToRetry() {
		t.Errorf("got %v", err)
	}
}

// The verdict and a close may cross: neither waits for the other for ever.
func TestLossAndCloseCross(t *testing.T) {
	leak.Check(t)
	db := newInstance(t)
	s := newConmgr(t, db.row(0, scripted.Primary))
	for range 50 {
		c := dial(t, "host=127.0.0.1 port="+strconv.Itoa(s.Port()))
		var wg sync.WaitGroup
		wg.Add(2)
		go func() { defer wg.Done(); s.Lose(0) }()
		go func() { defer wg.Done(); c.Close() }()
		wg.Wait()
		s.Set(db.row(0, scripted.Primary))
	}
}
