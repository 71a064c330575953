// Command cgo is watchdog_go.so: the Go side of the watchdog worker, as a C shared library that
// only that process opens, after its fork.
//
// This is the only package with import "C" and unsafe, and nobody imports it. extension/bridge.h is
// the contract; extension/worker.c the caller. The exported functions run on the worker's helper
// thread, never on its main thread.
package main

/*
#cgo CFLAGS: -std=gnu11 -I${SRCDIR}/../extension
#include "bridge.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/worker"
)

const (
	processors  = 1 // one goroutine does everything; a second one would only be looked for by the scheduler
	gcPercent   = 25
	memoryLimit = 64 << 20 // a soft limit: what is beyond is collected more often
)

//export watchdog_go_abi_version
func watchdog_go_abi_version() C.uint32_t { return C.WATCHDOG_ABI_VERSION }

// watchdog_go_run serves heartbeats until it is told to stop, or something fails.
//
//export watchdog_go_run
func watchdog_go_run(b *C.WatchdogBridge) {
	h := &host{b: b}
	defer h.wake() // last: the main thread looks at finished when it is woken
	defer atomic.StoreUint32((*uint32)(&b.finished), 1)

	// A failure that cannot be recovered ends in SIGABRT, which worker.c
	// turns into a clean end; without this it would be exit(2), at which the
	// postmaster resets every session.
	debug.SetTraceback("crash")
	runtime.GOMAXPROCS(processors)
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)

	atomic.StoreUint32((*uint32)(&b.running), 1)
	h.wake()
	// This goroutine is bound to its thread: each of its waits would be two switches of threads.
	done := make(chan struct{})
	h.spawn(func() {
		defer close(done)
		defer h.guard()
		h.serve()
	})
	<-done
}

func (h *host) serve() {
	b := h.b
	set := h.Access()
	r, err := worker.NewReactor(worker.Config{
		ListenAddresses:  set.ListenAddresses,
		Port:             set.Port,
		SystemIdentifier: uint64(b.system_identifier),
		PostmasterStart:  int64(b.postmaster_start),
		PostmasterPort:   uint16(b.postmaster_port),
	}, h, newStore(b), newClock())
	if err == nil {
		err = r.Run(h.spawn)
	}
	if err != nil {
		h.Fail(err.Error())
	}
}

// spawn is the only go statement of the library.
func (h *host) spawn(f func()) {
	go func() {
		defer h.guard()
		f()
	}()
}

// guard turns a panic into a restart of the worker.
func (h *host) guard() {
	if p := recover(); p != nil {
		h.Log(watchdog.Line{Level: watchdog.Warning, Message: fmt.Sprintf("panic in the heartbeat thread: %v", p),
			Detail: string(debug.Stack())})
		h.Fail("panic")
	}
}

// bytesOf is the C array at p.
func bytesOf(p *C.char, n int) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(p)), n) }

func main() {}
