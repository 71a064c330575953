package main

// The table of sessions in shared memory, which the sessions write themselves: see WatchdogSession
// in extension/bridge.h. Called by the reactor's goroutine only.

/*
#include "bridge.h"
*/
import "C"

import (
	"net/netip"
	"sync/atomic"
	"unsafe"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

// Sessions are those of client hosts, whose sockets the kernel can be asked for. While nobody is
// ended, one that would be gone is no witness.
func (h *host) Sessions(yield func(*watchdog.Session)) {
	rows := unsafe.Slice(h.b.sessions, int(h.b.nsessions))
	only := atomic.LoadUint32((*uint32)(h.b.report_only)) != 0
	for i := range rows {
		pid := atomic.LoadUint32((*uint32)(&rows[i].pid))
		if pid == 0 {
			continue
		}
		row := rows[i]
		if atomic.LoadUint32((*uint32)(&rows[i].pid)) != pid || row.cookie == 0 {
			continue // it ends, or starts
		}
		if only && atomic.LoadInt64((*int64)(&rows[i].reported)) != 0 {
			continue
		}
		yield(session(&row))
	}
}

func session(row *C.WatchdogSession) *watchdog.Session {
	end := func(addr *[16]C.uint8_t, port C.uint16_t) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(*(*[16]byte)(unsafe.Pointer(addr))).Unmap(), uint16(port))
	}
	s := &watchdog.Session{Local: end(&row.server, row.server_port), Remote: end(&row.addr, row.port),
		Label: *(*heartbeat.ID)(unsafe.Pointer(&row.label)), Cookie: uint64(row.cookie), Device: uint32(row.scope),
		Heard: heartbeat.Mono(row.heard)}
	if s.Local.Addr() == netip.IPv6Loopback() { // the table has one name for loopback
		s.Remote = netip.AddrPortFrom(s.Local.Addr(), s.Remote.Port())
	}
	return s
}
