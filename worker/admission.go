package worker

// Peers that have not proven themselves: connected, but no HELLO yet; or refused, and being given
// time to read why. They are limited in number and time, so that whoever reaches the port cannot
// take anything from conmgrs. Called by the reactor's goroutine only; blocks on nothing.

import (
	"container/list"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

const (
	helloTime     = 5 * time.Second
	lingerTime    = 1 * time.Second
	maxStrangers  = 256 // or as many as there are slots: so many conmgrs may come at once
	drainPerVisit = 16  // reads on one socket before others get their turn
)

// strangers is a queue by age: all wait for the same time, so the oldest is due first. Refused ones
// go through a second one.
type strangers struct {
	limit int
	all   list.List // of *conn
	hosts map[netip.Addr]*list.List
}

// place is where a conn stands in both lists of its queue.
type place struct {
	in         *strangers
	all, hosts *list.Element
}

func newStrangers(limit int) *strangers {
	return &strangers{limit: max(limit, maxStrangers), hosts: make(map[netip.Addr]*list.List)}
}

// add puts c at the end.
func (s *strangers) add(c *conn, due heartbeat.Mono) {
	host := s.hosts[c.addr]
	if host == nil {
		host = list.New()
		s.hosts[c.addr] = host
	}
	c.due = due
	c.place = place{s, s.all.PushBack(c), host.PushBack(c)}
}

func (s *strangers) remove(c *conn) {
	if c.place.in != s {
		return
	}
	s.all.Remove(c.place.all)
	host := s.hosts[c.addr]
	host.Remove(c.place.hosts)
	if host.Len() == 0 {
		delete(s.hosts, c.addr)
	}
	c.place = place{}
}

// oldest is the one that is due first, nil if there is none.
func (s *strangers) oldest() *conn { return front(&s.all) }

// excess is the one that has to go, nil if there are no more than may be: of the host that has most
// of them the oldest. So a host that says nothing crowds out itself, and who says HELLO soon after
// it has connected is heard.
func (s *strangers) excess() *conn {
	if s.all.Len() <= s.limit {
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
