package watch

// The key of this host, read again when a watchdog does not know the one that it was shown. Called
// by the instance's goroutine; blocks on the file, which is short and on this machine.

import (
	"crypto/rand"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/heartbeat/instance"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// nonce is for one HELLO.
func nonce() (n proof.Nonce) {
	_, _ = rand.Read(n[:]) // never fails: it would end the process
	return n
}

// readKey reads the file again. That it cannot be used is told not more than once a minute; the key
// of before is used then.
func (in *Instance) readKey() {
	k, err := conf.ReadKey(in.conf.KeyFile)
	now := in.now()
	switch {
	case err == nil && !k.Same(in.key):
		in.key = k
		in.events.Emit(event.KeyReplaced{Instance: in.id, KeyID: k.ID.String()})
	case err != nil && (in.keyToldAt == 0 || now.Sub(in.keyToldAt) >= repeatAfter):
		in.keyToldAt = now
		in.events.Emit(event.KeyUnusable{Instance: in.id, Err: err})
	}
	in.queue = append(in.queue, instance.Event{Kind: instance.KeyRead, Key: k})
}
