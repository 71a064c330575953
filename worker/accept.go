package worker

// The reactor's listening sockets, and the connections that come in by them. Called by the
// reactor's goroutine only; names are resolved on a goroutine of their own, nothing here blocks.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

// listen opens what has to be listened on and is not yet.
func (r *Reactor) listen(now watchdog.Now, spawn func(func())) {
	if r.host.AccessSerial() != r.listSerial {
		r.listenElsewhere(now)
	}
	select {
	case res := <-r.resolved:
		r.resolving = false
		r.bind(now, res)
		return
	default:
	}
	if now.Mono < r.listenAt || r.resolving {
		return
	}
	r.resolving = true
	r.listenAt = watchdog.Never // until the answer is there
	list, wake := r.list, r.host.WakeFD()
	if addrs, names := literals(list); names {
		r.open(addrs) // a slow resolver must not keep conmgrs from resuming; bind reports what fails
	}
	spawn(func() {
		ctx, cancel := context.WithTimeout(context.Background(), resolveLimit)
		defer cancel()
		addrs, errs := resolve(ctx, list)
		r.resolved <- resolution{list, addrs, errs}
		one := [8]byte{1}
		_, _ = unix.Write(wake, one[:])
	})
}

// listenElsewhere takes over where to listen, when it was set anew.
func (r *Reactor) listenElsewhere(now watchdog.Now) {
	a := r.host.Access()
	r.listSerial = a.Serial
	if a.Port == 0 || a.Port == r.port && a.ListenAddresses == r.list {
		return
	}
	r.list, r.port, r.complaint, r.listenAt = a.ListenAddresses, a.Port, "", now.Mono
}

// leave closes listening sockets that are not wanted any more: those that are in the way of a, or
// all. Connections that came in by them stay.
func (r *Reactor) leave(wanted []netip.Addr, a netip.Addr) (any bool) {
	for fd, l := range r.listeners {
		inTheWay := l.Port() == uint16(r.port) && l.Addr().Is4() == a.Is4() && (l.Addr().IsUnspecified() || a.IsUnspecified())
		if l.Port() == uint16(r.port) && slices.Contains(wanted, l.Addr()) || a.IsValid() && !inTheWay {
			continue
		}
		unix.Close(fd)
		delete(r.listeners, fd)
		any = true
		r.host.Log(watchdog.Line{Level: watchdog.Log, Message: "not listening for heartbeat connections any more on " +
			watchdog.HostPort(l.Addr(), l.Port())})
	}
	return any
}

// listenOn opens one. What an address that is not wanted any more takes is given up for it.
func (r *Reactor) listenOn(a netip.Addr, wanted []netip.Addr) (fd int, err error) {
	fd, err = listen(a, r.port)
	if errors.Is(err, unix.EADDRINUSE) && r.leave(wanted, a) {
		return listen(a, r.port)
	}
	return fd, err
}

// open opens listening sockets where there are none yet.
func (r *Reactor) open(addrs []netip.Addr) (errs []error) {
	have := make(map[netip.Addr]bool)
	for _, l := range r.listeners {
		have[l.Addr()] = have[l.Addr()] || l.Port() == uint16(r.port)
	}
	for _, a := range addrs {
		if have[a] {
			continue
		}
		have[a] = true
		fd, err := r.listenOn(a, addrs)
		if err == nil {
			if err = r.watch(fd, listenIndex, 0); err != nil {
				unix.Close(fd)
			}
		}
		if errors.Is(err, errNoFamily) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.listeners[fd] = netip.AddrPortFrom(a, uint16(r.port))
		r.host.Log(watchdog.Line{Level: watchdog.Log, Message: "listening for heartbeat connections on " +
			watchdog.HostPort(a, uint16(r.port))})
	}
	return errs
}

// bind opens what was resolved; what fails is tried again after listenRetry. Only when all is open,
// that of before is closed.
func (r *Reactor) bind(now watchdog.Now, res resolution) {
	if res.list != r.list { // meanwhile it was set anew
		r.listenAt = now.Mono
		return
	}
	errs := slices.Concat(res.errs, r.open(res.addrs))
	defer func() { r.host.Listening(len(r.listeners), len(errs) > 0) }()
	if len(errs) == 0 {
		r.leave(res.addrs, netip.Addr{})
		r.listenAt, r.complaint = watchdog.Never, ""
		if len(r.listeners) == 0 {
			r.host.Log(watchdog.Line{Level: watchdog.Warning, Message: "no heartbeat connections are accepted",
				Detail: "watchdog.listen_addresses names no address of this machine."})
		}
		return
	}
	r.listenAt = now.Mono.Add(listenRetry)
	err := errors.Join(errs...)
	if err.Error() != r.complaint || now.Mono.Sub(r.complainT) >= repeatLog {
		r.complaint, r.complainT = err.Error(), now.Mono
		for i, err := range errs {
			hint := "It is tried again every second."
			if i >= len(res.errs) {
				hint = fmt.Sprintf("Is another server already using watchdog.port %d? ", r.port) + hint
			}
			r.host.Log(watchdog.Line{Level: watchdog.Warning, Message: err.Error(), Hint: hint})
		}
	}
}

// accept takes in new connections.
func (r *Reactor) accept(now watchdog.Now, lfd int) {
	if _, ok := r.listeners[lfd]; !ok || r.acceptAt != 0 {
		return
	}
	for i := 0; i < backlog; i++ {
		fd, sa, err := unix.Accept4(lfd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EAGAIN:
			return
		default: // out of descriptors or memory: leave them in the backlog for a moment
			r.pauseAccept(now, err)
			return
		}
		c := &conn{fd: fd}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		r.insert(c)
		if r.accepted++; r.accepted >= tidyMany {
			r.tidyAt = now.Mono.Add(tidyPause)
		}
		if err := r.watch(fd, c.index, r.serials[c.index]); err != nil {
			r.drop(c)
			continue
		}
		r.step(now, watchdog.Event{Kind: watchdog.Opened, Conn: watchdog.Conn(c.index), From: fromSockaddr(sa)})
		r.read(now, c) // a HELLO that has come already: only who is mute has to wait
	}
}

// tidy gives back the memory of which many connections had need for a moment. Heartbeats allocate
// nothing, so that the collector would not do so by itself.
func (r *Reactor) tidy(now watchdog.Now) {
	if r.tidyAt != 0 && r.tidyAt <= now.Mono {
		r.tidyAt, r.accepted = 0, 0
		r.spawn(debug.FreeOSMemory)
	}
}

func (r *Reactor) pauseAccept(now watchdog.Now, err error) {
	r.acceptAt = now.Mono.Add(acceptPause)
	for fd := range r.listeners {
		_ = unix.EpollCtl(r.waiter.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	}
	if r.acceptTold != 0 && now.Mono.Sub(r.acceptTold) < repeatLog {
		return
	}
	r.acceptTold = now.Mono
	r.host.Log(watchdog.Line{Level: watchdog.Warning, Message: fmt.Sprintf("could not accept heartbeat connection: %v", err),
		Hint: "Raise the limit of open files (ulimit -n) above max_files_per_process + watchdog.max_heartbeat_connections x 2."})
}
