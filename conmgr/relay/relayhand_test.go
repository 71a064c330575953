package relay

// What a loop gives up goes on in another one: nothing that is under way is lost.

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// connected is a connection: a socket of a loop's, and the end that the test has.
func connected(t *testing.T) (fd int, conn *net.TCPConn) {
	t.Helper()
	conn, other := testkit.Connection(t)
	t.Cleanup(func() { conn.Close() })
	fd, err := detach(other)
	if err != nil {
		t.Fatal(err)
	}
	return fd, conn
}

func TestLoopIsFollowed(t *testing.T) {
	for _, size := range []int{100, BufferSize, 24 << 20} { // less than a buffer, a buffer, and more than sockets and pipes hold
		a, client := connected(t)
		b, server := connected(t)
		first, err := newLoop()
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); first.run() }()
		first.add(a, b, func() { t.Error("it was closed") })
		sent := make([]byte, size)
		for i := range sent {
			sent[i] = byte(i * 7 / 3)
		}
		server.Write([]byte("hello"))
		client.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		go func() { // the server takes nothing yet
			client.Write(sent)
			client.CloseWrite()
		}()
		testkit.Eventually(t, 10*time.Second, "the loop has something", func() (bool, string) {
			raw, err := server.SyscallConn()
			n := 0
			if err == nil {
				raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
			}
			return n >= min(size, BufferSize), ""
		})
		flows := first.leave()
		<-ended
		if len(flows) != 1 {
			t.Fatalf("%d flows", len(flows))
		}
		next, err := newLoop()
		if err != nil {
			t.Fatal(err)
		}
		done, over := make(chan struct{}), make(chan struct{})
		go func() { defer close(over); next.run() }()
		f := newFlow(flows[0].client.fd, flows[0].server.fd, func() { close(done) })
		f.client.rest, f.server.rest, f.heard = flows[0].client.rest, flows[0].server.rest, flows[0].heard
		next.put(f)
		server.SetDeadline(time.Now().Add(10 * time.Second))
		if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d, or others: %v", len(got), size, err)
		}
		server.Write([]byte("answer"))
		server.Close()
		client.SetDeadline(time.Now().Add(10 * time.Second))
		if got, err := io.ReadAll(client); err != nil || string(got) != "answer" {
			t.Errorf("%q: %v", got, err)
		}
		<-done
		next.quit()
		<-over
	}
}
