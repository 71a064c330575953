package watchdog

// Peers that have not proven themselves: connected, but no HELLO yet; or refused, and being given
// time to read why. They are limited in number and time, so that whoever reaches the port cannot
// take anything from conmgrs. Called within Step; pure.

import (
	"container/list"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

const (
	HelloTime  = 5 * time.Second // in which a connection has to say HELLO
	LingerTime = 1 * time.Second // in which a refused peer may read why
	// MaxPending connections may be there that have not said HELLO; or as many as there are slots: so
	// many conmgrs may come at once.
	MaxPending = 256
)

// pending is a queue by age: all wait for the same time, so the oldest is due first. Refused ones
// go through a second one.
type pending struct {
	limit int
	all   list.List // of *conn
	hosts map[netip.Addr]*list.List
}

// place is where a conn stands in both lists of its queue, and what is known of it until it leaves.
type place struct {
	in         *pending
	all, hosts *list.Element
	due        heartbeat.Mono
	proving    *proving // it was asked for a proof
}

func newPending(limit int) *pending {
	return &pending{limit: max(limit, MaxPending), hosts: make(map[netip.Addr]*list.List)}
}

// add puts c at the end.
func (s *pending) add(c *conn, due heartbeat.Mono) {
	host := s.hosts[c.addr]
	if host == nil {
		host = list.New()
		s.hosts[c.addr] = host
	}
	c.place = &place{in: s, all: s.all.PushBack(c), hosts: host.PushBack(c), due: due}
}

func (s *pending) remove(c *conn) {
	if c.place == nil || c.place.in != s {
		return
	}
	s.all.Remove(c.place.all)
	host := s.hosts[c.addr]
	host.Remove(c.place.hosts)
	if host.Len() == 0 {
		delete(s.hosts, c.addr)
	}
	c.place = nil
}

// oldest is the one that is due first, nil if there is none.
func (s *pending) oldest() *conn { return front(&s.all) }

func (s *pending) crowded() bool { return s.all.Len() > s.limit }

// excess is the one that has to go, nil if there are no more than may be: of the host that has most
// of them the oldest. So a host that says nothing crowds out itself, and who says HELLO soon after
// it has connected is heard.
func (s *pending) excess() *conn {
	if !s.crowded() {
		return nil
	}
	var most *list.List
	for _, host := range s.hosts {
		if most == nil || host.Len() > most.Len() {
			most = host
		}
	}
	return front(most)
}

func front(l *list.List) *conn {
	if e := l.Front(); e != nil {
		return e.Value.(*conn)
	}
	return nil
}
