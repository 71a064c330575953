//go:build faults

package worker

// The test build (make faults) obeys a HELLO whose flags ask for a fault, so that tests can see
// what becomes of the server. Runs in the reactor's goroutine.

import (
	"runtime"
	"time"
)

// Faults in Hello.Flags.
const (
	FaultPanic     = 0xFA170001 // panic in the reactor
	FaultNil       = 0xFA170002 // nil dereference: a signal that Go turns into a panic
	FaultMap       = 0xFA170003 // concurrent map writes: an error that nothing can recover
	FaultGoroutine = 0xFA170004 // panic in a goroutine that nobody guards
	FaultStall     = 0xFA170005 // the reactor hangs for 3 s
	FaultDeadlock  = 0xFA170006 // the reactor hangs for ever
)

var requested uint32

func faultRequest(flags uint32) { requested = flags }

func fault(r *Reactor) {
	f := requested
	requested = 0
	switch f {
	case FaultPanic:
		panic("fault on request")
	case FaultNil:
		var c *conn
		c.fd = 1
	case FaultMap:
		runtime.GOMAXPROCS(2) // one processor writes to nothing concurrently
		m := map[int]int{}
		for i := 0; i < 4; i++ {
			go func() {
				for {
					m[1]++
				}
			}()
		}
		select {}
	case FaultGoroutine:
		go panic("fault on request in an unguarded goroutine")
	case FaultStall:
		time.Sleep(3 * time.Second)
	case FaultDeadlock:
		select {}
	}
}
