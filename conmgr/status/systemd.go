package status

// sd_notify(3). Tell blocks for 100 ms at most; a datagram that cannot be sent by then is dropped.

import (
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

// Systemd is a subscriber. The zero value is ready, but for Wake.
type Systemd struct {
	Wake chan<- struct{} // gets one when Tell has something to tell

	mu       sync.Mutex
	states   []string // READY=1, RELOADING=1, STOPPING=1, WATCHDOG=1: not told yet
	status   string   // not told yet
	stopping bool
}

// Take notes what an event means to systemd.
func (s *Systemd) Take(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e := e.(type) {
	case event.Started:
		s.states, s.status = append(s.states, "READY=1"), "connecting to instances"
	case event.PresenceChanged:
		if s.stopping {
			return
		}
		s.status = e.Text()
	case event.ShutdownRequested:
		if s.stopping {
			return
		}
		s.stopping = true
		s.states, s.status = append(s.states, "STOPPING=1"), "shutting down"
	case event.Restarting: // the program that this process becomes is ready again
		s.states, s.status = append(s.states, reloading()), "restarting"
	case event.NotRestarted, event.Reloaded, event.NotReloaded:
		s.states = append(s.states, reloading(), "READY=1")
	default:
		return
	}
	rouse(s.Wake)
}

// reloading is what Type=notify-reload waits for after its signal: the time tells that it is after.
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic("clock_gettime(CLOCK_MONOTONIC): " + err.Error())
	}
	return "RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)
}

// Alive tells systemd that this process does its work.
func (s *Systemd) Alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.states, alive) { // whoever tells is late
		s.states = append(s.states, alive)
	}
	rouse(s.Wake)
}

const alive = "WATCHDOG=1"

// WatchdogInterval is how often systemd wants Alive: in half of its WatchdogSec; 0: it does not.
func WatchdogInterval() time.Duration {
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err != nil || us <= 0 || us > int64(time.Hour/time.Microsecond) || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return time.Duration(us) * time.Microsecond / 2
}

// next is the message that is due, "" if none is.
func (s *Systemd) next() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.states
	if s.status != "" {
		lines = append(lines, "STATUS="+s.status)
	}
	s.states, s.status = nil, ""
	return strings.Join(lines, "\n")
}

// Tell sends what is due. Without NOTIFY_SOCKET, nobody listens.
func (s *Systemd) Tell() {
	message, path := s.next(), os.Getenv("NOTIFY_SOCKET")
	if message == "" || path == "" || path[0] != '/' && path[0] != '@' {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_ = rawsys.WriteWithin(conn, []byte(message), tellLimit)
}

// tellLimit is how long systemd is waited for; tests have their own.
var tellLimit = 100 * time.Millisecond

func rouse(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
