package worker

// The kernel's account of when the sockets of a host's sessions were last heard from. Asked only
// when a heartbeat_timeout has passed without a frame. Runs in the reactor; a look-up takes some
// microseconds, and blocks on nothing.

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/sockdiag"
)

// snapshotAge is how long the table of sessions, once read, serves: when a switch dies, thousands
// of hosts fall silent within an interval.
const snapshotAge = 20 * time.Millisecond

// witness answers for the kernel. Without fd it knows nothing.
type witness struct {
	fd      int
	taken   heartbeat.Mono
	byLabel map[heartbeat.ID][]*watchdog.Session
	byHost  map[netip.Addr][]*watchdog.Session
}

// newWitness tries whether the kernel answers, by a socket of our own.
func newWitness() (*witness, error) {
	fd, err := sockdiag.Open()
	if err != nil {
		return nil, fmt.Errorf("socket(AF_NETLINK): %w", err)
	}
	if err := tryOut(fd); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	return &witness{fd: fd}, nil
}

// tryOut looks up a socket that listens on loopback.
func tryOut(fd int) error {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(s)
	if err := syscall.Bind(s, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := syscall.Listen(s, 1); err != nil {
		return err
	}
	name, err := syscall.Getsockname(s)
	if err != nil {
		return err
	}
	in, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return syscall.EAFNOSUPPORT
	}
	_, err = sockdiag.Find(fd, sockdiag.ID{Local: netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)),
		Remote: netip.AddrPortFrom(netip.IPv4Unspecified(), 0), Cookie: sockdiag.AnyCookie})
	return err
}

func (w *witness) close() {
	if w != nil {
		syscall.Close(w.fd)
	}
}

// heard is when one of the sessions was last heard from, 0: none is there, or known.
func (w *witness) heard(now heartbeat.Mono, host Host, q *watchdog.Sessions) (last heartbeat.Mono) {
	if w == nil {
		return 0
	}
	if w.byLabel == nil || now.Sub(w.taken) > snapshotAge {
		w.snapshot(now, host, q)
	}
	last = w.among(now, q, w.byLabel[q.Label])
	for _, p := range q.Places {
		last = max(last, w.among(now, q, w.byHost[p.Addr]))
	}
	return last
}

func (w *witness) among(now heartbeat.Mono, q *watchdog.Sessions, some []*watchdog.Session) (last heartbeat.Mono) {
	for _, s := range some {
		if q.Mean(s) {
			last = max(last, w.ask(now, s))
		}
	}
	return last
}

// snapshot has each session by its label, and by that of who answers for it.
func (w *witness) snapshot(now heartbeat.Mono, host Host, q *watchdog.Sessions) {
	w.taken = now
	w.byLabel, w.byHost = map[heartbeat.ID][]*watchdog.Session{}, map[netip.Addr][]*watchdog.Session{}
	host.Sessions(func(s *watchdog.Session) {
		if s.Label != (heartbeat.ID{}) {
			w.byLabel[s.Label] = append(w.byLabel[s.Label], s)
			if owner := q.Owner(s.Label); owner != s.Label && owner != (heartbeat.ID{}) {
				w.byLabel[owner] = append(w.byLabel[owner], s)
			}
		}
		w.byHost[s.Host()] = append(w.byHost[s.Host()], s)
	})
}

// ask looks one socket up, by its cookie: whatever else has the same ends now is not it.
func (w *witness) ask(now heartbeat.Mono, s *watchdog.Session) heartbeat.Mono {
	id := sockdiag.ID{Local: plain(s.Local), Remote: plain(s.Remote), Cookie: s.Cookie, Device: s.Device}
	found, err := sockdiag.Heard(w.fd, id)
	if err != nil {
		return 0
	}
	return now.Add(-found.Silent)
}

// plain is an end without a zone: the kernel is told the interface by its number.
func plain(p netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(p.Addr().WithZone(""), p.Port())
}
