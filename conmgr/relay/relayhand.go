package relay

// What is relayed goes on over a restart: a process leaves its connections to the program that it
// becomes, which goes on with them, as long as their instances turn out to be what they were; those
// that wait for an instance wait on there. Leave is called by the main goroutine, which waits for
// connections in their startup and for the loops; Adopt by the main goroutine as well, which then
// blocks on nothing.

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
)

// Settle waits until all connections are a loop's, at most for the given time; those that wait for an
// instance are to go on with that in the next process. No new one may come.
func (s *Relays) Settle(most time.Duration) {
	close(s.leaving)
	settled := make(chan struct{})
	s.group.Go("relayed connections", func() {
		s.starting.Wait()
		close(settled)
	})
	limit := time.NewTimer(most)
	defer limit.Stop()
	select {
	case <-settled:
	case <-limit.C:
	}
}

// Leave ends the loops, and adds what they carried, and which instances are there, to a record.
func (s *Relays) Leave(r *handover.Record) {
	epochs := map[int]int{}
	t := s.board.Table.Load()
	epoch := func(i int) int {
		n, known := epochs[i]
		if !known {
			n = len(r.Epochs)
			epochs[i] = n
			r.Epochs = append(r.Epochs, epochOf(&t.Entries[i]))
		}
		return n
	}
	for i := range t.Entries {
		if t.Entries[i].Established() {
			epoch(i)
		}
	}
	for _, l := range s.loops {
		for _, f := range l.leave() {
			i := s.registry.TargetOf(f.of)
			if i < 0 { // its instance was lost just now
				l.drop(&f.client, true)
				l.drop(&f.server, true)
				continue
			}
			r.Relayed = append(r.Relayed, handover.Relayed{Client: f.client.fd, Server: f.server.fd, FromClient: f.client.rest,
				FromServer: f.server.rest, Heard: f.heard, Attribute: string(f.of.port.Attribute), Since: f.of.Since, Epoch: epoch(i)})
		}
	}
	s.loops = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.waiting, func(a, b handover.Waiting) int { return a.Since.Compare(b.Since) })
	r.Waiting, s.waiting = s.waiting, nil
}

// waitElsewhere leaves a connection to the next process.
func (c *relayed) waitElsewhere() {
	fd, err := detach(c.conn)
	if err != nil {
		return
	}
	s := c.relays
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, handover.Waiting{Client: fd, First: c.first, Attribute: string(c.port.Attribute), Since: c.Since, Until: c.until})
}

// waitOn goes on with one.
func (s *Relays) waitOn(h handover.Waiting) {
	conn, err := netio.Take(h.Client)
	if err != nil {
		return
	}
	tcp, is := conn.(*net.TCPConn)
	if !is { // no relay port's
		_ = conn.Close()
		return
	}
	c := &relayed{relays: s, port: conf.RelayPort{Attribute: cm.Attribute(h.Attribute)}, conn: tcp, first: h.First, until: h.Until,
		Seat: listen.SeatOf(tcp)}
	c.Relay, c.Since = true, h.Since
	if len(s.loops) == 0 { // there is no relay port any more
		_ = tcp.Close()
		return
	}
	s.begin(c)
}

func epochOf(e *bind.Entry) handover.Epoch {
	return handover.Epoch{Name: e.Config.Name(), Port: e.Config.Port, SystemIdentifier: e.SystemIdentifier,
		PostmasterStart: e.PostmasterStart, KnownSince: e.KnownSince, Generation: e.Generation}
}

// leave ends the loop, and returns what it has carried, with open sockets.
func (l *loop) leave() []*flow {
	flows := make(chan []*flow, 1)
	if !l.post(func() { l.leaving = flows }) {
		return nil
	}
	return <-flows
}

// surrender gives up all flows.
func (l *loop) surrender() (all []*flow) {
	for f := range l.live {
		for _, e := range []*end{&f.client, &f.server} {
			if !e.unpipe(l) {
				l.close(f, true)
				break
			}
		}
		if !f.closed {
			all = append(all, f)
		}
	}
	clear(l.live)
	clear(l.ends)
	return all
}

// unpipe takes what is in the pipe out of it.
func (e *end) unpipe(l *loop) bool {
	p := e.pipe
	if p == nil {
		return true
	}
	e.rest = make([]byte, 0, p.held)
	for p.held > 0 {
		n, err := unix.Read(p.r, e.rest[len(e.rest):cap(e.rest)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			return false
		}
		e.rest = e.rest[:len(e.rest)+n]
		p.held -= n
	}
	e.pipe = nil
	l.idle = append(l.idle, p)
	return true
}

// Ready waits until the instances that were there before are there again, at most for the given
// time, or until it is enough: whoever is let in finds them.
func (s *Relays) Ready(epochs []handover.Epoch, most time.Duration, enough <-chan struct{}) {
	ticker, limit := time.NewTicker(lookEvery/10), time.NewTimer(most)
	defer ticker.Stop()
	defer limit.Stop()
	for {
		t := s.board.Table.Load()
		if !slices.ContainsFunc(epochs, func(e handover.Epoch) bool {
			i := s.entryOf(&e)
			return i >= 0 && !t.Entries[i].Connected()
		}) {
			return
		}
		select {
		case <-ticker.C:
		case <-limit.C:
			return
		case <-enough:
			return
		}
	}
}

// lookEvery is how often it is looked whether an instance is there again.
const lookEvery = 20 * time.Millisecond

// Adopt goes on with what the process before has left. What leads to an instance that is not
// configured any more is reset; so is, within heartbeat_timeout, what leads to one that is not what
// it was.
func (s *Relays) Adopt(r *handover.Record) {
	waits := make([][]bind.Member, len(r.Epochs))
	for _, c := range r.Relayed {
		if c.Epoch < 0 || c.Epoch >= len(r.Epochs) || !s.adopt(c, &r.Epochs[c.Epoch], &waits[c.Epoch]) {
			for _, fd := range []int{c.Client, c.Server} {
				_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
				_ = unix.Close(fd)
			}
		}
	}
	for _, c := range r.Waiting {
		s.waitOn(c)
	}
	if len(r.Relayed) > 0 {
		epochs := slices.Clone(r.Epochs)
		s.group.Go("relayed before", func() { s.confirm(epochs, waits) })
	}
}

func (s *Relays) adopt(h handover.Relayed, epoch *handover.Epoch, waits *[]bind.Member) bool {
	i := s.entryOf(epoch)
	if i < 0 || len(s.loops) == 0 {
		return false
	}
	c := &relayed{relays: s, port: conf.RelayPort{Attribute: cm.Attribute(h.Attribute)}}
	c.Seat = bind.Seat{Since: h.Since, Bound: -1, Relay: true}
	own, oerr := unix.Getsockname(h.Client)
	peer, perr := unix.Getpeername(h.Client)
	if oerr != nil || perr != nil { // the client has left
		return false
	}
	c.Peer = netip.AddrPortFrom(addrPort(peer).Addr().Unmap(), addrPort(peer).Port())
	c.Owner = bind.Owner{Address: c.Peer.Addr()}
	if uid, err := listen.OwnerOfPeer(addrPort(own), addrPort(peer)); err == nil {
		c.Owner = bind.Owner{UID: uid, Known: true}
	}
	s.registry.Adopt(c, i, h.Attribute)
	f := newFlow(h.Client, h.Server, c.carried)
	f.client.rest, f.server.rest, f.heard = h.FromClient, h.FromServer, h.Heard
	if !c.carry(f) {
		s.registry.Remove(c)
		return false
	}
	*waits = append(*waits, c)
	return true
}

// entryOf is the instance that was that, -1: none is.
func (s *Relays) entryOf(epoch *handover.Epoch) int {
	for i := range s.conf.Load().Instances {
		if in := &s.conf.Load().Instances[i]; in.Name() == epoch.Name && in.Port == epoch.Port {
			return i
		}
	}
	return -1
}

// confirm looks whether the instances are what they were. What is bound to one that is lost
// meanwhile is reset with all that is.
func (s *Relays) confirm(epochs []handover.Epoch, waits [][]bind.Member) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for open := true; open && !s.registry.IsEnding(); <-ticker.C {
		open = false
		for n, all := range waits {
			if len(all) > 0 && s.rebind(&epochs[n], all) {
				waits[n] = nil
			}
			open = open || len(waits[n]) > 0
		}
	}
}

// rebind tells whether it is known what has become of an instance: what leads there goes on, by the
// entry that serves now, or is reset.
func (s *Relays) rebind(epoch *handover.Epoch, all []bind.Member) (known bool) {
	i := s.entryOf(epoch)
	if i < 0 {
		return true
	}
	bound, why := s.board.Rebind(all, i, bind.Was{SystemIdentifier: epoch.SystemIdentifier, PostmasterStart: epoch.PostmasterStart,
		KnownSince: epoch.KnownSince, Generation: epoch.Generation}, time.Now())
	if why == "" {
		return bound
	}
	all = slices.DeleteFunc(all, func(c bind.Member) bool { return s.registry.TargetOf(c) < 0 }) // it has ended meanwhile
	if len(all) > 0 {
		s.board.NotResumed(i, all, why)
	}
	return true
}
