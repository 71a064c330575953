package worker

// Verdicts on real sockets: what the kernel holds is read before anybody is judged, that of others
// of the address too.

import (
	"testing"

	"golang.org/x/sys/unix"
)

// second is one more conmgr of a pair's reactor, and the other end of its connection.
func (x *pair) second(t *testing.T, id byte) (c *conn, peer int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	c = x.open(t, fds[0], 2)
	x.input(c, helloOf(id, 0, testInterval, testTimeout).Append(nil))
	if x.host.count("is established: conmgr host=192.0.2.1 port=2|") != 1 {
		t.Fatalf("the HELLO was refused: %s", x.host.log())
	}
	return c, fds[1]
}

// slotOf is the slot of a conmgr.
func (x *pair) slotOf(id byte) int {
	for i := range x.store.Len() {
		if x.store.Slot(i).ID[0] == id {
			return i
		}
	}
	return -1
}

// TestOthersAreReadBeforeAVerdict: one conmgr of an address is silent; that the other one lives is
// in the kernel, and unread. A turn in which nothing else was read must not end the sessions of
// their host.
func TestOthersAreReadBeforeAVerdict(t *testing.T) {
	x := newPairOf(t, unix.SOCK_STREAM, 2)
	c, peer := x.second(t, 2)
	x.r.handle(x.now, 0)
	if _, err := unix.Write(peer, beatFrame(1)); err != nil {
		t.Fatal(err)
	}
	x.turn(testTimeout.Milliseconds()) // whose own events were others: there are many connections
	if x.host.count("heartbeat is timed out: conmgr host=192.0.2.1 port=1|") != 1 ||
		x.host.count("heartbeat is timed out") != 1 {
		t.Errorf("the log:\n%s", x.host.log())
	}
	dead := x.store.Slot(x.slotOf(1)) // what carries its label ends
	if s := x.store.Slot(x.slotOf(2)); dead.Proved.Nth(0).Ended || c.finished || s.LastReceived != x.now {
		t.Errorf("the sessions are ended while a heartbeat is unread; the log:\n%s", x.host.log())
	}
}
