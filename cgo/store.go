package main

// The slots in shared memory: watchdog.Store. Backends read them while we write: see the rules at
// WatchdogSlot in extension/bridge.h. Called by the reactor's goroutine only.

/*
#include "bridge.h"
*/
import "C"

import (
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/terminator"
)

type store []C.WatchdogSlot

var _ watchdog.Store = store(nil)

func newStore(b *C.WatchdogBridge) store { return unsafe.Slice(b.slots, int(b.nslots)) }

func (s store) Len() int { return len(s) }

func (s store) State(i int) watchdog.State {
	return watchdog.State(atomic.LoadUint32((*uint32)(&s[i].state)))
}

func (s store) SetState(i int, state watchdog.State) {
	if state == watchdog.Free {
		atomic.StoreInt64((*int64)(&s[i].cutoff), 0)
	}
	atomic.StoreUint32((*uint32)(&s[i].state), uint32(state))
}

func (s store) Pending(i int) bool { return atomic.LoadInt64((*int64)(&s[i].cutoff)) != 0 }

// CutOff writes the cause first: the terminator reads it after the cut-off.
func (s store) CutOff(i int, cause terminator.Cause, cutOff terminator.Wall) {
	s[i].cause = C.uint8_t(cause)
	atomic.StoreInt64((*int64)(&s[i].cutoff), int64(cutOff))
}

func (s store) Received(i int, n uint64, at watchdog.Now) {
	atomic.StoreInt64((*int64)(&s[i].last_received_mono), int64(at.Mono))
	atomic.StoreInt64((*int64)(&s[i].last_received_at), int64(at.Wall))
	atomic.StoreUint64((*uint64)(&s[i].received), n)
}

func (s store) Sent(i int, n uint64) { atomic.StoreUint64((*uint64)(&s[i].sent), n) }

// Put writes a slot under an odd serial. A worker that dies in the middle leaves it odd; the next
// writer makes it even again.
func (s store) Put(i int, v *watchdog.Slot) {
	c := &s[i]
	serial := atomic.LoadUint32((*uint32)(&c.serial)) | 1
	atomic.StoreUint32((*uint32)(&c.serial), serial)
	C.wd_fence() // nothing of what follows may be seen before the odd serial
	c.id = *(*[16]C.uint8_t)(unsafe.Pointer(&v.Key.ID))
	c.boot = *(*[16]C.uint8_t)(unsafe.Pointer(&v.Boot))
	addr := v.Key.Addr.As16()
	c.addr = *(*[16]C.uint8_t)(unsafe.Pointer(&addr))
	zone, _ := strconv.ParseUint(v.Key.Addr.Zone(), 10, 32) // ours are numbers: see fromSockaddr
	c.scope = C.uint32_t(zone)
	c.port = C.uint16_t(v.Port)
	c.closed = C.uint8_t(v.Closed)
	c.deferred = C.int64_t(v.Deferred)
	c.deferred_cause = C.uint32_t(v.DeferredCause)
	c.generation = C.uint64_t(v.Generation)
	c.interval_ms = C.uint32_t(v.Interval.Milliseconds())
	c.timeout_ms = C.uint32_t(v.Timeout.Milliseconds())
	c.connected_at = C.int64_t(v.ConnectedAt)
	c.waiting_since = C.int64_t(v.WaitingSince)
	atomic.StoreUint64((*uint64)(&c.resumed), v.Resumed)
	s.Received(i, v.Received, v.LastReceived)
	s.Sent(i, v.Sent)
	atomic.StoreUint32((*uint32)(&c.state), uint32(v.State))
	atomic.StoreUint32((*uint32)(&c.serial), serial+1)
}

// Load is for the start of the worker, when nobody else writes.
func (s store) Load(i int) watchdog.Slot {
	c := &s[i]
	addr := netip.AddrFrom16(*(*[16]byte)(unsafe.Pointer(&c.addr))).Unmap()
	if c.scope != 0 && addr.Is6() {
		addr = addr.WithZone(strconv.FormatUint(uint64(c.scope), 10))
	}
	return watchdog.Slot{
		State:         s.State(i),
		Key:           watchdog.Key{ID: *(*heartbeat.ID)(unsafe.Pointer(&c.id)), Addr: addr},
		Boot:          *(*heartbeat.ID)(unsafe.Pointer(&c.boot)),
		Port:          uint16(c.port),
		Closed:        watchdog.Close(c.closed),
		Generation:    uint64(c.generation),
		Interval:      time.Duration(c.interval_ms) * time.Millisecond,
		Timeout:       time.Duration(c.timeout_ms) * time.Millisecond,
		ConnectedAt:   terminator.Wall(c.connected_at),
		WaitingSince:  terminator.Wall(c.waiting_since),
		Deferred:      terminator.Wall(c.deferred),
		DeferredCause: terminator.Cause(c.deferred_cause),
		Resumed:       uint64(c.resumed),
		Received:      uint64(c.received),
		Sent:          uint64(c.sent),
		LastReceived: watchdog.Now{Mono: heartbeat.Mono(c.last_received_mono),
			Wall: terminator.Wall(c.last_received_at)},
	}
}
