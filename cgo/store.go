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
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/terminator"
)

type store struct {
	slots  []C.WatchdogSlot
	latest *int64
	alive  *int64
	totals []uint64
	kept   []C.WatchdogVerdict // the last verdicts
	last   *uint64             // the number of the last one
}

var _ watchdog.Store = store{}

func newStore(b *C.WatchdogBridge) store {
	return store{slots: unsafe.Slice(b.slots, int(b.nslots)), latest: (*int64)(b.latest_cutoff),
		alive: (*int64)(b.alive_mono), totals: unsafe.Slice((*uint64)(b.totals), C.WD_TOTALS),
		kept: unsafe.Slice(b.verdicts, int(b.nverdicts)), last: (*uint64)(b.last_verdict)}
}

func (s store) Len() int { return len(s.slots) }

func (s store) Alive() heartbeat.Mono { return heartbeat.Mono(atomic.LoadInt64(s.alive)) }

func (s store) SetAlive(now heartbeat.Mono) { atomic.StoreInt64(s.alive, int64(now)) }

func (s store) State(i int) watchdog.State {
	return watchdog.State(atomic.LoadUint32((*uint32)(&s.slots[i].state)))
}

func (s store) SetState(i int, state watchdog.State) {
	atomic.StoreUint32((*uint32)(&s.slots[i].state), uint32(state))
}

func (s store) Pending(i int) bool {
	return atomic.LoadUint32((*uint32)(&s.slots[i].verdict)) != atomic.LoadUint32((*uint32)(&s.slots[i].served))
}

// Ask is called when the verdict stands in the slot. A session that starts and finds the latest
// cut-off before this one has a row by now, which the terminator will read.
func (s store) Ask(i int, latest terminator.Time) {
	if int64(latest) > atomic.LoadInt64(s.latest) {
		atomic.StoreInt64(s.latest, int64(latest))
	}
	atomic.AddUint32((*uint32)(&s.slots[i].verdict), 1)
	atomic.StoreUint32((*uint32)(&s.slots[i].unasked), 0)
}

func (s store) Received(i int, n uint64, at watchdog.Now) {
	atomic.StoreInt64((*int64)(&s.slots[i].last_received_mono), int64(at.Mono))
	atomic.StoreInt64((*int64)(&s.slots[i].last_received_at), int64(at.Wall))
	atomic.StoreUint64((*uint64)(&s.slots[i].received), n)
}

func (s store) Sent(i int, n uint64) { atomic.StoreUint64((*uint64)(&s.slots[i].sent), n) }

// Put writes a slot under an odd serial. A worker that dies in the middle leaves it odd; the next
// writer makes it even again.
func (s store) Put(i int, v *watchdog.Slot) {
	c := &s.slots[i]
	serial := atomic.LoadUint32((*uint32)(&c.serial)) | 1
	atomic.StoreUint32((*uint32)(&c.serial), serial)
	C.wd_fence() // nothing of what follows may be seen before the odd serial
	c.id = *(*[16]C.uint8_t)(unsafe.Pointer(&v.ID))
	c.keyid = *(*[16]C.uint8_t)(unsafe.Pointer(&v.KeyID))
	c.boot = *(*[16]C.uint8_t)(unsafe.Pointer(&v.Boot))
	label := heartbeat.LabelID(v.ID)
	c.label = *(*[16]C.uint8_t)(unsafe.Pointer(&label))
	c.heir = *(*[16]C.uint8_t)(unsafe.Pointer(&v.Heir))
	putAddresses(c, v)
	c.cause, c.cutoff = C.uint8_t(v.Cause), C.int64_t(v.CutOff)
	c.port = C.uint16_t(v.Port)
	c.attempt, c.suspended = C.uint32_t(v.Attempt), C.uint32_t(v.Suspended)
	c.incarnation = C.uint64_t(v.Incarnation)
	c.grace_ms = C.uint32_t(v.Grace.Milliseconds())
	c.closed = C.uint8_t(v.Closed)
	c.remembered = C.uint8_t(flag(v.Remembered))
	c.deferred = C.int64_t(v.Deferred)
	c.deferred_cause, c.due = C.uint8_t(v.DeferredCause), C.int64_t(v.Until)
	if v.Deferred != 0 {
		c.due = C.int64_t(v.Due)
	}
	atomic.StoreUint32((*uint32)(&c.unasked), flag(v.Unasked))
	c.generation = C.uint64_t(v.Generation)
	c.interval_ms = C.uint32_t(v.Interval.Milliseconds())
	c.timeout_ms = C.uint32_t(v.Timeout.Milliseconds())
	c.connected_at = C.int64_t(v.ConnectedAt)
	c.connected_mono = C.int64_t(v.Since)
	c.waiting_since = C.int64_t(v.WaitingSince)
	atomic.StoreUint64((*uint64)(&c.resumed), v.Resumed)
	s.Received(i, v.Received, v.LastReceived)
	s.Sent(i, v.Sent)
	atomic.StoreUint32((*uint32)(&c.state), uint32(v.State))
	atomic.StoreUint32((*uint32)(&c.serial), serial+1)
}

// Load is for the start of the worker, when nobody else writes.
func (s store) Load(i int) watchdog.Slot {
	c := &s.slots[i]
	due, until := heartbeat.Mono(0), heartbeat.Mono(c.due)
	if c.deferred != 0 {
		due, until = until, due
	}
	return watchdog.Slot{
		Due:           due,
		Until:         until,
		State:         s.State(i),
		ID:            *(*heartbeat.ID)(unsafe.Pointer(&c.id)),
		Heir:          *(*heartbeat.ID)(unsafe.Pointer(&c.heir)),
		Proved:        loadAddresses(c),
		Remembered:    c.remembered != 0,
		KeyID:         *(*proof.KeyID)(unsafe.Pointer(&c.keyid)),
		Boot:          *(*heartbeat.ID)(unsafe.Pointer(&c.boot)),
		Port:          uint16(c.port),
		Attempt:       uint32(c.attempt),
		Suspended:     uint32(c.suspended),
		Incarnation:   uint64(c.incarnation),
		Grace:         time.Duration(c.grace_ms) * time.Millisecond,
		Closed:        watchdog.Close(c.closed),
		Generation:    uint64(c.generation),
		Interval:      time.Duration(c.interval_ms) * time.Millisecond,
		Timeout:       time.Duration(c.timeout_ms) * time.Millisecond,
		ConnectedAt:   watchdog.Wall(c.connected_at),
		Since:         heartbeat.Mono(c.connected_mono),
		WaitingSince:  heartbeat.Mono(c.waiting_since),
		Deferred:      terminator.Time(c.deferred),
		DeferredCause: terminator.Cause(c.deferred_cause),
		Cause:         terminator.Cause(c.cause),
		CutOff:        terminator.Time(c.cutoff),
		Unasked:       atomic.LoadUint32((*uint32)(&c.unasked)) != 0,
		Resumed:       uint64(c.resumed),
		Received:      uint64(c.received),
		Sent:          uint64(c.sent),
		LastReceived: watchdog.Now{Mono: heartbeat.Mono(c.last_received_mono),
			Wall: watchdog.Wall(c.last_received_at)},
	}
}

func flag(set bool) uint32 {
	if set {
		return 1
	}
	return 0
}

// putAddresses stores each field once: who cannot wait for the end of a writer that is held up
// takes what is there, and a conmgr that lives is not without addresses even then.
func putAddresses(c *C.WatchdogSlot, v *watchdog.Slot) {
	n, ended := 0, C.uint8_t(0)
	for i, a := range v.Proved.All() {
		addr := a.Addr.As16()
		c.addr[i] = *(*[16]C.uint8_t)(unsafe.Pointer(&addr))
		zone, _ := strconv.ParseUint(a.Addr.Zone(), 10, 32) // ours are numbers: see fromSockaddr
		c.scope[i] = C.uint32_t(zone)
		c.addr_time[i] = C.int64_t(a.At)
		if a.Ended {
			ended |= 1 << i
		}
		n++
	}
	c.naddrs, c.ended = C.uint8_t(n), ended
}

func loadAddresses(c *C.WatchdogSlot) (proved watchdog.Addresses) {
	for i := range min(int(c.naddrs), watchdog.MaxAddresses) {
		addr := netip.AddrFrom16(*(*[16]byte)(unsafe.Pointer(&c.addr[i]))).Unmap()
		if c.scope[i] != 0 && addr.Is6() {
			addr = addr.WithZone(strconv.FormatUint(uint64(c.scope[i]), 10))
		}
		proved.Set(i, watchdog.Proved{Addr: addr, At: terminator.Time(c.addr_time[i]), Ended: c.ended>>i&1 != 0})
	}
	return proved
}

var _ = [1]struct{}{}[watchdog.MaxAddresses-C.WD_SLOT_ADDRESSES] // both sides have as many
