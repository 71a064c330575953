package watchdog

// ASK: what is told to one who looks for what is wrong. It changes nothing: he is no conmgr, has no
// slot, and his end is nobody's. Called within Step; pure.

import (
	"net/netip"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// inquiry takes in an ASK. Where a HELLO would need a proof it needs one, too.
func (t *Table) inquiry(now Now, c *conn, f heartbeat.Frame) error {
	h, err := heartbeat.ParseAsk(f.Payload)
	if err != nil {
		return err
	}
	if asked, err := t.challenge(now, c, h, f); asked || err != nil {
		if asked {
			c.proving().asks = true
		}
		return err
	}
	t.tell(now, c, h, nil)
	return nil
}

// tell answers, and ends the connection. shake: he has proved his key.
func (t *Table) tell(now Now, c *conn, h heartbeat.Hello, shake *proof.Handshake) {
	told := heartbeat.Tell{Version: h.Version(), SystemIdentifier: t.server.SystemIdentifier,
		PostmasterStart: t.server.PostmasterStart, PostmasterPort: t.server.PostmasterPort, Attributes: t.settings.Attributes,
		Authentication: heartbeat.Authentication(t.settings.Access.mode()), Wall: int64(now.Wall),
		MinInterval: max(heartbeat.MinInterval, t.settings.Access.minInterval()), MaxTimeout: t.settings.MaxTimeout,
		MaxGrace: t.settings.MaxGrace, Conmgrs: uint32(len(t.peers)), Slots: uint32(t.store.Len()),
		Peer: netip.AddrPortFrom(c.addr, c.port)}
	if t.settings.TerminateOnClose {
		told.Flags |= heartbeat.TellTerminateOnClose
	}
	for _, p := range t.byHost[hostOf(c.addr)] {
		if p.State == Connected {
			told.Neighbours++
		}
	}
	if shake != nil {
		told.Flags |= heartbeat.TellProved
	}
	b := told.Append(t.bytes)
	if shake != nil {
		b = shake.SealWelcome(b, len(t.bytes))
	}
	t.pending.remove(c)
	t.send(c, b)
	t.finish(now, c)
}
