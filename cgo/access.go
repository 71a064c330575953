package main

// Who may be a conmgr of this server, as the C side has set it. Any goroutine.

/*
#include "bridge.h"
*/
import "C"

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/worker"
)

func (h *host) AccessSerial() uint32 { return atomic.LoadUint32((*uint32)(&h.b.access_serial)) }

// Access reads what changes together: see access_serial in bridge.h. The C side is done in no time.
func (h *host) Access() worker.Access {
	for {
		a := worker.Access{Serial: h.AccessSerial()}
		a.Authentication = watchdog.Authentication(h.b.authentication)
		a.MinInterval = time.Duration(h.b.min_interval_ms) * time.Millisecond
		a.KeyFile = text(bytesOf(&h.b.key_file[0], len(h.b.key_file)))
		a.ListenAddresses = text(bytesOf(&h.b.listen_addresses[0], len(h.b.listen_addresses)))
		a.Port = int(h.b.port)
		a.AllowedAddresses = text(bytesOf(&h.b.allowed_addresses[0], len(h.b.allowed_addresses)))
		C.wd_fence() // all of it was read before the serial is looked at again
		if a.Serial%2 == 0 && h.AccessSerial() == a.Serial {
			return a
		}
	}
}

// text is what stands before the NUL.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
