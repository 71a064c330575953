package conmgr

// Tests of what was relayed by the process before, and of what its instances turn out to be.

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// handed is a connection: the end that the process before has left, and the test's.
func handed(t *testing.T) (fd int, conn *net.TCPConn) {
	t.Helper()
	conn, other := testkit.Connection(t)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	defer other.Close()
	fd, err := netio.Hand(other)
	if err != nil {
		t.Fatal(err)
	}
	return fd, conn
}

// adopted is a connection that the process before has relayed to instance 0.
func (r *rig) adopted() (client, server *net.TCPConn) {
	r.t.Helper()
	c, client := handed(r.t)
	s, server := handed(r.t)
	e := &r.conf.Instances[0]
	r.d.relays.Adopt(&handover.Record{
		Epochs:  []handover.Epoch{{Name: e.Name(), Port: e.Port, SystemIdentifier: 7, PostmasterStart: 1}},
		Relayed: []handover.Relayed{{Client: c, Server: s, Attribute: "primary"}}})
	return client, server
}

// Another entry of the same server serves now: what was relayed goes on, and ends with that one.
func TestRelayedBeforeByAnotherEntry(t *testing.T) {
	r := static(t, "relay_port_primary = 1\n", primary, primary)
	again := up(primary)
	again.State = hb.Duplicate
	r.d.board.Post(0, again, nil)
	r.waitState(0, hb.Duplicate)
	client, server := r.adopted()
	apps := r.connect()
	eventually(t, "it is bound to the entry that serves", func() bool {
		return strings.Contains(apps.query("show applications"), ",primary,1,")
	})
	server.Write([]byte("goes on"))
	expect(t, client, []byte("goes on"))
	r.lose(1)
	if _, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the loss: %v", err)
	}
}

// Another server is there: what was relayed is reset, or, with notify_loss = off, only reported.
func TestRelayedBeforeToAnotherServer(t *testing.T) {
	const why = "instance 0 (host \"127.0.0.1\""
	for _, notify := range []string{"on", "off"} {
		r := static(t, "relay_port_primary = 1\nnotify_loss = "+notify+"\n", primary)
		other := up(primary)
		other.PostmasterStart = 2
		r.d.board.Post(0, other, nil)
		r.published("the server was restarted", func() bool { return r.entry(0).PostmasterStart == 2 })
		client, server := r.adopted()
		if notify == "off" {
			eventually(t, "it is reported", func() bool { return r.log.count("would have told 0 application connections of the loss of "+why) == 1 })
			server.Write([]byte("goes on"))
			expect(t, client, []byte("goes on"))
			continue
		}
		if _, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
		eventually(t, "the log tells why", func() bool {
			return r.log.count(why+") is lost: the server was restarted: 1 relayed connections of before the restart are reset") == 1
		})
	}
}
