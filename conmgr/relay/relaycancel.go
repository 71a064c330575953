package relay

// CancelRequests that come by a relay port. The request names a session by process id and secret,
// and says nothing of the instance that has given them out; so it goes to every instance to which
// relayed connections of this port are bound at this time, mostly one. An instance to which the key
// means nothing ignores it. Each request has a goroutine an instance, which blocks at most for
// heartbeat_connect_timeout.

import (
	"context"
	"io"
	"net/netip"
	"sync"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
)

// cancel delivers the request, and returns when all instances have closed their connection: the
// client takes that for the end of the matter.
func (c *relayed) cancel(request []byte) {
	ctx, stop := context.WithTimeout(context.Background(), c.relays.conf.Load().ConnectTimeout)
	defer stop()
	if !c.phase(stop) {
		return
	}
	// Who closes his connection has given up; who has only said all that he has to say waits for
	// the end.
	defer c.watch(true, stop)()
	t := c.relays.board.Table.Load()
	var wg sync.WaitGroup
	for _, i := range c.relays.registry.RelayedTo(string(c.port.Attribute)) {
		e := &t.Entries[i]
		wg.Add(1)
		c.relays.group.Go("cancel request", func() {
			defer wg.Done()
			err := deliver(ctx, netip.AddrPortFrom(e.Address(), uint16(e.Config.Port)), request)
			switch {
			case err != nil && ctx.Err() == context.Canceled:
				c.relays.events.Emit(event.CancelGivenUp{Client: c.Client(), Instance: event.Of(e.Config)})
			case err != nil:
				c.relays.events.Emit(event.CancelFailed{Instance: event.Of(e.Config), Why: netio.Text(err)})
			}
		})
	}
	wg.Wait()
}

func deliver(ctx context.Context, to netip.AddrPort, request []byte) error {
	conn, err := netio.Dial(ctx, netip.Addr{}, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetLinger(0) // what is on its way when the client has given up does not arrive later
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(netio.LongPast) })
	defer stop()
	if _, err := conn.Write(request); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	if err == nil {
		conn.SetLinger(-1) // the instance has ended
	}
	return err
}
