package worker

// Peers that have not proven themselves: connected, but no HELLO yet; or refused, and being given time to read why. They are limited in number and
// time, so that whoever reaches the port cannot take anything from conmgrs.

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

const (
	refusalsLogged = 10 // a second
	helloTime      = 5 * time.Second
	lingerTime     = 1 * time.Second
	maxStrangers   = 256
	maxOfOneHost   = 8
	drainPerVisit  = 16 // reads on one socket before others get their turn
)

// strangers is a queue by age: all wait for the same time, so the oldest is due first. Refused ones go through a second one.
type strangers struct {
	list  []*conn
	count map[netip.Addr]int
}

func newStrangers() *strangers { return &strangers{count: make(map[netip.Addr]int)} }

// crowded tells whether that host has as many as it may. Ask it before full: a host beyond its own limit must not push out others.
func (s *strangers) crowded(addr netip.Addr) bool { return s.count[addr] >= maxOfOneHost }

// add puts c at the end.
func (s *strangers) add(c *conn, due heartbeat.Mono) {
	c.due = due
	s.list = append(s.list, c)
	s.count[c.addr]++
}

func (s *strangers) remove(c *conn) {
	for i := range s.list {
		if s.list[i] == c {
			s.list = append(s.list[:i], s.list[i+1:]...)
			if s.count[c.addr]--; s.count[c.addr] <= 0 {
				delete(s.count, c.addr)
			}
			return
		}
	}
}

// oldest is the one that is due first, nil if there is none.
func (s *strangers) oldest() *conn {
	if len(s.list) == 0 {
		return nil
	}
	return s.list[0]
}

func (s *strangers) full() bool { return len(s.list) >= maxStrangers }

// limiter keeps strangers from filling the log, and from crowding verdicts out of it.
type limiter struct {
	since   heartbeat.Mono
	n, lost int
}

func (l *limiter) log(host Host, now Now, line Line) {
	if l.since == 0 || now.Mono.Sub(l.since) >= time.Second {
		if l.lost > 0 {
			line.Detail = fmt.Sprintf("%d refusals before this one are not logged.", l.lost)
		}
		*l = limiter{since: now.Mono}
	}
	if l.n++; l.n > refusalsLogged {
		l.lost++
		return
	}
	host.Log(line)
}
