package test

// The C code under the sanitizer for undefined behaviour, and a server built for memory checks
// where there is one.

import (
	"syscall"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// TestSanitized goes through everything that watchdog.so does, with a library that ends its process
// at undefined behaviour: the server would log that, and reset all sessions.
func TestSanitized(t *testing.T) {
	w := newWorld(t, pgtest.Sanitized(), pgtest.Set("watchdog.check_attr_interval", "10"))
	client, other := w.net.Host("client"), w.net.Host("other")
	cm := w.conmgr(client, "200ms", "600ms")
	w.conmgr(other, "200ms", "600ms")
	witness := w.session(w.db, "BEGIN")
	w.waitView(2)
	w.primary.Exec("ALTER SYSTEM SET default_transaction_read_only = on")
	w.primary.Reload()
	cm.WaitInstance(0, "read_only", "on")
	s := w.session(client)
	s6 := w.sessionAt(client, w.primary.DSNOf(w.db.Addr6.String(), "postgres"))
	cut := w.net.Isolate(client)
	w.waitGone(s.pid, patience, "the session of a dead host")
	cut.Heal()
	cm.WaitInstance(0, "state", "established")
	mark := cm.Mark()
	w.restartWorker(workerTitle)
	w.restartWorker(terminatorTitle)
	cm.WaitLog(mark, "heartbeat connection is established", patience)
	w.waitView(2)
	cm.Signal(syscall.SIGTERM)
	w.waitView(1)
	w.alive(s6, "the session by another address of the host")
	w.alive(witness, "the session that saw it all")
	w.drain(w.primary, true, true)
	w.toDrain()
	w.alive(s6, "a session of a server that is drained")
	w.primary.Configure("watchdog.drain_grace", "100ms")
	w.primary.Reload()
	w.waitGone(s6.pid, patience, "a session of before the drain")
	w.restartWorker(terminatorTitle)
	w.drain(w.primary, false, false)
	w.alive(witness, "the session that saw it all")
	w.primary.Stop(pgtest.Fast)
	w.noLog(0, `runtime error|terminated by signal|terminating any other active server processes`)
}
