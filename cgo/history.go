package main

// Counters, and the last verdicts, in shared memory: see WatchdogVerdict in extension/bridge.h.
// Called by the reactor's goroutine only.

/*
#include "bridge.h"
*/
import "C"

import (
	"sync/atomic"
	"unsafe"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

// The server's own counters stand behind Go's: one of both would not compile if they were not as
// many as both sides think.
const (
	_ = uint(C.WD_TOTALS_OF_GO - watchdog.Counters)
	_ = uint(watchdog.Counters - C.WD_TOTALS_OF_GO)
	_ = uint(C.WD_REFUSED_FULL - watchdog.RefusedFull)
	_ = uint(watchdog.RefusedFull - C.WD_REFUSED_FULL)
)

func (s store) Count(c watchdog.Counter) { atomic.AddUint64(&s.totals[c], 1) }

// Record writes over the oldest verdict. A worker that dies in the middle has given it no number:
// the next one is written to the same place.
func (s store) Record(r watchdog.Record) {
	if len(s.kept) == 0 {
		return
	}
	number := atomic.LoadUint64(s.last) + 1
	v := &s.kept[number%uint64(len(s.kept))]
	serial := atomic.LoadUint32((*uint32)(&v.serial)) | 1
	atomic.StoreUint32((*uint32)(&v.serial), serial)
	C.wd_fence() // nothing of what follows may be seen before the odd serial
	v.slot, v.number, v.verdict = C.uint32_t(r.Slot), C.uint64_t(number), 0
	if r.Asked {
		v.verdict = C.uint32_t(atomic.LoadUint32((*uint32)(&s.slots[r.Slot].verdict)) + 1)
	}
	addr, label := r.Addr.WithZone("").As16(), heartbeat.LabelID(r.ID)
	v.addr = *(*[16]C.uint8_t)(unsafe.Pointer(&addr))
	v.label = *(*[16]C.uint8_t)(unsafe.Pointer(&label))
	v.keyid = *(*[16]C.uint8_t)(unsafe.Pointer(&r.KeyID))
	v.port, v.cause, v.why = C.uint16_t(r.Port), C.uint8_t(r.Cause), C.uint8_t(r.Why)
	v.timeout_ms = C.uint32_t(r.Timeout.Milliseconds())
	v.decided_at, v.decided_mono = C.int64_t(r.At.Wall), C.int64_t(r.At.Mono)
	v.last_received_at = C.int64_t(r.LastReceived)
	for _, p := range [...]*C.uint64_t{&v.served, &v.signaled, &v.starting, &v.spared, &v.left, &v.gone_us} {
		atomic.StoreUint64((*uint64)(p), number<<C.WD_WORD_BITS)
	}
	atomic.StoreUint32((*uint32)(&v.serial), serial+1)
	atomic.StoreUint64(s.last, number)
}
