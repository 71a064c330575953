package main

// The worker's view of its process: worker.Host over the atomics and eventfds of the bridge. Any
// goroutine; nothing here blocks.

/*
#include "bridge.h"
*/
import "C"

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
	"github.com/pgwatchdog/watchdog/worker"
)

type host struct {
	b  *C.WatchdogBridge
	mu sync.Mutex // one writer at a time for the log ring
}

var _ worker.Host = (*host)(nil)

func (h *host) Attributes() heartbeat.Attributes {
	a := atomic.LoadUint64((*uint64)(&h.b.attributes))
	return heartbeat.Attributes{Flags: heartbeat.AttributeFlags(a >> 32), Timeline: uint32(a)}
}

// Succeeds reads two fields that change together, though seldom: see the rule at their declaration.
func (h *host) Succeeds() heartbeat.Succession {
	for {
		id := atomic.LoadUint64((*uint64)(&h.b.succeeds_system))
		timeline := atomic.LoadUint32((*uint32)(&h.b.succeeds_timeline))
		if atomic.LoadUint64((*uint64)(&h.b.succeeds_system)) != id {
			continue
		}
		if id == 0 {
			return heartbeat.Succession{}
		}
		return heartbeat.Succession{SystemIdentifier: id, Timeline: timeline}
	}
}

// Lag reads two fields: each is true by itself.
func (h *host) Lag() heartbeat.Lag {
	return heartbeat.LagOf(atomic.LoadUint64((*uint64)(&h.b.lag_bytes)), atomic.LoadUint32((*uint32)(&h.b.lag_ms)))
}

func (h *host) MaxTimeout() time.Duration {
	return time.Duration(atomic.LoadUint32((*uint32)(&h.b.max_timeout_ms))) * time.Millisecond
}

func (h *host) MaxGrace() time.Duration {
	return time.Duration(atomic.LoadUint32((*uint32)(&h.b.max_grace_ms))) * time.Millisecond
}

func (h *host) Stop() worker.Stop { return worker.Stop(atomic.LoadUint32((*uint32)(&h.b.stop))) }

func (h *host) TerminateOnClose() bool {
	return atomic.LoadUint32((*uint32)(&h.b.terminate_on_close)) != 0
}

func (h *host) KernelEvidence() bool {
	return atomic.LoadUint32((*uint32)(&h.b.kernel_evidence)) != 0
}

func (h *host) WakeFD() int { return int(h.b.to_go) }

func (h *host) Alive() {
	atomic.StoreUint32((*uint32)(&h.b.pong), atomic.LoadUint32((*uint32)(&h.b.ping)))
}

// wake makes the main thread look at the bridge.
func (h *host) wake() {
	one := [8]byte{1}
	_, _ = rawsys.Write(int(h.b.to_c), one[:])
}

func (h *host) WakeTerminator() {
	atomic.StoreUint32((*uint32)(&h.b.wake_terminator), 1)
	h.wake()
}

func (h *host) Listening(n int, failed bool) {
	tell(&h.b.told.listening, &h.b.told.listen_failed, n, failed)
}

func (h *host) Keys(n int, failed bool) { tell(&h.b.told.keys, &h.b.told.keys_failed, n, failed) }

func tell(count, bad *C.uint32_t, n int, failed bool) {
	atomic.StoreUint32((*uint32)(count), uint32(n))
	atomic.StoreUint32((*uint32)(bad), flag(failed))
}

func (h *host) Fail(why string) {
	h.Log(watchdog.Line{Level: watchdog.Warning, Message: "the heartbeat thread has failed: " + why,
		Detail: "The watchdog worker is restarted."})
	atomic.StoreUint32((*uint32)(&h.b.failed), 1)
	h.wake()
}

// Log puts a line into the ring. One that does not fit is counted.
func (h *host) Log(l watchdog.Line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	head := atomic.LoadUint32((*uint32)(&h.b.log_head))
	if head-atomic.LoadUint32((*uint32)(&h.b.log_tail)) >= C.WD_LOG_RING {
		atomic.AddUint32((*uint32)(&h.b.log_dropped), 1)
		return
	}
	line := &h.b.log[head%C.WD_LOG_RING]
	line.level = C.int32_t(l.Level)
	put(bytesOf(&line.message[0], len(line.message)), l.Message)
	put(bytesOf(&line.detail[0], len(line.detail)), l.Detail)
	put(bytesOf(&line.hint[0], len(line.hint)), l.Hint)
	atomic.StoreUint32((*uint32)(&h.b.log_head), head+1)
	h.wake()
}

// put copies s, cut to fit, with a NUL at its end.
func put(dst []byte, s string) {
	n := copy(dst[:len(dst)-1], s)
	dst[n] = 0
}

// newClock makes a clock that reads both clocks without a system call: time.Now reads
// CLOCK_MONOTONIC as well, but with an origin of its own.
func newClock() worker.Clock {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // Linux has had it for ever
	}
	start := time.Now()
	return func() watchdog.Now {
		now := time.Now()
		return watchdog.Now{Mono: heartbeat.Mono(ts.Nano()).Add(now.Sub(start)), Wall: watchdog.Wall(now.UnixMicro())}
	}
}
