package control

// genkey: a new key, as a line for the key files of both ends. Blocks on the kernel's randomness,
// which is there once the machine has started.

import (
	"crypto/rand"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

func (c Command) genkey(o options) int {
	id, err := proof.ParseKeyID(o.name)
	if err != nil {
		c.fail("invalid name \"%s\": %v", o.name, err)
		return exitFailure
	}
	var secret proof.Secret
	_, _ = rand.Read(secret[:]) // never fails: it would end the process
	c.say("%s\n", proof.Line(id, secret))
	return exitOK
}
